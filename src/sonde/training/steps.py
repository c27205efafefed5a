"""One step of training, in two ways: with torch's operators and autograd, and with kernels for what is active.

Both compute the same: loss, gradients less what points along decoder rows of fixed length, clipping, Adam, and decoder
rows back to length one. The first is the reference, and takes every kind and device.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.kernels.active import Active, Adam, RowGradient
from sonde.kernels.choose import choose_kernels, has_kernels
from sonde.training.losses import LossSettings, StepLoss, X, Y, aux_loss
from sonde.training.recipes.fused import Decoded, FusedRecipe, Penalty
from sonde.training.recipes.recipe import Recipe, Sample

ROWS_AT_ONCE = 1 << 11
"""rows of weights that stay in the cache while they are changed"""


class AutogradStep:
    """The reference.

    Args:
        clip: the longest gradient, or 0.
    """

    def __init__(self, recipe: Recipe, dictionary: Dictionary, optimiser: torch.optim.Adam, *, clip: float) -> None:
        self.recipe, self.dictionary, self.optimiser, self.clip = recipe, dictionary, optimiser, clip

    def loss(self, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """The loss on scaled rows, of which `apply` then takes the gradient."""
        self.result = self.recipe.loss(self.dictionary, x, y, settings)
        return self.result

    def apply(self) -> None:
        """Change the weights."""
        dictionary, unit_norm = self.dictionary, self.recipe.unit_norm
        self.result.loss.backward()
        if unit_norm:  # rows keep their length, so what points along them would only mislead Adam
            with torch.no_grad():
                W_dec, gradient = dictionary.W_dec, dictionary.W_dec.grad
                assert gradient is not None
                for part, rows in zip(gradient.split(ROWS_AT_ONCE), W_dec.split(ROWS_AT_ONCE), strict=True):
                    part.addcmul_((part * rows).sum(dim=1, keepdim=True), rows, value=-1)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(dictionary.parameters(), self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if unit_norm:
            with torch.no_grad():
                dictionary.W_dec.div_(dictionary.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))


class FusedStep:
    """The same where there are kernels: no gradient is laid out, and each goes straight into Adam.

    Args:
        rms: [d_in] root mean square of each dimension of scaled x.
        clip: the longest gradient, or 0.
    """

    def __init__(
        self, recipe: FusedRecipe, dictionary: Dictionary, optimiser: torch.optim.Adam, rms: Tensor, *, clip: float
    ) -> None:
        self.kernels, self.proposer = choose_kernels(dictionary.W_enc.detach(), dictionary.b_enc.detach(), rms)
        self.recipe, self.dictionary, self.optimiser, self.clip = recipe, dictionary, optimiser, clip
        self.stale = False
        """whether weights were changed since by others than this step"""
        for W in (dictionary.W_enc, dictionary.W_dec):
            if not optimiser.state[W]:
                zeros = {"exp_avg": torch.zeros_like(W), "exp_avg_sq": torch.zeros_like(W)}
                optimiser.state[W] = {"step": torch.tensor(0.0)} | zeros

    @torch.no_grad()
    def loss(self, x: X, y: Y, settings: LossSettings) -> StepLoss | None:
        """The loss on scaled rows, with gradients for `apply`; None where so much is active that autograd is faster."""
        dictionary, recipe = self.dictionary, self.recipe
        if self.stale:
            self.proposer.repack()
            self.stale = False
        active = recipe.active(dictionary, self.proposer, x.contiguous())
        if active is None:
            return None
        decoded = recipe.decode(dictionary, self.kernels, y.contiguous(), dictionary.base(x).contiguous(), active)
        penalty = recipe.penalty_gradients(dictionary, x, decoded.error, active, settings)
        loss = decoded.squared_error / settings.variance + penalty.loss
        by_feature = self.kernels.by_feature(active, dictionary.n_features)
        self._set_gradients(x, active, by_feature, decoded, penalty, factor=-2 / (len(x) * settings.variance))
        if settings.dead is not None and settings.aux_k:
            loss += self._revive(x, decoded.error, settings.dead, settings.aux_k)
        if self.clip:
            W_enc, W_dec = dictionary.W_enc.detach(), dictionary.W_dec.detach()
            self.bound = self.by_encoder.square_bound(W_enc) + self.by_decoder.square_bound(W_dec)
        counts = by_feature[0].diff()
        return StepLoss(torch.tensor(loss), decoded.error, counts.sum() / len(x), counts)

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

    def _set_gradients(
        self, x: X, active: Active, by_feature: tuple[Tensor, Tensor], decoded: Decoded, penalty: Penalty, factor: float
    ) -> None:
        """Set the gradients of all parameters: of both matrices as row gradients, of the others as torch's.

        Args:
            factor: of errors, for they enter the loss squared, as a mean over rows, and over the data's variance.
        """
        dictionary, source, unit = self.dictionary, decoded.source, self.recipe.unit_norm
        by_pre, weight = decoded.product.mul_(factor) + penalty.by_pre, active.value * factor
        self.by_decoder = RowGradient(*by_feature, decoded.source_row, weight, source, unit=unit, own=penalty.by_norm)
        self.by_encoder = RowGradient(*by_feature, active.row, by_pre, x, unit=False)
        dictionary.b_enc.grad = x.new_zeros(dictionary.n_features).index_add_(0, active.feature.long(), by_pre)
        if penalty.by_every_pre is not None:
            self.by_encoder = self._with_all_rows(active, penalty.by_every_pre)
            dictionary.b_enc.grad += len(x) * penalty.by_every_pre
        for name, gradient in penalty.by_parameter.items():
            dictionary.get_parameter(name).grad = gradient
        dictionary.b_dec.grad = source[: len(x)].sum(dim=0).mul_(factor)
        if dictionary.W_skip is not None:
            dictionary.W_skip.grad = (source[: len(x)].T @ x).mul_(factor)

    def _with_all_rows(self, active: Active, weight: Float[Tensor, " feature"]) -> RowGradient:
        """The encoder's gradient plus `weight` times the sum of all rows: one row more, with all features active."""
        n, (_, _, row, by_pre, x, *_) = len(weight), self.by_encoder
        features = torch.arange(n, dtype=torch.int32, device=x.device)
        more = active._replace(feature=torch.cat([active.feature, features]))
        row, by_pre = torch.cat([row, features.new_full((n,), len(x))]), torch.cat([by_pre, weight])
        x = torch.cat([x, x.sum(dim=0, keepdim=True)])
        return RowGradient(*self.kernels.by_feature(more, n), row, by_pre, x, unit=False)

    def _revive(self, x: Tensor, error: Tensor, dead: Bool[Tensor, " feature"], aux_k: int) -> float:
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


def make_fused_step(
    recipe: Recipe, dictionary: Dictionary, optimiser: torch.optim.Adam, sample: Sample, *, clip: float, n_sites: int
) -> FusedStep | None:
    """The fused step, where there are kernels for this recipe, the number of sites that are written, and the widths."""
    device = dictionary.W_enc.device
    if not isinstance(recipe, FusedRecipe) or not recipe.fits(device, n_sites):
        return None
    if not has_kernels(device, dictionary.d_in, dictionary.d_out):
        return None
    rms = next(sample(4096)).square().mean(dim=0).sqrt()
    return FusedStep(recipe, dictionary, optimiser, rms, clip=clip)
