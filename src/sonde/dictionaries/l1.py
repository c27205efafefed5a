"""The L1 dictionary: a ReLU encoder, made sparse by a penalty on activations times decoder norms."""

from typing import ClassVar

from torch import Tensor

from sonde.dictionaries.dictionary import Elementwise


class L1(Elementwise):
    """A ReLU encoder without pre-encoder bias (Templeton et al. 2024, "Scaling Monosemanticity", methods)."""

    kind: ClassVar[str] = "l1"

    def act(self, pre: Tensor, features: slice | int | Tensor = slice(None)) -> Tensor:
        return pre.relu()
