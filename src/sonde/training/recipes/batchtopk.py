"""batchtopk: a batch keeps the k * rows largest of its pre-activations (Bussmann et al. 2024, arXiv 2412.06410)."""

import torch

from sonde.dictionaries.batchtopk import BatchTopK
from sonde.kernels.active import Active, Proposer
from sonde.kernels.sparse import encode_batch_topk
from sonde.training.losses import LossSettings, StepLoss, X, Y, residual, sparse_loss
from sonde.training.recipes import register
from sonde.training.recipes.fused import LargestRecipe
from sonde.training.recipes.recipe import Sample

THRESHOLD_ROWS = 1 << 16


@register
class BatchTopKRecipe(LargestRecipe):
    dictionary_class = BatchTopK

    def loss(self, dictionary: BatchTopK, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """Squared error and AuxK."""
        active = encode_batch_topk(x, dictionary.W_enc, dictionary.b_enc, dictionary.k)
        return sparse_loss(dictionary, x, residual(dictionary, x, y, active), active, settings)

    def finish(self, dictionary: BatchTopK, sample: Sample) -> None:
        """Set the threshold that k activations of an average training row exceed."""
        largest, n_rows = [], 0
        for x in sample(THRESHOLD_ROWS):
            pre = torch.addmm(dictionary.b_enc, x, dictionary.W_enc.T).relu().flatten()
            largest.append(pre.topk(min(len(pre), 2 * dictionary.k * len(x)), sorted=False).values)
            n_rows += len(x)
        values = torch.cat(largest)
        n_active = min(len(values), dictionary.k * n_rows)
        dictionary.threshold.fill_(values.kthvalue(len(values) - n_active + 1).values.item())

    def active(self, dictionary: BatchTopK, proposer: Proposer, x: X) -> Active | None:
        return proposer.batch_topk(x, dictionary.k)
