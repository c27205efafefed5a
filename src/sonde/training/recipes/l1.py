"""l1: a ReLU, made sparse by a penalty on activations times decoder norms.

Source: Templeton et al. 2024, "Scaling Monosemanticity", methods; start and warm-up: Conerly et al., April 2024 update.
"""

from sonde.dictionaries.l1 import L1
from sonde.kernels.active import Active
from sonde.training.losses import LossSettings, StepLoss, X, Y, decoder_norms, dense_loss
from sonde.training.recipes import register
from sonde.training.recipes.fused import FloorRecipe, Penalty, sum_by_feature
from sonde.training.recipes.recipe import Defaults


@register
class L1Recipe(FloorRecipe):
    dictionary_class = L1

    sparsity: float | None = None
    resample_every: int | None = None

    @property
    def defaults(self) -> Defaults:
        return Defaults(centred=False, decoder_norms="free", decoder_start=0.1, sparsity=5.0, sparsity_warm_up=0.05)

    def loss(self, dictionary: L1, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """Squared error plus activations times decoder norms."""
        activations = dictionary.encode(x)
        error = y - activations @ dictionary.W_dec - dictionary.base(x)
        penalty = (activations @ decoder_norms(dictionary, settings)).mean()
        return dense_loss(dictionary, x, error, activations, settings, settings.sparsity * penalty / settings.variance)

    def penalty_gradients(self, dictionary: L1, x: X, error: Y, active: Active, settings: LossSettings) -> Penalty:
        norms, weight = dictionary.W_dec.norm(dim=1), settings.sparsity / (len(x) * settings.variance)
        total = sum_by_feature(active, active.value, len(norms))
        by_norm = weight * total / norms.clamp_min(1e-12)
        return Penalty(weight * (total @ norms).item(), weight * norms[active.feature.long()], by_norm)
