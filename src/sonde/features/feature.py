"""One feature of an index, and features as they are found: hits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonde.display import Bars, Block, Drawn, Grid, Line, shorten
from sonde.errors import ArtifactMissingError, FeatureError
from sonde.features.coactivation import fires_with
from sonde.features.examples import By, Examples
from sonde.features.folder import IndexFolder
from sonde.features.labels import Label

QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Feature(Drawn):
    """One feature of an index."""

    index: IndexFolder
    number: int
    count: int
    """tokens on which it fires"""
    density: float
    """share of tokens on which it fires"""
    maximum: float
    """largest activation in the index"""
    mean: float
    """mean activation where it fires"""

    @classmethod
    def of(cls, index: IndexFolder, number: int) -> "Feature":
        """A feature by its number; raises FeatureError where the index has no such feature."""
        index.check_feature(number)
        count, *numbers = (index.statistics[name][number] for name in ("count", "density", "maximum", "mean"))
        return cls(index, number, int(count), *map(float, numbers))

    def __repr__(self) -> str:
        if self.is_dead:
            return f"Feature({self.number}: fires nowhere)"
        label = f', "{shorten(self.label.label, 40)}"' if self.label is not None else ""
        fires = f"fires on {self.density:.2%} of tokens, max {self.maximum:.2f}"
        return f"Feature({self.number}{label}: {fires}; fires at: {shorten(', '.join(self.usual_tokens()), 60)})"

    @property
    def is_dead(self) -> bool:
        return self.density == 0

    @property
    def label(self) -> Label | None:
        """The newest label, and who gave it."""
        return self.index.labels[self.number]

    @property
    def title(self) -> str:
        """Its number and label, as a heading."""
        return f"feature {self.number}" + (f": {self.label.label}" if self.label is not None else "")

    @property
    def top_logits(self) -> list[tuple[str, float]]:
        """Tokens that the feature makes more likely, by the direct path; empty where the model has no head."""
        return self.index.logits(self.number, "top")

    @property
    def bottom_logits(self) -> list[tuple[str, float]]:
        """Tokens that the feature makes less likely, by the direct path."""
        return self.index.logits(self.number, "bottom")

    @property
    def values(self) -> np.ndarray:
        """Every activation that is kept, strongest first."""
        return self.index.fires(self.number).value

    @property
    def weights(self) -> np.ndarray:
        """How many activations each of `values` stands for: its weight in a histogram or a mean.

        One, except where the index keeps a random sample that stands for all weaker activations.
        """
        n_kept, strongest = self.index.n_kept(self.number), self.index.manifest.settings.get("sample")
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

    def examples(self, n: int = 10, by: By = "top") -> Examples:
        """Examples, at most one a document: the strongest, random ones, or some from equal intervals."""
        return self.index.examples(self.number, n, by)

    def usual_tokens(self, n: int = 4) -> list[str]:
        """Tokens at which its n strongest examples fire, each once."""
        tokens = (example.pieces[example.peak][0].strip() for example in self.examples(n))
        return list(dict.fromkeys(token for token in tokens if token))

    def neighbours(self, n: int = 10) -> "Hits":
        """Features with the most similar decoder rows, by cosine."""
        hits = nearest(self.index, self.index.directions[self.number], n + 1)
        return Hits([hit for hit in hits if hit.feature.number != self.number][:n], hits.by)

    def fires_with(self, n: int = 10) -> "Hits":
        """Features that fire on the same tokens most: by the cosine of their indicators, on about 65,536 tokens."""
        others, cosine = fires_with(self.index.coactive, self.number)
        order = np.argsort(-cosine, kind="stable")[:n]
        return Hits.of(self.index, zip(others[order], cosine[order], strict=True), "cosine of firing")

    def draw(self, n: int = 5, by: By = "top") -> list[Block]:
        """A card: label, statistics, histogram, tokens that it promotes, features like it, and n examples."""
        title = Line(self.title + (f"  ({self.label.by})" if self.label is not None else ""), strong=True)
        if self.is_dead:
            return [title, Line("it fires nowhere in this index")]
        strength = f"at most {self.maximum:.2f}, {self.mean:.2f} on average where it fires"
        quantiles = zip(QUANTILES, self.quantiles(), strict=True)
        below = "  ".join(f"{share:.0%} {value:.2f}" for share, value in quantiles)
        examples = self.examples(n, by)
        rows = [[f"{example.value:.2f}", example.shaded(self.maximum, self.index.text)] for example in examples]
        has_pictures = any(example.pictures for example in examples)
        return [
            title,
            Line(f"fires on {self.density:.3%} of tokens, {strength}"),
            Line(f"of its {self.count:,} activations lie below: {below}"),
            Bars(self.histogram(), "0", f"{self.maximum:.2f}"),
            Grid([[name, text] for name, text in self._relations() if text]),
            *([Line("patches of pictures are row,column from the top left corner, from 1")] if has_pictures else []),
            Grid(rows, right=(0,)),
        ]

    def _relations(self) -> list[tuple[str, str]]:
        """Features like it, and the tokens that it makes more and less likely, as they are printed."""
        try:
            near = self.neighbours(5).summary()
        except ArtifactMissingError:  # the dictionary is gone, but the rest of the index is complete
            near = ""
        tokens = (
            "  ".join(f"{token.strip() or repr(token)} {value:+.2f}" for token, value in pairs)
            for pairs in (self.top_logits, self.bottom_logits)
        )
        names = ("nearest", "fires with", "more likely", "less likely")
        return list(zip(names, (near, self.fires_with(5).summary(), *tokens), strict=True))

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
            "fires_with": [[hit.feature.number, hit.score] for hit in self.fires_with()],
            "top_logits": [list(pair) for pair in self.top_logits],
            "bottom_logits": [list(pair) for pair in self.bottom_logits],
            "examples": [example.to_json() for example in self.examples(n_examples, by)],
        }


@dataclass(frozen=True)
class Hit(Drawn):
    """A feature that a search has found."""

    feature: Feature
    score: float
    """how well it fits; `Hits.by` says by what"""
    snippet: str = ""
    """of a search by words: the label or the text that holds them"""

    def __repr__(self) -> str:
        snippet = f", {shorten(self.snippet, 80)!r}" if self.snippet else ""
        label = f', "{shorten(self.feature.label.label, 40)}"' if self.feature.label is not None else ""
        return f"Hit({self.feature.number}{label}, {self.score:.2f}{snippet})"

    def draw(self) -> list[Block]:
        return Hits([self]).draw()


class Hits(list[Hit], Drawn):
    """Features that a search has found, best first."""

    def __init__(self, hits: Iterable[Hit] = (), by: str = "activation") -> None:
        super().__init__(hits)
        self.by = by
        """what scores are: activation, cosine, or for words BM25, in labels and notes (which come first) or in
        examples"""

    @classmethod
    def of(cls, index: IndexFolder, scores: Iterable[tuple[int, float]], by: str) -> "Hits":
        """Hits of feature numbers with their scores."""
        return cls((Hit(Feature.of(index, int(number)), float(score)) for number, score in scores), by)

    def __repr__(self) -> str:
        more = "; ..." if len(self) > 3 else ""
        return f"Hits({len(self)} by {self.by}: {self.summary(3)}{more})"

    def summary(self, n: int | None = None) -> str:
        """Number, label and score of the first n: 311 golden gate 0.93; 12 bridges 0.41."""
        labels, texts = self._labels(), []
        for hit in self[:n]:
            label = shorten(labels.get(hit.feature.number, ""), 30)
            texts.append(" ".join(filter(None, (str(hit.feature.number), label, self._score(hit)))))
        return "; ".join(texts)

    def _score(self, hit: Hit) -> str:
        return "" if self.by == "words" else f"{hit.score:.2f}"

    def draw(self, n: int = 20) -> list[Block]:
        """The first n: score, label or the snippet that was found, and the strongest example."""
        labels, rows = self._labels(), []
        by = () if self.by == "words" else (self.by,)
        for hit in self[:n]:
            feature, label = hit.feature, labels.get(hit.feature.number, "")
            shown = [example.shaded(feature.maximum).around_peak(8) for example in feature.examples(1)]
            scores = [self._score(hit)] if by else []
            rows.append(
                [str(feature.number), *scores, shorten(hit.snippet or label, 80), *(shown or ["fires nowhere"])]
            )
        return [Grid(rows, ("feature", *by, "label", "strongest at"), right=tuple(range(1 + len(by))))]

    def _labels(self) -> dict[int, str]:
        """Feature number -> its label, of those that have one."""
        if not self:
            return {}
        labels = self[0].feature.index.labels.of([hit.feature.number for hit in self])
        return {number: label.label for number, label in labels.items()}


def nearest(index: IndexFolder, direction: np.ndarray, n: int) -> Hits:
    """Features whose decoder rows are closest to a direction [d_out], by cosine.

    Raises FeatureError for a direction of another width.
    """
    wanted = np.asarray(direction, dtype=np.float32)
    if wanted.shape != index.directions.shape[1:]:
        raise FeatureError(f"the direction has shape {wanted.shape}, but features have {index.directions.shape[1:]}")
    lengths = index.direction_lengths * np.linalg.norm(wanted)
    cosine = index.directions @ wanted / np.maximum(lengths, 1e-30)
    best = np.argpartition(-cosine, min(n, len(cosine) - 1))[: n + 1]
    order = best[np.lexsort((best, -cosine[best]))][:n]
    return Hits.of(index, zip(order, cosine[order], strict=True), "cosine")
