"""Additions to an index: the map of features (`sonde map`), and neurons like them (`sonde neurons`)."""

import json
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from sonde.tensor_files import map_arrays

MAP, NEURONS = "map.safetensors", "neurons.safetensors"
LIKE_A_NEURON = 0.3
"""source: Templeton et al. 2024, "Scaling Monosemanticity", features vs. neurons: 82 % had no neuron above it"""


class FeatureMap(NamedTuple):
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


class Neurons(NamedTuple):
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
