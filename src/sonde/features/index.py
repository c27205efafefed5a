"""Reading an index: its features, and search among them. Needs no torch."""

from pathlib import Path

import numpy as np

from sonde.features.feature import Feature, Hit, Hits, nearest
from sonde.features.folder import FORMAT, IndexFolder, Range
from sonde.features.table import FeatureTable
from sonde.manifests import read_manifest


class Index(IndexFolder):
    """A finished index; made by `sonde.index` or `load_index`."""

    def feature(self, number: int) -> Feature:
        """One feature; raises FeatureError where the number is out of range."""
        return Feature.of(self, number)

    @property
    def features(self) -> FeatureTable:
        """All features, in the order of their numbers: a sequence, and a table for pandas, polars and pyarrow."""
        return FeatureTable(self)

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
            neuron: the correlation, by size, with the neuron that it correlates with most.

        Raises ArtifactMissingError where `neuron` is asked for, and `sonde neurons` has not been run.
        """
        ranges = {"density": density, "maximum": maximum, "mean": mean, "same_word": same_word, "neuron": neuron}
        numbers = self.numbers_where({name: bounds for name, bounds in ranges.items() if bounds is not None})
        return [self.feature(int(number)) for number in numbers]

    def nearest(self, direction: np.ndarray, n: int = 20) -> Hits:
        """Features whose decoder rows point along a direction [d_out] most, by cosine."""
        return nearest(self, direction, n)

    def search(self, words: str, n: int = 20) -> Hits:
        """Features whose label, notes or examples hold all the words, best first.

        Labels and notes count most, then words at which a feature fires, then those of the contexts around them.
        """
        labelled = [
            Hit(self.feature(label.feature), score, label.label) for label, score in self.labels.search(words, n)
        ]
        known = {hit.feature.number for hit in labelled}
        rows = self.text.search(words, n)
        others = [Hit(self.feature(number), score, text) for number, text, score in rows if number not in known]
        return Hits((labelled + others)[:n], "BM25")


def load_index(folder: str | Path) -> Index:
    """Open an index; raises ArtifactError where it is missing, foreign, unfinished or truncated."""
    path = Path(folder)
    return Index(path, read_manifest(path, FORMAT))
