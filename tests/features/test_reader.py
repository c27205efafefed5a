"""Reading texts through an index, and finding features by what fires, by vector and by statistics."""

import json

import numpy as np
import pytest
import torch

import sonde
from sonde.cli import run
from sonde.dictionaries.load import load_dictionary
from sonde.errors import FeatureError, TextError
from sonde.features import reader as reader_module
from sonde.models.load import load_model
from tests.tiny import texts

SITE = "layers.1.residual"


@pytest.fixture(scope="module")
def reader(walk):
    return sonde.Reader(walk.index, device="cpu")


def dense(walk, text):
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(walk.topk, "cpu")
    with torch.no_grad():
        return dictionary.encode(model.read(text, SITE)[0, 1:]).numpy()


def test_what_fires_is_what_the_dictionary_says(walk, reader):
    text = texts(5)[3]
    fired, expected = reader.read(text), dense(walk, text)
    assert "".join(fired.pieces) == text and len(fired.pieces) == len(expected)
    for feature in range(reader.index.n_features):
        np.testing.assert_allclose(fired.of(feature), expected[:, feature], atol=1e-4)
    for on, wanted in (
        ("max", expected.max(axis=0)),
        ("mean", expected.mean(axis=0)),
        ("last", expected[-1]),
        (slice(1, 4), expected[1:4].mean(axis=0)),
        (slice(-2, None), expected[-2:].mean(axis=0)),
    ):
        np.testing.assert_allclose(fired.pooled(on, reader.index.n_features), wanted, atol=1e-4)


def test_a_dictionary_is_loaded_once_for_each_device(walk, monkeypatch):
    index = sonde.load_index(walk.index)
    monkeypatch.setattr(reader_module, "load_dictionary", lambda folder, device: [folder, device])
    monkeypatch.setattr(reader_module, "choose_device", torch.device)
    on_cpu = reader_module.dictionary_of(index, "cpu")
    assert reader_module.dictionary_of(index, torch.device("meta")) == [walk.topk, "meta"]
    assert reader_module.dictionary_of(index, torch.device("cpu")) is on_cpu and on_cpu == [walk.topk, "cpu"]


def test_search_takes_off_what_fires_elsewhere(walk, reader):
    some, others = texts(40)[:3], texts(40)[30:33]
    expected = np.mean([dense(walk, text).mean(axis=0) for text in some], axis=0)
    expected -= np.mean([dense(walk, text).mean(axis=0) for text in others], axis=0)
    hits = reader.search(some, unlike=others, on="mean", n=6)
    best = [number for number in np.argsort(-expected)[:6] if expected[number] > 0]
    assert [hit.feature.number for hit in hits] == best
    assert [hit.score for hit in hits] == pytest.approx(expected[best], abs=1e-4)
    assert reader.search(some[0], unlike=some[0]) == []


def test_a_text_longer_than_the_context_is_read_whole(reader):
    text = " ".join(texts(60))
    fired = reader.read(text)
    assert "".join(fired.pieces) == text and len(fired.pieces) > 2 * reader.model.context_length
    assert fired.position.max() > len(fired.pieces) - reader.model.context_length


def test_wrong_texts_and_tokens_are_named(reader):
    with pytest.raises(TextError, match="the text is empty"):
        reader.read("")
    with pytest.raises(TextError, match="tokens 900..901 are none of the"):
        reader.search("Anna sees", on=slice(900, 901))


def test_features_are_found_by_direction_and_by_statistics(walk, reader):
    index, W_dec = reader.index, load_dictionary(walk.topk, "cpu").W_dec.detach().numpy()
    found = index.nearest(W_dec[5], 3)
    assert found[0].feature.number == 5 and found[0].score == pytest.approx(1.0, abs=1e-5)
    cosines = W_dec @ W_dec[5]
    assert [hit.feature.number for hit in index.feature(5).neighbours(4)] == np.argsort(-cosines)[1:5].tolist()
    with pytest.raises(FeatureError, match=r"shape \(3,\), but features have \(32,\)"):
        index.nearest(np.zeros(3))
    dead = index.where(density=(0.0, 0.0))
    assert [feature.number for feature in dead] == [feature.number for feature in index.features if feature.is_dead]
    assert {f.number for f in index.where(density=(0.01, 1.0), maximum=(0.5, 1e9))} == {
        f.number for f in index.features if f.density >= 0.01 and f.maximum >= 0.5
    }


def test_values_have_statistics_and_examples_are_drawn(reader):
    feature = max(reader.index.features, key=lambda feature: feature.density)
    values = feature.values
    assert feature.quantiles([0.5]) == [pytest.approx(np.median(values))]
    assert sum(feature.histogram(7)) == len(values) and feature.histogram(1) == [len(values)]
    drawn = feature.examples(8, "random")
    assert drawn == feature.examples(8, "random") and len({example.document for example in drawn}) == len(drawn) == 8
    assert [example.value for example in drawn] != sorted((example.value for example in drawn), reverse=True)
    spread = feature.examples(5, "interval")
    places = [min(4, int((1 - example.value / feature.maximum) * 5)) for example in spread]
    assert places == sorted(set(places)) and places[0] == 0
    assert set(places) == {4 - place for place, count in enumerate(feature.histogram(5)) if count}


def test_the_command_line_reads_texts(walk, capsys):
    text = texts(5)[3]
    assert run(["read", str(walk.index), text, "--device", "cpu", "--json", "--n", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pieces"] and len(found["features"]) == 3
    assert max(found["features"][0]["values"]) == pytest.approx(found["features"][0]["score"])
    assert run(["read", str(walk.index), text, "--unlike", text, "--device", "cpu"]) == 0
    assert "more than on the texts of --unlike" in capsys.readouterr().out
    assert run(["read", str(walk.index), text, "--on", "last", "--device", "cpu"]) == 0
    assert "fires mostly at" in capsys.readouterr().out
    assert run(["read", str(walk.index), text, "--on", "first"]) == 2
    assert "on is 'first', but must be max, last, mean, or a range" in capsys.readouterr().err
    assert run(["read", str(walk.index), text, "--on", "3:7"]) == 2
    assert "a range of tokens such as 3..7" in capsys.readouterr().err
    assert run(["feature", str(walk.index), "1", "--by", "interval"]) == 0
    assert "activations lie below" in capsys.readouterr().out
