"""One step of training, in two ways: with torch's operators and autograd, and with kernels for what is active.

Both compute the same: loss, gradients less what points along decoder rows of fixed length, clipping, Adam, and decoder rows back
to length one. The first is the reference, and takes every kind and device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sonde.dictionaries.batchtopk import Matryoshka
from sonde.dictionaries.dictionary import Dictionary, Elementwise
from sonde.dictionaries.jumprelu import JumpReLU
from sonde.kernels.active import Active, Adam, RowGradient, chosen
from sonde.kernels.choose import choose_kernels, has_kernels
from sonde.training.losses import LossSettings, StepLoss, aux_loss, step_loss
from sonde.training.penalties import penalty
from sonde.training.settings import WITH_K

ROWS_AT_ONCE = 1 << 11
"""rows of weights that stay in the cache while they are changed"""
BY_FLOOR = ("l1", "jumprelu")
"""kinds in which what is active is what exceeds a floor of the feature's own"""
SPARSE_BELOW = 1 / 12
"""share of active features below which these are faster by what is active; measured: docs/log.md, 2026-11-21"""


class AutogradStep:
    """The reference. `clip` is the longest gradient, or 0; `unit_norm` says whether decoder rows are kept at length one."""

    def __init__(self, dictionary: Dictionary, optimiser: torch.optim.Adam, *, unit_norm: bool, clip: float) -> None:
        self.dictionary, self.optimiser, self.unit_norm, self.clip = dictionary, optimiser, unit_norm, clip

    def loss(self, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss:
        """The loss on scaled rows, of which `apply` then takes the gradient."""
        self.found = step_loss(self.dictionary, x, y, settings)
        return self.found

    def apply(self) -> None:
        """Change the weights."""
        dictionary = self.dictionary
        self.found.loss.backward()
        if self.unit_norm:  # rows keep their length, so what points along them would only mislead Adam
            with torch.no_grad():
                W_dec, gradient = dictionary.W_dec, dictionary.W_dec.grad
                assert gradient is not None
                for part, rows in zip(gradient.split(ROWS_AT_ONCE), W_dec.split(ROWS_AT_ONCE), strict=True):
                    part.addcmul_((part * rows).sum(dim=1, keepdim=True), rows, value=-1)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(dictionary.parameters(), self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.unit_norm:
            with torch.no_grad():
                dictionary.W_dec.div_(dictionary.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))


class FusedStep:
    """The same where there are kernels: no gradient is laid out, and each goes straight into Adam.

    Args:
        rms: [d_in] root mean square of each dimension of scaled x.
    """

    def __init__(
        self, dictionary: Dictionary, optimiser: torch.optim.Adam, rms: Tensor, *, unit_norm: bool, clip: float
    ) -> None:
        self.kernels, self.proposer = choose_kernels(dictionary.W_enc.detach(), dictionary.b_enc.detach(), rms)
        self.dictionary, self.optimiser, self.unit_norm, self.clip = dictionary, optimiser, unit_norm, clip
        self.stale = False
        """whether weights were changed by others since"""
        for W in (dictionary.W_enc, dictionary.W_dec):
            if not optimiser.state[W]:
                zeros = {"exp_avg": torch.zeros_like(W), "exp_avg_sq": torch.zeros_like(W)}
                optimiser.state[W] = {"step": torch.tensor(0.0)} | zeros

    @staticmethod
    def takes(dictionary: Dictionary, settings: LossSettings, device: torch.device) -> bool:
        """Whether there are kernels for this dictionary here."""
        if settings.multi_k or not has_kernels(device, dictionary.d_in, dictionary.d_out):
            return False
        by_floor = dictionary.kind in BY_FLOOR and not settings.widths and device.type == "cpu"
        return dictionary.kind in WITH_K or by_floor

    @torch.no_grad()
    def loss(self, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss | None:
        """The loss on scaled rows, and its gradient for `apply`; None where so much is active that autograd is faster."""
        dictionary, W_dec = self.dictionary, self.dictionary.W_dec.detach()
        if self.stale:
            self.proposer.repack()
            self.stale = False
        active = self._active(x.contiguous())
        if active is None:
            return None
        n, share = dictionary.n_features, 1 / (len(x) * settings.variance)
        base = dictionary.base(x).contiguous()
        # `source` is what decoder rows learn to point along, and `row` where it stands for each pair.
        if isinstance(dictionary, Matryoshka):
            source, row, error, squared_error = self._nested(y.contiguous(), base, active, dictionary.prefixes)
            product = self.kernels.products(source, W_dec, x.new_zeros(n), active._replace(row=row))
        else:
            error, squares, product = self.kernels.decode(y.contiguous(), base, W_dec, active)
            source, row, squared_error = error, active.row, squares.mean().item()
        loss = squared_error / settings.variance
        more = penalty(dictionary, x, error, active, settings)
        loss += more.loss
        toward = product.mul_(-2 * share) + more.toward
        starts, order = self.kernels.by_feature(active, n)
        weight = active.value * (-2 * share)
        self.by_decoder = RowGradient(starts, order, row, weight, source, unit=self.unit_norm, own=more.own)
        self.by_encoder = RowGradient(starts, order, active.row, toward, x, unit=False)
        dictionary.b_enc.grad = x.new_zeros(n).index_add_(0, active.feature.long(), toward)
        if more.common is not None:
            self.by_encoder = self._with_all_rows(active, more.common)
            dictionary.b_enc.grad += len(x) * more.common
        if isinstance(dictionary, JumpReLU):
            dictionary.log_threshold.grad = more.log_threshold
        dictionary.b_dec.grad = source[: len(x)].sum(dim=0).mul_(-2 * share)
        if dictionary.W_skip is not None:
            dictionary.W_skip.grad = (source[: len(x)].T @ x).mul_(-2 * share)
        if settings.dead is not None and settings.aux_k:
            loss += self._revive(x, error, settings.dead, settings.aux_k)
        if self.clip:
            self.bound = self.by_encoder.most(dictionary.W_enc.detach()) + self.by_decoder.most(W_dec)
        counts = starts.diff()
        return StepLoss(torch.tensor(loss), error, counts.sum() / len(x), counts)

    @torch.no_grad()
    def apply(self) -> None:
        """Change the weights."""
        dictionary, scale = self.dictionary, 1.0
        by_matrix = ((dictionary.W_enc, self.by_encoder), (dictionary.W_dec, self.by_decoder))
        gradients = [parameter.grad for parameter in dictionary.parameters() if parameter.grad is not None]
        if self.clip:
            square = sum(gradient.double().square().sum().item() for gradient in gradients)
            if square + self.bound > self.clip**2:  # mostly it is not, and then the length need not be known
                square += sum(self.kernels.gradient_square(gradient, W.detach()) for W, gradient in by_matrix)
                scale = min(1.0, self.clip / (square**0.5 + 1e-6))
        [group] = self.optimiser.param_groups
        for W, gradient in by_matrix:
            state = self.optimiser.state[W]
            state["step"] += 1
            (beta1, beta2), step = group["betas"], int(state["step"])
            adam = Adam(group["lr"], beta1, beta2, group["eps"], step, scale)
            moments = (state["exp_avg"], state["exp_avg_sq"])
            if W is dictionary.W_enc:
                self.proposer.update(gradient, moments, adam)
            else:
                self.kernels.update(gradient, W.detach(), moments, adam)
        for gradient in gradients:
            gradient *= scale
        self.optimiser.step()  # what has a gradient of torch's: biases, and W_skip
        self.optimiser.zero_grad()
        del self.by_encoder, self.by_decoder  # and with them the rows and their errors

    def _active(self, x: Tensor) -> Active | None:
        k = getattr(self.dictionary, "k", 0)
        if self.dictionary.kind == "topk":
            return self.proposer.topk(x, k)
        if self.dictionary.kind in WITH_K:
            return self.proposer.batch_topk(x, k)
        assert isinstance(self.dictionary, Elementwise)
        return self.proposer.above(x, self.dictionary.floor())

    def _with_all_rows(self, active: Active, weight: Tensor) -> RowGradient:
        """The encoder's gradient, and of each feature `weight` [n_features] times the sum of all rows: one more row, with all features."""
        n, (_, _, row, toward, x, *_) = len(weight), self.by_encoder
        features = torch.arange(n, dtype=torch.int32, device=x.device)
        more = active._replace(feature=torch.cat([active.feature, features]))
        row, toward = torch.cat([row, features.new_full((n,), len(x))]), torch.cat([toward, weight])
        x = torch.cat([x, x.sum(dim=0, keepdim=True)])
        return RowGradient(*self.kernels.by_feature(more, n), row, toward, x, unit=False)

    def _nested(
        self, y: Tensor, base: Tensor, active: Active, prefixes: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """The errors of nested prefixes of features, added up from the longest down to each, over their number.

        That is what features learn from which are in that prefix and in no shorter one. Returns it [prefix * row, width],
        where it stands for each pair, the error of all features, and the mean squared error of the prefixes.
        """
        n_rows, left, errors, total = len(y), y, [], 0.0
        prefix = torch.bucketize(active.feature, torch.tensor(prefixes, dtype=torch.int32, device=y.device), right=True)
        for number in range(len(prefixes)):
            left, squares, _ = self.kernels.decode(
                left, base, self.dictionary.W_dec.detach(), chosen(active, prefix == number)
            )
            base = torch.zeros_like(self.dictionary.b_dec)
            errors.append(left)
            total += squares.mean().item() / len(prefixes)
        summed = torch.stack(errors).flip(0).cumsum(0).flip(0) / len(prefixes)
        return summed.flatten(0, 1), active.row + (prefix * n_rows).int(), left, total

    def _revive(self, x: Tensor, error: Tensor, dead: Tensor, aux_k: int) -> float:
        """Add AuxK's gradients, which are of dead features alone; returns its loss."""
        [rows] = dead.nonzero(as_tuple=True)
        if not len(rows):
            return 0.0
        dictionary = self.dictionary
        W_enc, b_enc, W_dec = (
            W.detach()[rows].requires_grad_() for W in (dictionary.W_enc, dictionary.b_enc, dictionary.W_dec)
        )
        with torch.enable_grad():
            loss = aux_loss(W_enc, b_enc, W_dec, x, error, aux_k)
        by_encoder, by_bias, by_decoder = torch.autograd.grad(loss, (W_enc, b_enc, W_dec))
        at = torch.full((dictionary.n_features,), -1, dtype=torch.int32, device=x.device)
        at[rows] = torch.arange(len(rows), dtype=torch.int32, device=x.device)
        assert dictionary.b_enc.grad is not None
        dictionary.b_enc.grad[rows] += by_bias
        self.by_encoder = self.by_encoder._replace(dense=by_encoder.contiguous(), dense_at=at)
        self.by_decoder = self.by_decoder._replace(dense=by_decoder.contiguous(), dense_at=at)
        return loss.item()
