"""What a dictionary reads and writes, read from the models that it was trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import ActivationError, ArtifactMismatchError
from sonde.models.load import load_model
from sonde.models.model import Model, Tokens


class Vectors(NamedTuple):
    x: Tensor
    """[row, d_in] what the dictionary reads"""
    y: Tensor
    """[row, d_out] what it reconstructs; x itself where it reconstructs what it reads"""


class Reading:
    """Reads a dictionary's sites in one pass of each model.

    Args:
        model: the model that the dictionary was trained on; of several, the first. The others, whose sites are
            named "2:...", "3:...", are loaded from where the dictionary says they are.

    Raises ArtifactMismatchError where the dictionary does not fit what a model has at its sites.
    """

    def __init__(self, dictionary: Dictionary, model: Model) -> None:
        others = dictionary.facts.get("other_models", [])
        self.models = [model, *(load_model(other["name"], device=str(model.device)) for other in others)]
        self.dictionary = dictionary
        self.widths = dictionary.reads | dictionary.writes
        with torch.no_grad():
            found = self._read(model.pad([[0]]))
        for site, x in found.items():
            if x.shape[-1] != self.widths[site]:
                raise ArtifactMismatchError(
                    f"the dictionary reads vectors of width {self.widths[site]}, but {site} of {model.name} has width {x.shape[-1]}; use the model that it was trained on ({dictionary.facts['model']['name']})"
                )

    def __call__(self, tokens: Tokens, mask: Tensor) -> Vectors:
        """The vectors of those tokens for which `mask` [batch, position] is true, as the dictionary takes them.

        Raises ActivationError where they are not finite.
        """
        values = {}
        for site, value in self._read(tokens).items():
            values[site] = value[mask.to(value.device)].to(self.dictionary.W_enc)
            if not torch.isfinite(values[site]).all():
                raise ActivationError(
                    f"activations at {site} are not finite; the model's weights are broken, or its dtype overflows: try --dtype float32"
                )
        x = _side_by_side([values[site] for site in self.dictionary.reads])
        if self.dictionary.reads == self.dictionary.writes:
            return Vectors(x, x)
        return Vectors(x, _side_by_side([values[site] for site in self.dictionary.writes]))

    def _read(self, tokens: Tokens) -> dict[str, Tensor]:
        """site -> [batch, position, width] of all that is read and written."""
        found = {}
        for number, model in enumerate(self.models, 1):
            own = {site: name for site in self.widths for place, name in [split_site(site)] if place == number}
            read = model.read(tokens, own.values())
            found |= {site: read[name].flatten(2) for site, name in own.items()}
        return found


def split_site(site: str) -> tuple[int, str]:
    """The number of the model, from one, and its own name of a site that is named as "2:layers.3.residual"."""
    number, colon, name = site.partition(":")
    return (int(number), name) if colon and number.isdigit() else (1, site)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
