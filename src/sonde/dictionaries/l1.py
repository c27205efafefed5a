"""The L1 dictionary: a ReLU encoder, made sparse by a penalty on activations times decoder norms."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import ALL, Elementwise, Features


class L1(Elementwise):
    """A ReLU encoder without pre-encoder bias (Templeton et al. 2024, "Scaling Monosemanticity", methods)."""

    kind: ClassVar[str] = "l1"

    def act(self, pre: Float[Tensor, "..."], features: Features = ALL) -> Float[Tensor, "..."]:
        return pre.relu()
