"""The index equals brute force, shows text as it is, and finds features by words."""

import shutil

import numpy as np
import pytest
import torch

import sonde
from sonde.dictionaries.load import load_dictionary
from sonde.errors import ArtifactDamagedError, ArtifactMismatchError, FeatureError
from sonde.features.store import load_index
from sonde.models.load import load_model
from tests.tiny import texts, write_model

SITE = "layers.1.residual"


@pytest.fixture(scope="module")
def brute(walk):
    """All activations [token, feature] of the corpus, and which document and position each token is."""
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(walk.topk, "cpu")
    rows, where = [], []
    for number, text in enumerate(texts(400)):
        with torch.no_grad():
            rows.append(dictionary.encode(model.read(text, SITE)[SITE][0, 1:]))
        where += [(number, position) for position in range(len(rows[-1]))]
    return torch.cat(rows).numpy(), where


def test_postings_and_statistics_equal_brute_force(walk, brute):
    index, (activations, where) = load_index(walk.index), brute
    assert index.n_tokens == len(activations)
    offsets, postings = index.postings["offsets"], index.postings
    assert offsets[-1] == pytest.approx((activations > 0).sum(), abs=3)  # ties of batching at the k-th place
    for number in range(index.n_features):
        found = slice(offsets[number], offsets[number + 1])
        values = postings["value"][found]
        assert (np.diff(values) <= 0).all()
        by_place = {
            (int(d), int(p)): v
            for d, p, v in zip(postings["document"][found], postings["position"][found], values, strict=True)
        }
        fired = np.flatnonzero(activations[:, number] > 1e-3)
        for token in fired:
            assert by_place[where[token]] == pytest.approx(activations[token, number], abs=1e-3)
        feature = index.feature(number)
        assert feature.density == pytest.approx((activations[:, number] > 0).mean(), abs=1e-4)
        assert feature.maximum == pytest.approx(activations[:, number].max(), abs=1e-4)
        if len(fired):
            assert feature.mean == pytest.approx(values.mean(), rel=1e-5)


def test_examples_are_the_strongest_and_their_text_is_the_document(walk, brute):
    index, (activations, where) = load_index(walk.index), brute
    number = int(activations.max(axis=0).argmax())
    examples = index.feature(number).examples(5)
    assert [example.value for example in examples] == sorted((e.value for e in examples), reverse=True)
    assert len({example.document for example in examples}) == 5
    best = examples[0]
    assert best.value == pytest.approx(activations[:, number].max(), abs=1e-4)
    assert best.text in texts(400)[best.document]
    assert best.pieces[best.peak][1] == best.value
    for piece_number, (_, value) in enumerate(best.pieces):
        token = where.index((best.document, best.position - best.peak + piece_number))
        assert value == pytest.approx(activations[token, number], abs=1e-3)


def test_letters_of_several_bytes_are_shown_whole(walk, tmp_path):
    sonde.index(None, walk.topk, ["Brücke über ñandú 桥 end"] * 3, out=tmp_path / "i", device="cpu")
    index = load_index(tmp_path / "i")
    shown = [example.text for feature in index.features() for example in feature.examples(1)]
    assert shown and all("\ufffd" not in text for text in shown)
    assert any("ücke" in text for text in shown) and any("桥" in text for text in shown)


def test_direct_logits_are_those_of_the_head(walk):
    index, model, dictionary = (
        load_index(walk.index),
        load_model(walk.model, device="cpu"),
        load_dictionary(walk.topk, "cpu"),
    )
    direction = dictionary.W_dec[3]
    logits = model.network.lm_head.weight @ model.network.model.norm(direction)
    logits = logits - logits.mean()
    top = index.statistics["top_logit_tokens"][3]
    assert top.tolist() == logits.topk(10).indices.tolist()
    np.testing.assert_allclose(index.statistics["top_logit_values"][3], logits.topk(10).values, atol=1e-4)
    assert len(index.feature(3).bottom_logits) == 10


def test_search_finds_features_by_word_and_beginning(walk):
    index = load_index(walk.index)
    found = index.search("bridge")
    assert found and all("bridge" in snippet.lower() for _, snippet in found)
    assert {f.number for f, _ in found} <= {f.number for f, _ in index.search("bri", 100)}
    assert index.search("nowhere-to-be-seen") == [] and index.search("  ") == []
    for nasty in ('"', "a OR b", "NEAR(", "*", "x" * 5000, "'; DROP TABLE examples; --"):
        index.search(nasty)


def test_other_text_models_and_numbers(walk, tmp_path):
    with pytest.raises(FeatureError, match="features 0 to 63"):
        load_index(walk.index).feature(64)
    wide = write_model(tmp_path / "wide", "gpt2")
    sonde.index(wide, walk.topk, texts(5), out=tmp_path / "ok", device="cpu")  # another model of the same width
    from transformers import GPT2Config, GPT2LMHeadModel

    from tests.tiny import make_tokenizer

    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=259)).save_pretrained(
        tmp_path / "narrow"
    )
    make_tokenizer().save_pretrained(tmp_path / "narrow")
    with pytest.raises(ArtifactMismatchError, match="width 32, but layers.1.residual of .* has width 16"):
        sonde.index(tmp_path / "narrow", walk.topk, texts(5), out=tmp_path / "no", device="cpu")
    assert not (tmp_path / "no").exists()


def test_a_damaged_index_is_refused(walk, tmp_path):
    shutil.copytree(walk.index, tmp_path / "i")
    (tmp_path / "i" / "postings.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactDamagedError, match="0 bytes instead of"):
        load_index(tmp_path / "i")


@pytest.mark.parametrize("step", ["_fire", "_sort_postings", "_write_search"])
def test_a_stopped_index_made_again_equals_one_that_was_not(walk, tmp_path, monkeypatch, step):
    import sqlite3

    from sonde.features import index as module

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, stop)
        with pytest.raises(KeyboardInterrupt):
            sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "i", device="cpu")
    with pytest.raises(ArtifactDamagedError, match="unfinished"):
        load_index(tmp_path / "i")
    sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "i", device="cpu")
    for name in ("postings.safetensors", "features.safetensors"):
        assert (tmp_path / "i" / name).read_bytes() == (walk.index / name).read_bytes()
    for table in ("documents", "vocabulary", "examples"):
        rows = [
            sqlite3.connect(folder / "index.sqlite").execute(f"SELECT rowid, * FROM {table}").fetchall()
            for folder in (tmp_path / "i", walk.index)
        ]
        assert rows[0] == rows[1] and rows[0]
