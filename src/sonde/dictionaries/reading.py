"""What a dictionary reads and writes, read from the models that it was trained on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import ActivationError, ArtifactMismatchError
from sonde.models.massive import is_massive
from sonde.models.model import Model, Tokens
from sonde.models.recorded import recorded_model


class Vectors(NamedTuple):
    x: Tensor
    """[row, d_in] what the dictionary reads"""
    y: Tensor
    """[row, d_out] what it reconstructs; x itself where it reconstructs what it reads"""


class Reading:
    """Reads a dictionary's sites in one pass of each model.

    Args:
        model: the model that the dictionary was trained on; of several, the first. The others, whose sites are
            named "2:...", "3:...", are loaded from where the dictionary says they are, unless `others` are given.

    Raises ArtifactMismatchError where the dictionary does not fit what a model has at its sites.
    """

    def __init__(self, dictionary: Dictionary, model: Model, others: Sequence[Model] | None = None) -> None:
        if others is None:
            where = {"of": dictionary.described, "device": str(model.device)}
            others = [recorded_model(other, **where) for other in dictionary.info.other_models]
        self.models = [model, *others]
        self.dictionary = dictionary
        self.widths = dictionary.reads | dictionary.writes
        for site, width in _widths(self.models, self.widths).items():
            if width != self.widths[site]:
                named = f" ({dictionary.info.model.name})" if dictionary.info.model else ""
                raise ArtifactMismatchError(
                    f"the dictionary reads vectors of width {self.widths[site]}, but {site} of {model.name} has width "
                    f"{width}; use the model that it was trained on{named}"
                )

    def __call__(self, tokens: Tokens, mask: Bool[Tensor, "batch position"]) -> Vectors:
        """The vectors of those tokens for which `mask` is true, as the dictionary takes them.

        Raises ActivationError where they are not finite.
        """
        return self.take(read_rows(self.models, self.widths, tokens, mask))

    def take(self, rows: Mapping[str, Float[Tensor, "row width"]]) -> Vectors:
        """What the dictionary reads and reconstructs, from the vectors at each of its sites."""
        dictionary = self.dictionary
        x = _side_by_side([rows[site] for site in dictionary.reads]).to(dictionary.W_enc)
        if dictionary.reads == dictionary.writes:
            return Vectors(x, x)
        return Vectors(x, _side_by_side([rows[site] for site in dictionary.writes]).to(dictionary.W_enc))

    def ordinary(self, rows: Mapping[str, Tensor]) -> Tensor | None:
        """Which rows [row] the dictionary speaks of: those that are massive at no site; None for all."""
        limits = self.dictionary.info.norm_limits
        ordinary = ~is_massive({site: rows[site] for site in limits}, limits) if limits else None
        return None if ordinary is None or ordinary.all() else ordinary


def read_each(readings: Sequence[Reading], tokens: Tokens, mask: Bool[Tensor, "batch position"]) -> list[Vectors]:
    """The vectors that each reads of the tokens for which `mask` is true, in one pass of the models.

    They must have been given the same models. Raises ActivationError where vectors are not finite.
    """
    sites = dict.fromkeys(site for reading in readings for site in reading.widths)
    rows = read_rows(readings[0].models, sites, tokens, mask)
    return [reading.take(rows) for reading in readings]


def read_rows(
    models: Sequence[Model], sites: Iterable[str], tokens: Tokens, mask: Bool[Tensor, "batch position"]
) -> dict[str, Float[Tensor, "row width"]]:
    """The vectors at each site of those tokens for which `mask` is true.

    Raises ActivationError where they are not finite.
    """
    rows = {}
    for site, values in _read(models, sites, tokens).items():
        rows[site] = values[mask.to(values.device)]
        if not torch.isfinite(rows[site]).all():
            raise ActivationError(
                f"activations at {site} are not finite; the model's weights are broken, or its dtype overflows: "
                "try --dtype float32"
            )
    return rows


def _read(models: Sequence[Model], sites: Iterable[str], tokens: Tokens) -> dict[str, Tensor]:
    """site -> [batch, position, width]."""
    found = {}
    for model, own in _by_model(models, sites):
        read = model.read(tokens, own.values())
        found |= {site: read[name].flatten(2) for site, name in own.items()}
    return found


def _widths(models: Sequence[Model], sites: Iterable[str]) -> dict[str, int]:
    """Site -> width of its vectors in its model; raises SiteError where it has none."""
    found = {}
    for model, own in _by_model(models, sites):
        widths = model.widths(own.values())
        found |= {site: widths[name] for site, name in own.items()}
    return found


def _by_model(models: Sequence[Model], sites: Iterable[str]) -> Iterator[tuple[Model, dict[str, str]]]:
    """Yield each model with its sites: the name with the model's number -> the model's own name."""
    for number, model in enumerate(models, 1):
        yield model, {site: name for site in sites for place, name in [split_site(site)] if place == number}


def split_site(site: str) -> tuple[int, str]:
    """The number of the model, from one, and its own name of a site that is named as "2:layers.3.residual"."""
    number, colon, name = site.partition(":")
    return (int(number), name) if colon and number.isdigit() else (1, site)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
