"""The Gated dictionary: one path decides whether a feature is active, another how much."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonde.dictionaries.dictionary import ALL, Elementwise, Features


class Gated(Elementwise):
    """A feature is active where its pre-activation is above zero, with a magnitude that shares the direction.

        gate = W_enc @ x + b_enc > 0        magnitude = relu(exp(r) * (W_enc @ x + b_enc) + b_magnitude)

    Source: Rajamanoharan et al. 2024 (arXiv 2404.16014), section 3.2, whose magnitude path has no b_enc in it; here
    b_magnitude makes up for that.

    Attributes:
        r, b_magnitude: [n_features].
    """

    kind: ClassVar[str] = "gated"

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None, *, skip: bool = False) -> None:
        super().__init__(n_features, d_in, d_out, skip=skip)
        self.r = nn.Parameter(torch.zeros(n_features))
        self.b_magnitude = nn.Parameter(torch.zeros(n_features))

    def act(self, pre: Float[Tensor, "..."], features: Features = ALL) -> Float[Tensor, "..."]:
        return (pre * self.r[features].exp() + self.b_magnitude[features]).relu() * (pre > 0)

    def _fold_more(self, unit: Float[Tensor, " n_features"]) -> None:
        self.b_magnitude.mul_(unit)
