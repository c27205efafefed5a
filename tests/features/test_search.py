"""The verbs that look at an index, from Python: what they return is what the index says, and draws itself."""

import numpy as np
import pytest

import sonde
from sonde.display import to_text
from sonde.errors import FeatureError


@pytest.fixture(scope="module")
def index(walk):
    return sonde.load_index(walk.index)


@pytest.fixture(scope="module")
def reader(index):
    return sonde.Reader(index, device="cpu")


def numbers(hits):
    return [hit.feature.number for hit in hits]


def test_search_by_words_likeness_and_statistics(walk, index):
    assert numbers(sonde.search(walk.index, "bridge", n=3)) == numbers(index.search("bridge", 3))
    assert sonde.search(index, "bridge", n=3) == index.search("bridge", 3)
    near = sonde.search(index, like=3, n=4)
    assert numbers(near) == numbers(index.feature(3).neighbours(4)) and near.by == "cosine"
    rare = sonde.search(index, density="..1e-2", maximum=(0.5, None), n=64)
    expected = index.where(density=(-np.inf, 1e-2), maximum=(0.5, np.inf))
    assert numbers(rare) == [feature.number for feature in expected] and rare.by == "density"
    assert [hit.score for hit in rare] == pytest.approx([feature.density for feature in expected])
    assert "density" in rare._repr_html_()


def test_a_feature_shows_the_examples_that_were_asked_for(walk, index):
    number = int(index.statistics["count"].argmax())
    shown = sonde.feature(index, number, n=2, by="interval")
    assert shown == index.feature(number) and shown.options == {"n": 2, "by": "interval"}
    assert to_text(shown.drawing()) == to_text(index.feature(number).draw(2, "interval"))
    assert shown._repr_html_() != index.feature(number)._repr_html_()
    assert to_text(shown.drawing(n=1)) == to_text(index.feature(number).draw(1, "interval"))
    with pytest.raises(FeatureError):
        sonde.feature(walk.index, 64)


def test_show_keeps_what_was_asked_for(walk, index, capsys):
    sonde.show(sonde.feature(walk.index, 3, n=1))
    assert capsys.readouterr().out == to_text(index.feature(3).draw(1)) + "\n"


def test_read_finds_what_the_reader_finds(walk, reader):
    texts = ["the red bridge stands", "people come to see it"]
    found = sonde.read(walk.index, texts, unlike="the sun is low", on="1..3", n=5, device="cpu")
    expected = reader.search(texts, unlike="the sun is low", on=slice(1, 3), n=5)
    assert numbers(found.hits) == numbers(expected) and len(found.texts) == 2
    assert sonde.read(reader, texts[0]).hits == reader.search(texts[0])
    said = to_text(found.draw()).replace("[", "").replace("]", "")
    assert all(text in said for text in texts) and "activation" in found._repr_html_()
    nothing = sonde.read(reader, texts[0], unlike=texts[0])
    assert not nothing.hits and "no feature fires there" in to_text(nothing.draw())
