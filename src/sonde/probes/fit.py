"""Linear probes: the direction in a model's vectors that predicts a target, by ridge or by logistic regression."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RIDGE = 1e-3
STEPS = 50
"""of L-BFGS in a logistic regression, at most"""


@dataclass(frozen=True)
class LinearProbe:
    """Predicts `score(x) + bias`: the target of a ridge regression, the log-odds of a logistic one."""

    mean: Float[Tensor, " width"]
    """of the rows that it was fitted on"""
    spread: Float[Tensor, " width"]
    """what rows are divided by after the mean is subtracted"""
    weights: Float[Tensor, "width ..."]
    bias: Float[Tensor, "..."]

    def score(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "row ..."]:
        """How far rows point along the probe's direction, which ranks them."""
        return ((x - self.mean) / self.spread) @ self.weights


def ridge(
    x: Float[Tensor, "row width"], target: Float[Tensor, "row ..."], penalty: float = RIDGE, relative: bool = True
) -> LinearProbe:
    """A probe by ridge regression, in closed form; of several targets at once, each is fitted on its own.

    Args:
        penalty: added to the diagonal of the covariance of x.
        relative: the penalty is in units of the mean variance of x.
    """
    mean, bias = x.mean(dim=0), target.mean(dim=0)
    centred = x - mean
    gram = centred.T @ centred
    size = penalty * (gram.diagonal().mean() if relative else len(x))
    weights = torch.linalg.solve(gram + size * torch.eye(len(gram), dtype=x.dtype), centred.T @ (target - bias))
    return LinearProbe(mean, torch.ones_like(mean), weights, bias)


def logistic(x: Float[Tensor, "row width"], has: Bool[Tensor, " row"], penalty: float = RIDGE) -> LinearProbe:
    """A probe by logistic regression on x at variance one, by L-BFGS; constant dimensions are left out.

    Args:
        penalty: times the sum of squared weights, added to the mean cross-entropy.
    """
    mean, spread = x.mean(dim=0), x.std(dim=0)
    spread = torch.where(spread > 0, spread.clamp_min(1e-6), torch.inf)
    rows, target = (x - mean) / spread, has.to(x.dtype)
    weights = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(1, dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(rows @ weights + bias, target)
        error = error + penalty * weights.square().sum()
        error.backward()
        return error

    optimiser.step(loss)
    return LinearProbe(mean, spread, weights.detach(), bias.detach())
