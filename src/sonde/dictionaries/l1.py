"""The L1 dictionary: a ReLU encoder, made sparse by a penalty on activations times decoder norms."""

from typing import ClassVar

from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary


class L1(Dictionary):
    """A ReLU encoder without pre-encoder bias (Templeton et al. 2024, "Scaling Monosemanticity", methods)."""

    kind: ClassVar[str] = "l1"

    def encode(self, x: Tensor) -> Tensor:
        return (x @ self.W_enc.T + self.b_enc).relu()

    def active(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        activations = self.encode(x)
        row, feature = activations.nonzero(as_tuple=True)
        return row, feature, activations[row, feature]

    def activation(self, x: Tensor, feature: int) -> Tensor:
        return (x @ self.W_enc[feature] + self.b_enc[feature]).relu()

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
