"""The data of the fused training step (active pairs, sparse weight gradients), and the protocols of a backend."""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Rows = Float[Tensor, "row width"]
Weights = Float[Tensor, "n_features width"]
Bias = Float[Tensor, " n_features"]
PerRow = Float[Tensor, " row"]
PerPair = Float[Tensor, " pair"]


class Active(NamedTuple):
    """The active (row, feature) pairs of a batch, sorted by row and then by feature."""

    value: Tensor
    """[pair] float32"""
    row: Tensor
    """[pair] int32"""
    feature: Tensor
    """[pair] int32"""
    starts: Tensor
    """[row + 1] int64, where each row's pairs begin, and their number"""


def chosen(active: Active, kept: Bool[Tensor, " pair"]) -> Active:
    """The pairs for which `kept` is true."""
    before = torch.cat([active.starts.new_zeros(1), kept.cumsum(0)])
    return Active(active.value[kept], active.row[kept], active.feature[kept], before[active.starts])


class RowGradient(NamedTuple):
    """A gradient of weights [n_features, width] that is never materialised: its rows are gathered where they are used.

    Row f is the sum over the feature's pairs of weight * source[row], plus own[f] times row f of the weights, plus
    dense[dense_at[f]] unless dense_at[f] is negative.
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
    """whether rows of the weights have length one; then the gradient's component along them is removed"""
    dense: Tensor | None = None
    """[a few features, width] float32"""
    dense_at: Tensor | None = None
    """[n_features] int32"""
    own: Tensor | None = None
    """[n_features] float32"""

    def square_bound(self, W: Weights) -> float:
        """An upper bound on the squared norm of this gradient of W."""
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
    """The numbers of one step of Adam."""

    lr: float
    beta1: float
    beta2: float
    epsilon: float
    step: int
    """counted from one"""
    scale: float
    """factor of the gradient, below one where it is clipped"""


class Proposer(Protocol):
    """Finds the active pairs of one encoder. An approximation proposes candidates; exact values decide."""

    def topk(self, x: Rows, k: int) -> Active:
        """The k largest positive pre-activations of each row of x."""
        ...

    def batch_topk(self, x: Rows, k: int) -> Active | None:
        """The k * rows largest positive pre-activations of a batch; None where the proposals are inconclusive."""
        ...

    def above(self, x: Rows, floor: Float[Tensor, "..."]) -> Active | None:
        """All pre-activations above a floor ([n_features], or one for all); None where there are too many."""
        ...

    def repack(self) -> None:
        """Bring the approximation up to date after the weights were changed by other means than `update`."""
        ...

    def update(self, gradient: RowGradient, moments: tuple[Weights, Weights], adam: Adam) -> None:
        """Take one step of Adam on the encoder's weights."""
        ...


class Kernels(Protocol):
    """The loops of the fused step. Weights are float32 and contiguous."""

    def decode(
        self, y: Rows, base: Float[Tensor, "... width"], W_dec: Weights, active: Active
    ) -> tuple[Rows, PerRow, PerPair]:
        """The reconstruction error, its squared norm, and its product with each pair's row of W_dec.

        The error is y - base - the decoded pairs, where base is [width] or has a row for each of y's.
        """
        ...

    def by_feature(self, active: Active, n_features: int) -> tuple[Int[Tensor, " start"], Int[Tensor, " pair"]]:
        """The pairs grouped by feature: where each feature's pairs begin, and their order."""
        ...

    def products(self, x: Rows, W: Weights, bias: Bias, active: Active) -> PerPair:
        """For each pair, its row of x times its feature's row of W, plus the bias."""
        ...

    def gradient_square(self, gradient: RowGradient, W: Weights) -> float:
        """The squared norm of a gradient of W."""
        ...

    def update(self, gradient: RowGradient, W: Weights, moments: tuple[Weights, Weights], adam: Adam) -> None:
        """Take one step of Adam on W; rows are normalised again where the gradient is of unit rows."""
        ...
