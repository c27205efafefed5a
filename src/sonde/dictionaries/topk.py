"""The TopK dictionary: each row keeps its k largest pre-activations."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import Active, Dictionary, rows_of
from sonde.kernels.sparse import decode_pairs, encode_topk


class TopK(Dictionary):
    """Keeps each row's k largest pre-activations, through a ReLU (Gao et al. 2024, arXiv 2406.04093, section 2.3)."""

    kind: ClassVar[str] = "topk"

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None, *, k: int, skip: bool = False) -> None:
        super().__init__(n_features, d_in, d_out, skip=skip, k=k)
        self.k = k

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... n_features"]:
        rows, shape = rows_of(x)
        values, pairs = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        dense = torch.zeros(len(rows), self.n_features, dtype=values.dtype, device=x.device)
        return dense.index_put((pairs.row, pairs.feature), values).reshape(*shape, self.n_features)

    def active(self, x: Float[Tensor, "row d_in"]) -> Active:
        packed = self.packed(x)
        if packed is not None:
            largest = packed.topk(x.contiguous(), self.k)
            return largest.row.long(), largest.feature.long(), largest.value
        values, pairs = encode_topk(x, self.W_enc, self.b_enc, self.k)
        above = values > 0
        return pairs.row[above], pairs.feature[above], values[above]

    def activation(self, x: Float[Tensor, "... d_in"], feature: int) -> Float[Tensor, "..."]:
        rows, shape = rows_of(x)
        values, pairs = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        values = values * (pairs.feature == feature)
        return values.view(len(rows), self.k).sum(dim=1).reshape(shape)

    def reconstruct(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        rows, shape = rows_of(x)
        values, pairs = encode_topk(rows, self.W_enc, self.b_enc, self.k)
        return (decode_pairs(values, pairs, self.W_dec) + self.base(rows)).reshape(*shape, -1)
