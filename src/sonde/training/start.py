"""The weights of a dictionary before its first step, and of dead features that are started again."""

import functools

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from sonde.dictionaries.dictionary import Dictionary
from sonde.training.plan import Plan, Source
from sonde.training.settings import TrainSettings
from sonde.training.sides import Sides

REGRESSION_ROWS, RIDGE = 1 << 14, 1e-3
RESAMPLED_ENCODER = 0.2  # of the living features' mean length; source: Bricken et al. 2023, appendix


@torch.no_grad()
def make_dictionary(store: Source, settings: TrainSettings, plan: Plan) -> Dictionary:
    """A dictionary before its first step, as its recipe starts it from random directions or rows of the data.

    Where other sites are written than read, the decoder starts from where a linear regression sends these directions;
    where they are the same, that is the directions themselves.
    """
    sides, recipe, n = Sides.of(store, plan), settings.recipe, settings.n_features
    d_in, d_out = len(sides.inputs.mean), len(sides.outputs.mean)
    dictionary = recipe.dictionary_class(n, d_in, d_out, skip=settings.skip, **recipe.kind_settings())
    read = torch.randn(n, d_in, generator=torch.Generator().manual_seed(settings.seed))
    read /= read.norm(dim=1, keepdim=True)
    sample = functools.partial(sides.sample, store)
    if settings.init == "data":
        rows = torch.cat(list(sample(max(n, 4096))))
        rows = rows[torch.arange(n) % len(rows)]
        read = normalize(normalize(rows, dim=1) + read, dim=1)
    written = read if sides.alike else _regressed(read, sides, store)
    recipe.start(dictionary, read, written, sample)
    return dictionary


def _regressed(
    directions: Float[Tensor, "feature d_in"], sides: Sides, store: Source
) -> Float[Tensor, "feature d_out"]:
    """Where ridge regression of y on x sends directions, at length one."""
    d_in, d_out = directions.shape[1], len(sides.outputs.mean)
    squares, products = torch.zeros(d_in, d_in, dtype=torch.float64), torch.zeros(d_in, d_out, dtype=torch.float64)
    for batch in store.sample(REGRESSION_ROWS):
        x, y = (side.double() for side in sides(batch.cpu()))
        squares += x.T @ x
        products += x.T @ y
    ridge = RIDGE * squares.diagonal().mean() * torch.eye(d_in, dtype=torch.float64)
    return normalize(directions @ torch.linalg.solve(squares + ridge, products).float(), dim=1)


@torch.no_grad()
def restart_features(
    dictionary: Dictionary,
    optimiser: torch.optim.Adam,
    dead: Bool[Tensor, " feature"],
    x: Float[Tensor, "row d_in"],
    error: Float[Tensor, "row d_out"],
    *,
    alike: bool,
    seed: int,
) -> None:
    """Restart dead features from rows, chosen by squared error (Bricken et al. 2023, "Towards Monosemanticity").

    Args:
        alike: whether what is written is what is read, so that a feature reads along the error that it reconstructs.
    """
    n_dead, generator = int(dead.sum()), torch.Generator().manual_seed(seed)
    chances = error.square().sum(dim=1).double().square().cpu()
    rows = torch.multinomial(chances, n_dead, replacement=n_dead > len(x), generator=generator).to(x.device)
    written = normalize(error[rows], dim=1)
    read = written if alike else normalize(x[rows], dim=1)
    for W, directions, share in ((dictionary.W_enc, read, RESAMPLED_ENCODER), (dictionary.W_dec, written, 1.0)):
        length = 1.0 if dead.all() else W[~dead].norm(dim=1).mean()
        W[dead] = directions * length * share
    dictionary.b_enc[dead] = 0.0
    for parameter in (dictionary.W_enc, dictionary.W_dec, dictionary.b_enc):
        for moment in ("exp_avg", "exp_avg_sq"):
            optimiser.state[parameter][moment][dead] = 0.0
