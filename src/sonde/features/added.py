"""Additions to an index: the map of features (`sonde map`), and neurons like them (`sonde neurons`)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from sonde.display import Block, Drawn, Grid, Line
from sonde.tensor_files import map_arrays

MAP, NEURONS = "map.safetensors", "neurons.safetensors"
LIKE_A_NEURON = 0.3
"""source: Templeton et al. 2024, "Scaling Monosemanticity", features vs. neurons: 82 % had no neuron above it"""


@dataclass(frozen=True, eq=False)
class FeatureMap(Drawn):
    """Features in a plane, similar ones near each other."""

    position: np.ndarray
    """[feature, 2]; nan of dead features"""
    cluster: np.ndarray
    """[feature] number of its cluster, or -1"""
    names: tuple[str, ...]
    """of the clusters"""

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The map of an index folder; None where none has been made."""
        path = folder / MAP
        if not path.exists():
            return None
        arrays, names = map_arrays(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return cls(arrays["position"], arrays["cluster"], tuple(names["clusters"]))

    @property
    def sizes(self) -> np.ndarray:
        """[cluster] features in each"""
        return np.bincount(self.cluster[self.cluster >= 0], minlength=len(self.names))

    def __repr__(self) -> str:
        return f"FeatureMap({len(self.cluster):,} features in {len(self.names):,} clusters)"

    def draw(self, n: int = 20) -> list[Block]:
        """The n largest clusters, with their names."""
        return FeatureMaps([self]).draw(n)


class FeatureMaps(list[FeatureMap], Drawn):
    """The maps of several indexes that were laid out together, and so share their clusters."""

    @property
    def sizes(self) -> np.ndarray:
        """[cluster] features of all in each"""
        return np.sum([each.sizes for each in self], axis=0)

    def draw(self, n: int = 20) -> list[Block]:
        """The n largest clusters, with their names."""
        largest = np.argsort(-self.sizes, kind="stable")[:n].tolist()
        rows = [[str(number), str(self.sizes[number]), self[0].names[number]] for number in largest]
        outside = sum(int((each.cluster < 0).sum()) for each in self)
        said = f"{len(self.sizes):,} clusters; {outside:,} features are in none; index.map has all"
        return [Grid(rows, ("cluster", "features", "name"), right=(0, 1)), Line(said)]


@dataclass(frozen=True, eq=False)
class Neurons(Drawn):
    """For each feature the neuron that correlates with it most."""

    correlation: np.ndarray
    """[feature] Pearson's, the largest in size; 0 of features that do not fire on the tokens that were read"""
    site: np.ndarray
    """[feature] which of `sites` the neuron is at"""
    neuron: np.ndarray
    """[feature] its number there"""
    sites: tuple[str, ...]
    """sites of MLPs' neurons, and of the stream, whose dimensions count too"""
    tokens: int
    """tokens that were read"""

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The correlations of an index folder; None where none have been computed."""
        path = folder / NEURONS
        if not path.exists():
            return None
        arrays, facts = map_arrays(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        columns = (arrays[name] for name in ("correlation", "site", "neuron"))
        return cls(*columns, sites=tuple(facts["sites"]), tokens=facts["tokens"])

    @property
    def share_unlike(self) -> float:
        """Share of the features that fire on these tokens of which no neuron's correlation is above 0.3."""
        fires = self.correlation != 0
        return float((np.abs(self.correlation[fires]) <= LIKE_A_NEURON).mean()) if fires.any() else 0.0

    def __repr__(self) -> str:
        return (
            f"Neurons({len(self.correlation):,} features on {self.tokens:,} tokens, {self.share_unlike:.0%} like none)"
        )

    def draw(self, n: int = 10) -> list[Block]:
        """The n features that are most like a neuron."""
        order = np.argsort(-np.abs(self.correlation), kind="stable")[:n].tolist()
        rows = [
            [str(number), f"{self.correlation[number]:+.2f}", self.site_of(number), str(self.neuron[number])]
            for number in order
        ]
        said = (
            f"{self.share_unlike:.0%} of the features that fire on {self.tokens:,} tokens have no neuron with a "
            f"correlation above {LIKE_A_NEURON}"
        )
        return [Grid(rows, ("feature", "correlation", "site", "neuron"), right=(0, 1, 3)), Line(said)]

    def site_of(self, feature: int) -> str:
        """The site of the neuron that a feature is most like."""
        return self.sites[self.site[feature]]
