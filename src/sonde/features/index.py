"""Reading an index: its features, and search among them. Needs no torch."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line
from sonde.features.examples import By
from sonde.features.feature import Feature, Hit, Hits, nearest
from sonde.features.folder import FORMAT, IndexFolder, Range
from sonde.features.table import FeatureTable, features_grid
from sonde.features.words import queries
from sonde.manifests import read_manifest
from sonde.progress import amount
from sonde.remote import local_path

WORTH_SEEING = {"density": (1e-4, 2e-2), "same_word": (0.0, 0.6)}
"""features that are neither rare nor common, and of more than one word"""
_LOOKED_AT = 200


class Index(IndexFolder, Drawn):
    """A finished index; made by `sonde.index` or `load_index`."""

    def __repr__(self) -> str:
        return f"Index({self.n_features:,} features at {self._read_at}, {amount(self.n_tokens)} tokens)"

    def draw(self, n: int = 6) -> list[Block]:
        """What it was made from, and n features worth a first look."""
        facts, text = self.facts, Path(self.manifest.settings["text"]).name
        labelled = f"{self.labels.n_labelled:,} have a label"
        rows = [
            ["features", f"{self.n_features:,}, of which {facts.dead:.1%} fire nowhere; {labelled}"],
            ["on a token", f"{facts.l0:.1f} fire"],
            ["text", f"{text}: {facts.documents:,} documents, {self.n_tokens:,} tokens"],
            ["folder", str(self.folder)],
        ]
        featured = [self.feature(number) for number in self.featured(n)]
        return [Line(f"index at {self._read_at}", strong=True), Grid(rows), features_grid(featured)]

    @property
    def _read_at(self) -> str:
        return f"{self.facts.site} of {self.facts.model.short_name}"

    def featured(self, n: int, first: Iterable[int] = ()) -> list[int]:
        """Features worth a first look: those that fire most strongly, of several words, no two at the same token.

        Args:
            first: features that come first in any case.
        """
        numbers = self.numbers_where(WORTH_SEEING)
        if len(numbers) < n:
            numbers = np.flatnonzero(self.statistics["count"] > 0)
        strongest = numbers[np.argsort(-self.statistics["maximum"][numbers], kind="stable")][:_LOOKED_AT]
        chosen = {number: set(self.feature(number).usual_tokens()) for number in first}
        for number in strongest.tolist():
            if len(chosen) >= n:
                break
            tokens = set(self.feature(number).usual_tokens())
            are_words = all(len(token) > 2 for token in tokens)
            if are_words and number not in chosen and not any(tokens & others for others in chosen.values()):
                chosen[number] = tokens
        return list(chosen)[:n]

    @public()
    def feature(self, number: int) -> Feature:
        """One feature; raises FeatureError where the number is out of range."""
        return Feature.of(self, number)

    @property
    def features(self) -> FeatureTable:
        """All features, in the order of their numbers: a sequence, and a table for pandas, polars and pyarrow."""
        return FeatureTable(self)

    @public()
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
            same_word: share of the twenty strongest examples that fire at the most common word; 1 of a feature of one
                word.
            neuron: the correlation, by size, with the neuron that it correlates with most.

        Raises ArtifactMissingError where `neuron` is asked for, and `sonde neurons` has not been run.
        """
        ranges = {"density": density, "maximum": maximum, "mean": mean, "same_word": same_word, "neuron": neuron}
        numbers = self.numbers_where({name: bounds for name, bounds in ranges.items() if bounds is not None})
        return [self.feature(int(number)) for number in numbers]

    def nearest(self, direction: np.ndarray, n: int = 20) -> Hits:
        """Features whose decoder rows point along a direction [d_out] most, by cosine."""
        return nearest(self, direction, n)

    @public()
    def search(self, words: str, n: int = 20) -> Hits:
        """Features whose label, notes or examples hold all the words, best first; the last word may be a prefix.

        Phrases come first, then whole words, then words that begin so (`sonde.features.words`). Of each, labels and
        notes count most, then words at which a feature fires, then those of the contexts around them.
        """
        found: dict[int, tuple[str, float]] = {}
        for query in queries(words):
            if len(found) >= n:
                break
            for label, score in self.labels.matching(query, n):
                found.setdefault(label.feature, (label.label, score))
            for number, text, score in self.text.matching(query, words, n):
                found.setdefault(number, (text, score))
        hits = itertools.islice(found.items(), n)
        return Hits((Hit(self.feature(number), score, text) for number, (text, score) in hits), "words")


@public()
def load_index(folder: str | Path) -> Index:
    """Open an index in its folder; raises ArtifactError where it is missing, foreign, unfinished or truncated."""
    path = local_path(folder)
    return Index(path, read_manifest(path, FORMAT))


def as_index(index: Index | str | Path) -> Index:
    """An index, which may be given by its folder."""
    return index if isinstance(index, Index) else load_index(index)


@public()
def feature(index: Index | str | Path, number: int, *, n: int = 10, by: By = "top") -> Feature:
    """One feature of an index, which shows itself with its label, its statistics and n examples.

    Args:
        index: an index or its folder.
        number: number of the feature.
        n: examples to show.
        by: which examples: "top", the strongest; "random", some at random; "interval", one from each of n equal
            intervals of activation.

    Raises FeatureError where the index has no such feature.
    """
    return as_index(index).feature(number).shown(n=n, by=by)
