"""How documents become contexts: one document each, joined as in pretraining, or ready tokens as they are."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

import sonde
from sonde.activations.contexts import Cutter
from sonde.activations.corpus import Corpus, Document, is_held_out
from sonde.cli import run
from sonde.errors import PictureError, TextError
from tests.activations.test_harvest import SITE, rows_of
from tests.tiny import make_model, make_tokenizer, texts, write_model

BOS, EOS, PAD = 1, 2, 0


def test_packed_contexts_are_full_and_hold_every_token_once():
    model, documents = make_model(), ["ab", "", "cdefghijklmnop", "q", "rstuvwxyz" * 5]
    cutter = Cutter(model, 12, pack=True)
    tokenized = list(cutter.tokenize(documents))
    contexts = list(cutter.contexts(tokenized))
    assert all(len(context.ids) == 12 for context in contexts[:-2]) and len(contexts[-1].ids) <= 12
    found = {}
    for context in contexts:
        assert context.ids[0] == BOS
        for token, document, position in zip(context.ids, context.document, context.position, strict=True):
            assert (int(document), int(position)) not in found
            found[int(document), int(position)] = token
    for document in tokenized:
        assert [found[document.number, place] for place in range(len(document.ids))] == document.ids
    special = {token for (_, position), token in found.items() if position < 0}
    assert special == {BOS}
    first = contexts[0]
    assert first.ids.count(BOS) == 2 and first.document.tolist()[:5] == [0, 0, 0, 2, 2]


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_rows_of_packed_contexts_are_those_of_a_direct_forward_pass(family, tmp_path):
    model, documents = make_model(family), texts(30)
    settings: dict[str, Any] = {"site": SITE, "held_out": 0.0, "context": 24, "store": "float32", "pack": True}
    rows = rows_of(sonde.harvest(model, documents, out=tmp_path / "a", **settings))
    cutter = Cutter(model, 24, pack=True)
    contexts = list(cutter.contexts(cutter.tokenize(documents)))
    assert len(rows) == sum(len(document.ids) for document in cutter.tokenize(documents))
    for context in contexts:
        direct = model.read(model.pad([context.ids]), SITE)[0]
        for vector, document, position in zip(direct, context.document, context.position, strict=True):
            if position >= 0:
                torch.testing.assert_close(rows[int(document), int(position)], vector, atol=1e-5, rtol=1e-5)
    alone = rows_of(sonde.harvest(model, documents, out=tmp_path / "b", **(settings | {"pack": False})))
    assert alone.keys() == rows.keys() and not all(torch.equal(alone[key], rows[key]) for key in rows)
    special = rows_of(sonde.harvest(model, documents, special=True, out=tmp_path / "c", **settings))
    assert len(special) == sum(len(context.ids) for context in contexts)


def test_a_tokenizer_without_special_tokens_of_its_own_parts_documents_by_its_end_token():
    model = make_model("gpt2")
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    cutter = Cutter(model, 8, pack=True)
    (context,) = cutter.contexts(cutter.tokenize(["ab", "cd"]))
    assert context.ids[2] == EOS and context.position.tolist() == [0, 1, -1, 0, 1]


@pytest.fixture(scope="module")
def token_rows() -> np.ndarray:
    """Ready contexts [document, 20]: each begins with the start token, and the short ones end in padding."""
    tokenizer, rows = make_tokenizer(), np.full((40, 20), PAD)
    for number, text in enumerate(texts(40)):
        ids = tokenizer(text)["input_ids"][: 12 + number % 9]
        rows[number, : len(ids)] = ids
    return rows


def test_ready_tokens_go_through_the_model_as_they_are(token_rows, tmp_path):
    model = make_model()
    np.save(tmp_path / "tokens.npy", token_rows.astype(np.uint16))
    with (tmp_path / "tokens.jsonl").open("w") as file:
        file.writelines(json.dumps({"input_ids": row.tolist()}) + "\n" for row in token_rows)
    settings: dict[str, Any] = {"site": SITE, "held_out": 0.2, "store": "float32"}
    matrix = sonde.harvest(model, tmp_path / "tokens.npy", out=tmp_path / "a", **settings)
    lines = sonde.harvest(model, tmp_path / "tokens.jsonl", field="input_ids", out=tmp_path / "b", **settings)
    assert matrix.facts.order_checksum == lines.facts.order_checksum
    rows = rows_of(matrix)
    held_out = {n for n, d in enumerate(Corpus(tmp_path / "tokens.npy")) if is_held_out(d, 0.2, 0)}
    assert held_out and {document for document, _ in rows} == set(range(40)) - held_out
    number = min(set(range(40)) - held_out)
    direct = model.read(model.pad([[t for t in token_rows[number] if t != PAD]]), SITE)[0]
    assert sorted(place for document, place in rows if document == number) == list(range(1, len(direct)))
    for place in range(1, len(direct)):
        torch.testing.assert_close(rows[number, place], direct[place], atol=1e-5, rtol=1e-5)


def test_padding_at_the_end_of_ready_tokens_changes_nothing_for_an_encoder(token_rows, tmp_path):
    model, row = make_model("bert"), token_rows[0]
    np.save(tmp_path / "tokens.npy", token_rows[:1])
    rows = rows_of(
        sonde.harvest(model, tmp_path / "tokens.npy", site=SITE, held_out=0.0, store="float32", out=tmp_path / "a")
    )
    direct = model.read(model.pad([[int(token) for token in row if token != PAD]]), SITE)[0]
    assert len(direct) < len(row)
    for (_, place), vector in rows.items():
        torch.testing.assert_close(vector, direct[place], atol=1e-5, rtol=1e-5)


def test_ready_tokens_can_be_measured_indexed_and_shown(token_rows, tmp_path):
    model = write_model(tmp_path / "model")
    np.save(tmp_path / "tokens.npy", token_rows)
    store = sonde.harvest(model, tmp_path / "tokens.npy", site=SITE, held_out=0.2, out=tmp_path / "a")
    dictionary = sonde.train(store, n_features=16, k=2, tokens=2000, out=tmp_path / "d", device="cpu")
    assert sonde.measure(dictionary).documents > 2
    index = sonde.index(None, dictionary, tmp_path / "tokens.npy", out=tmp_path / "i")
    alive = next(feature for feature in index.features if not feature.is_dead)
    [example] = alive.examples(1)
    assert example.text.strip() and any(example.text[3:9] in text for text in texts(40))


def test_what_is_wrong_with_ready_tokens_is_said(tmp_path, capsys):
    model = write_model(tmp_path / "model")
    wrong = (
        (np.zeros(5, dtype=np.int64), r"holds int64 \[5\], but whole numbers \[document, token\] are wanted"),
        (np.zeros((5, 5)), r"holds float64 \[5, 5\]"),
        (np.full((2, 5), 70_000), "tokens.npy, row 0: there is no token 70,000 in .* are another model's"),
        (np.full((2, 5), -1), "there is no token -1"),
    )
    for rows, message in wrong:
        np.save(tmp_path / "tokens.npy", rows)
        with pytest.raises(TextError, match=message):
            sonde.harvest(model, tmp_path / "tokens.npy", site=SITE, out=tmp_path / "a")
    (tmp_path / "tokens.npy").write_bytes(b"no")
    command = ["harvest", "--model", str(model), "--site", SITE, "--text", str(tmp_path / "tokens.npy")]
    assert run([*command, "--out", str(tmp_path / "b")]) == 2
    assert "cannot be read as a matrix of token ids" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": [1, 2], "images": ["a.jsonl"]}))
    with pytest.raises(PictureError, match="pictures belong to text, not to token ids"):
        list(Corpus(tmp_path / "a.jsonl"))
    assert is_held_out(Document("", ids=(1, 2)), 1.0, 0) and not is_held_out(Document("", ids=(1, 2)), 0.0, 0)
