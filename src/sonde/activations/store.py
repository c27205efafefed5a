"""Activations on disk: segments of records dealt by key, and the stream that training reads.

manifest.json                facts and settings, with the layout of a record; see docs/formats.md
statistics.safetensors       mean SITE and second_moment SITE [width], float64
segments/00000.safetensors   records [row, bytes] sorted by key, offsets and checksums of key ranges
"""

import concurrent.futures
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load
from torch import Tensor

from sonde import display
from sonde.activations import dealing, shuffle
from sonde.activations.dealing import Segment
from sonde.activations.rows import Field, Layout
from sonde.calls import public
from sonde.display import Drawn, shorten
from sonde.errors import ActivationError, ArtifactDamagedError, CapacityError, nearest
from sonde.facts import ModelRef, TextFacts, read_facts
from sonde.manifests import Manifest, read_manifest, verify
from sonde.remote import Place, place
from sonde.settings import format_bytes

if TYPE_CHECKING:
    from sonde.models.model import Model

FORMAT = "activations"
PILE_BYTES = 1 << 28
"""size of the piles of later epochs; fixed, so that the order of a store does not depend on the reader's memory"""


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """Facts in a store's manifest about the vectors of one site."""

    width: int
    mean_squared_norm: float
    scale: float
    """factor that makes the mean squared norm equal to the width"""
    norm_quantiles: dict[str, float]
    """share of rows -> norm that their norms are below"""
    first_token_norm: float | None
    """mean norm of contexts' first tokens over that of the other rows; None where one of the two has no rows"""
    norm_limit: float | None = None
    """rows with a larger norm were left out; None where there is no limit"""
    massive_rows: int | None = None
    """rows whose norm is above ten times the median, though there is no limit; None where there are none"""
    massive_norm: float | None = None
    """their mean norm"""


@dataclass(frozen=True, kw_only=True)
class MassiveFacts:
    """The rows that a store leaves out, as their norms are far above the median (see `massive.py`)."""

    rows: int
    first: int
    """how many of them are the first of a context"""
    tokens: list[tuple[int, int]]
    """(token id, rows) of the tokens that they are most often"""
    norms: dict[str, float]
    """site -> mean norm of them"""

    def line(self, model: "Model | None" = None) -> str:
        """What a person reads about them; without a model, nothing of their tokens."""
        norms = ", ".join(f"{site} {norm:,.0f}" for site, norm in self.norms.items())
        which = ""
        if model is not None:
            tokenizer = model.require_tokenizer()
            tokens = ", ".join(f"{tokenizer.decode([token])!r} ({rows:,})" for token, rows in self.tokens[:4])
            which = f", {self.first:,} of them the first of a context: {tokens}"
        return (
            f"{self.rows:,} rows with massive activations were left out{which}; mean norm at {norms} "
            "(--massive 0 keeps them)"
        )


@dataclass(frozen=True, kw_only=True)
class ActivationsFacts:
    """The facts in a store's manifest."""

    rows: int
    documents: int
    held_out_documents: int
    same_document_ideal: float
    """probability that two rows drawn at random are from one document"""
    order_checksum: str
    """checksum of the rows and their order"""
    sites: dict[str, SiteFacts]
    record_bytes: int
    fields: tuple[Field, ...]
    """the layout of a record"""
    dtype: str
    """number format of the vectors"""
    model: ModelRef
    skipped_lines: int | None = None
    """bad lines of the text that were left out; None for ready vectors"""
    massive: MassiveFacts | None = None
    """the rows that were left out; None where there are none"""
    held_out_share: float | None = None
    """share that was held out, where it is not the setting's (see `held_out_share` in corpus.py)"""

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"fields": [asdict(field) for field in self.fields]}
        for site in values["sites"].values():
            for name in _ONLY_WHERE_KNOWN:
                if site[name] is None:
                    del site[name]
        return {name: value for name, value in values.items() if name in _NEEDED or value is not None}

    @classmethod
    def from_json(cls, values: dict[str, Any], where: object) -> "ActivationsFacts":
        """The facts of a manifest; raises ArtifactDamagedError where one is missing."""
        sites = {name: read_facts(SiteFacts, site, where) for name, site in values.get("sites", {}).items()}
        fields = tuple(read_facts(Field, field, where) for field in values.get("fields", ()))
        known: dict[str, Any] = {"model": read_facts(ModelRef, values.get("model", {}), where)}
        if values.get("massive") is not None:
            known["massive"] = read_facts(MassiveFacts, values["massive"], where)
        return read_facts(cls, values, where, sites=sites, fields=fields, **known)


_ONLY_WHERE_KNOWN = ("norm_limit", "massive_rows", "massive_norm")
"""facts of a site that manifests leave out where there are none"""
_NEEDED = {field.name for field in dataclass_fields(ActivationsFacts) if field.default is MISSING}


@dataclass(frozen=True)
class Rows:
    """Rows of a store, in the shuffled order."""

    records: np.ndarray
    """[row, bytes]"""
    layout: Layout

    @property
    def document(self) -> Int[Tensor, " row"]:
        return self.layout.column(self.records, "document")

    @property
    def position(self) -> Int[Tensor, " row"]:
        """Position of the token in its document; below zero for special tokens."""
        return self.layout.column(self.records, "position")

    @property
    def token(self) -> Int[Tensor, " row"]:
        return self.layout.column(self.records, "token")

    def vectors(self, *sites: str) -> Float[Tensor, "row width"]:
        """The vectors of some sites side by side, in the store's number format."""
        parts = [self.layout.vectors(self.records, site) for site in sites]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Block:
    """The part of one site in rows of several sites side by side."""

    site: str
    width: int
    mean_squared_norm: float


class SideBySide(ABC):
    """Rows with the vectors of the chosen sites side by side, and their statistics."""

    @property
    @abstractmethod
    def blocks(self) -> list[Block]:
        """The chosen sites, in the order of their vectors in a row."""

    @property
    @abstractmethod
    def n_rows(self) -> int: ...

    @cached_property
    @abstractmethod
    def mean(self) -> Float[Tensor, " width"]:
        """Mean vector, in float64."""

    @property
    @abstractmethod
    def norm_limits(self) -> dict[str, float]:
        """Of the chosen sites, the norm above which rows were left out, where there is a limit."""

    @abstractmethod
    def stream(self, batch_size: int, start: int = 0, **options: Any) -> Iterator[Float[Tensor, "row width"]]:
        """Yield batches [batch_size, width] of the chosen sites' vectors."""

    @property
    def width(self) -> int:
        return sum(block.width for block in self.blocks)

    @property
    def mean_squared_norm(self) -> float:
        return sum(block.mean_squared_norm for block in self.blocks)

    @cached_property
    def variance(self) -> float:
        """Total variance: mean squared distance from the mean."""
        return float(self.mean_squared_norm - self.mean.square().sum())

    def sample(self, n_rows: int) -> Iterator[Float[Tensor, "row width"]]:
        """Batches of about `n_rows` rows, a random sample."""
        batch_size = min(4096, self.n_rows)
        return itertools.islice(self.stream(batch_size, epochs=1), -(-min(n_rows, self.n_rows) // batch_size))


@dataclass(frozen=True)
class Activations(SideBySide, Drawn):
    """A finished store, from `harvest` or `load_activations`; `at` chooses among several sites."""

    folder: Place
    manifest: Manifest
    chosen: tuple[str, ...] = ()
    memory: int = 4 * PILE_BYTES
    """bytes for two piles: the one in use and the one being read"""

    @cached_property
    def facts(self) -> ActivationsFacts:
        """The facts in the manifest."""
        return ActivationsFacts.from_json(self.manifest.facts, self.folder)

    def __repr__(self) -> str:
        sites = shorten(", ".join(self.chosen or self.sites), 80)
        width = " + ".join(str(self.facts.sites[site].width) for site in (self.chosen or self.sites)[:8])
        model, dtype = self.facts.model.short_name, self.facts.dtype
        return f"Activations({self.n_rows:,} rows of {sites} of {model}, {width} wide, {dtype})"

    def draw(self) -> list[display.Block]:
        """The blocks to display: its origin and size, and its sites with their widths and norms."""
        facts, size = self.facts, sum(file["bytes"] for file in self.manifest.files.values())
        rows = [
            ["rows", f"{facts.rows:,} from {facts.documents:,} documents; {facts.held_out_documents:,} are held out"],
            ["stored as", f"{facts.dtype}, {format_bytes(size)}"],
            ["folder", str(self.folder)],
        ]
        sites = [
            [site, f"{values.width:,}", f"{values.mean_squared_norm**0.5:.4g}"] for site, values in facts.sites.items()
        ]
        if facts.massive is not None:
            rows.append(["left out", f"{facts.massive.rows:,} rows with massive activations"])
        return [
            display.Line(f"activations of {facts.model.short_name}", strong=True),
            display.Grid(rows),
            display.Grid(sites, ("site", "width", "norm (root mean square)"), right=(1, 2)),
        ]

    @property
    def sites(self) -> list[str]:
        return list(self.facts.sites)

    def at(self, *sites: str) -> "Activations":
        """The same rows, with the vectors of these sites side by side.

        Raises ActivationError for a site that the store does not hold.
        """
        for site in sites:
            if site not in self.sites:
                raise ActivationError(
                    f"{self.folder} holds no site {site!r}{nearest(site, self.sites)}; it holds {', '.join(self.sites)}"
                )
        return replace(self, chosen=sites or self.chosen)

    @property
    def site(self) -> str:
        """The one chosen site, or the only one; raises ActivationError where there is a choice to make."""
        if len(self._chosen) != 1:
            raise ActivationError(f"{len(self._chosen)} sites are read: {', '.join(self._chosen)}")
        return self._chosen[0]

    @property
    def _chosen(self) -> tuple[str, ...]:
        if not self.chosen and len(self.sites) > 1:
            raise ActivationError(
                f"{self.folder} holds {len(self.sites)} sites ({', '.join(self.sites)}); choose with --site"
            )
        return self.chosen or tuple(self.sites)

    @property
    def blocks(self) -> list[Block]:
        """The chosen sites, in the order of their vectors in a row."""
        sites = self.facts.sites
        return [Block(site, sites[site].width, sites[site].mean_squared_norm) for site in self._chosen]

    @property
    def norm_limits(self) -> dict[str, float]:
        """Of the chosen sites, the norm above which rows were left out, where there is a limit."""
        limits = {site: self.facts.sites[site].norm_limit for site in self._chosen}
        return {site: limit for site, limit in limits.items() if limit is not None}

    def massive_lines(self) -> list[str]:
        """What a person reads about massive rows that the store holds: a line for each chosen site that has some."""
        fix = "sonde harvest leaves them out without --massive 0"
        if self.text_facts is None:
            fix = "sonde import --massive 10 (from_vectors, massive=10) leaves them out"
        lines = []
        for site in self._chosen:
            facts = self.facts.sites[site]
            if facts.massive_rows and facts.massive_norm:
                share = facts.massive_rows * facts.massive_norm**2 / (self.n_rows * facts.mean_squared_norm)
                lines.append(
                    f"{site}: {facts.massive_rows:,} of {self.n_rows:,} rows are massive (norm "
                    f"{facts.massive_norm:,.4g} on average, where the median is {facts.norm_quantiles['0.5']:,.4g}) "
                    f"and have {min(share, 1):.0%} of the mean squared norm; {fix}"
                )
        return lines

    @property
    def n_rows(self) -> int:
        return self.facts.rows

    @property
    def seed(self) -> int:
        return self.manifest.settings["seed"]

    @property
    def text_facts(self) -> TextFacts | None:
        """The text, and the part of it that was held out of training; None for ready vectors."""
        settings, share = self.manifest.settings, self.facts.held_out_share
        if "field" not in settings:
            return None
        own = {} if share is None else {"held_out": share}
        return read_facts(TextFacts, settings, self.folder, path=settings["text"], **own)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The model that computed the activations."""
        return (self.facts.model,)

    @cached_property
    def mean(self) -> Float[Tensor, " width"]:
        """Mean vector, in float64."""
        means = load((self.folder / "statistics.safetensors").read_bytes())
        return torch.cat([means[f"mean {site}"] for site in self._chosen])

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.facts.fields, self.facts.record_bytes)

    @cached_property
    def segments(self) -> list[Segment]:
        names = sorted(name for name in self.manifest.files if name.startswith("segments/"))
        return [Segment(self.folder / name) for name in names]

    @cached_property
    def _offsets(self) -> np.ndarray:
        return dealing.total_offsets(self.segments)

    @cached_property
    def n_piles(self) -> int:
        """Number of piles in later epochs."""
        vector_bytes = self.layout.record_bytes - 16  # without document, position and token
        return dealing.pile_count(self.n_rows, vector_bytes, PILE_BYTES)

    def pile(self, number: int, epoch: int = 0, n_piles: int | None = None) -> Rows:
        """The rows of one pile in the order of an epoch; only the first epoch may be read in piles of any size."""
        n_piles = n_piles or self.n_piles
        assert epoch == 0 or n_piles == self.n_piles, "the order of a later epoch depends on its piles"
        records, order = self._load(epoch, number, n_piles, 0, self.memory, _Room())
        return Rows(_take(records, order), self.layout)

    def stream(self, batch_size: int, start: int = 0, **options: Any) -> Iterator[Float[Tensor, "row width"]]:
        """Yield batches [batch_size, width] of the chosen sites' vectors; see `batches`."""
        sites = self._chosen
        return (rows.vectors(*sites) for rows in self.batches(batch_size, start, **options))

    def batches(
        self,
        batch_size: int,
        start: int = 0,
        *,
        epochs: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
        memory: int | None = None,
    ) -> Iterator[Rows]:
        """Yield batches of rows from row number `start` of the shuffled order, epoch after epoch.

        Row number `n_rows * e + r` is row r of epoch e, so the position in the data is one integer. A thread reads
        the next pile while this one is used.

        Args:
            batch_size: rows of a batch, over all ranks.
            epochs: stop after this many epochs, without the last incomplete batch; by default never.
            rank, n_ranks: the part of each batch that this reader takes, of `n_ranks` equal ones.
            memory: bytes for piles, instead of the store's own `memory`.

        Raises:
            ArtifactDamagedError: a range differs from what was written; says file and offset.
            CapacityError: the piles of later epochs do not fit into `memory`.
        """
        assert batch_size % n_ranks == 0 and 0 <= rank < n_ranks, "each rank takes an equal part"
        share = batch_size // n_ranks
        rest = np.empty((0, self.layout.record_bytes), dtype=np.uint8)
        for records, order in self._piles(start, epochs, memory or self.memory):
            begin = 0
            if len(rest):  # a batch that begins in one pile and ends in another
                begin = min(batch_size - len(rest), len(order))
                rest = np.concatenate([rest, _take(records, order[:begin])])
                if len(rest) < batch_size:
                    continue
                yield Rows(rest[rank * share : (rank + 1) * share], self.layout)
            end = begin + (len(order) - begin) // batch_size * batch_size
            for first in range(begin + rank * share, end, batch_size):
                yield Rows(_take(records, order[first : first + share]), self.layout)
            rest = _take(records, order[end:])

    def _piles(self, start: int, epochs: int | None, memory: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each pile's records and the indices of its rows in order, from row `start` on; reads one ahead."""
        plan = self._plan(start, epochs, memory)
        rooms = itertools.cycle([_Room(), _Room()])  # one in use, one being read into
        with concurrent.futures.ThreadPoolExecutor(1, "sonde-read-ahead") as reader:
            try:
                following = None
                for epoch, number, n_piles, skip in plan:
                    current = following
                    following = reader.submit(self._load, epoch, number, n_piles, skip, memory, next(rooms))
                    if current is not None:
                        yield current.result()
                if following is not None:
                    yield following.result()
            finally:
                reader.shutdown(wait=True, cancel_futures=True)

    def _load(
        self, epoch: int, number: int, n_piles: int, skip: int, memory: int, room: "_Room"
    ) -> tuple[np.ndarray, np.ndarray]:
        """One pile's records, and the indices [row] of its rows in order, without those skipped."""
        largest = int(dealing.pile_sizes(self._offsets, n_piles).max()) * self.layout.record_bytes
        # The first epoch may be read in piles of any size; the order of a later one depends on its piles.
        if epoch > 0 and (needed := 2 * largest) > memory:
            raise CapacityError(
                f"epoch {epoch + 1} of {self.folder} is read in piles that need {format_bytes(needed)}, but memory is "
                f"{format_bytes(memory)}; allow more, or read one epoch"
            )
        records = dealing.read_pile(self.segments, number, n_piles, room.of(largest))
        document, position = (self.layout.column(records, name).numpy() for name in ("document", "position"))
        order = shuffle.shuffled(shuffle.row_keys(self.seed, epoch, document, position), document, position)
        return records, order[skip:]

    def _plan(self, start: int, epochs: int | None, memory: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (epoch, pile, number of piles, rows to skip) from row `start` on, without end or for `epochs`."""
        first_epoch, skip = divmod(start, self.n_rows)
        epoch = first_epoch
        while epochs is None or epoch < epochs:
            n_piles = self.n_piles
            if epoch == 0:
                n_piles = max(n_piles, dealing.pile_count(self.n_rows, self.layout.record_bytes, memory // 3))
            sizes = dealing.pile_sizes(self._offsets, n_piles)
            for number in shuffle.pile_order(self.seed, epoch, n_piles):
                if skip >= sizes[number]:
                    skip -= int(sizes[number])
                    continue
                yield epoch, int(number), n_piles, skip
                skip = 0
            epoch += 1

    def same_document(self, batch_size: int = 4096) -> float:
        """The probability that two rows of the first batch come from one document."""
        first = self.batches(min(batch_size, self.n_rows), epochs=1, memory=1 << 26)  # large piles are not needed
        document = next(first).document
        counts = torch.unique(document, return_counts=True)[1].double()
        n = len(document)
        return float((counts * (counts - 1)).sum() / max(1, n * (n - 1)))

    def verify(self) -> None:
        """Check every file; raises ArtifactDamagedError, for damaged records with their offset."""
        try:
            verify(self.folder)
        except ArtifactDamagedError:
            for segment in self.segments:
                dealing.read_pile([segment], 0, 1)
            raise


class _Room:
    """Memory that is reused, as fresh pages, which the kernel clears, cost as much as reading into them."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, dtype=np.uint8)

    def of(self, n_bytes: int) -> np.ndarray:
        if len(self._bytes) < n_bytes:
            self._bytes = np.empty(n_bytes, dtype=np.uint8)
        return self._bytes


def _take(records: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of a matrix, gathered by one thread: more would compete with the thread that reads ahead."""
    return np.take(records, places, axis=0, mode="clip")  # the default mode copies once more


@public()
def load_activations(folder: str | Place) -> Activations:
    """Open a store in a folder, local or on an object store.

    Raises ArtifactError where it is missing, of another kind, unfinished or truncated.
    """
    path = place(folder)
    return Activations(path, read_manifest(path, FORMAT))
