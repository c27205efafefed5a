"""gated: one path decides whether a feature is active, another how much.

Source: Rajamanoharan et al. 2024 (arXiv 2404.16014).
"""

from sonde.dictionaries.gated import Gated
from sonde.training.losses import LossSettings, StepLoss, X, Y, dense_loss, mean_square
from sonde.training.recipes import register
from sonde.training.recipes.recipe import Defaults, Recipe


@register
class GatedRecipe(Recipe):
    dictionary_class = Gated

    sparsity: float | None = None
    resample_every: int | None = None

    @property
    def defaults(self) -> Defaults:
        # sparsity measured: docs/log.md, 2026-11-21
        return Defaults(decoder_start=0.1, sparsity=3.0, sparsity_warm_up=0.05)

    def loss(self, dictionary: Gated, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """Squared error, a penalty on the gates' pre-activations, and the error of those through a frozen decoder.

        Source: section 3.2 of the paper.
        """
        product = x @ dictionary.W_enc.T
        gate = (product + dictionary.b_enc).relu()
        # The step of the gate has no gradient, so b_enc learns from the penalty and the frozen decoder alone.
        magnitude = ((product + dictionary.b_enc.detach()) * dictionary.r.exp() + dictionary.b_magnitude).relu()
        activations = magnitude * (gate > 0)
        error = y - activations @ dictionary.W_dec - dictionary.base(x)
        gate_error = y - gate @ dictionary.W_dec.detach() - dictionary.base(x).detach()
        penalty = settings.sparsity * gate.sum(dim=1).mean() + mean_square(gate_error)
        return dense_loss(dictionary, x, error, activations, settings, penalty / settings.variance)
