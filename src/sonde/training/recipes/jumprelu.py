"""jumprelu: each feature has a threshold of its own, which learns by straight-through gradients.

There are two penalties. "l0" is the number of active features (Rajamanoharan et al. 2024, arXiv 2407.14435, section 3).
"tanh" is of activations times decoder norms, with a small one on pre-activations under the threshold (Conerly et al.,
"Dictionary Learning Optimization Techniques", January 2025).
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from sonde.dictionaries.jumprelu import JumpReLU
from sonde.kernels.active import Active
from sonde.training.losses import LossSettings, StepLoss, X, Y, dense_loss
from sonde.training.recipes import register
from sonde.training.recipes.fused import FloorRecipe, Penalty, sum_by_feature
from sonde.training.recipes.recipe import Defaults, Sample

# tanh; source, where nothing else is said: Conerly et al., January 2025 update
TANH_SHARPNESS = 4.0
TANH_SPARSITY_PER_DIMENSION = (
    6e-4  # so that a feature costs the same FVU at any width; measured: docs/log.md, 2026-11-21
)
PRE_ACTIVATION_WEIGHT = 3e-6
TANH_BANDWIDTH, TANH_THRESHOLD_START = 2.0, 0.1
FIRES_AT_START, MOST_AT_START = 10_000, 0.1
"""features active on a row at the start, and the largest share of all features that this may be"""
# l0; measured: docs/log.md, 2026-11-21
L0_SPARSITY = 1e-3
L0_BANDWIDTH, L0_THRESHOLD_START = 0.1, 0.1
"""for inputs of mean squared norm one. The paper has 0.001 both, which moves thresholds too seldom in short runs."""
WINDOW_ROWS = 128  # measured: docs/log.md, 2026-11-21
FEATURES_AT_ONCE = 1 << 12
"""whose pre-activations on some rows are held in memory"""


@register
class JumpReLURecipe(FloorRecipe):
    dictionary_class = JumpReLU

    sparsity: float | None = None
    penalty: Literal["tanh", "l0"] = "tanh"
    bandwidth: float | None = None

    @property
    def defaults(self) -> Defaults:
        if self.penalty == "l0":  # source of beta1, and of the warm-up (10,000 of about 100,000 steps): the 2024 paper
            return Defaults(sparsity=L0_SPARSITY, sparsity_warm_up=0.1, revived=True, beta1=0.0)
        return Defaults(
            decoder_norms="free",
            decoder_start=3**-0.5,
            sparsity_per_dimension=TANH_SPARSITY_PER_DIMENSION,
            sparsity_warm_up=1.0,
            revived=True,
        )

    def window(self, settings: LossSettings) -> float:
        """The width of the window around a threshold in which it learns, for inputs as they are scaled in training."""
        if self.penalty == "l0":
            return (self.bandwidth or L0_BANDWIDTH) * settings.variance**0.5
        return self.bandwidth or TANH_BANDWIDTH

    def start(self, dictionary: JumpReLU, read: Tensor, written: Tensor, sample: Sample) -> None:
        """Set thresholds too, and with tanh biases with which each feature fires on an equal share of rows.

        With tanh, encoder rows are width / n_features as long as the decoder's.
        """
        super().start(dictionary, read, written, sample)
        n, width = read.shape
        if self.penalty == "l0":
            dictionary.log_threshold.fill_(math.log(L0_THRESHOLD_START * math.sqrt(width)))
            return
        dictionary.W_enc.mul_(min(1.0, width / n))
        dictionary.log_threshold.fill_(math.log(TANH_THRESHOLD_START))
        x = next(sample(4096))
        rank = max(1, round((1 - min(MOST_AT_START, FIRES_AT_START / n)) * len(x)))
        parts = [(x @ rows.T).kthvalue(rank, dim=0).values for rows in dictionary.W_enc.split(FEATURES_AT_ONCE)]
        dictionary.b_enc.copy_(TANH_THRESHOLD_START - torch.cat(parts))

    def loss(self, dictionary: JumpReLU, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """Squared error and the penalty, with straight-through gradients for the thresholds from some of the rows."""
        threshold, bandwidth = dictionary.log_threshold.exp(), self.window(settings)
        pre = x @ dictionary.W_enc.T + dictionary.b_enc
        activations = jump(pre, threshold, bandwidth)
        if self.penalty == "l0":
            penalty = settings.sparsity * step(pre, threshold, bandwidth).sum(dim=1).mean()
        else:
            norms = dictionary.W_dec.norm(dim=1)
            spread = (TANH_SHARPNESS * activations * norms).tanh().sum(dim=1).mean()
            below = ((threshold - pre).relu() @ norms).mean()
            penalty = (settings.sparsity * spread + PRE_ACTIVATION_WEIGHT * below) / settings.variance
        error = y - activations @ dictionary.W_dec - dictionary.base(x)
        return dense_loss(dictionary, x, error, activations, settings, penalty)

    def penalty_gradients(self, dictionary: Any, x: X, error: Y, active: Active, settings: LossSettings) -> Penalty:
        if self.penalty == "tanh":
            return self._tanh_gradients(dictionary, x, error, active, settings)
        weight = settings.sparsity / len(x)
        by_threshold = self._threshold_gradient(dictionary, x, error, settings, of_step=weight)
        return Penalty(weight * len(active.value), by_parameter={"log_threshold": by_threshold})

    def _tanh_gradients(self, dictionary: JumpReLU, x: X, error: Y, active: Active, settings: LossSettings) -> Penalty:
        n, n_rows, share = dictionary.n_features, len(x), 1 / (len(x) * settings.variance)
        threshold, norms, feature = dictionary.log_threshold.exp(), dictionary.W_dec.norm(dim=1), active.feature.long()
        spread = (TANH_SHARPNESS * active.value * norms[feature]).tanh()
        slope = settings.sparsity * share * TANH_SHARPNESS * (1 - spread.square())
        # How far pre-activations are under the threshold, and on how many rows: of all rows, less the active ones.
        weight = PRE_ACTIVATION_WEIGHT * share
        of_all_rows = n_rows * (threshold - dictionary.b_enc) - dictionary.W_enc @ x.sum(dim=0)
        below = of_all_rows + sum_by_feature(active, active.value - threshold[feature], n)
        n_below = n_rows - torch.bincount(feature, minlength=n)
        by_threshold = self._threshold_gradient(dictionary, x, error, settings, of_tanh=settings.sparsity * share)
        return Penalty(
            settings.sparsity * share * spread.sum().item() + weight * (below @ norms).item(),
            (slope + weight) * norms[feature],
            by_norm=(sum_by_feature(active, slope * active.value, n) + weight * below) / norms.clamp_min(1e-12),
            by_every_pre=-weight * norms,
            by_parameter={"log_threshold": by_threshold + weight * norms * n_below * threshold},
        )

    def _threshold_gradient(
        self,
        dictionary: JumpReLU,
        x: X,
        error: Y,
        settings: LossSettings,
        *,
        of_step: float = 0.0,
        of_tanh: float = 0.0,
    ) -> Tensor:
        """The gradient [n_features] of log_threshold by what lies in the windows, estimated from some rows.

        That is of the squared error, of the number of active features and of tanh, the latter two with these weights.
        """
        every, bandwidth, parts = window_every(len(x)), self.window(settings), []
        some, some_error = x[::every], error[::every] * (-2 / (len(x) * settings.variance))
        for features in torch.arange(dictionary.n_features, device=x.device).split(FEATURES_AT_ONCE):
            here = slice(int(features[0]), int(features[-1]) + 1)
            threshold, W_dec = dictionary.log_threshold[here].exp(), dictionary.W_dec[here]
            pre = torch.addmm(dictionary.b_enc[here], some, dictionary.W_enc[here].T)
            slope = some_error @ W_dec.T
            if of_tanh:
                norms = W_dec.norm(dim=1)
                spread = (pre * (pre > threshold)).mul_(TANH_SHARPNESS * norms).tanh_()
                slope += of_tanh * TANH_SHARPNESS * norms * (1 - spread.square_())
            near = (pre - threshold).abs_() < bandwidth / 2
            parts.append(-threshold * ((slope.mul_(threshold) + of_step) * near).sum(dim=0))
        return torch.cat(parts) * (len(x) / len(some) / bandwidth)


def window_every(n_rows: int) -> int:
    """The stride between the rows from which thresholds learn.

    A window holds a large share of all pre-activations, so a few rows say more about a threshold than all rows say
    about weights, which learn from active features only; and all rows would cost more than the rest of the step.
    """
    return max(1, n_rows // WINDOW_ROWS)


class _Jump(torch.autograd.Function):
    """pre * H(pre - threshold); with respect to the threshold, the slope of the jump is spread over the window."""

    @staticmethod
    def forward(ctx, pre, threshold, bandwidth):
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx, *grads):
        pre, threshold = ctx.saved_tensors
        inside = _sum_in_window(pre, threshold, ctx.bandwidth, grads[0])
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
        return None, -_sum_in_window(pre, threshold, ctx.bandwidth, grads[0]) / ctx.bandwidth, None


jump, step = _Jump.apply, _Step.apply


def _sum_in_window(pre: Tensor, threshold: Tensor, bandwidth: float, slope: Tensor) -> Tensor:
    """Sums [n_features] of slopes where pre-activations are near the threshold, estimated from some rows."""
    every = window_every(len(pre))
    some = pre[::every]
    near = (some - threshold).abs() < bandwidth / 2
    return (slope[::every] * near).sum(dim=0) * (len(pre) / len(some))
