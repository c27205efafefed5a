"""One step of training, in two ways: with torch's operators and autograd, and with compiled kernels on what is active.

Both compute the same: loss, gradients less what points along decoder rows of fixed length, clipping, Adam, and decoder rows back
to length one. The first is the reference, and takes every kind and device.
"""

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.kernels.compiled import LANES, WIDEST, Active, Packed, RowGradient, kernels
from sonde.training.losses import LossSettings, StepLoss, aux_loss, step_loss

ROWS_AT_ONCE = 1 << 11
"""rows of weights that stay in the cache while they are changed"""
SPARSE_BELOW = 1 / 24
"""share of active features below which l1 is faster by what is active; measured: docs/log.md, 2026-11-21"""


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
        self.optimiser.zero_grad()
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
        if self.unit_norm:
            with torch.no_grad():
                dictionary.W_dec.div_(dictionary.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))


class CompiledStep:
    """The same for topk, batchtopk and l1 on a CPU: nothing of size rows x n_features or of the weights' size is made.

    Args:
        rms: [d_in] root mean square of each dimension of scaled x.
    """

    def __init__(
        self, dictionary: Dictionary, optimiser: torch.optim.Adam, rms: Tensor, *, unit_norm: bool, clip: float
    ) -> None:
        found = kernels()
        assert found is not None
        self.kernels, self.dictionary, self.optimiser = found, dictionary, optimiser
        self.unit_norm, self.clip = unit_norm, clip
        self.packed = Packed(found, dictionary.W_enc, dictionary.b_enc, rms)
        self.stale = False
        """whether weights were changed by others since"""
        self.capacity = 64
        """l1: room for what is active on a row, so far"""
        for W in (dictionary.W_enc, dictionary.W_dec):
            if not optimiser.state[W]:
                zeros = {"exp_avg": torch.zeros_like(W), "exp_avg_sq": torch.zeros_like(W)}
                optimiser.state[W] = {"step": torch.tensor(0.0)} | zeros

    @staticmethod
    def takes(dictionary: Dictionary, settings: LossSettings, device: torch.device) -> bool:
        """Whether there are kernels for this dictionary here."""
        if device.type != "cpu" or kernels() is None or settings.multi_k:
            return False
        fits = all(width % LANES == 0 and width <= WIDEST for width in (dictionary.d_in, dictionary.d_out))
        return fits and (dictionary.kind in ("topk", "batchtopk") or (dictionary.kind == "l1" and not settings.widths))

    @torch.no_grad()
    def loss(self, x: Tensor, y: Tensor, settings: LossSettings) -> StepLoss | None:
        """The loss on scaled rows, and its gradient for `apply`; None where so much is active that autograd is faster."""
        dictionary, W_dec = self.dictionary, self.dictionary.W_dec.detach()
        if self.stale:
            self.packed.repack()
            self.stale = False
        active = self._active(x.contiguous())
        if active is None:
            return None
        n, share = dictionary.n_features, 1 / (len(x) * settings.variance)
        base = dictionary.base(x).contiguous()
        error, squares, product = self.kernels.decode(y.contiguous(), base, W_dec, active)
        feature, toward, own = active.feature.long(), product.mul_(-2 * share), None
        loss = squares.mean().item() / settings.variance
        if dictionary.kind == "l1":
            norms, penalty = W_dec.norm(dim=1), settings.sparsity * share
            toward += penalty * norms[feature]
            total = torch.zeros(n).index_add_(0, feature, active.value)
            own = penalty * total / norms.clamp_min(1e-12)
            loss += penalty * (total @ norms).item()
        starts, order = self.kernels.by_feature(active, n)
        pairs = (starts, order, active.row)
        self.by_encoder = RowGradient(*pairs, toward, x, unit=False)
        self.by_decoder = RowGradient(*pairs, active.value * (-2 * share), error, unit=self.unit_norm, own=own)
        dictionary.b_enc.grad = torch.zeros(n).index_add_(0, feature, toward)
        dictionary.b_dec.grad = error.sum(dim=0).mul_(-2 * share)
        if dictionary.W_skip is not None:
            dictionary.W_skip.grad = (error.T @ x).mul_(-2 * share)
        if settings.dead is not None and settings.aux_k:
            loss += self._revive(x, error, settings.dead, settings.aux_k)
        if self.clip:
            self.bound = self.by_encoder.most(dictionary.W_enc.detach(), feature, x.norm(dim=1))
            self.bound += self.by_decoder.most(W_dec, feature, squares.sqrt().float())
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
            self.kernels.update(
                gradient,
                W.detach(),
                (state["exp_avg"], state["exp_avg_sq"]),
                scale=scale,
                lr=group["lr"],
                betas=group["betas"],
                epsilon=group["eps"],
                step=int(state["step"]),
                packed=self.packed if W is dictionary.W_enc else None,
            )
        for gradient in gradients:
            gradient *= scale
        self.optimiser.step()  # what has a gradient of torch's: biases, and W_skip
        self.optimiser.zero_grad()

    def _active(self, x: Tensor) -> Active | None:
        k = getattr(self.dictionary, "k", 0)
        if self.dictionary.kind == "topk":
            return self.packed.topk(x, k)
        if self.dictionary.kind == "batchtopk":
            return self.packed.batch_topk(x, k)
        most = int(2 * SPARSE_BELOW * self.dictionary.n_features)
        while (found := self.packed.above(x, 0.0, self.capacity)) is None and self.capacity < most:
            self.capacity *= 2
        return found

    def _revive(self, x: Tensor, error: Tensor, dead: Tensor, aux_k: int) -> float:
        """Add AuxK's gradients, which are of dead features alone; returns its loss."""
        [rows] = dead.nonzero(as_tuple=True)
        if not len(rows):
            return 0.0
        dictionary = self.dictionary
        parts = [W.detach()[rows].requires_grad_() for W in (dictionary.W_enc, dictionary.b_enc, dictionary.W_dec)]
        with torch.enable_grad():
            loss = aux_loss(*parts, x, error, aux_k)
        W_enc, b_enc, W_dec = torch.autograd.grad(loss, parts)
        at = torch.full((dictionary.n_features,), -1, dtype=torch.int32)
        at[rows] = torch.arange(len(rows), dtype=torch.int32)
        assert dictionary.b_enc.grad is not None
        dictionary.b_enc.grad[rows] += b_enc
        self.by_encoder = self.by_encoder._replace(dense=W_enc.contiguous(), dense_at=at)
        self.by_decoder = self.by_decoder._replace(dense=W_dec.contiguous(), dense_at=at)
        return loss.item()
