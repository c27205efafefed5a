"""The losses of each kind, on inputs scaled so that the mean squared norm equals the width.

Each returns the loss of a batch, and which features were active. Squared errors are divided by the data's
total variance, so that a loss is about an FVU and gradient clipping means the same for every model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.topk import TopK
from sonde.kernels.sparse import decode_sparse, encode_topk

AUX_WEIGHT = 1 / 32  # source: Gao et al. 2024, appendix A.2


@dataclass(frozen=True)
class StepLoss:
    loss: Tensor
    squared_error: Tensor
    """mean over rows of |x - x_hat|^2, in scaled units"""
    l0: Tensor
    """mean number of active features"""
    fired: Tensor
    """[n_features] whether each feature fired in this batch"""


def topk_loss(dictionary: TopK, x: Tensor, variance: float, dead: Tensor, aux_k: int) -> StepLoss:
    """Squared error, and AuxK: dead features are trained to reconstruct what the living ones leave over.

    AuxK is section 2.4 and appendix A.2 of Gao et al. 2024 (arXiv 2406.04093).
    """
    values, features = encode_topk(x, dictionary.W_enc, dictionary.b_enc, dictionary.k)
    error = x - decode_sparse(values, features, dictionary.W_dec) - dictionary.b_dec
    squared_error = error.square().sum(dim=1).mean()
    loss = squared_error / variance
    n_dead = int(dead.sum())
    if n_dead and aux_k:
        [rows] = dead.nonzero(as_tuple=True)
        aux_values, aux_features = encode_topk(x, dictionary.W_enc[rows], dictionary.b_enc[rows], min(aux_k, n_dead))
        rest = error.detach()
        aux_error = (rest - decode_sparse(aux_values, aux_features, dictionary.W_dec[rows])).square().sum(dim=1).mean()
        loss = loss + AUX_WEIGHT * aux_error / rest.square().sum(dim=1).mean()
    fired = torch.zeros(dictionary.n_features, dtype=torch.bool, device=x.device)
    fired[features[values > 0]] = True
    return StepLoss(loss, squared_error.detach(), (values > 0).sum(dim=1).float().mean(), fired)


def l1_loss(dictionary: L1, x: Tensor, variance: float, weight: float) -> StepLoss:
    """Squared error plus `weight` times activations by decoder norms (Scaling Monosemanticity, methods)."""
    activations = dictionary.encode(x)
    squared_error = (x - dictionary.decode(activations)).square().sum(dim=1).mean()
    penalty = (activations @ dictionary.W_dec.norm(dim=1)).mean()
    active = activations.detach() > 0
    return StepLoss(
        (squared_error + weight * penalty) / variance,
        squared_error.detach(),
        active.sum(dim=1).float().mean(),
        active.any(dim=0),
    )


def step_loss(dictionary: Dictionary, x: Tensor, variance: float, dead: Tensor, aux_k: int, l1: float) -> StepLoss:
    """The loss of the dictionary's kind."""
    if isinstance(dictionary, TopK):
        return topk_loss(dictionary, x, variance, dead, aux_k)
    assert isinstance(dictionary, L1)
    return l1_loss(dictionary, x, variance, l1)
