"""The losses of each kind, on vectors scaled so that the mean squared norm of each site equals its width.

A dictionary reads x and reconstructs y; in most, y is x.

Squared errors are divided by the data's total variance, so that a loss is about an FVU and gradient clipping means
the same for every model. Penalties are divided by it too where their weight is meant for such inputs (l1, gated, and
jumprelu with tanh); jumprelu's L0 penalty is meant for inputs of mean squared norm one, and is added as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sonde.dictionaries.batchtopk import BatchTopK, Matryoshka
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.gated import Gated
from sonde.dictionaries.jumprelu import JumpReLU
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.topk import TopK
from sonde.kernels.sparse import Pairs, decode_pairs, encode_batch_topk, encode_topk

AUX_WEIGHT = 1 / 32  # source: Gao et al. 2024, appendix A.2
AUX_ROWS = 512  # measured: docs/log.md, 2026-11-21
MULTI_K, MULTI_WEIGHT = 4, 1 / 8  # source: Gao et al. 2024, Multi-TopK
TANH_SHARPNESS = 4.0  # source: Conerly et al., January 2025 update: c
PRE_ACTIVATION_WEIGHT = 3e-6  # source: same: lambda_P
BANDWIDTH = {"tanh": 2.0, "l0": 0.1}
"""jumprelu: width of the window around a threshold in which it learns. tanh: source: same. l0: for inputs of mean squared norm
one; measured: docs/log.md, 2026-11-21. The paper's 0.001 moves thresholds too seldom in runs of a few thousand steps."""
WINDOW_ROWS = 128  # measured: docs/log.md, 2026-11-21


@dataclass(frozen=True)
class LossSettings:
    """What a loss depends on besides weights and rows."""

    variance: float
    """total variance of y, in scaled units"""
    widths: tuple[int, ...] = ()
    """of the sites that are written, where there are several"""
    sparsity: float = 0.0
    """weight of the penalty now"""
    penalty: str = "tanh"
    """jumprelu: tanh or l0"""
    bandwidth: float = 2.0
    """jumprelu: width of the window around a threshold in which it learns"""
    multi_k: bool = False
    """topk: also reconstruct with 4 k features"""
    dead: Tensor | None = None
    """[n_features] which features AuxK is to revive"""
    aux_k: int = 0


@dataclass(frozen=True)
class StepLoss:
    loss: Tensor
    error: Tensor
    """[row, d_out] what is left over of each y, detached"""
    l0: Tensor
    """mean number of active features"""
    counts: Tensor
    """[n_features] on how many rows each feature fired"""

    @property
    def squared_error(self) -> Tensor:
        """Mean over rows of |y - y_hat|^2, in scaled units."""
        return _mean_square(self.error)


def step_loss(dictionary: Dictionary, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """The loss of the dictionary's kind on rows x [row, d_in] and y [row, d_out]."""
    return _LOSSES[dictionary.kind](dictionary, x, y, settings)


def topk_loss(dictionary: TopK, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """Squared error, AuxK, and with `multi_k` the error with four times as many features (Gao et al. 2024, arXiv 2406.04093)."""
    k = dictionary.k
    if not settings.multi_k:
        values, pairs = encode_topk(x, dictionary.W_enc, dictionary.b_enc, k)
        error = _error(dictionary, x, y, values, pairs)
        return _sparse_result(dictionary, x, settings, values, pairs, error, _mean_square(error))
    many = min(MULTI_K * k, dictionary.n_features)
    all_values, all_pairs = encode_topk(x, dictionary.W_enc, dictionary.b_enc, many)
    places = all_values.detach().view(len(x), many).topk(k, dim=1).indices
    places = (places + torch.arange(0, len(x) * many, many, device=x.device)[:, None]).flatten()
    values, pairs = all_values[places], Pairs.of_grid(all_pairs.feature[places].view(len(x), k))
    error = _error(dictionary, x, y, values, pairs)
    more = MULTI_WEIGHT * _mean_square(_error(dictionary, x, y, all_values, all_pairs))
    return _sparse_result(dictionary, x, settings, values, pairs, error, _mean_square(error) + more)


def batchtopk_loss(dictionary: BatchTopK, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """Squared error and AuxK (Bussmann et al. 2024, arXiv 2412.06410)."""
    values, pairs = encode_batch_topk(x, dictionary.W_enc, dictionary.b_enc, dictionary.k)
    error = _error(dictionary, x, y, values, pairs)
    return _sparse_result(dictionary, x, settings, values, pairs, error, _mean_square(error))


def matryoshka_loss(dictionary: Matryoshka, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """Mean over nested prefixes of the squared error of each alone (Bussmann et al. 2025, arXiv 2503.17547), and AuxK."""
    values, pairs = encode_batch_topk(x, dictionary.W_enc, dictionary.b_enc, dictionary.k)
    error, errors, first = y - dictionary.base(x), [], 0
    for last in dictionary.prefixes:
        inside = (pairs.feature >= first) & (pairs.feature < last)
        error = error - decode_pairs(values[inside], pairs.where(inside), dictionary.W_dec)
        errors.append(_mean_square(error))
        first = last
    return _sparse_result(dictionary, x, settings, values, pairs, error, torch.stack(errors).mean())


def l1_loss(dictionary: L1, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """Squared error plus activations by decoder norms (Templeton et al. 2024, "Scaling Monosemanticity", methods)."""
    activations = dictionary.encode(x)
    error = y - activations @ dictionary.W_dec - dictionary.base(x)
    penalty = (activations @ _norms(dictionary, settings)).mean()
    return _dense_result(dictionary, x, settings, activations, error, settings.sparsity * penalty / settings.variance)


def jumprelu_loss(dictionary: JumpReLU, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """Squared error and one of two penalties, with straight-through gradients for the thresholds, from some of the rows.

    "l0": the number of active features (Rajamanoharan et al. 2024, arXiv 2407.14435, section 3). "tanh": of
    activations by decoder norms, and a small one on pre-activations under the threshold (Conerly et al., "Dictionary
    Learning Optimization Techniques", January 2025).
    """
    threshold = dictionary.log_threshold.exp()
    pre = x @ dictionary.W_enc.T + dictionary.b_enc
    if settings.penalty == "l0":
        bandwidth = settings.bandwidth * settings.variance**0.5
        activations = _jump(pre, threshold, bandwidth)
        penalty = settings.sparsity * _step(pre, threshold, bandwidth).sum(dim=1).mean()
    else:
        activations, norms = _jump(pre, threshold, settings.bandwidth), dictionary.W_dec.norm(dim=1)
        spread = (TANH_SHARPNESS * activations * norms).tanh().sum(dim=1).mean()
        below = ((threshold - pre).relu() @ norms).mean()
        penalty = (settings.sparsity * spread + PRE_ACTIVATION_WEIGHT * below) / settings.variance
    error = y - activations @ dictionary.W_dec - dictionary.base(x)
    return _dense_result(dictionary, x, settings, activations, error, penalty)


def window_every(n_rows: int) -> int:
    """Of every how many rows one teaches jumprelu's thresholds.

    A window holds a large share of all pre-activations, so that a few rows tell a threshold more than all rows tell weights, which learn
    from the active ones; and all rows would cost more than the rest of the step.
    """
    return max(1, n_rows // WINDOW_ROWS)


def gated_loss(dictionary: Gated, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
    """Squared error, a penalty on the gates' pre-activations, and the error of those through a frozen decoder.

    Source: Rajamanoharan et al. 2024 (arXiv 2404.16014), section 3.2.
    """
    product = x @ dictionary.W_enc.T
    gate = (product + dictionary.b_enc).relu()
    # The step of the gate has no gradient, so b_enc learns from the penalty and the frozen decoder alone.
    magnitude = ((product + dictionary.b_enc.detach()) * dictionary.r.exp() + dictionary.b_magnitude).relu()
    activations = magnitude * (gate > 0)
    error = y - activations @ dictionary.W_dec - dictionary.base(x)
    by_gate = y - gate @ dictionary.W_dec.detach() - dictionary.base(x).detach()
    extra = settings.sparsity * gate.sum(dim=1).mean() + _mean_square(by_gate)
    return _dense_result(dictionary, x, settings, activations, error, extra / settings.variance)


_LOSSES: dict[str, Callable[..., StepLoss]] = {
    "topk": topk_loss,
    "batchtopk": batchtopk_loss,
    "matryoshka": matryoshka_loss,
    "l1": l1_loss,
    "jumprelu": jumprelu_loss,
    "gated": gated_loss,
}


def aux_loss(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, x: Tensor, error: Tensor, aux_k: int) -> Tensor:
    """Dead features, whose weights these are, learn to reconstruct what the living leave over (Gao et al. 2024, appendix A.2).

    On at most AUX_ROWS rows, evenly spaced: with many active on each, all rows would cost more than the rest of the step.
    """
    every = max(1, len(x) // AUX_ROWS)
    x, error = x[::every], error[::every]
    values, pairs = encode_topk(x, W_enc, b_enc, min(aux_k, len(W_enc)))
    aux_error = _mean_square(error - decode_pairs(values, pairs, W_dec))
    return AUX_WEIGHT * aux_error / _mean_square(error)


def _error(dictionary: Dictionary, x: Tensor, y: Tensor, values: Tensor, pairs: Pairs) -> Tensor:
    return y - decode_pairs(values, pairs, dictionary.W_dec) - dictionary.base(x)


def _norms(dictionary: Dictionary, settings: LossSettings) -> Tensor:
    """Length of each decoder row [n_features]; of several sites, the sum of the lengths of its parts.

    So a feature may stay out of a site (Lindsey et al. 2024, "Sparse Crosscoders", loss).
    """
    parts = dictionary.W_dec.split(settings.widths, dim=1) if settings.widths else [dictionary.W_dec]
    return torch.stack([part.norm(dim=1) for part in parts]).sum(dim=0)


def _mean_square(error: Tensor) -> Tensor:
    return error.square().sum(dim=1).mean()


def _sparse_result(
    dictionary: Dictionary,
    x: Tensor,
    settings: LossSettings,
    values: Tensor,
    pairs: Pairs,
    error: Tensor,
    squared_error: Tensor,
) -> StepLoss:
    counts = torch.bincount(pairs.feature[values.detach() > 0], minlength=dictionary.n_features)
    return _result(dictionary, x, settings, error, squared_error / settings.variance, counts)


def _dense_result(
    dictionary: Dictionary, x: Tensor, settings: LossSettings, activations: Tensor, error: Tensor, penalty: Tensor
) -> StepLoss:
    loss = _mean_square(error) / settings.variance + penalty
    return _result(dictionary, x, settings, error, loss, (activations.detach() > 0).sum(dim=0))


def _result(
    dictionary: Dictionary, x: Tensor, settings: LossSettings, error: Tensor, loss: Tensor, counts: Tensor
) -> StepLoss:
    rest = error.detach()
    if settings.dead is not None and settings.aux_k and settings.dead.any():
        dead = settings.dead.nonzero().flatten()
        loss = loss + aux_loss(
            dictionary.W_enc[dead], dictionary.b_enc[dead], dictionary.W_dec[dead], x, rest, settings.aux_k
        )
    return StepLoss(loss, rest, counts.sum() / len(x), counts)


def _jump(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return _Jump.apply(pre, threshold, bandwidth)


def _step(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return _Step.apply(pre, threshold, bandwidth)


class _Jump(torch.autograd.Function):
    """pre * H(pre - threshold); towards the threshold, the slope of the jump spread over a window."""

    @staticmethod
    def forward(ctx, pre, threshold, bandwidth):
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx, *grads):
        pre, threshold = ctx.saved_tensors
        inside = _in_window(pre, threshold, ctx.bandwidth, grads[0])
        return grads[0] * (pre > threshold), -threshold / ctx.bandwidth * inside, None


class _Step(torch.autograd.Function):
    """H(pre - threshold), with a gradient for the threshold alone."""

    @staticmethod
    def forward(ctx, pre, threshold, bandwidth):
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre)

    @staticmethod
    def backward(ctx, *grads):
        pre, threshold = ctx.saved_tensors
        return None, -_in_window(pre, threshold, ctx.bandwidth, grads[0]) / ctx.bandwidth, None


def _in_window(pre: Tensor, threshold: Tensor, bandwidth: float, slope: Tensor) -> Tensor:
    """The sum [n_features] of slopes where pre-activations are near the threshold, estimated from some rows."""
    every = window_every(len(pre))
    some = pre[::every]
    near = (some - threshold).abs() < bandwidth / 2
    return (slope[::every] * near).sum(dim=0) * (len(pre) / len(some))
