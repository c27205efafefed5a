"""BatchTopK: as many active features in a batch as TopK has, shared among its rows; and its nested form, Matryoshka."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Elementwise


class BatchTopK(Elementwise):
    """In training the k * rows largest pre-activations of a batch are kept; in use, those above one threshold.

    Source: Bussmann et al. 2024 (arXiv 2412.06410), section 3. The threshold is set when training ends, so
    that k features are active on an average training row; so a row's activations do not depend on its batch.

    Attributes:
        threshold: [n_features], one number before norms are folded in.
    """

    kind: ClassVar[str] = "batchtopk"
    threshold: Tensor

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None, *, k: int, skip: bool = False) -> None:
        super().__init__(n_features, d_in, d_out, skip=skip)
        self.k = k
        self.register_buffer("threshold", torch.zeros(n_features))

    def act(self, pre: Tensor, features: slice | int | Tensor = slice(None)) -> Tensor:
        return pre * (pre > self.threshold[features])

    def floor(self) -> Tensor:
        return self.threshold

    def extra_state(self) -> dict[str, Any]:
        return super().extra_state() | {"k": self.k}

    def _fold_more(self, unit: Tensor) -> None:
        self.threshold.mul_(unit)


class Matryoshka(BatchTopK):
    """A BatchTopK dictionary whose first features reconstruct alone, and with more of them better.

    Source: Bussmann et al. 2025 (arXiv 2503.17547); the loss is the mean over nested prefixes.

    Args:
        prefixes: how many features each prefix has; the last has all.
    """

    kind: ClassVar[str] = "matryoshka"

    def __init__(
        self,
        n_features: int,
        d_in: int,
        d_out: int | None = None,
        *,
        k: int,
        prefixes: Sequence[int] | None = None,
        skip: bool = False,
    ) -> None:
        super().__init__(n_features, d_in, d_out, k=k, skip=skip)
        self.prefixes = list(prefixes or sorted({max(1, n_features >> shift) for shift in range(5)}))
        assert self.prefixes == sorted(self.prefixes) and self.prefixes[-1] == n_features

    def extra_state(self) -> dict[str, Any]:
        return super().extra_state() | {"prefixes": self.prefixes}
