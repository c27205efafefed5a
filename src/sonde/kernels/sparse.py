"""Sparse encoding and decoding with torch operators only, differentiable, and their dense references.

Nothing here has a dense gradient of size batch x n_features: both weight gradients come from one sort of the
active (row, feature) pairs and one gathering pass. Weights are feature-major, [n_features, width].
"""

import torch
from torch import Tensor


def encode_topk_dense(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> Tensor:
    """Reference: all activations [row, n_features], zero but for each row's k largest, which pass a ReLU."""
    pre = x @ W_enc.T + b_enc
    values, features = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, features, values.relu())


def decode_dense(activations: Tensor, W_dec: Tensor) -> Tensor:
    """Reference: the weighted sum of decoder rows [row, width]."""
    return activations @ W_dec


def encode_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and features [row, k] of each row's k largest pre-activations, through a ReLU, in no order.

    Differentiable in W_enc and b_enc (not in x), as TopK is in Gao et al. 2024 (arXiv 2406.04093), section 2.3.
    """
    return _EncodeTopK.apply(x, W_enc, b_enc, k)


def decode_sparse(values: Tensor, features: Tensor, W_dec: Tensor) -> Tensor:
    """The weighted sum of decoder rows [row, width] for values and features [row, k].

    Differentiable in values and W_dec.
    """
    return _DecodeSparse.apply(values, features, W_dec)


class _EncodeTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W_enc, b_enc, k):
        values, features = torch.addmm(b_enc, x, W_enc.T).topk(k, dim=-1, sorted=False)
        values = values.relu()
        ctx.mark_non_differentiable(features)
        ctx.save_for_backward(x, values, features)
        ctx.n_features = len(W_enc)
        return values, features

    @staticmethod
    def backward(ctx, *grads):
        x, values, features = ctx.saved_tensors
        grad = grads[0] * (values > 0)
        grad_b = torch.zeros(ctx.n_features, dtype=x.dtype, device=x.device).index_add_(
            0, features.flatten(), grad.flatten()
        )
        return None, _row_gradient(grad, features, x, ctx.n_features), grad_b, None


class _DecodeSparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, features, W_dec):
        ctx.save_for_backward(values, features, W_dec)
        return torch.nn.functional.embedding_bag(features, W_dec, per_sample_weights=values, mode="sum")

    @staticmethod
    def backward(ctx, *grads):
        values, features, W_dec = ctx.saved_tensors
        grad = grads[0].contiguous()
        return _dot_rows(grad, W_dec, features), None, _row_gradient(values, features, grad, len(W_dec))


def _dot_rows(x: Tensor, W: Tensor, features: Tensor) -> Tensor:
    """Products [row, k] of x [row, width] with the rows of W that `features` names."""
    n_rows, k = features.shape
    if x.device.type == "cpu":  # the one operator of torch that gathers and multiplies in one pass
        starts = torch.arange(0, n_rows * k, k)
        owner = torch.arange(n_rows).repeat_interleave(k)
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(
            x, W, features.flatten(), starts, owner, 0
        ).view(n_rows, k)
    return torch.einsum("rd,rkd->rk", x, W[features])


def _row_gradient(weights: Tensor, features: Tensor, x: Tensor, n_features: int) -> Tensor:
    """Sum over pairs of weight * x, gathered by feature [n_features, width]: an embedding bag a feature."""
    k = features.shape[1]
    sorted_features, order = features.flatten().sort(stable=True)
    starts = torch.searchsorted(sorted_features, torch.arange(n_features, device=x.device))
    return torch.nn.functional.embedding_bag(
        order // k, x, starts, per_sample_weights=weights.flatten()[order], mode="sum"
    )
