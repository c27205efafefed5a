"""topk: each row keeps its k largest pre-activations (Gao et al. 2024, arXiv 2406.04093)."""

import torch

from sonde.dictionaries.topk import TopK
from sonde.kernels.active import Active, Proposer
from sonde.kernels.sparse import Pairs, encode_topk
from sonde.settings import check
from sonde.training.losses import LossSettings, StepLoss, X, Y, mean_square, residual, sparse_loss
from sonde.training.recipes import register
from sonde.training.recipes.fused import LargestRecipe

MULTI_K, MULTI_WEIGHT = 4, 1 / 8  # source: Gao et al. 2024, Multi-TopK


@register
class TopKRecipe(LargestRecipe):
    dictionary_class = TopK

    multi_k: bool = False

    def check(self) -> None:
        bound = "unit for topk, whose largest are chosen by what they add"
        check(self.decoder_norms != "free", "decoder_norms", self.decoder_norms, bound)

    def loss(self, dictionary: TopK, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """Squared error and AuxK; with `multi_k` also the squared error with four times as many features."""
        k = dictionary.k
        if not self.multi_k:
            active = encode_topk(x, dictionary.W_enc, dictionary.b_enc, k)
            return sparse_loss(dictionary, x, residual(dictionary, x, y, active), active, settings)
        many = min(MULTI_K * k, dictionary.n_features)
        all_values, all_pairs = encode_topk(x, dictionary.W_enc, dictionary.b_enc, many)
        places = all_values.detach().view(len(x), many).topk(k, dim=1).indices
        places = (places + torch.arange(0, len(x) * many, many, device=x.device)[:, None]).flatten()
        active = all_values[places], Pairs.of_grid(all_pairs.feature[places].view(len(x), k))
        error = residual(dictionary, x, y, active)
        with_many = mean_square(residual(dictionary, x, y, (all_values, all_pairs)))
        return sparse_loss(dictionary, x, error, active, settings, mean_square(error) + MULTI_WEIGHT * with_many)

    def fits(self, device: torch.device, n_sites: int) -> bool:
        return not self.multi_k

    def active(self, dictionary: TopK, proposer: Proposer, x: X) -> Active:
        return proposer.topk(x, dictionary.k)
