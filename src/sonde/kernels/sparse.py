"""Sparse encoding and decoding with torch operators only, differentiable, and their dense references.

What is active is a list of (row, feature) pairs. Nothing here has a dense gradient of size batch x n_features: weight
gradients come from one sort of the pairs by feature and one gathering pass. Weights are feature-major, [n_features, width].
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Which features are active on which rows, row after row."""

    row: Tensor
    """[pair] int64, ascending"""
    feature: Tensor
    """[pair] int64"""
    starts: Tensor
    """[row + 1] where each row's pairs begin, and their number"""

    @classmethod
    def of_grid(cls, features: Tensor) -> "Pairs":
        """Pairs of features [row, k], as many on each row."""
        n_rows, k = features.shape
        row = torch.arange(n_rows, device=features.device).repeat_interleave(k)
        return cls(row, features.flatten(), torch.arange(0, n_rows * k + 1, k, device=features.device))

    @classmethod
    def of_rows(cls, row: Tensor, feature: Tensor, n_rows: int) -> "Pairs":
        """Pairs whose rows ascend."""
        counts = torch.bincount(row, minlength=n_rows)
        return cls(row, feature, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))

    def where(self, kept: Tensor) -> "Pairs":
        """The pairs for which `kept` [pair] is true."""
        return Pairs.of_rows(self.row[kept], self.feature[kept], len(self.starts) - 1)


def encode_topk_dense(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> Tensor:
    """Reference: all activations [row, n_features], zero but for each row's k largest, which pass a ReLU."""
    pre = x @ W_enc.T + b_enc
    values, features = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, features, values.relu())


def encode_batch_topk_dense(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> Tensor:
    """Reference: all activations [row, n_features], zero but for the k * rows largest of all, which pass a ReLU."""
    pre = x @ W_enc.T + b_enc
    values, places = pre.flatten().topk(min(k * len(x), pre.numel()))
    return torch.zeros_like(pre).flatten().scatter(0, places, values.relu()).view_as(pre)


def decode_dense(activations: Tensor, W_dec: Tensor) -> Tensor:
    """Reference: the weighted sum of decoder rows [row, width]."""
    return activations @ W_dec


def encode_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Pairs]:
    """Values [pair] of each row's k largest pre-activations, through a ReLU, and where they are; in no order in a row.

    Differentiable in W_enc and b_enc (not in x), as TopK is in Gao et al. 2024 (arXiv 2406.04093), section 2.3.
    """
    with torch.no_grad():
        values, features = torch.addmm(b_enc, x, W_enc.T).topk(k, dim=-1, sorted=False)
        pairs = Pairs.of_grid(features)
    return _Encode.apply(x, W_enc, b_enc, values.flatten(), pairs.row, pairs.feature), pairs


def encode_batch_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Pairs]:
    """Values [pair] of the k * rows largest pre-activations of a batch that are above zero, and where they are.

    Differentiable in W_enc and b_enc. Source: Bussmann et al. 2024 (arXiv 2412.06410), section 3.
    """
    with torch.no_grad():
        pre = torch.addmm(b_enc, x, W_enc.T)
        wanted = k * len(x)
        # Some rows give a floor that a few more than are wanted exceed; only those are sorted out.
        some = pre[:: max(1, len(x) // 64)].flatten()
        floor = some.topk(min(len(some), 3 * wanted * len(some) // (2 * pre.numel()) + 1), sorted=False).values.amin()
        row, feature = (pre > floor.clamp_min(0)).nonzero(as_tuple=True)
        if len(row) < wanted and floor > 0:  # rows are unlike each other: all that are above zero
            row, feature = (pre > 0).nonzero(as_tuple=True)
        values = pre[row, feature]
        if len(row) > wanted:
            kept = values.topk(wanted, sorted=False).indices.sort().values
            row, feature, values = row[kept], feature[kept], values[kept]
        pairs = Pairs.of_rows(row, feature, len(x))
    return _Encode.apply(x, W_enc, b_enc, values, pairs.row, pairs.feature), pairs


def decode_pairs(values: Tensor, pairs: Pairs, W_dec: Tensor) -> Tensor:
    """The weighted sum of decoder rows [row, width] for values [pair]; differentiable in values and W_dec."""
    return _Decode.apply(values, *pairs, W_dec)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W_enc, b_enc, values, row, feature):
        values = values.relu()
        ctx.save_for_backward(x, values, row, feature)
        ctx.n_features = len(W_enc)
        return values

    @staticmethod
    def backward(ctx, *grads):
        x, values, row, feature = ctx.saved_tensors
        grad = grads[0] * (values > 0)
        grad_b = torch.zeros(ctx.n_features, dtype=x.dtype, device=x.device).index_add_(0, feature, grad)
        return None, _row_gradient(grad, row, feature, x, ctx.n_features), grad_b, None, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, row, feature, starts, W_dec):
        ctx.save_for_backward(values, row, feature, starts, W_dec)
        return torch.nn.functional.embedding_bag(
            feature, W_dec, starts, per_sample_weights=values, mode="sum", include_last_offset=True
        )

    @staticmethod
    def backward(ctx, *grads):
        values, row, feature, starts, W_dec = ctx.saved_tensors
        grad = grads[0].contiguous()
        by_row = _dot_rows(grad, W_dec, row, feature, starts)
        return by_row, None, None, None, _row_gradient(values, row, feature, grad, len(W_dec))


def _dot_rows(x: Tensor, W: Tensor, row: Tensor, feature: Tensor, starts: Tensor) -> Tensor:
    """Products [pair] of rows of x [row, width] with rows of W."""
    if x.device.type == "cpu":  # the one operator of torch that gathers and multiplies in one pass
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(x, W, feature, starts[:-1], row, 0)
    parts = zip(row.split(1 << 16), feature.split(1 << 16), strict=True)
    return torch.cat([(x[rows] * W[features]).sum(dim=1) for rows, features in parts])


def _row_gradient(weights: Tensor, row: Tensor, feature: Tensor, x: Tensor, n_features: int) -> Tensor:
    """Sum over pairs of weight * x, gathered by feature [n_features, width]: an embedding bag a feature."""
    by_feature, order = feature.sort(stable=True)
    starts = torch.searchsorted(by_feature, torch.arange(n_features, device=x.device))
    return torch.nn.functional.embedding_bag(row[order], x, starts, per_sample_weights=weights[order], mode="sum")
