"""The parts of the losses, on vectors scaled so that the mean squared norm of each site equals its width.

A dictionary reads x and reconstructs y; in most, y is x.

Squared errors are divided by the data's total variance, so that a loss is about an FVU and gradient clipping means
the same for every model. Penalties are divided by it too where their weight is meant for such inputs (l1, gated, and
jumprelu with tanh); jumprelu's L0 penalty is meant for inputs of mean squared norm one, and is added as it is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.kernels.sparse import Pairs, decode_pairs, encode_topk

X = Float[Tensor, "row d_in"]
Y = Float[Tensor, "row d_out"]
Coded = tuple[Float[Tensor, " pair"], Pairs]
"""activations, and where they are; the others are zero"""
AUX_WEIGHT = 1 / 32  # source: Gao et al. 2024, appendix A.2
AUX_ROWS = 512  # measured: docs/log.md, 2026-11-21


@dataclass(frozen=True)
class LossSettings:
    """What the loss of a step depends on besides weights, rows and the recipe."""

    variance: float
    """total variance of y, in scaled units"""
    widths: tuple[int, ...] = ()
    """of the sites that are written, where there are several"""
    sparsity: float = 0.0
    """weight of the penalty at this step"""
    dead: Tensor | None = None
    """[n_features] which features AuxK is to revive"""
    aux_k: int = 0


@dataclass(frozen=True)
class StepLoss:
    loss: Tensor
    error: Tensor
    """[row, d_out] y - y_hat, detached"""
    l0: Tensor
    """mean number of active features"""
    counts: Tensor
    """[n_features] on how many rows each feature fired"""

    @property
    def squared_error(self) -> Tensor:
        """Mean over rows of |y - y_hat|^2, in scaled units."""
        return mean_square(self.error)


def sparse_loss(
    dictionary: Dictionary, x: X, error: Y, active: Coded, settings: LossSettings, squared_error: Tensor | None = None
) -> StepLoss:
    """The squared error (of y_hat, where no other is given) over the data's variance, and AuxK."""
    values, pairs = active
    loss = (mean_square(error) if squared_error is None else squared_error) / settings.variance
    counts = torch.bincount(pairs.feature[values.detach() > 0], minlength=dictionary.n_features)
    return _with_aux(dictionary, x, error, loss, counts, settings)


def dense_loss(
    dictionary: Dictionary, x: X, error: Y, activations: Tensor, settings: LossSettings, penalty: Tensor | float = 0.0
) -> StepLoss:
    """The squared error over the data's variance, a penalty, and AuxK; `activations` are [row, n_features]."""
    loss = mean_square(error) / settings.variance + penalty
    return _with_aux(dictionary, x, error, loss, (activations.detach() > 0).sum(dim=0), settings)


def _with_aux(dictionary: Dictionary, x: X, error: Y, loss: Tensor, counts: Tensor, settings: LossSettings) -> StepLoss:
    error = error.detach()
    if settings.dead is not None and settings.aux_k and settings.dead.any():
        dead = settings.dead.nonzero().flatten()
        weights = dictionary.W_enc[dead], dictionary.b_enc[dead], dictionary.W_dec[dead]
        loss = loss + aux_loss(*weights, x, error, settings.aux_k)
    return StepLoss(loss, error, counts.sum() / len(x), counts)


def aux_loss(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, x: X, error: Y, aux_k: int) -> Tensor:
    """AuxK: dead features, whose weights these are, learn to reconstruct the error (Gao et al. 2024, appendix A.2).

    On at most AUX_ROWS rows, evenly spaced: many features are active on each, so that all rows would cost more than the
    rest of the step.
    """
    every = max(1, len(x) // AUX_ROWS)
    x, error = x[::every], error[::every]
    values, pairs = encode_topk(x, W_enc, b_enc, min(aux_k, len(W_enc)))
    aux_error = mean_square(error - decode_pairs(values, pairs, W_dec))
    return AUX_WEIGHT * aux_error / mean_square(error)


def residual(dictionary: Dictionary, x: X, y: Y, active: Coded) -> Y:
    """y - y_hat."""
    return y - decode_pairs(*active, dictionary.W_dec) - dictionary.base(x)


def decoder_norms(dictionary: Dictionary, settings: LossSettings) -> Float[Tensor, " feature"]:
    """The length of each decoder row; where several sites are written, the sum of the lengths of its parts.

    So a feature may stay out of a site (Lindsey et al. 2024, "Sparse Crosscoders", loss).
    """
    parts = dictionary.W_dec.split(settings.widths, dim=1) if settings.widths else [dictionary.W_dec]
    return torch.stack([part.norm(dim=1) for part in parts]).sum(dim=0)


def mean_square(error: Y) -> Tensor:
    """The mean over rows of their squared lengths."""
    return error.square().sum(dim=1).mean()
