"""Are features neurons? Their correlations with every neuron of the MLPs up to their site, and every dimension there.

Source: Templeton et al. 2024, "Scaling Monosemanticity", features vs. neurons: 82 % of features had none above 0.3.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import save
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, Cutter, batches
from sonde.activations.corpus import Document
from sonde.activations.shuffle import mix
from sonde.calls import public
from sonde.dictionaries.reading import Reading, split_site
from sonde.features.added import NEURONS, Neurons
from sonde.features.index import Index
from sonde.features.reader import Reader, as_reader
from sonde.features.stream import stream
from sonde.locks import locked
from sonde.manifests import storage_errors, write_bytes, write_json
from sonde.progress import Progress, Reporter, default_reporter
from sonde.settings import Count

TOKENS = 1 << 14
DOCUMENTS_AT_ONCE = 64
FEATURES_AT_ONCE = 1 << 11


@public()
@torch.no_grad()
def neurons(
    index: Index | Reader | str | Path,
    *,
    tokens: int | str = TOKENS,
    seed: int = 0,
    n: int = 10,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Neurons:
    """Correlate each feature of an index with every neuron up to its site, and every dimension there.

    The result is kept beside the index.

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        tokens: about how many of the index's own text to read, from documents chosen at random.
        seed: decides which documents.
        n: features to show, those with the largest correlation.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.
        reporter: shows progress.
    """
    tokens, reader = Count(tokens), as_reader(index, device)
    sites = _sites(reader)
    sample = _Sample(sites)
    with (reporter or default_reporter()).start("neurons", tokens, "tokens") as progress:
        sample.read(reader, tokens, seed, progress)
    best = _Best(reader.dictionary.n_features)
    for number, site in enumerate(sites):
        for first, correlation in sample.correlations(site, reader.dictionary.n_features):
            best.update(first, correlation, number)
    arrays = {"correlation": best.correlation.numpy(), "site": best.site.numpy(), "neuron": best.neuron.numpy()}
    path = reader.index.folder / NEURONS
    with storage_errors(path), locked(path.parent):
        write_json(path.with_suffix(".json"), {"sites": sites, "tokens": sample.n_rows})
        write_bytes(path, save(arrays))
    return Neurons(**arrays, sites=tuple(sites), tokens=sample.n_rows).shown(n=n)


def _sites(reader: Reader) -> list[str]:
    """The sites of neurons up to the last site that the dictionary reads in its first model, and the sites it reads."""
    read = [name for number, name in map(split_site, reader.dictionary.reads) if number == 1]
    names = reader.model.sites()
    last = max(map(names.index, read))
    return list(dict.fromkeys([*(name for name in names[: last + 1] if name.endswith(".neurons")), *read]))


class _Sample:
    """What features and neurons do on a sample of an index's text."""

    def __init__(self, sites: list[str]) -> None:
        self.n_rows = 0
        self._values: dict[str, list[Tensor]] = {site: [] for site in sites}
        """of each site, the vectors [row, width] of each batch"""
        self._active: list[tuple[Tensor, Tensor, Tensor]] = []
        """(row, feature, value) of each batch"""

    def read(self, reader: Reader, tokens: int, seed: int, progress: Progress) -> None:
        reading, cutter = Reading(reader.dictionary, reader.model), Cutter(reader.model)
        for texts in _texts(reader, seed):
            grouped = batches(list(cutter.contexts(cutter.tokenize(texts))), BATCH_TOKENS)
            for read in stream(reading, grouped, list(self._values)):
                for site, values in self._values.items():
                    values.append(read.sites[site].float())
                row, feature, value = read.active
                self._active.append((row + self.n_rows, feature.long(), value.float()))
                self.n_rows += read.n_rows
                progress.advance(read.n_rows)
            if self.n_rows >= tokens:
                return

    @cached_property
    def active(self) -> tuple[Tensor, ...]:
        """The activations above zero of the whole sample, as (row, feature, value)."""
        return tuple(torch.cat(column) for column in zip(*self._active, strict=True))

    def correlations(self, site: str, n_features: int) -> Iterator[tuple[int, Float[Tensor, "feature neuron"]]]:
        """Pearson's correlations with a site's neurons, some features at a time, each with the number of the first.

        A site's vectors are dropped afterwards.
        """
        neurons = _standardized(torch.cat(self._values.pop(site)))
        row, feature, value = self.active
        for first in range(0, n_features, FEATURES_AT_ONCE):
            last = min(first + FEATURES_AT_ONCE, n_features)
            here = (feature >= first) & (feature < last)
            dense = torch.zeros(self.n_rows, last - first, device=value.device)
            dense[row[here], feature[here] - first] = value[here]
            yield first, (_standardized(dense).T @ neurons).cpu() / self.n_rows


def _texts(reader: Reader, seed: int) -> Iterator[list[Document]]:
    """The documents of an index in an order made by a keyed hash, some at a time."""
    n_documents = reader.index.facts.documents
    with np.errstate(over="ignore"):
        keys = mix(np.arange(n_documents, dtype=np.uint64) + np.uint64(seed + 1))
    order = np.argsort(keys, kind="stable").tolist()
    for first in range(0, n_documents, DOCUMENTS_AT_ONCE):
        yield [reader.index.source(number) for number in order[first : first + DOCUMENTS_AT_ONCE]]


class _Best:
    """Of each feature, the neuron with the largest correlation so far, in size."""

    def __init__(self, n_features: int) -> None:
        self.correlation = torch.zeros(n_features)
        self.site, self.neuron = torch.zeros(2, n_features, dtype=torch.int64)

    def update(self, first: int, correlation: Float[Tensor, "feature neuron"], site: int) -> None:
        """Take in the correlations of some features, numbered from `first`, with the neurons of one site."""
        size, neuron = correlation.abs().max(dim=1)
        better = size > self.correlation[first : first + len(size)].abs()
        number = first + better.nonzero()[:, 0]
        self.correlation[number] = correlation.gather(1, neuron[:, None])[better, 0]
        self.site[number], self.neuron[number] = site, neuron[better]


def _standardized(values: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """Columns at mean zero and variance one; zero where they are constant."""
    values = values - values.mean(dim=0)
    spread = values.square().mean(dim=0).sqrt()
    return values / spread.clamp_min(1e-12) * (spread > 1e-6)
