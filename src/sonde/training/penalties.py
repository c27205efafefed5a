"""The penalties of kinds without a k, with their gradients by what is active: what autograd makes of `losses.py`, written out."""

from typing import NamedTuple

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.jumprelu import JumpReLU
from sonde.kernels.active import Active
from sonde.training.losses import PRE_ACTIVATION_WEIGHT, TANH_SHARPNESS, LossSettings, window_every

FEATURES_AT_ONCE = 1 << 12
"""whose pre-activations on some rows are laid out"""


class Penalty(NamedTuple):
    """A penalty and its gradients."""

    loss: float
    toward: Tensor | float
    """[pair], of active pre-activations"""
    own: Tensor | None = None
    """[n_features], along each decoder row"""
    common: Tensor | None = None
    """[n_features], of the pre-activations of all rows"""
    log_threshold: Tensor | None = None
    """[n_features]"""


def penalty(dictionary: Dictionary, x: Tensor, error: Tensor, active: Active, settings: LossSettings) -> Penalty:
    """The penalty of the dictionary's kind on scaled rows x [row, d_in] with errors [row, d_out]."""
    if isinstance(dictionary, JumpReLU):
        return (_l0 if settings.penalty == "l0" else _tanh)(dictionary, x, error, active, settings)
    if dictionary.kind == "l1":
        return _l1(dictionary, x, active, settings)
    return Penalty(0.0, 0.0)


def _l1(dictionary: Dictionary, x: Tensor, active: Active, settings: LossSettings) -> Penalty:
    norms, weight = dictionary.W_dec.norm(dim=1), settings.sparsity / (len(x) * settings.variance)
    total = _by_feature(active, active.value, len(norms))
    own = weight * total / norms.clamp_min(1e-12)
    return Penalty(weight * (total @ norms).item(), weight * norms[active.feature.long()], own)


def _l0(dictionary: JumpReLU, x: Tensor, error: Tensor, active: Active, settings: LossSettings) -> Penalty:
    weight, bandwidth = settings.sparsity / len(x), settings.bandwidth * settings.variance**0.5
    by_threshold = _window(dictionary, x, error, settings, bandwidth, by_step=weight)
    return Penalty(weight * len(active.value), 0.0, log_threshold=by_threshold)


def _tanh(dictionary: JumpReLU, x: Tensor, error: Tensor, active: Active, settings: LossSettings) -> Penalty:
    n, n_rows, share = dictionary.n_features, len(x), 1 / (len(x) * settings.variance)
    threshold, norms, feature = dictionary.log_threshold.exp(), dictionary.W_dec.norm(dim=1), active.feature.long()
    spread = (TANH_SHARPNESS * active.value * norms[feature]).tanh()
    slope = settings.sparsity * share * TANH_SHARPNESS * (1 - spread.square())
    # Of all rows, less the active ones: how far pre-activations are under the threshold, and on how many rows.
    weight = PRE_ACTIVATION_WEIGHT * share
    whole = n_rows * (threshold - dictionary.b_enc) - dictionary.W_enc @ x.sum(dim=0)
    below = whole + _by_feature(active, active.value - threshold[feature], n)
    n_below = n_rows - torch.bincount(feature, minlength=n)
    by_threshold = _window(dictionary, x, error, settings, settings.bandwidth, by_tanh=settings.sparsity * share)
    return Penalty(
        settings.sparsity * share * spread.sum().item() + weight * (below @ norms).item(),
        (slope + weight) * norms[feature],
        own=(_by_feature(active, slope * active.value, n) + weight * below) / norms.clamp_min(1e-12),
        common=-weight * norms,
        log_threshold=by_threshold + weight * norms * n_below * threshold,
    )


def _window(
    dictionary: JumpReLU,
    x: Tensor,
    error: Tensor,
    settings: LossSettings,
    bandwidth: float,
    *,
    by_step: float = 0.0,
    by_tanh: float = 0.0,
) -> Tensor:
    """What the windows around thresholds teach log_threshold [n_features], from some rows: see `losses.window_every`."""
    every, found = window_every(len(x)), []
    some, some_error = x[::every], error[::every] * (-2 / (len(x) * settings.variance))
    for at in torch.arange(dictionary.n_features, device=x.device).split(FEATURES_AT_ONCE):
        here = slice(int(at[0]), int(at[-1]) + 1)
        threshold, W_dec = dictionary.log_threshold[here].exp(), dictionary.W_dec[here]
        pre = torch.addmm(dictionary.b_enc[here], some, dictionary.W_enc[here].T)
        slope = some_error @ W_dec.T
        if by_tanh:
            norms = W_dec.norm(dim=1)
            spread = (pre * (pre > threshold)).mul_(TANH_SHARPNESS * norms).tanh_()
            slope += by_tanh * TANH_SHARPNESS * norms * (1 - spread.square_())
        near = (pre - threshold).abs_() < bandwidth / 2
        found.append(-threshold * ((slope.mul_(threshold) + by_step) * near).sum(dim=0))
    return torch.cat(found) * (len(x) / len(some) / bandwidth)


def _by_feature(active: Active, values: Tensor, n: int) -> Tensor:
    return values.new_zeros(n).index_add_(0, active.feature.long(), values)
