"""One feature of an index, and features as they are found: hits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonde.errors import FeatureError
from sonde.features.coactivation import fires_with
from sonde.features.examples import By, Example
from sonde.features.folder import IndexFolder
from sonde.features.labels import Label

QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Feature:
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

    @property
    def is_dead(self) -> bool:
        return self.density == 0

    @property
    def label(self) -> Label | None:
        """The newest label, and who gave it."""
        return self.index.labels[self.number]

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
        """How many activations each of `values` stands for: one, except where a random sample stands for all weaker ones."""
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

    def examples(self, n: int = 10, by: By = "top") -> list[Example]:
        """Examples, at most one a document: the strongest, some at random, or some from equal intervals of activation."""
        return self.index.examples(self.number, n, by)

    def usual_tokens(self, n: int = 4) -> list[str]:
        """Tokens at which its n strongest examples fire, each once."""
        tokens = (example.pieces[example.peak][0].strip() for example in self.examples(n))
        return list(dict.fromkeys(token for token in tokens if token))

    def neighbours(self, n: int = 10) -> "Hits":
        """Features whose decoder rows point the same way most, by cosine."""
        hits = nearest(self.index, self.index.directions[self.number], n + 1)
        return Hits([hit for hit in hits if hit.feature.number != self.number][:n], hits.by)

    def fires_with(self, n: int = 10) -> "Hits":
        """Features that fire on the same tokens most: by the cosine of their indicators, on about 65,536 tokens."""
        others, cosine = fires_with(self.index.coactive, self.number)
        order = np.argsort(-cosine, kind="stable")[:n]
        return Hits.of(self.index, zip(others[order], cosine[order], strict=True), "cosine of firing")

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
class Hit:
    """A feature that a search has found."""

    feature: Feature
    score: float
    """how well it fits; `Hits.by` says by what"""
    snippet: str = ""
    """of a search by words: the label or the text that holds them"""


class Hits(list[Hit]):
    """Features that a search has found, best first."""

    def __init__(self, hits: Iterable[Hit] = (), by: str = "activation") -> None:
        super().__init__(hits)
        self.by = by
        """what scores are: activation, cosine, or BM25 (of labels and notes, which come first, or of examples)"""

    @classmethod
    def of(cls, index: IndexFolder, scores: Iterable[tuple[int, float]], by: str) -> "Hits":
        """Hits of feature numbers with their scores."""
        return cls((Hit(Feature.of(index, int(number)), float(score)) for number, score in scores), by)


def nearest(index: IndexFolder, direction: np.ndarray, n: int) -> Hits:
    """Features whose decoder rows point along a direction [d_out] most, by cosine; raises FeatureError for another width."""
    wanted = np.asarray(direction, dtype=np.float32)
    if wanted.shape != index.directions.shape[1:]:
        raise FeatureError(f"the direction has shape {wanted.shape}, but features have {index.directions.shape[1:]}")
    lengths = index.direction_lengths * np.linalg.norm(wanted)
    cosine = index.directions @ wanted / np.maximum(lengths, 1e-30)
    best = np.argpartition(-cosine, min(n, len(cosine) - 1))[: n + 1]
    order = best[np.lexsort((best, -cosine[best]))][:n]
    return Hits.of(index, zip(order, cosine[order], strict=True), "cosine")
