"""Reading an index: features, their examples, and search. Needs no torch.

manifest.json         what it is; see docs/formats.md
postings.safetensors  offsets [feature + 1]; document, position, value [posting], strongest first
features.safetensors  density, maximum, mean [feature]; top and bottom logits, where the model has a head
index.sqlite          documents with the spans of their tokens, their pictures, and the text search over features
"""

import json
import re
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sonde.errors import ArtifactDamagedError, FeatureError
from sonde.manifests import Manifest, find_parent, read_manifest

FORMAT = "index"
POSTINGS, FEATURES, DATABASE = "postings.safetensors", "features.safetensors", "index.sqlite"
CONTEXT_TOKENS = 24
"""tokens shown before and after the strongest one"""
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
By = Literal["top", "random", "interval"]
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U32": "<u4"}
_WORD = re.compile(r"\w+", re.UNICODE)


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
    density: float
    """share of tokens on which it fires"""
    maximum: float
    """largest activation in the index"""
    mean: float
    """mean activation where it fires"""

    @property
    def is_dead(self) -> bool:
        return self.density == 0

    def examples(self, n: int = 10, by: By = "top") -> list[Example]:
        """Examples, at most one a document: the strongest, some at random, or some from equal intervals of activation."""
        return self.index.examples(self.number, n, by)

    @property
    def values(self) -> np.ndarray:
        """Every activation, strongest first."""
        first, last = self.index._slice(self.number)
        return self.index.postings["value"][first:last]

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[float]:
        """Activations that these shares of all activations lie below; empty where it fires nowhere."""
        return [] if self.is_dead else [float(value) for value in np.quantile(self.values, shares)]

    def histogram(self, bins: int = 20) -> list[int]:
        """How many activations lie in each of equal intervals from 0 to the maximum."""
        return np.histogram(self.values, bins=bins, range=(0.0, max(self.maximum, 1e-30)))[0].tolist()

    def usual_tokens(self, n: int = 4) -> list[str]:
        """Tokens at which its n strongest examples fire, each once."""
        shown = (example.pieces[example.peak][0].strip() for example in self.examples(n))
        return list(dict.fromkeys(text for text in shown if text))

    def neighbours(self, n: int = 10) -> list[tuple["Feature", float]]:
        """Features whose decoder rows point the same way most, with the cosine; the most alike first."""
        found = self.index.nearest(self.index.directions[self.number], n + 1)
        return [(feature, cosine) for feature, cosine in found if feature.number != self.number][:n]

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
            "density": self.density,
            "maximum": self.maximum,
            "mean": self.mean,
            "quantiles": self.quantiles(),
            "histogram": self.histogram(),
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
    def postings(self) -> dict[str, np.ndarray]:
        """offsets [feature + 1]; document, position and value [posting], strongest first in each feature."""
        return _load(self.folder / POSTINGS)

    @cached_property
    def statistics(self) -> dict[str, np.ndarray]:
        """density, maximum and mean [feature], and the direct logits."""
        return _load(self.folder / FEATURES)

    def feature(self, number: int) -> Feature:
        """One feature; raises FeatureError where the number is out of range."""
        if not 0 <= number < self.n_features:
            raise FeatureError(f"there is no feature {number}: the index has features 0 to {self.n_features - 1}")
        density, maximum, mean = (float(self.statistics[name][number]) for name in ("density", "maximum", "mean"))
        return Feature(self, number, density, maximum, mean)

    def features(self) -> Iterator[Feature]:
        """All features, in the order of their numbers."""
        return (self.feature(number) for number in range(self.n_features))

    def examples(self, number: int, n: int = 10, by: By = "top") -> list[Example]:
        """A feature's examples, at most one a document.

        Args:
            by: top, the strongest; random, evenly from all, the same each time; interval, of n equal intervals from the maximum to 0
                one each, those that have any.
        """
        first, last = self._slice(number)
        document, position, value = (self.postings[name][first:last] for name in ("document", "position", "value"))
        places = self._places(document, value, n, by, number)
        # A document that stands twice in the text, word for word, would show nothing new, so it is shown once.
        shown: list[Example] = []
        seen: set[tuple] = set()
        for place in places:
            if len(shown) == n:
                break
            fired = np.flatnonzero(document == document[place])
            example = self._example(int(document[place]), int(position[place]), position[fired], value[fired])
            said = (example.text, example.document if example.pictures else None)
            if said not in seen:
                seen.add(said)
                shown.append(example)
        return shown

    def _places(self, document: np.ndarray, value: np.ndarray, n: int, by: By, number: int) -> np.ndarray:
        """Which of a feature's postings are to be shown, in their order; a document once."""
        # Each document's first posting is its strongest one.
        _, firsts = np.unique(document, return_index=True)
        if by == "top":
            return np.sort(firsts)
        shuffled = np.random.default_rng([number, len(value)]).permutation(len(value))
        if by == "random":
            _, once = np.unique(document[shuffled], return_index=True)
            return shuffled[np.sort(once)]
        interval = (
            np.minimum((1 - value[shuffled] / max(value[0], 1e-30)) * n, n - 1).astype(int) if len(value) else value
        )
        _, once = np.unique(interval, return_index=True)
        return shuffled[once]

    def where(
        self,
        *,
        density: tuple[float, float] | None = None,
        maximum: tuple[float, float] | None = None,
        mean: tuple[float, float] | None = None,
    ) -> list[Feature]:
        """Features whose statistics lie in these ranges, bounds included: `where(density=(0, 0))` are the dead ones."""
        kept = np.ones(self.n_features, dtype=bool)
        for name, bounds in (("density", density), ("maximum", maximum), ("mean", mean)):
            if bounds is not None:
                kept &= (self.statistics[name] >= bounds[0]) & (self.statistics[name] <= bounds[1])
        return [self.feature(int(number)) for number in np.flatnonzero(kept)]

    @cached_property
    def directions(self) -> np.ndarray:
        """The decoder row of each feature [n_features, d_out]; raises ArtifactMissingError where the dictionary has gone."""
        folder, manifest = find_parent(self.manifest, "dictionary", self.folder, "dictionary")
        assert isinstance(folder, Path)  # activations alone lie on object stores
        [name] = [name for name in manifest.files if name.endswith(".safetensors")]
        return _load(folder / name)["W_dec"]

    def nearest(self, direction: np.ndarray, n: int = 20) -> list[tuple[Feature, float]]:
        """Features whose decoder rows point along a direction [d_out], with the cosine; the most alike first."""
        wanted = np.asarray(direction, dtype=np.float32)
        if wanted.shape != self.directions.shape[1:]:
            raise FeatureError(f"the direction has shape {wanted.shape}, but features have {self.directions.shape[1:]}")
        lengths = np.linalg.norm(self.directions, axis=1) * np.linalg.norm(wanted)
        cosine = self.directions @ wanted / np.maximum(lengths, 1e-30)
        order = np.argsort(-cosine, kind="stable")[:n]
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
        """Features whose examples hold all the words, best first, with a snippet.

        Words at which a feature fires count most, then those of the contexts around them.
        """
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
        offsets = self.postings["offsets"]
        return int(offsets[number]), int(offsets[number + 1])

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
        end = int(spans[first][0])
        position = first
        while position < last:
            if position <= peak:
                shown_as = len(pieces)
            n_tokens = 1
            for number, (start, rows, columns) in enumerate(held):
                if start <= position < start + rows * columns:
                    n_tokens = start + rows * columns - position
                    patches = tuple(float(activation.get(start + patch, 0.0)) for patch in range(rows * columns))
                    pictures.append(ExamplePicture(number, len(pieces), rows, columns, patches))
            # Tokens that share a letter (bytes of one) share its span: the letter goes to the first.
            start, end = end, max(end, int(spans[position][1]))
            value = max(float(activation.get(position + token, 0.0)) for token in range(n_tokens))
            pieces.append((text[start:end], value))
            position += n_tokens
        return Example(document, peak, float(activation[peak]), tuple(pieces), shown_as, tuple(pictures))

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
        data = np.memmap(path, dtype=np.uint8, mode="r")
        end = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:end].tobytes())
        header.pop("__metadata__", None)
        return {name: _array(data[end:], **told) for name, told in header.items()}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read ({error}); make it again") from error


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> np.ndarray:
    return data[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)
