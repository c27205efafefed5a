"""Differentiable sparse encoding and decoding with torch's operators alone, and their dense references.

Where bfloat16 products are fast, one such product proposes candidates for the largest activations. The candidates are
computed again in float32, and the largest of these are taken. Rows on which one of the largest may not have been
proposed are computed in full, so the approximation never decides.

Active features are a list of (row, feature) pairs. No dense gradient of size batch x n_features is made: weight
gradients come from one sort of the pairs by feature and one gathering pass. Weights are feature-major, [n_features,
width].
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Rows = Float[Tensor, "row d_in"]
Encoder = Float[Tensor, "n_features d_in"]
Bias = Float[Tensor, " n_features"]
Values = Float[Tensor, " pair"]


class Pairs(NamedTuple):
    """The active (row, feature) pairs of a batch, sorted by row."""

    row: Tensor
    """[pair] int64, ascending"""
    feature: Tensor
    """[pair] int64"""
    starts: Tensor
    """[row + 1] where each row's pairs begin, and their number"""

    @classmethod
    def of_grid(cls, features: Int[Tensor, "row k"]) -> "Pairs":
        """The pairs of k features on each row."""
        n_rows, k = features.shape
        row = torch.arange(n_rows, device=features.device).repeat_interleave(k)
        return cls(row, features.flatten(), torch.arange(0, n_rows * k + 1, k, device=features.device))

    @classmethod
    def of_rows(cls, row: Int[Tensor, " pair"], feature: Int[Tensor, " pair"], n_rows: int) -> "Pairs":
        """Pairs whose rows are in ascending order."""
        counts = torch.bincount(row, minlength=n_rows)
        return cls(row, feature, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))

    def where(self, kept: Bool[Tensor, " pair"]) -> "Pairs":
        """The pairs for which `kept` is true."""
        return Pairs.of_rows(self.row[kept], self.feature[kept], len(self.starts) - 1)


def encode_topk_dense(x: Rows, W_enc: Encoder, b_enc: Bias, k: int) -> Float[Tensor, "row n_features"]:
    """All activations: the ReLU of each row's k largest pre-activations, and zero elsewhere. The reference."""
    pre = x @ W_enc.T + b_enc
    values, features = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, features, values.relu())


def encode_batch_topk_dense(x: Rows, W_enc: Encoder, b_enc: Bias, k: int) -> Float[Tensor, "row n_features"]:
    """All activations: the ReLU of the batch's k * rows largest, and zero elsewhere. The reference."""
    pre = x @ W_enc.T + b_enc
    values, places = pre.flatten().topk(min(k * len(x), pre.numel()))
    return torch.zeros_like(pre).flatten().scatter(0, places, values.relu()).view_as(pre)


def decode_dense(
    activations: Float[Tensor, "row n_features"], W_dec: Float[Tensor, "n_features width"]
) -> Float[Tensor, "row width"]:
    """The weighted sum of decoder rows. The reference."""
    return activations @ W_dec


def encode_topk(x: Rows, W_enc: Encoder, b_enc: Bias, k: int) -> tuple[Values, Pairs]:
    """The ReLU of each row's k largest pre-activations, and their pairs, unsorted within a row.

    Differentiable in W_enc and b_enc (not in x), as TopK is in Gao et al. 2024 (arXiv 2406.04093), section 2.3.
    """
    with torch.no_grad():
        n_proposed = k + max(MORE, k // 2)
        if proposals_pay(x, W_enc) and n_proposed * 8 <= len(W_enc):
            values, features, _ = propose_topk(x, W_enc, b_enc, k, n_proposed)
        else:
            values, features = torch.addmm(b_enc, x, W_enc.T).topk(k, dim=-1, sorted=False)
        pairs = Pairs.of_grid(features)
    return _Encode.apply(x, W_enc, b_enc, values.flatten(), pairs.row, pairs.feature), pairs


def propose_topk(
    x: Rows, W_enc: Encoder, b_enc: Bias, k: int, n_proposed: int
) -> tuple[Float[Tensor, "row k"], Int[Tensor, "row k"], int]:
    """The k largest pre-activations of each row in float32, their features, and how many rows were computed in full."""
    estimate = x.new_empty(len(x), n_proposed)
    proposed = torch.empty(len(x), n_proposed, dtype=torch.int64, device=x.device)
    for rows, pre in _rough(x, W_enc, b_enc):
        largest = pre.topk(n_proposed, dim=-1, sorted=False)
        estimate[rows], proposed[rows] = largest.values.float(), largest.indices
    pairs = Pairs.of_grid(proposed)
    exact = _pre(x, W_enc, b_enc, pairs).view_as(estimate)
    values, places = exact.topk(k, dim=-1, sorted=False)
    features = proposed.gather(1, places)
    # A feature that was not proposed has an estimate below the least one here, and the errors of a row's estimates are
    # of one size: so it can be among the largest only where these are close.
    doubtful = values.amin(dim=1) - estimate.amin(dim=1) < DOUBT * (exact - estimate).abs().amax(dim=1)
    [rows] = doubtful.nonzero(as_tuple=True)
    for part in rows.split(_rows_at_once(W_enc)):
        features[part] = torch.addmm(b_enc, x[part], W_enc.T).topk(k, dim=-1, sorted=False).indices
        values[part] = _pre(x[part], W_enc, b_enc, Pairs.of_grid(features[part])).view(-1, k)
    return values, features, len(rows)


def encode_batch_topk(x: Rows, W_enc: Encoder, b_enc: Bias, k: int) -> tuple[Values, Pairs]:
    """The k * rows largest positive pre-activations of a batch, and their pairs.

    Differentiable in W_enc and b_enc. Source: Bussmann et al. 2024 (arXiv 2412.06410), section 3.
    """
    with torch.no_grad():
        largest = propose_batch_topk(x, W_enc, b_enc, k) if proposals_pay(x, W_enc) else None
        if largest is None:
            largest = _batch_topk(x, W_enc, b_enc, k)
        values, row, feature = largest
        pairs = Pairs.of_rows(row, feature, len(x))
    return _Encode.apply(x, W_enc, b_enc, values, pairs.row, pairs.feature), pairs


def _batch_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(value, row, feature) of the k * rows largest positive pre-activations, from all of them at once."""
    pre = torch.addmm(b_enc, x, W_enc.T)
    wanted = k * len(x)
    floor = likely_floor(pre[:: max(1, len(x) // SAMPLED)], wanted / len(x))
    row, feature = (pre > floor.clamp_min(0)).nonzero(as_tuple=True)
    if len(row) < wanted and floor > 0:  # the sampled rows were not typical: take all positive ones
        row, feature = (pre > 0).nonzero(as_tuple=True)
    return _largest(pre[row, feature], row, feature, wanted)


def propose_batch_topk(
    x: Rows, W_enc: Encoder, b_enc: Bias, k: int
) -> tuple[Values, Int[Tensor, " pair"], Int[Tensor, " pair"]] | None:
    """(value, row, feature) of the k * rows largest, from proposals; None where these are inconclusive."""
    wanted, sample = k * len(x), x[:: max(1, len(x) // SAMPLED)]
    exact = torch.addmm(b_enc, sample, W_enc.T)
    floor = likely_floor(exact, k)
    if floor <= 0:
        return None
    doubt = DOUBT * max(
        (pre.float() - exact[rows]).abs()[exact[rows] > floor].amax() for rows, pre in _rough(sample, W_enc, b_enc)
    )
    parts = []
    for rows, pre in _rough(x, W_enc, b_enc):
        row, feature = (pre > floor - doubt).nonzero(as_tuple=True)
        parts.append((row + rows.start, feature))
    row, feature = (torch.cat(part) for part in zip(*parts, strict=True))
    values = _pre(x, W_enc, b_enc, Pairs.of_rows(row, feature, len(x)))
    if (values > floor).sum() < wanted:
        return None
    return _largest(values, row, feature, wanted)


def likely_floor(pre: Float[Tensor, "row n_features"], k: float) -> Float[Tensor, ""]:
    """A value that a few more than k pre-activations of a row exceed, estimated from a sample of rows."""
    values = pre.flatten()
    return values.topk(min(len(values), int(1.5 * k * len(pre)) + 1), sorted=False).values.amin()


def _largest(values: Tensor, row: Tensor, feature: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    if len(values) <= wanted:
        return values, row, feature
    kept = values.topk(wanted, sorted=False).indices.sort().values
    return values[kept], row[kept], feature[kept]


# ---------------------------------------------------------------- proposals

MORE = 16
"""candidates proposed on each row beyond k"""
DOUBT = 2.0
"""the error of an estimate that was not checked may be this many times the largest of those that were"""
WORTHWHILE = 1 << 22
"""number of weights above which proposals save more than they cost; measured: docs/log.md, 2026-11-21"""
SAMPLED = 64
"""rows of a batch from which its floor is estimated"""


def proposals_pay(x: Rows, W_enc: Encoder) -> bool:
    """Whether a bfloat16 product, with what it takes to make it exact, costs less than one in float32."""
    if x.dtype != torch.float32 or len(x) < 64 or W_enc.numel() < WORTHWHILE:
        return False
    if x.device.type == "cuda":
        return torch.cuda.get_device_capability(x.device) >= (8, 0)
    return x.device.type == "cpu" and _fast_on_cpu()


@functools.cache
def _fast_on_cpu() -> bool:
    native = [getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile")]
    return any(supported is not None and supported() for supported in native)


def _rows_at_once(W: Tensor) -> int:
    """Rows whose pre-activations are held at once: 16 MiB of bfloat16 on a CPU, 1 GiB elsewhere."""
    return max(64, (1 << 23 if W.device.type == "cpu" else 1 << 29) // len(W))


def _rough(x: Tensor, W_enc: Tensor, b_enc: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their pre-activations from a bfloat16 product; each part overwrites the one before."""
    x16, W16, b16 = x.bfloat16(), W_enc.bfloat16(), b_enc.bfloat16()
    step = min(len(x), _rows_at_once(W_enc))
    room = x16.new_empty(step, len(W_enc))
    for first in range(0, len(x), step):
        rows = slice(first, min(first + step, len(x)))
        yield rows, torch.addmm(b16, x16[rows], W16.T, out=room[: rows.stop - first])


def _pre(x: Tensor, W_enc: Tensor, b_enc: Tensor, pairs: Pairs) -> Tensor:
    """Pre-activations [pair] in float32."""
    return _dot_rows(x, W_enc, *pairs) + b_enc[pairs.feature]


# ---------------------------------------------------------------- decoding and gradients


def decode_pairs(values: Values, pairs: Pairs, W_dec: Float[Tensor, "n_features width"]) -> Float[Tensor, "row width"]:
    """The weighted sum of decoder rows; differentiable in values and W_dec."""
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
    if x.device.type == "cpu":  # torch's only operator that gathers and multiplies in one pass
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(x, W, feature, starts[:-1], row, 0)
    parts = zip(row.split(1 << 16), feature.split(1 << 16), strict=True)
    return torch.cat([(x[rows] * W[features]).sum(dim=1) for rows, features in parts])


def _row_gradient(weights: Tensor, row: Tensor, feature: Tensor, x: Tensor, n_features: int) -> Tensor:
    """For each feature [n_features, width], the sum of weight * x over its pairs: an embedding bag."""
    by_feature, order = feature.sort(stable=True)
    starts = torch.searchsorted(by_feature, torch.arange(n_features, device=x.device))
    return torch.nn.functional.embedding_bag(row[order], x, starts, per_sample_weights=weights[order], mode="sum")
