"""The fused step on a GPU: the same loops in Triton, with one program for each row of the batch or of the weights.

Proposals are bfloat16 products by torch (`sparse.py`). A row or a feature is summed by one program, in a fixed order,
so equal inputs give equal bits. With TRITON_INTERPRET=1 it also runs on a CPU, slowly, which is how it is tested. It
has run on an H200, where it is right but hardly faster than torch, so it is used only where SONDE_KERNELS=triton asks.
"""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonde.kernels.active import Active, Adam, Bias, PerPair, PerRow, RowGradient, Rows, Weights
from sonde.kernels.sparse import propose_batch_topk, propose_topk

MORE = 32
"""candidates proposed on each row beyond k"""


def installed() -> bool:
    """Whether Triton is installed; torch for CUDA brings it."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _loops() -> Any:
    """The module of Triton loops, imported at first use: that takes a second, and not every machine has Triton."""
    return importlib.import_module("sonde.kernels.triton_loops")


class GpuKernels:
    """The loops of a fused step. Tensors are float32 on one device, and contiguous."""

    def decode(
        self, y: Rows, base: Float[Tensor, "... width"], W_dec: Weights, active: Active
    ) -> tuple[Rows, PerRow, PerPair]:
        """The reconstruction error, its squared norm, and its product with each pair's row of W_dec.

        The error is y - base - the decoded pairs, where base is [width] or has a row for each of y's.
        """
        width, stride = y.shape[1], y.shape[1] if base.dim() == 2 else 0
        error, squares, product = torch.empty_like(y), y.new_empty(len(y)), torch.empty_like(active.value)
        inputs = (y, base, stride, W_dec, active.starts, active.feature, active.value)
        self._run("decode", len(y), *inputs, error, squares, product, width)
        return error, squares, product

    def by_feature(self, active: Active, n_features: int) -> tuple[Int[Tensor, " start"], Int[Tensor, " pair"]]:
        """The pairs grouped by feature: where each feature's pairs begin, and their order."""
        by_feature, order = active.feature.sort(stable=True)
        features = torch.arange(n_features + 1, dtype=torch.int32, device=by_feature.device)
        return torch.searchsorted(by_feature, features), order.int()

    def products(self, x: Rows, W: Weights, bias: Bias, active: Active) -> PerPair:
        """For each pair, its row of x times its feature's row of W, plus the bias."""
        product = torch.empty_like(active.value)
        self._run("products", len(product), x, W, bias, active.row, active.feature, product, x.shape[1])
        return product

    def gradient_square(self, gradient: RowGradient, W: Weights) -> float:
        """The squared norm of a gradient of W."""
        squares = W.new_empty(len(W))
        self._run("gradient_square", len(W), *_parts(gradient), W, squares, W.shape[1])
        return squares.double().sum().item()

    def update(self, gradient: RowGradient, W: Weights, moments: tuple[Weights, Weights], adam: Adam) -> None:
        """Take one step of Adam on W; rows are normalised again where the gradient is of unit rows."""
        root = (1 - adam.beta2**adam.step) ** 0.5
        numbers = (adam.scale, adam.lr / (1 - adam.beta1**adam.step), adam.beta1, adam.beta2, adam.epsilon, root)
        self._run("update", len(W), *_parts(gradient), W, *moments, *numbers, W.shape[1])

    def _run(self, name: str, n_programs: int, *arguments: Any) -> None:
        """Run a kernel with this many programs; the last argument is the width of a row."""
        if n_programs:
            width = arguments[-1]
            getattr(_loops(), name)[(n_programs,)](
                *arguments, BLOCK=1 << (width - 1).bit_length(), num_warps=4 if width <= 1024 else 8
            )


def _parts(gradient: RowGradient) -> tuple[Any, ...]:
    """A gradient as arguments of a kernel, and flags for its optional parts."""
    dense, at, own = gradient.dense, gradient.dense_at, gradient.own
    # A part that is absent needs some pointer, which is never read.
    pointers = [gradient.weight if part is None else part for part in (dense, at, own)]
    required = (gradient.starts, gradient.order, gradient.row, gradient.weight, gradient.source)
    return (*required, *pointers, dense is not None, own is not None, gradient.unit)


class Proposals:
    """Proposes candidates by bfloat16 products; their values in float32 decide."""

    def __init__(self, kernels: GpuKernels, W_enc: Weights, b_enc: Bias) -> None:
        self.kernels, self.W_enc, self.b_enc = kernels, W_enc, b_enc

    def topk(self, x: Rows, k: int) -> Active:
        """The k largest positive pre-activations of each row of x."""
        n_proposed = min(len(self.W_enc), k + MORE)
        values, features, _ = propose_topk(x, self.W_enc, self.b_enc, k, n_proposed)
        features, order = features.sort(dim=1)
        values = values.gather(1, order)
        row = torch.arange(len(x), dtype=torch.int32, device=x.device).repeat_interleave(k)
        kept = (values > 0).flatten()
        return _active(values.flatten()[kept], row[kept], features.flatten()[kept], len(x))

    def batch_topk(self, x: Rows, k: int) -> Active | None:
        """The k * rows largest positive pre-activations of a batch; None where the proposals are inconclusive."""
        largest = propose_batch_topk(x, self.W_enc, self.b_enc, k)
        return None if largest is None else _active(*largest, len(x))

    def above(self, x: Rows, floor: Float[Tensor, "..."]) -> Active | None:
        """None: on a GPU a dense product is the better way."""
        return None

    def repack(self) -> None:
        """Do nothing: no copy of the weights is kept."""

    def update(self, gradient: RowGradient, moments: tuple[Weights, Weights], adam: Adam) -> None:
        """Take one step of Adam on the encoder's weights."""
        self.kernels.update(gradient, self.W_enc, moments, adam)


def _active(value: Tensor, row: Tensor, feature: Tensor, n_rows: int) -> Active:
    starts = torch.searchsorted(row.int(), torch.arange(n_rows + 1, dtype=torch.int32, device=row.device))
    return Active(value, row.int(), feature.int(), starts)
