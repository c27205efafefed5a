"""Rows straight from a model, mixed in a rolling pool: training without a store on disk.

The pool is filled with the first rows of the text. Each batch is drawn from it at random, and the next rows of the text
replace those that were drawn. So a row waits for pool / batch draws on average, and rows of one document, which enter
together, leave at different times. It mixes less than the exact shuffle of a store; `docs/benchmarks.md` compares them.

Rows of the text are numbered, pass after pass, and the row numbers in the pool at any step are a function of the seed
alone. So a run resumes at its step: the draws are repeated on row numbers, and the model runs again only on text whose
rows are still in the pool.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonde.activations.contexts import Context, Cutter, groups, make_batch, n_rows
from sonde.activations.corpus import Corpus, TextSource, held_out_share, is_held_out
from sonde.activations.massive import norm_limits
from sonde.activations.rows import require_held
from sonde.activations.settings import LiveKeywords, LiveSettings
from sonde.activations.store import Block
from sonde.calls import public
from sonde.devices import DTYPES, ensure_memory
from sonde.errors import ActivationError, TextError
from sonde.facts import ModelRef, TextFacts
from sonde.models.load import load_model
from sonde.models.massive import is_massive
from sonde.models.model import Model
from sonde.settings import check, from_mapping, to_mapping

SAMPLE_ROWS = 1 << 16
"""rows of the sample on which mean and norms are estimated before training, and features' statistics after it"""


class Live:
    """A model's activations at some sites on a text, as rows that `train` takes in place of a store.

    Args:
        model: a model or what `load_model` takes.
        text: as for `harvest`; when it ends, it is read again from its start.
        site: where to read; several are read in one pass, side by side in each row.
        seed: decides the draws and the held-out documents.
        settings: the fields of `LiveSettings`.

    Raises:
        TextError, SiteError, ModelLacksError, CapacityError (the pool does not fit into memory).
    """

    @public(LiveSettings, own=("text",))
    def __init__(
        self,
        model: Model | str | Path,
        text: TextSource,
        *,
        site: str | Sequence[str],
        seed: int = 0,
        **settings: Unpack[LiveKeywords],
    ) -> None:
        self.settings = from_mapping(LiveSettings, settings)
        self.model = model if isinstance(model, Model) else load_model(model)
        self.sites, self.seed = (site,) if isinstance(site, str) else tuple(site), seed
        self._widths = list(self.model.widths(self.sites).values())
        self.corpus = Corpus(text, self.settings.field, self.settings.skip_bad)
        self.cutter = Cutter(self.model, self.settings.context, self.settings.pack)
        self.width = sum(self._widths)
        dtype = DTYPES[self.settings.store]
        ensure_memory(self.settings.pool * self.width * dtype.itemsize, "the pool", "a smaller --pool needs less")
        self._dtype = dtype
        self._last: tuple[int, Tensor] | None = None

    @property
    def text_facts(self) -> TextFacts:
        """The text, and the part of it that was held out of training."""
        chosen = {name: getattr(self.settings, name) for name in ("field", "skip_bad", "pack")}
        chosen["held_out"] = self._held_out
        return TextFacts(path=self.corpus.name, seed=self.seed, context=self.cutter.length, live=True, **chosen)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The model that computes the activations."""
        return (self.model.ref,)

    def to_json(self) -> dict[str, Any]:
        """The settings of this source, as a manifest keeps them."""
        return {"site": list(self.sites), "model": self.model.name, "text": self.corpus.name} | {
            "live": to_mapping(self.settings)
        }

    @cached_property
    def n_rows(self) -> int:
        """Number of rows in the pool: the size that was set, or all rows of a shorter text."""
        counts = itertools.accumulate(self._n_rows(contexts) for contexts in self._one_pass())
        n_rows = 0
        for n_rows in counts:
            if n_rows >= self.settings.pool:
                return self.settings.pool
        if not n_rows:
            raise TextError(self.corpus.nothing_left(self.settings.held_out, self.settings.drop_first))
        return n_rows

    @cached_property
    def _held_out(self) -> float:
        """Share of the documents that is held out."""
        return held_out_share(self.corpus, self.settings.held_out, self.seed)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and mean square of each dimension of the sample [width], float64."""
        total = torch.zeros(2, self.width, dtype=torch.float64)
        n = 0
        for batch in self.sample(SAMPLE_ROWS):
            x = batch.double().cpu()
            total += torch.stack([x.sum(dim=0), x.square().sum(dim=0)])
            n += len(x)
        mean, mean_square = total / n
        return mean, mean_square

    @property
    def mean(self) -> Float[Tensor, " width"]:
        """Mean vector of the sample, in float64."""
        return self._moments[0]

    @property
    def mean_squared_norm(self) -> float:
        return self._moments[1].sum().item()

    @property
    def blocks(self) -> list[Block]:
        """The sites, in the order of their vectors in a row."""
        energies = [part.sum().item() for part in self._moments[1].split(self._widths)]
        return [Block(*block) for block in zip(self.sites, self._widths, energies, strict=True)]

    @property
    def variance(self) -> float:
        """Total variance: mean squared distance from the mean."""
        return float(self.mean_squared_norm - self.mean.square().sum())

    def sample(self, n_rows: int) -> Iterator[Float[Tensor, "row width"]]:
        """Batches of the first `n_rows` rows of the text, at most SAMPLE_ROWS and at most the rows of the pool."""
        return iter(self._sample[:n_rows].split(4096))

    @cached_property
    def _sample(self) -> Tensor:
        return self._rows(np.arange(min(SAMPLE_ROWS, self.n_rows)))

    def stream(self, batch_size: int, start: int = 0) -> Iterator[Float[Tensor, "row width"]]:
        """Yield batches [batch_size, width] without end, from row number `start` of the draws on."""
        check(batch_size <= self.n_rows, "batch_size", batch_size, f"at most the rows of the pool ({self.n_rows:,})")
        generator = np.random.default_rng(self.seed)

        def draw() -> np.ndarray:
            return generator.choice(self.n_rows, batch_size, replace=False)

        held, n_read = np.arange(self.n_rows), self.n_rows
        for _ in range(start // batch_size):
            held[draw()] = np.arange(n_read, n_read := n_read + batch_size)
        pool = self._rows(held)
        following = self._following(n_read)
        rest = next(following)
        while True:
            places = torch.from_numpy(draw()).to(pool.device)
            yield pool[places]
            while len(rest) < batch_size:
                rest = torch.cat([rest, next(following)])
            pool[places], rest = rest[:batch_size], rest[batch_size:]

    def _following(self, first: int) -> Iterator[Tensor]:
        """Yield the rows of the text from number `first` on, batch by batch, pass after pass."""
        begin = 0
        for contexts in self._passes():
            end = begin + self._n_rows(contexts)
            if end > first:
                yield self._read(begin, contexts)[max(0, first - begin) :]
            begin = end

    def _rows(self, numbers: np.ndarray) -> Tensor:
        """The rows with these numbers [row, width]."""
        order = np.argsort(numbers)
        wanted = numbers[order]
        rows = torch.empty(len(numbers), self.width, dtype=self._dtype, device=self.model.device)
        begin = 0
        for contexts in self._passes():
            end = begin + self._n_rows(contexts)
            first, last = np.searchsorted(wanted, (begin, end))
            if last > first:
                inside = torch.from_numpy(wanted[first:last] - begin).to(rows.device)
                rows[torch.from_numpy(order[first:last]).to(rows.device)] = self._read(begin, contexts)[inside]
            if last == len(wanted):
                return rows
            begin = end
        raise AssertionError("passes have no end")

    def _read(self, begin: int, contexts: list[Context]) -> Tensor:
        """The rows of a batch of contexts, numbered from `begin`; cached, as the pool may end within a batch."""
        if self._last is not None and self._last[0] == begin:
            return self._last[1]
        batch = make_batch(self.model, contexts, self.settings.special, self.settings.drop_first)
        read = self.model.read(batch.tokens, self.sites)
        rows = {site: x.flatten(2)[batch.text_mask.to(x.device)] for site, x in read.items()}
        parts = [rows[site] for site in self.sites]
        x = torch.cat([part.to(self.model.device, parts[0].dtype) for part in parts], dim=1)
        if not torch.isfinite(x).all():
            raise ActivationError(
                f"activations at {', '.join(self.sites)} are not finite in document {batch.document[0]} or near it; "
                "the model's weights are broken, or its dtype overflows: try --dtype float32"
            )
        ordinary = _without_massive(x, is_massive(rows, self.norm_limits))
        held = ordinary.to(self._dtype)
        require_held(held, ordinary, ", ".join(self.sites))
        self._last = (begin, held)
        return self._last[1]

    @cached_property
    def norm_limits(self) -> dict[str, float]:
        """Of each site, the norm above which a row is massive; {} where they are kept."""
        contexts = itertools.chain.from_iterable(self._one_pass())
        return norm_limits(self.model, self.sites, contexts, self.settings.massive, special=self.settings.special)

    def _n_rows(self, contexts: list[Context]) -> int:
        return sum(n_rows(context, self.settings.special, self.settings.drop_first) for context in contexts)

    def _passes(self) -> Iterator[list[Context]]:
        while True:
            yield from self._one_pass()

    def _one_pass(self) -> Iterator[list[Context]]:
        """The batches of contexts of one pass through the text."""
        documents = self.cutter.tokenize(self.corpus)
        kept = (each for each in documents if not is_held_out(each.document, self._held_out, self.seed))
        return groups(kept, self.cutter)


def _without_massive(x: Tensor, massive: Tensor) -> Tensor:
    """x [row, width], with the ordinary row before it in the place of each massive one: rows are numbered unread."""
    if not massive.any() or massive.all():
        return x
    place = torch.where(massive, -1, torch.arange(len(x), device=x.device)).cummax(dim=0).values
    return x[place.clamp_min(int((~massive).nonzero()[0]))]
