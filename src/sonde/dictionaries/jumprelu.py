"""The JumpReLU dictionary: each feature has a threshold of its own."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonde.dictionaries.dictionary import ALL, Elementwise, Features


class JumpReLU(Elementwise):
    """Passes what exceeds the feature's own threshold, whole (Rajamanoharan et al. 2024, arXiv 2407.14435, section 3).

    Attributes:
        log_threshold: [n_features], natural logarithm of each threshold.
    """

    kind: ClassVar[str] = "jumprelu"

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None, *, skip: bool = False) -> None:
        super().__init__(n_features, d_in, d_out, skip=skip)
        self.log_threshold = nn.Parameter(torch.zeros(n_features))

    def act(self, pre: Float[Tensor, "..."], features: Features = ALL) -> Float[Tensor, "..."]:
        return pre * (pre > self.log_threshold[features].exp())

    def floor(self) -> Float[Tensor, " n_features"]:
        return self.log_threshold.exp()

    def _fold_more(self, unit: Float[Tensor, " n_features"]) -> None:
        self.log_threshold.add_(unit.log())
