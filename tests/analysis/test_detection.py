"""Detection by sums over activations alone is what comparing all pairs of tokens gives."""

import numpy as np
import pytest

from sonde.analysis import detection
from sonde.analysis.detection import (
    Activations,
    Presences,
    at_threshold,
    auc_of_features,
    auc_of_scores,
    best_threshold,
)


def by_pairs(scores: np.ndarray, has: np.ndarray) -> float:
    with_it, without = scores[has][:, None], scores[~has][None]
    return float((with_it > without).mean() + (with_it == without).mean() / 2)


@pytest.fixture(params=[0, 1, 2])
def case(request):
    rng = np.random.default_rng(request.param)
    n, n_features, n_concepts = 120, 17, 6
    dense = np.maximum(0, rng.normal(size=(n, n_features)) - 1)
    has = rng.random((n, n_concepts)) < [0.3, 0.05, 0.5, 0.9, 0.0, 1.0]
    dense[:, 3] += has[:, 0] * rng.random(n) * 2
    dense[:, 4] = 0  # dead
    token, feature = np.nonzero(dense)
    rows, concepts = np.nonzero(has)
    fires = Activations(token, feature, dense[token, feature], n, n_features)
    return dense, has, fires, Presences(rows, concepts, n, n_concepts)


@pytest.mark.parametrize("at_once", [1, 5, 256])
@pytest.mark.parametrize("pairs", [3, 1 << 23])
def test_areas_of_features(case, monkeypatch, at_once, pairs):
    monkeypatch.setattr(detection, "FEATURES_AT_ONCE", at_once)
    monkeypatch.setattr(detection, "PAIRS_AT_ONCE", pairs)
    dense, has, fires, present = case
    found = auc_of_features(fires, present)
    for concept in range(4):
        expected = [by_pairs(dense[:, feature], has[:, concept]) for feature in range(dense.shape[1])]
        np.testing.assert_allclose(found[:, concept], expected, atol=1e-12)
    assert np.isnan(found[:, 4:]).all()
    assert found[4, 0] == 0.5  # what never fires tells nothing


def test_areas_of_scores(case):
    _, has, _, present = case
    scores = np.random.default_rng(5).normal(size=(len(has), 3))
    found = auc_of_scores(scores, present)
    for concept in range(4):
        expected = [by_pairs(scores[:, column], has[:, concept]) for column in range(3)]
        np.testing.assert_allclose(found[:, concept], expected, atol=1e-12)


def test_some_tokens_alone(case):
    dense, has, fires, present = case
    own = np.arange(3, 120, 3)
    assert (present.among(own).dense() == has[own]).all()
    for feature in (0, 3, 4):
        np.testing.assert_array_equal(fires.among(own).of(feature), dense[own, feature].astype(np.float32))
    assert (present.counts == has.sum(axis=0)).all() and (present.dense_of(2) == has[:, 2]).all()


def test_the_best_threshold(case):
    dense, has, _, _ = case
    scores, own = dense[:, 3], has[:, 0]
    found = best_threshold(scores, own)
    every = [at_threshold(scores, own, value).f1 for value in np.unique(scores[scores > 0])]
    assert found.f1 == max(every)
    assert found.precision == own[scores >= found.value].mean() and found.recall == (scores >= found.value)[own].mean()
    assert best_threshold(np.zeros(120), own).f1 == 0 and at_threshold(np.zeros(120), own, float("inf")).recall == 0
    tied = best_threshold(np.array([1.0, 1.0, 1.0, 0.5]), np.array([True, False, True, False]))
    assert (tied.value, tied.precision, tied.recall) == (1.0, pytest.approx(2 / 3), 1.0)
