"""matryoshka: batchtopk whose first features also reconstruct alone (Bussmann et al. 2025, arXiv 2503.17547)."""

from typing import Any

import torch
from torch import Tensor

from sonde.dictionaries.batchtopk import Matryoshka
from sonde.kernels.active import Active, Kernels, chosen
from sonde.kernels.sparse import decode_pairs, encode_batch_topk
from sonde.settings import check
from sonde.training.losses import LossSettings, StepLoss, X, Y, mean_square, sparse_loss
from sonde.training.recipes import register
from sonde.training.recipes.batchtopk import BatchTopKRecipe
from sonde.training.recipes.fused import Decoded


@register
class MatryoshkaRecipe(BatchTopKRecipe):
    dictionary_class = Matryoshka

    prefixes: tuple[int, ...] | None = None

    def check(self) -> None:
        n, prefixes = self.n_features, self.prefixes
        if prefixes is not None:
            rising = list(prefixes) == sorted(set(prefixes)) and 0 < prefixes[0] and prefixes[-1] == n
            check(rising, "prefixes", prefixes, f"rising from above 0 to n_features ({n})")

    def kind_settings(self) -> dict[str, Any]:
        return super().kind_settings() | {"prefixes": self.prefixes}

    def loss(self, dictionary: Any, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """The mean over nested prefixes of the squared error of each alone, and AuxK."""
        values, pairs = encode_batch_topk(x, dictionary.W_enc, dictionary.b_enc, dictionary.k)
        error, errors, first = y - dictionary.base(x), [], 0
        for last in dictionary.prefixes:
            inside = (pairs.feature >= first) & (pairs.feature < last)
            error = error - decode_pairs(values[inside], pairs.where(inside), dictionary.W_dec)
            errors.append(mean_square(error))
            first = last
        return sparse_loss(dictionary, x, error, (values, pairs), settings, torch.stack(errors).mean())

    def decode(self, dictionary: Any, kernels: Kernels, y: Y, base: Tensor, active: Active) -> Decoded:
        """The same on kernels.

        A feature learns from the errors of its own prefix and of all longer ones. So `source` holds a block of rows for
        each prefix: the sum of the errors of that prefix and of all longer ones, over the number of prefixes.
        """
        W_dec, prefixes = dictionary.W_dec.detach(), dictionary.prefixes
        ends = torch.tensor(prefixes, dtype=torch.int32, device=y.device)
        prefix = torch.bucketize(active.feature, ends, right=True)
        error, errors, squared_error = y, [], 0.0
        for number in range(len(prefixes)):
            error, squares, _ = kernels.decode(error, base, W_dec, chosen(active, prefix == number))
            base = torch.zeros_like(dictionary.b_dec)
            errors.append(error)
            squared_error += squares.mean().item() / len(prefixes)
        source = (torch.stack(errors).flip(0).cumsum(0).flip(0) / len(prefixes)).flatten(0, 1)
        row = active.row + (prefix * len(y)).int()
        product = kernels.products(source, W_dec, y.new_zeros(len(W_dec)), active._replace(row=row))
        return Decoded(error, squared_error, source, row, product)
