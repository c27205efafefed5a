"""Feature splitting: which features of a larger dictionary divide one of a smaller, as a tree.

A feature of the larger dictionary is a child of the feature of the smaller whose decoder row has the largest cosine
with its own, if that cosine is large enough and the parent mostly fires where the child does (Bricken et al. 2023,
"Towards Monosemanticity", feature splitting).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sonde.calls import public
from sonde.display import Block, Drawn, Line
from sonde.errors import ArtifactError, ArtifactMismatchError
from sonde.features.feature import Feature
from sonde.features.index import Index, as_index, load_index

COSINE, CONTAINED = 0.4, 0.5
ROWS_AT_ONCE = 1 << 11
SAME = ("site", "tokens", "documents")
"""facts that indexes must share for their features to be compared"""


@dataclass(frozen=True)
class Child:
    """A feature of the larger dictionary under one of the smaller."""

    feature: Feature
    cosine: float
    contained: float
    """of the tokens on which it fires, the share on which its parent fires too"""


@dataclass(frozen=True)
class Splitting(Drawn):
    """The features of a smaller dictionary, each with those of a larger one that divide it."""

    small: Index
    large: Index
    children: dict[int, list[Child]]
    """feature of the smaller dictionary -> its children, those that fire most first; without those that have none"""
    n_orphans: int
    """features of the larger dictionary that fire and divide none"""

    def parent(self, number: int) -> Child | None:
        """The feature of the smaller dictionary that one of the larger divides, with their cosine and share."""
        return self._parents.get(number)

    @cached_property
    def _parents(self) -> dict[int, Child]:
        return {
            child.feature.number: Child(self.small.feature(parent), child.cosine, child.contained)
            for parent, children in self.children.items()
            for child in children
        }

    @property
    def n_split(self) -> int:
        """Features with two children or more."""
        return sum(len(children) > 1 for children in self.children.values())

    def __repr__(self) -> str:
        return f"Splitting({self.n_split:,} of {self.small.n_features:,} features divided; {self.n_orphans:,} orphans)"

    def draw(self, feature: int | None = None, n: int = 10) -> list[Block]:
        """The n features that are divided most, or one, each with its children."""
        most = sorted(self.children, key=lambda number: -len(self.children[number]))[:n]
        lines = []
        for number in most if feature is None else [feature]:
            lines.append(Line(_line(self.small.feature(number))))
            for child in self.children.get(number, []):
                share = f"  cosine {child.cosine:.2f}, inside {child.contained:4.0%}  "
                lines.append(Line(share + _line(child.feature)))
        said = (
            f"{self.n_split:,} of {self.small.n_features:,} features are divided into two or more; "
            f"{self.n_orphans:,} features of {self.large.folder} divide none"
        )
        return [*lines, Line(said)]


@public()
def splitting(
    small: Index | str | Path,
    large: Index | str | Path,
    *,
    cosine: float = COSINE,
    contained: float = CONTAINED,
    feature: int | None = None,
    n: int = 10,
) -> Splitting:
    """Find the children of each feature of a smaller dictionary.

    Args:
        small, large: indexes, or their folders, of one site and one text, as `sonde.index(model, [small, large], ...)`
            makes them.
        cosine: the smallest between the decoder rows of child and parent.
        contained: the smallest share of a child's tokens on which its parent fires too.
        feature: the feature of the smaller dictionary to show.
        n: features to show where none is named, those that are divided most.

    Raises:
        ArtifactMismatchError: the indexes are not of one site and one text.
        FeatureError: the smaller dictionary has no such feature.
    """
    small, large = as_index(small), as_index(large)
    if feature is not None:
        small.check_feature(feature)
    for name in SAME:
        one, other = getattr(small.facts, name), getattr(large.facts, name)
        if one != other:
            raise ArtifactMismatchError(
                f"{small.folder} and {large.folder} differ in {name} ({one} and {other}); index both dictionaries on "
                "one text at once"
            )
    similarity, parent = _nearest(small.directions, large.directions)
    share = _contained(small.coactive, large.coactive, parent)
    fires = large.statistics["count"] > 0
    kept = (similarity >= cosine) & (share >= contained) & fires
    children: dict[int, list[Child]] = {}
    for number in np.flatnonzero(kept)[np.argsort(-large.statistics["count"][kept], kind="stable")].tolist():
        child = Child(large.feature(number), float(similarity[number]), float(share[number]))
        children.setdefault(int(parent[number]), []).append(child)
    found = Splitting(small, large, dict(sorted(children.items())), int((fires & ~kept).sum()))
    return found.shown(feature=feature, n=n)


def siblings(index: Index) -> list[Index]:
    """Indexes of other dictionaries that were made together with this one, in the same folder; the smallest first."""
    indexes = []
    for folder in sorted(index.folder.resolve().parent.iterdir()):
        if folder != index.folder.resolve() and (folder / "manifest.json").exists():
            try:
                other = load_index(folder)
                same = all(getattr(other.facts, name) == getattr(index.facts, name) for name in (*SAME, "model"))
            except ArtifactError:  # something else, or unfinished
                continue
            if same:
                indexes.append(other)
    return sorted(indexes, key=lambda other: other.n_features)


def _line(feature: Feature) -> str:
    name = feature.label.label if feature.label is not None else f"at {', '.join(feature.usual_tokens()) or 'nothing'}"
    return f"feature {feature.number}, {feature.density:.3%} of tokens: {name}"


def _nearest(small: np.ndarray, large: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `large`, the largest cosine with a row of `small`, and the number of that row."""
    unit = small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-30)
    parts = []
    for first in range(0, len(large), ROWS_AT_ONCE):
        rows = large[first : first + ROWS_AT_ONCE]
        cosines = (rows @ unit.T) / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        parts.append((cosines.max(axis=1), cosines.argmax(axis=1)))
    cosine, parent = (np.concatenate(part) for part in zip(*parts, strict=True))
    return cosine, parent


def _contained(small: dict[str, np.ndarray], large: dict[str, np.ndarray], parent: np.ndarray) -> np.ndarray:
    """For each feature of the larger dictionary, the share of its sampled tokens on which its parent fires."""
    n_small = len(small["count"])
    token = np.repeat(small["tokens"], np.diff(small["offsets"]))
    fires = np.sort(token * n_small + small["features"])
    token = np.repeat(large["tokens"], np.diff(large["offsets"]))
    wanted = token * n_small + parent[large["features"]]
    place = np.minimum(np.searchsorted(fires, wanted), max(0, len(fires) - 1))
    both = fires[place] == wanted if len(fires) else np.zeros(len(wanted), dtype=bool)
    together = np.bincount(large["features"], both, minlength=len(parent))
    return together / np.maximum(large["count"], 1)
