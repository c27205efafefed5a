"""A kind of dictionary of your own: a class that says what is active, and a recipe that says how it is trained.

    python examples/own_kind.py

A dictionary of kind "tail" is a ReLU dictionary in which a row pays for all activations but its k largest. Nothing is
cut off, so a row that needs more features than k may have them.
"""

import torch
from torch.nn.functional import normalize

import sonde
from sonde.dictionaries.dictionary import Elementwise
from sonde.training.losses import dense_loss
from sonde.training.recipes import register
from sonde.training.recipes.recipe import Defaults, Recipe


class Tail(Elementwise):
    kind = "tail"

    def act(self, pre, features=slice(None)):
        return pre.relu()


@register
class TailRecipe(Recipe):
    dictionary_class = Tail

    k: int = 8  # the settings that this kind takes, beside those of every kind
    sparsity: float | None = None

    @property
    def defaults(self):
        return Defaults(sparsity=1.5, sparsity_warm_up=0.1, revived=True)

    def loss(self, dictionary, x, y, settings):
        activations = dictionary.encode(x)
        error = y - activations @ dictionary.W_dec - dictionary.base(x)
        tail = activations.sum(dim=1) - activations.topk(self.k, dim=1).values.sum(dim=1)
        penalty = settings.sparsity * tail.mean() / settings.variance
        return dense_loss(dictionary, x, error, activations, settings, penalty)


# Rows to learn from: sums of three of 48 directions, which a good dictionary finds again.
torch.manual_seed(1)
truth = normalize(torch.randn(48, 32), dim=1)
chosen = torch.rand(20_000, 48).topk(3, dim=1).indices
rows = (truth[chosen] * (0.5 + torch.rand(20_000, 3, 1))).sum(dim=1)

store = sonde.from_vectors(rows, site="layers.0.residual", model="none", out="acts")
sonde.train(store, kind="tail", n_features=64, k=3, tokens=200_000, batch_size=256, out="dict", device="cpu")
dictionary = sonde.load_dictionary("dict", "cpu")
quality = dictionary.info.quality
cosine = (truth @ dictionary.W_dec.T).max(dim=1).values.mean().item()
print(f"L0 {quality.l0:.1f}, FVU {quality.fvu:.3f}, mean cosine of true directions {cosine:.3f}")
