"""The TopK dictionary: each row keeps its k largest pre-activations."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary, rows_of
from sonde.kernels.sparse import decode_sparse, encode_topk


class TopK(Dictionary):
    """Keeps each row's k largest pre-activations, through a ReLU (Gao et al. 2024, arXiv 2406.04093, section 2.3)."""

    kind: ClassVar[str] = "topk"

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None, *, k: int) -> None:
        super().__init__(n_features, d_in, d_out)
        self.k = k

    def encode(self, x: Tensor) -> Tensor:
        rows, shape = rows_of(x)
        values, features = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        dense = torch.zeros(len(rows), self.n_features, dtype=values.dtype, device=x.device)
        return dense.scatter(1, features, values).reshape(*shape, self.n_features)

    def active(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, features = encode_topk(x, self.W_enc, self.b_enc, self.k)
        row, place = (values > 0).nonzero(as_tuple=True)
        return row, features[row, place], values[row, place]

    def activation(self, x: Tensor, feature: int) -> Tensor:
        rows, shape = rows_of(x)
        values, features = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        return (values * (features == feature)).sum(dim=1).reshape(shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        rows, shape = rows_of(x)
        values, features = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        return (decode_sparse(values, features, self.W_dec) + self.b_dec).reshape(*shape, -1)

    def extra_state(self) -> dict[str, Any]:
        return {"k": self.k}
