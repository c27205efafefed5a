"""Probes are what their closed forms, or their optimality conditions, say."""

import numpy as np
import pytest
import torch

from sonde.probes.fit import RIDGE, logistic, ridge


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5)
    return x, (x @ rng.normal(size=5) + rng.normal(size=200) > 1)


@pytest.mark.parametrize("relative", [True, False])
def test_ridge_equals_the_normal_equations(rows, relative):
    x, has = rows
    targets = np.stack([has, x[:, 0] ** 2], axis=1).astype(float)
    probe = ridge(torch.from_numpy(x), torch.from_numpy(targets), penalty=0.1, relative=relative)
    cov = np.cov(x.T, bias=True)
    size = 0.1 * (np.trace(cov) / 5 if relative else 1.0)
    expected = np.linalg.inv(cov + size * np.eye(5)) @ (x - x.mean(0)).T @ (targets - targets.mean(0)) / 200
    np.testing.assert_allclose(probe.weights, expected, rtol=1e-9)
    np.testing.assert_allclose(probe.score(torch.from_numpy(x)), (x - x.mean(0)) @ expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(probe.bias, targets.mean(0))
    alone = ridge(torch.from_numpy(x), torch.from_numpy(targets[:, 1]), penalty=0.1, relative=relative)
    np.testing.assert_allclose(alone.weights, expected[:, 1], rtol=1e-9)


def test_ridge_of_almost_no_penalty_is_least_squares(rows):
    x, has = rows
    probe = ridge(torch.from_numpy(x), torch.from_numpy(has).double(), penalty=1e-12)
    design = np.column_stack([x, np.ones(len(x))])
    expected = design @ np.linalg.lstsq(design, has.astype(float), rcond=None)[0]
    np.testing.assert_allclose(probe.score(torch.from_numpy(x)) + probe.bias, expected, atol=1e-8)


def test_the_logistic_probe_is_at_the_minimum_of_its_loss(rows):
    """Newton's method in numpy ends at the same weights."""
    x, has = rows
    x = np.column_stack([x, np.full(len(x), 3.0)])  # a constant dimension is left out
    probe = logistic(torch.from_numpy(x), torch.from_numpy(has))
    spread = x.std(axis=0, ddof=1)
    design = np.column_stack([(x - x.mean(0))[:, :5] / spread[:5], np.ones(len(x))])
    penalty, weights = np.diag([2 * RIDGE] * 5 + [0]), np.zeros(6)
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - has) / len(x) + penalty @ weights
        hessian = design.T @ (design * (p * (1 - p))[:, None]) / len(x) + penalty
        weights -= np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(probe.weights[:5], weights[:5], atol=1e-3)
    np.testing.assert_allclose(probe.bias, weights[5:], atol=1e-3)
    assert probe.weights[5] == 0
    np.testing.assert_allclose(probe.score(torch.from_numpy(x)) + probe.bias, design @ weights, atol=5e-3)
    assert not probe.weights.requires_grad
