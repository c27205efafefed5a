"""What is known of tokens, some tokens alone, and the threshold at which a feature detects a concept best."""

import numpy as np
import pytest

from sonde.analysis.detection import Presences, SparseActivations, at_threshold, best_threshold


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    dense = np.maximum(0, rng.normal(size=(120, 5)) - 1)
    has = rng.random((120, 4)) < [0.3, 0.05, 0.5, 0.0]
    dense[:, 3] += has[:, 0] * rng.random(120) * 2
    dense[:, 4] = 0
    token, feature = np.nonzero(dense)
    return dense, has, SparseActivations(token, feature, dense[token, feature], *dense.shape), Presences.of(has)


def test_some_tokens_alone(case):
    dense, has, fires, present = case
    own = np.arange(3, 120, 3)
    assert (present.dense() == has).all() and (present.among(own).dense() == has[own]).all()
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
