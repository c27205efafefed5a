"""BatchTopK: as many active features in a batch as TopK has, shared among its rows; and its nested form, Matryoshka."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import ALL, Elementwise, Features


class BatchTopK(Elementwise):
    """In training the k * rows largest pre-activations of a batch are kept; in use, those above one threshold.

    Source: Bussmann et al. 2024 (arXiv 2412.06410), section 3. The threshold is set when training ends, so
    that k features are active on an average training row; so a row's activations do not depend on its batch.

    Attributes:
        threshold: [n_features], one number before norms are folded in.
    """

    kind: ClassVar[str] = "batchtopk"
    threshold: Tensor

    def __init__(
        self, n_features: int, d_in: int, d_out: int | None = None, *, k: int, skip: bool = False, **more: Any
    ) -> None:
        super().__init__(n_features, d_in, d_out, skip=skip, k=k, **more)
        self.k = k
        self.register_buffer("threshold", torch.zeros(n_features))

    def act(self, pre: Float[Tensor, "..."], features: Features = ALL) -> Float[Tensor, "..."]:
        return pre * (pre > self.threshold[features])

    def floor(self) -> Float[Tensor, " n_features"]:
        return self.threshold

    def _fold_more(self, unit: Float[Tensor, " n_features"]) -> None:
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
        prefixes = list(prefixes or sorted({max(1, n_features >> shift) for shift in range(5)}))
        assert prefixes == sorted(prefixes) and prefixes[-1] == n_features
        super().__init__(n_features, d_in, d_out, k=k, skip=skip, prefixes=prefixes)
        self.prefixes = prefixes
