"""Labelled texts and words are detected by the features that were planted for them."""

import pytest

import sonde
from sonde.analysis.contrast import separating
from sonde.errors import TextError
from sonde.probes.concepts import concepts, word_concepts
from tests.labels.planted import make_index


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return sonde.Reader(make_index(tmp_path_factory.mktemp("planted")), device="cpu")


def test_the_feature_of_a_word_detects_texts_that_hold_it(planted):
    texts = [f"the man sees the {word} of {number}." for number in range(30) for word in ("river", "city")]
    labels = ["water", "town"] * 30
    for scores, number in zip(concepts(planted, texts, labels), (2, 1), strict=True):
        assert scores.feature.number == number and scores.feature_auc == 1.0 and scores.n_texts == 30
        assert scores.probe_auc > 0.99 and scores.features_auc == 1.0 and 0.5 <= scores.neuron_auc <= 1
    [best] = separating(planted, texts[::2], texts[1::2], 1)
    assert (best.feature.number, best.score) == (2, 1.0)
    with pytest.raises(TextError, match="20 texts with it .* of 10 texts, 5 have the commonest, 'water'"):
        concepts("no-such-index", texts[:10], labels[:10])  # said before anything is loaded
    with pytest.raises(TextError, match="60 texts, but 3 labels"):
        concepts(planted, texts, labels[:3])


def test_tags_of_words_are_detected_by_their_own_feature(planted):
    sentences = [["the", "red" if n % 2 else "blue", "river", "sees", "a", "city"] for n in range(40)]
    tags = [["other", "colour", "water", "other", "other", "town"] for _ in range(40)]
    scores = {each.label: each for each in word_concepts(planted, sentences, tags)}
    assert scores["water"].feature.number == 2 and scores["water"].feature_auc == 1.0
    assert scores["water"].n_texts == 40
    assert scores["town"].feature.number == 1 and scores["town"].feature_auc == 1.0
    assert 0.6 < scores["colour"].feature_auc < 0.9 and scores["colour"].features_auc == 1.0  # it takes two features
    with pytest.raises(TextError, match="sentence 0 has 6 words, but 1 tags"):
        word_concepts(planted, sentences[:1], [["other"]])
