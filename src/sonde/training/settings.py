"""Settings of `train`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Required, TypedDict

from sonde.settings import Count, check
from sonde.training.recipes import kinds, recipe_class

if TYPE_CHECKING:
    from sonde.training.recipes.recipe import Recipe

OF_SOME_KINDS = ("k", "sparsity", "penalty", "bandwidth", "multi_k", "prefixes", "resample_every")
"""settings that are refused unless the recipe of the kind takes them"""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What to train, and how. The defaults are meant to work untouched."""

    kind: str = "topk"
    """topk, batchtopk, matryoshka, l1, jumprelu or gated; each also as a transcoder (--writes) or a crosscoder"""
    n_features: Count
    """number of features"""
    out: Path
    """folder to write"""
    site: tuple[str, ...] = ()
    """what to read, where the activations hold several sites; several are read side by side (a crosscoder)"""
    writes: tuple[str, ...] = ()
    """what to reconstruct, where that is not what is read (a transcoder); several make it cross-layer"""
    skip: bool = False
    """transcoders: a linear path past the features"""
    k: Count | None = None
    """topk, batchtopk, matryoshka: features active on a token (batchtopk, matryoshka: on average); 32 by default"""
    sparsity: float | None = None
    """l1, gated, jumprelu: weight of the penalty; by default 5 (Scaling Monosemanticity), 3, see docs/training.md"""
    penalty: Literal["tanh", "l0"] = "tanh"
    """jumprelu: tanh of activations (January 2025 recipe), or the number of active features (2024 paper)"""
    bandwidth: float | None = None
    """jumprelu: width of the window around a threshold in which it learns; 2 for tanh, 0.1 for l0"""
    multi_k: bool = False
    """topk: learn to reconstruct with 4 k features too (Multi-TopK)"""
    prefixes: tuple[Count, ...] | None = None
    """matryoshka: features in each nested prefix; a 16th, an 8th, a quarter, a half and all by default"""
    tokens: Count | None = None
    """rows to train on; all rows once by default, and more than one pass where there are fewer"""
    batch_size: Count | None = None
    """rows in a step; by default 512 to 4096, so that a short run still has about a thousand steps"""
    lr: float | None = None
    """peak learning rate; by default from a law in the number of features"""
    clip: float = 1.0
    """longest gradient, in units of a loss that is an FVU; 0 for no clipping"""
    init: Literal["random", "data"] = "random"
    """what decoder rows start as: random directions, or rows of the data less their mean"""
    decoder_norms: Literal["unit", "free"] | None = None
    """whether decoder rows are kept at length one; by default unit, but free for l1 and for jumprelu with tanh"""
    aux_k: Count | None = None
    """dead features revived on each token (AuxK), 0 for none; by default half the width, and none for l1 and gated"""
    resample_every: Count | None = None
    """l1, gated: restart dead features from badly reconstructed rows every so many steps, in the run's first half"""
    dead_after: Count | None = None
    """rows without firing after which a feature counts as dead; by default a tenth of the run, at most 10M"""
    checkpoint_every_s: float = 60.0
    """seconds between checkpoints, from which a killed run goes on"""
    seed: int = 0
    """decides the start of the weights"""

    def __post_init__(self) -> None:
        n, takes = self.n_features, recipe_class(self.kind).takes()
        for name in ("site", "writes"):
            sites = getattr(self, name)
            check(len(sites) == len(set(sites)), name, sites, "without repetition")
        apart = self.writes not in ((), self.site)
        check(not self.skip or apart, "skip", self.skip, "left out unless --writes names other sites than are read")
        check(n > 0, "n_features", n, "above 0")
        check(self.k is None or 0 < self.k <= n, "k", self.k, f"above 0 and at most n_features ({n})")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in OF_SOME_KINDS:
            value, bound = getattr(self, name), f"left out unless kind is {', '.join(kinds_with(name))}"
            check(value == defaults[name] or name in takes, name, value, bound)
        for name in ("bandwidth", "tokens", "batch_size", "lr", "resample_every", "dead_after"):
            value = getattr(self, name)
            check(value is None or value > 0, name, value, "above 0")
        for name in ("sparsity", "aux_k", "clip"):
            value = getattr(self, name)
            check(value is None or value >= 0, name, value, "at least 0")
        self.recipe.check()

    @property
    def recipe(self) -> "Recipe":
        """The recipe of the kind, with the settings that it takes; those that are left open keep its defaults."""
        recipe = recipe_class(self.kind)
        values = {field.name: getattr(self, field.name, None) for field in dataclasses.fields(recipe)}
        return recipe(**{name: value for name, value in values.items() if value is not None})


def kinds_with(setting: str) -> list[str]:
    """The kinds whose recipes take a setting."""
    return [kind for kind in kinds() if setting in recipe_class(kind).takes()]


class TrainKeywords(TypedDict, total=False):
    """The fields of `TrainSettings` as keywords; written by tools/keywords.py."""

    kind: str
    n_features: Required[int | str]
    out: Required[str | Path]
    site: str | Sequence[str]
    writes: str | Sequence[str]
    skip: bool
    k: int | str | None
    sparsity: float | None
    penalty: Literal["tanh", "l0"]
    bandwidth: float | None
    multi_k: bool
    prefixes: Sequence[int | str] | None
    tokens: int | str | None
    batch_size: int | str | None
    lr: float | None
    clip: float
    init: Literal["random", "data"]
    decoder_norms: Literal["unit", "free"] | None
    aux_k: int | str | None
    resample_every: int | str | None
    dead_after: int | str | None
    checkpoint_every_s: float
    seed: int
