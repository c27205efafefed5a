"""Reading an index: features, their examples, and search. Needs no torch.

manifest.json         what it is; see docs/formats.md
postings.safetensors  every activation, by feature, strongest first; see postings.py
features.safetensors  where each feature's postings and each document's tokens begin; count, density, maximum, mean [feature];
                      same_word; top and bottom logits, where the model has a head
coactive.safetensors  all that fires on some tokens; see together.py
index.sqlite          documents with the spans of their tokens, their pictures, and the text search over features
"""

import json
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sonde.errors import ArtifactDamagedError, ArtifactMissingError, FeatureError
from sonde.features.coactivation import fires_with
from sonde.features.labels import Label, Labels
from sonde.features.postings import record_type, tokens_of
from sonde.features.table import FeatureTable
from sonde.manifests import Manifest, find_parent, read_manifest

FORMAT = "index"
POSTINGS, FEATURES, DATABASE = "postings.safetensors", "features.safetensors", "index.sqlite"
COACTIVE, MAP, NEURONS = "coactive.safetensors", "map.safetensors", "neurons.safetensors"
LIKE_A_NEURON = 0.3
"""source: Templeton et al. 2024, "Scaling Monosemanticity", features vs. neurons: 82 % had no neuron above it"""
CONTEXT_TOKENS = 24
"""tokens shown before and after the strongest one"""
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
_LOOKED_AT = 256
"""postings whose documents are looked up at once"""
Range = tuple[float, float]
By = Literal["top", "random", "interval"]
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U8": "|u1"}
_WORD = re.compile(r"\w+", re.UNICODE)


class Occurrences(NamedTuple):
    """Tokens on which a feature fires, strongest first."""

    document: np.ndarray
    """[activation]"""
    position: np.ndarray
    """[activation] place of the token in its document"""
    value: np.ndarray
    """[activation], right to one part in 2,000; the first is the feature's maximum itself"""


class FeatureMap(NamedTuple):
    """Where features are in a plane, those that are alike near each other; `sonde map` makes it."""

    position: np.ndarray
    """[feature, 2]; nan of what does not fire"""
    cluster: np.ndarray
    """[feature] number of its cluster, or -1"""
    names: tuple[str, ...]
    """of the clusters"""


class Neurons(NamedTuple):
    """For each feature the neuron that is most like it; `sonde neurons` finds it."""

    correlation: np.ndarray
    """[feature] Pearson's, the largest in size; 0 of what does not fire on the tokens looked at"""
    site: np.ndarray
    """[feature] which of `sites` the neuron is at"""
    neuron: np.ndarray
    """[feature] its number there"""
    sites: tuple[str, ...]
    """sites of MLPs' neurons, and of the stream, whose dimensions count too"""
    tokens: int
    """how many were looked at"""

    @property
    def share_unlike(self) -> float:
        """Share of the features that fire on these tokens of which no neuron's correlation is above 0.3."""
        fires = self.correlation != 0
        return float((np.abs(self.correlation[fires]) <= LIKE_A_NEURON).mean()) if fires.any() else 0.0


@dataclass(frozen=True)
class ExamplePicture:
    """A picture in an example, with the feature's activation on each of its patches."""

    number: int
    """which picture of the document"""
    piece: int
    """which piece of the example it is"""
    rows: int
    columns: int
    values: tuple[float, ...]
    """activations of the patches, row by row"""

    def strongest(self, n: int = 3) -> list[tuple[int, int, float]]:
        """(row, column, activation) of the patches on which the feature fires most, counted from zero."""
        places = sorted(range(len(self.values)), key=lambda place: -self.values[place])[:n]
        return [(*divmod(place, self.columns), self.values[place]) for place in places if self.values[place] > 0]


@dataclass(frozen=True)
class Example:
    """A stretch of a document around a token on which a feature fires."""

    document: int
    position: int
    """of the strongest token, in the document"""
    value: float
    """activation there"""
    pieces: tuple[tuple[str, float], ...]
    """(text, activation) of each token shown, in order; their texts joined are the document's own. A picture is
    one piece, its mark, with the largest activation on its patches."""
    peak: int
    """which piece is the strongest token, or holds the strongest patch"""
    pictures: tuple[ExamplePicture, ...] = ()

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


@dataclass(frozen=True)
class Feature:
    """One feature of an index."""

    index: "Index"
    number: int
    count: int
    """tokens on which it fires"""
    density: float
    """share of tokens on which it fires"""
    maximum: float
    """largest activation in the index"""
    mean: float
    """mean activation where it fires"""

    @property
    def is_dead(self) -> bool:
        return self.density == 0

    @property
    def label(self) -> Label | None:
        """What the feature was last said to be, and by whom."""
        return self.index.labels[self.number]

    def examples(self, n: int = 10, by: By = "top") -> list[Example]:
        """Examples, at most one a document: the strongest, some at random, or some from equal intervals of activation."""
        return self.index.examples(self.number, n, by)

    @property
    def values(self) -> np.ndarray:
        """Every activation that is kept, strongest first."""
        return self.index.fires(self.number).value

    @property
    def weights(self) -> np.ndarray:
        """How many activations each of `values` stands for: one, but where some were kept at random for all weaker ones."""
        n_kept, strongest = self.index._n_kept(self.number), self.index.manifest.settings.get("sample")
        weights = np.ones(n_kept)
        if strongest is not None and n_kept < self.count:
            weights[strongest:] = (self.count - strongest) / (n_kept - strongest)
        return weights

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[float]:
        """Activations that these shares of all activations lie below; empty where it fires nowhere."""
        if self.is_dead:
            return []
        rising, below = self.values[::-1], np.cumsum(self.weights[::-1])
        places = np.searchsorted(below, np.asarray(shares) * below[-1])
        return rising[np.minimum(places, len(rising) - 1)].tolist()

    def histogram(self, bins: int = 20) -> list[int]:
        """How many activations lie in each of equal intervals from 0 to the maximum."""
        counts, _ = np.histogram(self.values, bins=bins, range=(0.0, max(self.maximum, 1e-30)), weights=self.weights)
        return np.rint(counts).astype(int).tolist()

    def usual_tokens(self, n: int = 4) -> list[str]:
        """Tokens at which its n strongest examples fire, each once."""
        shown = (example.pieces[example.peak][0].strip() for example in self.examples(n))
        return list(dict.fromkeys(text for text in shown if text))

    def neighbours(self, n: int = 10) -> list[tuple["Feature", float]]:
        """Features whose decoder rows point the same way most, with the cosine; the most alike first."""
        found = self.index.nearest(self.index.directions[self.number], n + 1)
        return [(feature, cosine) for feature, cosine in found if feature.number != self.number][:n]

    def fires_with(self, n: int = 10) -> list[tuple["Feature", float]]:
        """Features that fire on the same tokens, with the cosine of where they fire and do not, on some 65,536 tokens; the most alike first."""
        other, cosine = fires_with(self.index.coactive, self.number)
        order = np.argsort(-cosine, kind="stable")[:n]
        return [(self.index.feature(int(other[place])), float(cosine[place])) for place in order]

    @property
    def top_logits(self) -> list[tuple[str, float]]:
        """Tokens that the feature makes more likely, by the direct path; empty where the model has no head."""
        return self.index.logits(self.number, "top")

    @property
    def bottom_logits(self) -> list[tuple[str, float]]:
        """Tokens that the feature makes less likely, by the direct path."""
        return self.index.logits(self.number, "bottom")

    def to_json(self, n_examples: int = 10, by: By = "top") -> dict[str, Any]:
        return {
            "feature": self.number,
            "label": self.label.label if self.label is not None else None,
            "count": self.count,
            "density": self.density,
            "maximum": self.maximum,
            "mean": self.mean,
            "quantiles": self.quantiles(),
            "histogram": self.histogram(),
            "fires_with": [[other.number, cosine] for other, cosine in self.fires_with()],
            "top_logits": [list(pair) for pair in self.top_logits],
            "bottom_logits": [list(pair) for pair in self.bottom_logits],
            "examples": [
                {
                    "document": example.document,
                    "position": example.position,
                    "value": example.value,
                    "peak": example.peak,
                    "pieces": [list(piece) for piece in example.pieces],
                    "pictures": [
                        {"number": p.number, "piece": p.piece, "rows": p.rows, "columns": p.columns}
                        | {"values": list(p.values)}
                        for p in example.pictures
                    ],
                }
                for example in self.examples(n_examples, by)
            ],
        }


class Index:
    """A finished index; made by `sonde.index` or `load_index`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def n_features(self) -> int:
        return self.manifest.facts["n_features"]

    @property
    def n_tokens(self) -> int:
        return self.manifest.facts["tokens"]

    @cached_property
    def postings(self) -> np.ndarray:
        """Every activation, by feature, strongest first: records as `postings.py` has them; `fires` reads them."""
        records = _load(self.folder / POSTINGS)["records"]
        return records.reshape(-1).view(record_type(self.n_tokens))

    @property
    def map(self) -> FeatureMap | None:
        """The map, if one has been made."""
        path = self.folder / MAP
        if not path.exists():
            return None
        found = _load(path)
        names = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["clusters"]
        return FeatureMap(found["position"], found["cluster"], tuple(names))

    @property
    def neurons(self) -> Neurons | None:
        """How like neurons features are, if that has been found out."""
        path = self.folder / NEURONS
        if not path.exists():
            return None
        found, told = _load(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Neurons(found["correlation"], found["site"], found["neuron"], tuple(told["sites"]), told["tokens"])

    @cached_property
    def labels(self) -> Labels:
        """Labels, scores and notes; `sonde label` writes them, and people do."""
        return Labels(self.folder)

    @cached_property
    def coactive(self) -> dict[str, np.ndarray]:
        """All that fires on some tokens; `Feature.fires_with` reads it."""
        return _load(self.folder / COACTIVE)

    @cached_property
    def statistics(self) -> dict[str, np.ndarray]:
        """count, density, maximum, mean and same_word (see `where`) [feature], and the direct logits."""
        return _load(self.folder / FEATURES)

    def feature(self, number: int) -> Feature:
        """One feature; raises FeatureError where the number is out of range."""
        if not 0 <= number < self.n_features:
            raise FeatureError(f"there is no feature {number}: the index has features 0 to {self.n_features - 1}")
        density, maximum, mean = (float(self.statistics[name][number]) for name in ("density", "maximum", "mean"))
        return Feature(self, number, int(self.statistics["count"][number]), density, maximum, mean)

    @property
    def features(self) -> FeatureTable:
        """All features, in the order of their numbers: a sequence, and a table for pandas, polars and pyarrow."""
        return FeatureTable(self)

    def fires(self, number: int, n: int | None = None) -> Occurrences:
        """Where a feature fires, strongest first; only the first n, if given."""
        token, value = self._fires(number, n)
        document, position = self.place_of(token)
        return Occurrences(document, position, value)

    def _fires(self, number: int, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of tokens in the whole text, and activations."""
        first, last = self._slice(number)
        records = self.postings[first : last if n is None else min(last, first + n)]
        value = records["value"].astype(np.float32) * self.statistics["maximum"][number]
        return tokens_of(records), value

    def place_of(self, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Documents, and places in them, of tokens."""
        starts = self.statistics["starts"]
        document = np.searchsorted(starts, token, side="right") - 1
        return document, token - starts[document]

    def examples(self, number: int, n: int = 10, by: By = "top") -> list[Example]:
        """A feature's examples, at most one a document.

        Args:
            by: top, the strongest; random, evenly from all, the same each time; interval, of n equal intervals from the maximum to 0
                one each, those that have any.
        """
        token, value = self._fires(number)
        chosen = self._chosen(token, value, n, by, number)
        # A document that stands twice in the text, word for word, would show nothing new, so it is shown once.
        shown: list[Example] = []
        seen: set[tuple] = set()
        for place, document in chosen:
            if len(shown) == n:
                break
            start, end = self.statistics["starts"][document : document + 2]
            here = np.flatnonzero((token >= start) & (token < end))
            example = self._example(document, int(token[place] - start), token[here] - start, value[here])
            said = (example.text, example.document if example.pictures else None)
            if said not in seen:
                seen.add(said)
                shown.append(example)
        return shown

    def plain_context(self, document: int, position: int) -> Example:
        """The text around a token, as an example in which nothing fires."""
        nothing = np.empty(0, dtype=np.int64)
        return self._example(document, position, nothing, nothing)

    def _chosen(self, token: np.ndarray, value: np.ndarray, n: int, by: By, number: int) -> Iterator[tuple[int, int]]:
        """Which of a feature's postings are to be shown, in their order, and their documents; a document once."""
        order = np.arange(len(value))
        if by != "top":
            order = np.random.default_rng([number, len(value)]).permutation(len(value))
        if by == "interval" and len(value):
            interval = np.minimum((1 - value[order] / max(value[0], 1e-30)) * n, n - 1).astype(int)
            _, once = np.unique(interval, return_index=True)
            order = order[once]
        seen: set[int] = set()
        for some in np.split(order, range(_LOOKED_AT, len(order), _LOOKED_AT)):
            documents, _ = self.place_of(token[some])
            for place, document in zip(some.tolist(), documents.tolist(), strict=True):
                if by == "interval" or document not in seen:
                    seen.add(document)
                    yield place, document

    def where(
        self,
        *,
        density: Range | None = None,
        maximum: Range | None = None,
        mean: Range | None = None,
        same_word: Range | None = None,
        neuron: Range | None = None,
    ) -> list[Feature]:
        """Features whose statistics lie in these ranges, bounds included: `where(density=(0, 0))` are the dead ones.

        Args:
            same_word: share of the twenty strongest examples that fire at the most common word; 1 of a feature of one word.
            neuron: the correlation, by size, with the neuron that is most like it.

        Raises ArtifactMissingError where `neuron` is asked for, and `sonde neurons` has not been run.
        """
        given = {"density": density, "maximum": maximum, "mean": mean, "same_word": same_word, "neuron": neuron}
        ranges = {name: bounds for name, bounds in given.items() if bounds is not None}
        return [self.feature(int(number)) for number in self.numbers_where(ranges)]

    def numbers_where(self, ranges: Mapping[str, Range]) -> np.ndarray:
        """The numbers alone of the features that `where` finds, rising; name of a statistic -> its range."""
        kept = np.ones(self.n_features, dtype=bool)
        for name, (low, high) in ranges.items():
            values = self.statistic(name)
            kept &= (values >= np.float64(low)) & (values <= np.float64(high))  # which may be beyond float32
        return np.flatnonzero(kept)

    def statistic(self, name: str) -> np.ndarray:
        """density, maximum, mean, same_word or neuron [feature], as `where` takes them."""
        if name != "neuron":
            return self.statistics[name]
        if self.neurons is None:
            raise ArtifactMissingError(
                f"{self.folder} has no correlations with neurons yet; sonde neurons {self.folder} makes them"
            )
        return np.abs(self.neurons.correlation)

    @cached_property
    def directions(self) -> np.ndarray:
        """The decoder row of each feature [n_features, d_out]; raises ArtifactMissingError where the dictionary has gone."""
        folder, manifest = find_parent(self.manifest, "dictionary", self.folder, "dictionary")
        assert isinstance(folder, Path)  # activations alone lie on object stores
        [name] = [name for name in manifest.files if name.endswith(".safetensors")]
        return _load(folder / name)["W_dec"]

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.linalg.norm(self.directions, axis=1)

    def nearest(self, direction: np.ndarray, n: int = 20) -> list[tuple[Feature, float]]:
        """Features whose decoder rows point along a direction [d_out], with the cosine; the most alike first."""
        wanted = np.asarray(direction, dtype=np.float32)
        if wanted.shape != self.directions.shape[1:]:
            raise FeatureError(f"the direction has shape {wanted.shape}, but features have {self.directions.shape[1:]}")
        lengths = self._lengths * np.linalg.norm(wanted)
        cosine = self.directions @ wanted / np.maximum(lengths, 1e-30)
        some = np.argpartition(-cosine, min(n, len(cosine) - 1))[: n + 1]
        order = some[np.lexsort((some, -cosine[some]))][:n]
        return [(self.feature(int(number)), float(cosine[number])) for number in order]

    def logits(self, number: int, which: str) -> list[tuple[str, float]]:
        if f"{which}_logit_values" not in self.statistics:
            return []
        ids, values = self.statistics[f"{which}_logit_tokens"][number], self.statistics[f"{which}_logit_values"][number]
        return [(self.token_text(int(token)), float(value)) for token, value in zip(ids, values, strict=True)]

    def token_text(self, token: int) -> str:
        row = self._database.execute("SELECT text FROM vocabulary WHERE token = ?", (token,)).fetchone()
        return row[0] if row else f"<{token}>"

    def search(self, words: str, n: int = 20) -> list[tuple[Feature, str]]:
        """Features whose label, notes or examples hold all the words, best first, with a snippet.

        Labels and notes count most, then words at which a feature fires, then those of the contexts around them.
        """
        said = [(self.feature(label.feature), label.label) for label in self.labels.search(words, n)]
        known = {feature.number for feature, _ in said}
        found = [
            (feature, snippet) for feature, snippet in self._search_examples(words, n) if feature.number not in known
        ]
        return (said + found)[:n]

    def _search_examples(self, words: str, n: int) -> list[tuple[Feature, str]]:
        terms = _WORD.findall(words)
        if not terms:
            return []
        query = (
            " AND ".join(f'"{term}"' for term in terms[:-1]) + (" AND " if len(terms) > 1 else "") + f'"{terms[-1]}"*'
        )
        rows = self._database.execute(
            "SELECT rowid, snippet(examples, 1, '', '', '...', 16) FROM examples WHERE examples MATCH ? "
            "ORDER BY bm25(examples, 8.0, 1.0) LIMIT ?",
            (query, n),
        ).fetchall()
        return [(self.feature(number), snippet) for number, snippet in rows]

    def document(self, number: int) -> tuple[str, np.ndarray]:
        """A document's text and the spans [token, (start, end)] of its tokens in it."""
        return read_document(self._database, number)

    def _slice(self, number: int) -> tuple[int, int]:
        self.feature(number)
        offsets = self.statistics["offsets"]
        return int(offsets[number]), int(offsets[number + 1])

    def _n_kept(self, number: int) -> int:
        first, last = self._slice(number)
        return last - first

    def _example(self, document: int, peak: int, positions: np.ndarray, values: np.ndarray) -> Example:
        text, spans = self.document(document)
        activation = dict(zip(positions.tolist(), values.tolist(), strict=True))
        held = self._pictures(document)
        first, last = max(0, peak - CONTEXT_TOKENS), min(len(spans), peak + CONTEXT_TOKENS + 1)
        for start, rows, columns in held:  # pictures are shown whole, with as much text around them
            after = start + rows * columns
            if start <= peak < after:
                first, last = max(0, start - CONTEXT_TOKENS), min(len(spans), after + CONTEXT_TOKENS)
        pieces, pictures, shown_as = [], [], 0
        end, ends = int(spans[first][0]), spans[first:last, 1].tolist()
        begins = {start: (number, rows, columns) for number, (start, rows, columns) in enumerate(held)}
        position = first
        while position < last:
            if position <= peak:
                shown_as = len(pieces)
            # Tokens that share a letter (bytes of one) share its span: the letter goes to the first.
            start, end = end, max(end, ends[position - first])
            if position in begins:
                number, rows, columns = begins[position]
                patches = tuple(activation.get(position + patch, 0.0) for patch in range(rows * columns))
                pictures.append(ExamplePicture(number, len(pieces), rows, columns, patches))
                pieces.append((text[start:end], max(patches)))
                position += rows * columns
            else:
                pieces.append((text[start:end], activation.get(position, 0.0)))
                position += 1
        return Example(document, peak, activation.get(peak, 0.0), tuple(pieces), shown_as, tuple(pictures))

    def picture(self, document: int, number: int) -> bytes:
        """A picture of a document as the model saw it, as a WebP file; raises FeatureError where there is none."""
        query = "SELECT image FROM pictures WHERE document = ? AND number = ?"
        row = self._database.execute(query, (document, number)).fetchone()
        if row is None:
            raise FeatureError(f"document {document} of the index has no picture {number}")
        return row[0]

    def _pictures(self, document: int) -> list[tuple[int, int, int]]:
        """(position of the first patch, rows, columns) of a document's pictures."""
        query = "SELECT first, rows, columns FROM pictures WHERE document = ? ORDER BY number"
        return self._database.execute(query, (document,)).fetchall()

    @cached_property
    def _database(self) -> sqlite3.Connection:
        try:
            path = f"file:{self.folder.resolve() / DATABASE}?mode=ro&immutable=1"
            return sqlite3.connect(path, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise ArtifactDamagedError(
                f"{self.folder / DATABASE} cannot be read ({error}); make the index again"
            ) from error

    def _repr_html_(self) -> str:
        facts = self.manifest.facts
        return f"<b>index</b> of {self.n_features:,} features at {facts['site']} over {self.n_tokens:,} tokens"


def load_index(folder: str | Path) -> Index:
    """Open an index; raises ArtifactError where it is missing, foreign, unfinished or truncated."""
    path = Path(folder)
    return Index(path, read_manifest(path, FORMAT))


def read_document(database: sqlite3.Connection, number: int) -> tuple[str, np.ndarray]:
    """A document's text and the spans [token, (start, end)] of its tokens in it."""
    row = database.execute("SELECT text, spans FROM documents WHERE number = ?", (number,)).fetchone()
    assert row is not None, f"document {number} is in the postings, so it is in the table"
    return row[0], np.frombuffer(zlib.decompress(row[1]), dtype="<i4").reshape(-1, 2)


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped: what is not looked at is not read.

    Format: https://github.com/huggingface/safetensors, 8 bytes of length, a JSON header, and the arrays.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # the subclass would cost time at every slice
        end = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:end].tobytes())
        header.pop("__metadata__", None)
        return {name: _array(data[end:], **told) for name, told in header.items()}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read ({error}); make it again") from error


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> np.ndarray:
    return data[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)
