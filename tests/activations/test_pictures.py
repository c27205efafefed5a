"""Pictures in a corpus: harvested, indexed and shown patch by patch."""

import io
import json

import pytest
import torch
from PIL import Image

from sonde.activations.contexts import Cutter, groups, make_batch
from sonde.activations.corpus import Corpus, Document, is_held_out
from sonde.activations.harvest import harvest
from sonde.analysis.measure import measure
from sonde.cli import run
from sonde.dictionaries.load import load_dictionary
from sonde.errors import PictureError
from sonde.features.index import load_index
from tests.tiny import MARK, make_model, make_tokenizer, write_model

SITE = "layers.1.residual"


def test_each_patch_is_a_row_with_document_and_position(pictures, tmp_path):
    model = make_model("llava")
    store = harvest(model, pictures.corpus, site=SITE, out=tmp_path / "acts", store="float32", held_out=0.1, context=40)
    piles = [store.pile(number) for number in range(store.n_piles)]
    rows = {name: torch.cat([getattr(pile, name) for pile in piles]) for name in ("token", "document", "position")}
    rows["vectors"] = torch.cat([pile.vectors(SITE) for pile in piles])
    documents = list(Corpus(pictures.corpus))
    kept = [n for n, document in enumerate(documents) if not is_held_out(document, 0.1, 0)]
    assert 0 < len(kept) < len(documents)
    assert sorted(set(rows["document"].tolist())) == kept
    for number in kept:
        document = documents[number]
        tokens = model.tokenize(document.text, images=document.images)
        if tokens.ids.shape[1] > 40:  # cut in two, before the second picture
            continue
        own = rows["document"] == number
        order = rows["position"][own].argsort()
        assert torch.equal(rows["token"][own][order].long(), tokens.ids[0, 1:])
        assert (tokens.ids == MARK).sum() == 16 * len(document.images)
        direct = model.read(tokens, SITE)[0, 1:]
        torch.testing.assert_close(rows["vectors"][own][order], direct, atol=1e-5, rtol=1e-5)


def test_no_picture_is_cut_in_two(pictures):
    model = make_model("llava")
    images = tuple(pictures.root / f"drawings/{n}.png" for n in range(3))
    cutter = Cutter(model, 24)
    (document,) = cutter.tokenize([Document("abcdefghij<image>klm<image><image>n", images)])
    assert [first for first, _ in document.pictures] == [10, 29, 45]
    contexts = list(cutter.contexts([document]))
    assert sum(context.n_text for context in contexts) == len(document.ids) == 62
    for context in contexts:
        assert len(context.ids) <= 24
        assert context.ids.count(MARK) == 16 * len(context.pictures)
    assert [len(context.pictures) for context in contexts] == [0, 1, 1, 1]
    for group in groups([document], cutter):
        model.read(make_batch(model, group).tokens, SITE)
    with pytest.raises(PictureError, match="a picture has 16 patches, but a context has room for 9 tokens"):
        list(Cutter(model, 10).contexts([document]))


def test_examples_show_the_picture_and_where_the_feature_fires(pictures, capsys):
    model = make_model("llava")
    dictionary, found = load_dictionary(pictures.dictionary, "cpu"), load_index(pictures.index)
    documents = list(Corpus(pictures.corpus))

    n_shown = 0
    for feature in found.features:
        for example in feature.examples(3):
            document = documents[example.document]
            assert example.text in document.text
            tokens = model.tokenize(document.text, images=document.images)
            x = model.read(tokens, SITE)[0, 1:]
            activation = dictionary.activation(x, feature.number)
            assert activation[example.position] == pytest.approx(example.value, rel=1e-3)
            assert example.pieces[example.peak][1] == pytest.approx(example.value, rel=1e-3)
            for picture in example.pictures:
                n_shown += 1
                patches = (tokens.ids[0, 1:] == MARK).nonzero().flatten()[16 * picture.number :][:16]
                values = torch.tensor(picture.values)
                torch.testing.assert_close(values, activation[patches].clamp_min(0), atol=1e-3, rtol=1e-3)
                assert example.pieces[picture.piece][0] == "<image>"
                image = Image.open(io.BytesIO(found.picture(example.document, picture.number)))
                assert image.size == (16, 16)
    assert n_shown > 20

    feature = next(f for f in found.features for e in f.examples(1) if e.pieces[e.peak][0] == "<image>")
    assert run(["feature", str(pictures.index), str(feature.number), "--n", "1"]) == 0
    (picture,) = feature.examples(1)[0].pictures[:1]
    row, column, value = picture.strongest()[0]
    said = capsys.readouterr().out
    assert f"<picture {picture.number + 1} of 4 x 4 patches: {row + 1},{column + 1} {value:.2f}" in said

    # No head foretells patches, so they are no part of the loss.
    measured = measure(dictionary, text=[documents[0]])
    tokens = model.tokenize(documents[0].text, images=documents[0].images)
    logits, ids = model.logits(tokens)[0, :-1], tokens.ids[0, 1:]
    expected = torch.nn.functional.cross_entropy(logits[ids != MARK], ids[ids != MARK])
    assert measured.loss == pytest.approx(expected.item(), rel=1e-4)


def test_wrong_rows_name_file_and_line(pictures, tmp_path, capsys):
    good = json.dumps({"text": "x <image>", "images": [str(pictures.root / "drawings/0.png")]})
    (tmp_path / "broken.png").write_text("no")
    for row, message in (
        ({"text": "<image>", "images": ["none.png"]}, r"line 2: there is no picture .*none\.png; .*--skip-bad"),
        ({"text": "<image>", "images": "a.png"}, "line 2: the field 'images' must be a list of paths"),
        ({"text": "<image>", "images": ["broken.png"]}, r"line 2: the picture .*broken\.png cannot be read"),
        ({"text": "<image>"}, "line 2 has 1 <image> mark, but 0 pictures"),
    ):
        corpus = tmp_path / "bad.jsonl"
        corpus.write_text(good + "\n" + json.dumps(row) + "\n")
        with pytest.raises(Exception, match=message) as caught:
            harvest(pictures.model, corpus, site=SITE, out=tmp_path / "acts", held_out=0)
        assert type(caught.value).__module__ == "sonde.errors" and "\n" not in str(caught.value)
    corpus.write_text(good + "\n" + json.dumps({"text": "<image>", "images": ["none.png"]}) + "\n")
    assert harvest(pictures.model, corpus, site=SITE, out=tmp_path / "some", held_out=0, skip_bad=True).n_rows == 18
    write_model(tmp_path / "text", "llama")
    arguments = ["--site", SITE, "--out", str(tmp_path / "text-acts")]
    assert run(["harvest", "--model", str(tmp_path / "text"), "--text", str(pictures.corpus), *arguments]) == 2
    assert "reads no pictures: it is a llama model, of text alone" in capsys.readouterr().err


def test_documents_with_equal_text_and_other_pictures_are_held_out_apart(pictures):
    images = [pictures.root / f"drawings/{n}.png" for n in range(40)]
    held = {is_held_out(Document("<image>", (image,)), 0.5, 0) for image in images}
    assert held == {True, False}


def test_token_spans_of_plain_text_are_as_before():
    model = make_model("llama")
    (document,) = Cutter(model).tokenize(["a b"])
    assert (
        document.spans
        == make_tokenizer()("a b", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    )
    assert document.pictures == ()
