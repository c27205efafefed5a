"""What the fused step works on: active pairs, gradients that are never laid out, and what a backend does with them."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Active(NamedTuple):
    """What is active on rows: pairs of a row and a feature, row after row, and by feature in a row."""

    value: Tensor
    """[pair] float32"""
    row: Tensor
    """[pair] int32"""
    feature: Tensor
    """[pair] int32"""
    starts: Tensor
    """[row + 1] int64, where each row's pairs begin, and their number"""


def chosen(active: Active, which: Tensor) -> Active:
    """The pairs for which `which` [pair] is true."""
    before = torch.cat([active.starts.new_zeros(1), which.cumsum(0)])
    return Active(active.value[which], active.row[which], active.feature[which], before[active.starts])


class RowGradient(NamedTuple):
    """A gradient of weights [n_features, width] that is never laid out, but gathered row by row where it is used.

    Row f is the sum over the feature's pairs of weight * source[row], and own[f] times the weights' own row, and
    dense[dense_at[f]], or nothing where that is negative.
    """

    starts: Tensor
    """[n_features + 1] int64, where each feature's pairs begin in `order`"""
    order: Tensor
    """[pair] int32, the pairs by feature"""
    row: Tensor
    """[pair] int32"""
    weight: Tensor
    """[pair] float32"""
    source: Tensor
    """[row, width] float32"""
    unit: bool
    """whether rows of the weights are kept at length one; then what points along them is left out"""
    dense: Tensor | None = None
    """[some, width] float32"""
    dense_at: Tensor | None = None
    """[n_features] int32"""
    own: Tensor | None = None
    """[n_features] float32"""

    def most(self, W: Tensor) -> float:
        """A bound on the squared length of this gradient of W."""
        feature = torch.arange(len(W), device=W.device).repeat_interleave(
            self.starts.diff(), output_size=len(self.order)
        )
        lengths = (self.weight.abs() * self.source.norm(dim=1)[self.row])[self.order.long()]
        bound = W.new_zeros(len(W)).index_add_(0, feature, lengths)
        if self.own is not None:
            bound += self.own.abs() * W.norm(dim=1)
        if self.dense is not None and self.dense_at is not None:
            bound[self.dense_at >= 0] += self.dense.norm(dim=1)
        return bound.square().sum().item()


class Adam(NamedTuple):
    """One step of Adam."""

    lr: float
    beta1: float
    beta2: float
    epsilon: float
    step: int
    """from one"""
    scale: float
    """of the gradient, where it is clipped"""


class Proposer(Protocol):
    """Finds the active pairs of one encoder; what it approximates on the way never decides."""

    def topk(self, x: Tensor, k: int) -> Active:
        """The k largest pre-activations of each row of x [row, d_in] that are above zero."""
        ...

    def batch_topk(self, x: Tensor, k: int) -> Active | None:
        """The k * rows largest pre-activations of a batch that are above zero; None where it cannot tell."""
        ...

    def above(self, x: Tensor, floor: Tensor) -> Active | None:
        """All pre-activations above a floor ([n_features], or one for all); None where that is too many."""
        ...

    def repack(self) -> None:
        """Take over weights that others have changed."""
        ...

    def update(self, gradient: RowGradient, moments: tuple[Tensor, Tensor], adam: Adam) -> None:
        """One step of Adam on the encoder's weights."""
        ...


class Kernels(Protocol):
    """The fused step's loops. Weights are float32 and contiguous."""

    def decode(self, y: Tensor, base: Tensor, W_dec: Tensor, active: Active) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of y [row, width] less base ([width], or a row each) and what is active: the error [row, width].

        Returns it with its squared length [row], and for each pair its product with the feature's row of W_dec.
        """
        ...

    def by_feature(self, active: Active, n_features: int) -> tuple[Tensor, Tensor]:
        """The pairs by feature: where each feature's begin [n_features + 1], and their order [pair]."""
        ...

    def products(self, x: Tensor, W: Tensor, bias: Tensor, active: Active) -> Tensor:
        """x row . W row + bias for each pair [pair]."""
        ...

    def gradient_square(self, gradient: RowGradient, W: Tensor) -> float:
        """The squared length of a gradient of W."""
        ...

    def update(self, gradient: RowGradient, W: Tensor, moments: tuple[Tensor, Tensor], adam: Adam) -> None:
        """One step of Adam on W [n_features, width]; rows back to length one where the gradient says so."""
        ...
