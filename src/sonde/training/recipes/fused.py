"""Recipes whose step also runs on kernels, which compute with active features only."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from sonde.kernels.active import Active, Kernels, Proposer
from sonde.training.losses import LossSettings, X, Y
from sonde.training.recipes.recipe import Defaults, Recipe

ENCODER_START = 0.5  # measured: docs/log.md, 2026-11-21
SPARSE_BELOW = 1 / 12  # measured: docs/log.md, 2026-11-21


class Decoded(NamedTuple):
    """What decoding leaves over, and what gradients are made of."""

    error: Tensor
    """[row, d_out] y - y_hat"""
    squared_error: float
    """the loss's, mean over rows"""
    source: Tensor
    """[source row, d_out] errors from which decoder rows learn; the first rows are one for each of y"""
    source_row: Tensor
    """[pair] int32, which of them belongs to each active pair"""
    product: Tensor
    """[pair] product of that error with the decoder row of the pair's feature"""


class Penalty(NamedTuple):
    """A penalty and its gradients."""

    loss: float = 0.0
    by_pre: Tensor | float = 0.0
    """[pair], with respect to active pre-activations"""
    by_norm: Tensor | None = None
    """[n_features], along each decoder row"""
    by_every_pre: Tensor | None = None
    """[n_features], with respect to the pre-activations of all rows alike, added to `by_pre`"""
    by_parameter: Mapping[str, Tensor] = MappingProxyType({})
    """gradients of parameters that only this kind has"""


@dataclass(frozen=True, kw_only=True)
class FusedRecipe(Recipe):
    """A recipe whose step also runs on kernels. What they compute is what `loss` and autograd do."""

    sparse_below: ClassVar[float] = math.inf
    """mean share of active features below which kernels are faster than autograd"""

    def fits(self, device: torch.device, n_sites: int) -> bool:
        """Whether kernels can do the step on this device, where so many sites are written."""
        return True

    @abstractmethod
    def active(self, dictionary: Any, proposer: Proposer, x: X) -> Active | None:
        """The active pairs of scaled rows; None where there are so many that autograd is faster."""

    def decode(self, dictionary: Any, kernels: Kernels, y: Y, base: Tensor, active: Active) -> Decoded:
        """Decode active pairs and compare with y; `base` ([d_out], or a row each) is y_hat without features."""
        error, squares, product = kernels.decode(y, base, dictionary.W_dec.detach(), active)
        return Decoded(error, squares.mean().item(), error, active.row, product)

    def penalty_gradients(self, dictionary: Any, x: X, error: Y, active: Active, settings: LossSettings) -> Penalty:
        """The penalty that `loss` adds to the squared error, with the gradients that autograd would find."""
        return Penalty()


@dataclass(frozen=True, kw_only=True)
class LargestRecipe(FusedRecipe):
    """Of kinds that keep the k largest pre-activations, of a row or of a batch."""

    k: int = 32

    @property
    def defaults(self) -> Defaults:
        return Defaults(encoder_start=ENCODER_START, revived=True)

    def kind_settings(self) -> dict[str, Any]:
        return {"k": min(self.k, self.n_features)}


@dataclass(frozen=True, kw_only=True)
class FloorRecipe(FusedRecipe):
    """Of kinds in which a feature is active where its pre-activation exceeds its own floor."""

    sparse_below: ClassVar[float] = SPARSE_BELOW

    def fits(self, device: torch.device, n_sites: int) -> bool:
        return device.type == "cpu" and n_sites == 1

    def active(self, dictionary: Any, proposer: Proposer, x: X) -> Active | None:
        return proposer.above(x, dictionary.floor())


def sum_by_feature(active: Active, values: Tensor, n_features: int) -> Tensor:
    """Sums [n_features] of values [pair]."""
    return values.new_zeros(n_features).index_add_(0, active.feature.long(), values)
