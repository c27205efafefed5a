"""The area under the ROC curve is what comparing all pairs gives, ties counting half."""

import numpy as np
import pytest

from sonde.analysis import auc as module
from sonde.analysis.auc import auc, auc_of_columns, auc_of_features
from sonde.analysis.detection import Presences, SparseActivations


def by_pairs(scores: np.ndarray, has: np.ndarray) -> float:
    with_it, without = scores[has][:, None], scores[~has][None]
    return float((with_it > without).mean() + (with_it == without).mean() / 2)


@pytest.fixture(params=[0, 1, 2])
def case(request):
    """Scores of 17 features, zero on most of 120 tokens, half of them with many ties; and six concepts.

    One of the concepts is on no token and one on all.
    """
    rng = np.random.default_rng(request.param)
    dense = np.maximum(0, rng.normal(size=(120, 17)) - 1)
    has = rng.random((120, 6)) < [0.3, 0.05, 0.5, 0.9, 0.0, 1.0]
    dense[:, 3] += has[:, 0] * rng.random(120) * 2
    dense[:, 4] = 0  # dead
    dense[:, 8:] = dense[:, 8:].round(1)
    return dense, has


def test_the_area_of_two_samples():
    rng = np.random.default_rng(0)
    for n, m, values in ((60, 7, 5), (1, 1, 2), (40, 90, 1000), (33, 21, 1)):
        scores, has = rng.integers(0, values, n + m).astype(float), np.arange(n + m) < n
        assert auc(scores[:n], scores[n:]) == by_pairs(scores, has)
    assert auc(np.array([1.0, 2.0]), np.array([0.0])) == 1.0 and np.isnan(auc(np.zeros(0), np.zeros(3)))


@pytest.mark.parametrize("at_once", [1, 5, 256])
@pytest.mark.parametrize("pairs", [3, 1 << 23])
def test_areas_of_sparse_features(case, monkeypatch, at_once, pairs):
    monkeypatch.setattr(module, "FEATURES_AT_ONCE", at_once)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", pairs)
    dense, has = case
    token, feature = np.nonzero(dense)
    fires = SparseActivations(token, feature, dense[token, feature], *dense.shape)
    areas = auc_of_features(fires, Presences.of(has))
    for concept in range(4):
        expected = [by_pairs(dense[:, feature], has[:, concept]) for feature in range(dense.shape[1])]
        np.testing.assert_allclose(areas[:, concept], expected, atol=1e-12)
    assert np.isnan(areas[:, 4:]).all()
    assert areas[4, 0] == 0.5  # what never fires tells nothing


@pytest.mark.parametrize("at_once", [3, 32])
def test_areas_of_columns(case, monkeypatch, at_once):
    monkeypatch.setattr(module, "COLUMNS_AT_ONCE", at_once)
    scores, has = case[0] - 0.5 * case[0][:, ::-1], case[1]
    areas = auc_of_columns(scores, Presences.of(has))
    for concept in range(4):
        expected = [by_pairs(scores[:, column], has[:, concept]) for column in range(scores.shape[1])]
        np.testing.assert_allclose(areas[:, concept], expected, atol=1e-12)
    assert np.isnan(areas[:, 4:]).all()


def test_one_definition(case):
    """The three ways give the same numbers, to the last bit where no scores are equal."""
    dense, has = case
    token, feature = np.nonzero(dense)
    fires = SparseActivations(token, feature, dense[token, feature], *dense.shape)
    columns = auc_of_columns(dense, Presences.of(has))
    np.testing.assert_array_equal(columns, auc_of_features(fires, Presences.of(has)))
    scores, own = np.random.default_rng(1).normal(size=120), has[:, 0]
    [[area]] = auc_of_columns(scores[:, None], Presences.of(own[:, None]))
    assert auc(scores[own], scores[~own]) == area
