"""The fused step on a GPU: the same loops in Triton, a program for each row of the batch or of the weights.

Proposals are bfloat16 products by torch (`sparse.py`). Sums of a row or a feature run in one program, in a fixed order,
so equal inputs give equal bits. With TRITON_INTERPRET=1 it all runs on a CPU too, slowly, which is how it is tested. It
has not run on a GPU yet, so it is used where SONDE_KERNELS=triton asks for it.
"""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor

from sonde.kernels.active import Active, Adam, RowGradient
from sonde.kernels.sparse import propose_batch_topk, propose_topk

MORE = 32
"""proposed on each row beyond the k that are wanted"""


def installed() -> bool:
    """Whether Triton is; torch for CUDA brings it."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _loops() -> Any:
    """Imported at first use: it takes a second, and not every machine has Triton."""
    return importlib.import_module("sonde.kernels.triton_loops")


class GpuKernels:
    """The loops of a fused step. Tensors are float32 on one device, and contiguous."""

    def decode(self, y: Tensor, base: Tensor, W_dec: Tensor, active: Active) -> tuple[Tensor, Tensor, Tensor]:
        """The error [row, width], its squared length [row], and its product with each pair's row of W_dec.

        The error is y - base - the sum of the active features.
        """
        width, stride = y.shape[1], y.shape[1] if base.dim() == 2 else 0
        error, squares, product = torch.empty_like(y), y.new_empty(len(y)), torch.empty_like(active.value)
        given = (y, base, stride, W_dec, active.starts, active.feature, active.value, error, squares, product)
        self._run("decode", len(y), *given, width)
        return error, squares, product

    def by_feature(self, active: Active, n_features: int) -> tuple[Tensor, Tensor]:
        """The pairs by feature: where each feature's begin [n_features + 1], and their order [pair]."""
        by_feature, order = active.feature.sort(stable=True)
        features = torch.arange(n_features + 1, dtype=torch.int32, device=by_feature.device)
        return torch.searchsorted(by_feature, features), order.int()

    def products(self, x: Tensor, W: Tensor, bias: Tensor, active: Active) -> Tensor:
        """x row . W row + bias for each pair [pair]."""
        product = torch.empty_like(active.value)
        self._run("products", len(product), x, W, bias, active.row, active.feature, product, x.shape[1])
        return product

    def gradient_square(self, gradient: RowGradient, W: Tensor) -> float:
        """The squared length of a gradient of W."""
        squares = W.new_empty(len(W))
        self._run("gradient_square", len(W), *_parts(gradient), W, squares, W.shape[1])
        return squares.double().sum().item()

    def update(self, gradient: RowGradient, W: Tensor, moments: tuple[Tensor, Tensor], adam: Adam) -> None:
        """One step of Adam on W [n_features, width]; rows back to length one where the gradient says so."""
        root = (1 - adam.beta2**adam.step) ** 0.5
        numbers = (adam.scale, adam.lr / (1 - adam.beta1**adam.step), adam.beta1, adam.beta2, adam.epsilon, root)
        self._run("update", len(W), *_parts(gradient), W, *moments, *numbers, W.shape[1])

    def _run(self, name: str, programs: int, *given: Any) -> None:
        """Run a kernel of so many programs on arguments of which the last is the width."""
        if programs:
            width = given[-1]
            getattr(_loops(), name)[(programs,)](
                *given, BLOCK=1 << (width - 1).bit_length(), num_warps=4 if width <= 1024 else 8
            )


def _parts(gradient: RowGradient) -> tuple[Any, ...]:
    """A gradient as arguments of a kernel, and which parts of it there are."""
    dense, at, own = gradient.dense, gradient.dense_at, gradient.own
    pointers = [
        gradient.weight if part is None else part for part in (dense, at, own)
    ]  # never read where there is none
    first = (gradient.starts, gradient.order, gradient.row, gradient.weight, gradient.source)
    return (*first, *pointers, dense is not None, own is not None, gradient.unit)


class Proposals:
    """Proposes by bfloat16 products; what is proposed is computed in float32, and that decides."""

    def __init__(self, kernels: GpuKernels, W_enc: Tensor, b_enc: Tensor) -> None:
        self.kernels, self.W_enc, self.b_enc = kernels, W_enc, b_enc

    def topk(self, x: Tensor, k: int) -> Active:
        """The k largest pre-activations of each row of x [row, d_in] that are above zero."""
        n_proposed = min(len(self.W_enc), k + MORE)
        values, features, _ = propose_topk(x, self.W_enc, self.b_enc, k, n_proposed)
        features, order = features.sort(dim=1)
        values = values.gather(1, order)
        row = torch.arange(len(x), dtype=torch.int32, device=x.device).repeat_interleave(k)
        kept = (values > 0).flatten()
        return _active(values.flatten()[kept], row[kept], features.flatten()[kept], len(x))

    def batch_topk(self, x: Tensor, k: int) -> Active | None:
        """The k * rows largest pre-activations of a batch that are above zero; None where proposals leave a doubt."""
        found = propose_batch_topk(x, self.W_enc, self.b_enc, k)
        return None if found is None else _active(*found, len(x))

    def above(self, x: Tensor, floor: Tensor) -> Active | None:
        """Nothing: a dense product serves better here."""
        return None

    def repack(self) -> None:
        """Nothing is kept."""

    def update(self, gradient: RowGradient, moments: tuple[Tensor, Tensor], adam: Adam) -> None:
        """One step of Adam on the encoder's weights."""
        self.kernels.update(gradient, self.W_enc, moments, adam)


def _active(value: Tensor, row: Tensor, feature: Tensor, n_rows: int) -> Active:
    starts = torch.searchsorted(row.int(), torch.arange(n_rows + 1, dtype=torch.int32, device=row.device))
    return Active(value, row.int(), feature.int(), starts)
