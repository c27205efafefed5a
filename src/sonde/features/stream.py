"""The reading loop: batches of text run through the model, and come back with what dictionaries read and what fires.

for read in stream(reading, groups(cutter.tokenize(texts), cutter)):
    row, feature, value = read.fires
    document = read.batch.document[row]
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.activations.contexts import Batch, Context, make_batch
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import Reading, Vectors, read_rows


@dataclass(frozen=True)
class Read:
    """The input of one dictionary from one batch of text, and the features that fire.

    Special tokens and padding are left out, and so are tokens whose vectors are massive, of which the dictionary says
    nothing (`DictionaryInfo.norm_limits`).
    """

    batch: Batch
    """the tokens; its `document` and `position` [row] say where in the text each row is"""
    dictionary: Dictionary
    x: Float[Tensor, "row d_in"]
    """what the dictionary reads"""
    y: Float[Tensor, "row d_out"]
    """what it reconstructs"""
    sites: Mapping[str, Float[Tensor, "row width"]]
    """the vectors at the other sites that were asked for, in the model's dtype"""
    text_mask: Bool[Tensor, "context position"]
    """all tokens of the text, those with massive vectors too"""
    massive: Vectors | None = None
    """what the dictionary would read on massive tokens; None where there are none"""

    @property
    def n_rows(self) -> int:
        return len(self.x)

    @cached_property
    def active(self) -> tuple[Tensor, Tensor, Tensor]:
        """The activations above zero as (row, feature, value), each [active], by row; computed when first asked for."""
        with torch.no_grad():
            return self.dictionary.active(self.x)

    @property
    def fires(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same as arrays."""
        row, feature, value = (column.cpu().numpy() for column in self.active)
        return row, feature, value


def stream(reading: Reading, batches: Iterable[list[Context]], sites: Sequence[str] = ()) -> Iterator[Read]:
    """Run batches of contexts through a dictionary's model, one after the other.

    Args:
        batches: made by `sonde.activations.contexts.groups`.
        sites: further sites to read in the same pass.

    Raises:
        ActivationError: vectors are not finite.
    """
    return (read for [read] in stream_each([reading], batches, sites))


@torch.no_grad()
def stream_each(
    readings: Sequence[Reading], batches: Iterable[list[Context]], sites: Sequence[str] = ()
) -> Iterator[list[Read]]:
    """Yield, for each batch, one `Read` for each of several dictionaries of the same models, which run once."""
    models = readings[0].models
    wanted = list(dict.fromkeys([*(site for reading in readings for site in reading.widths), *sites]))
    for contexts in batches:
        batch = make_batch(models[0], contexts)
        rows = read_rows(models, wanted, batch.tokens, batch.text_mask)
        yield [_read(reading, batch, rows, sites) for reading in readings]


def _read(reading: Reading, batch: Batch, rows: Mapping[str, Tensor], sites: Sequence[str]) -> Read:
    """What one dictionary reads, of the vectors [row, width] at each site."""
    ordinary, massive, mask = reading.ordinary(rows), None, batch.text_mask
    if ordinary is not None:
        massive = reading.take({site: x[~ordinary] for site, x in rows.items()})
        batch, rows = batch.only(ordinary), {site: x[ordinary] for site, x in rows.items()}
    return Read(batch, reading.dictionary, *reading.take(rows), {site: rows[site] for site in sites}, mask, massive)
