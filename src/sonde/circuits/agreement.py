"""How well a cheap figure of causes agrees with the exact one: correlations, and what the strongest have in common."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

TOP = 10
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over prompts, with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def interval_of(values: Sequence[float]) -> Interval:
    """The mean of values that are numbers, and its 95 % interval: percentiles of means of resampled values."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    chosen = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.percentile(known[chosen].mean(axis=1), [2.5, 97.5])
    return Interval(float(known.mean()), float(low), float(high), len(known))


@dataclass(frozen=True)
class Agreement:
    """How activations and attributions of (feature, token) pairs agree with the effects of ablating them."""

    n: int
    """pairs that were ablated"""
    attribution: float
    """Pearson's correlation of attribution and effect"""
    activation: float
    """of activation and effect"""
    activation_size: float
    """of activation and the effect's size, as an activation has no sign"""
    top_attribution: int
    """of the ten pairs with the largest effects, how many are among the ten with the largest attributions"""
    top_activation: int
    """how many are among the ten with the largest activations"""
    top_chance: float
    """how many are among ten at random, on average"""
    loudness: float
    """median rank by activation, from 1, of the ten with the largest effects, among all active pairs"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def agree(activation: np.ndarray, attribution: np.ndarray, effect: np.ndarray) -> Agreement:
    """The agreement over pairs whose effect is known; ranks by activation are over all.

    Args:
        activation, attribution: [pair].
        effect: [pair], nan where it was not measured.
    """
    known = np.isfinite(effect)
    loud, sought, felt = activation[known], attribution[known], effect[known]
    n = len(felt)
    strongest = top(felt)
    rank = np.empty(len(activation), dtype=np.int64)
    rank[np.argsort(-activation, kind="stable")] = np.arange(1, len(activation) + 1)
    return Agreement(
        n=n,
        attribution=pearson(sought, felt),
        activation=pearson(loud, felt),
        activation_size=pearson(loud, np.abs(felt)),
        top_attribution=len(np.intersect1d(strongest, top(sought))),
        top_activation=len(np.intersect1d(strongest, top(loud))),
        top_chance=len(strongest) ** 2 / n if n else float("nan"),
        loudness=float(np.median(rank[known][strongest])) if n else float("nan"),
    )


def top(values: np.ndarray, n: int = TOP) -> np.ndarray:
    """The places of the n largest values, by size, the largest first."""
    return np.argsort(-np.abs(values), kind="stable")[:n]


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation; nan where one is constant."""
    x, y = (np.asarray(each, dtype=np.float64) - np.mean(each) if len(each) else np.zeros(1) for each in (x, y))
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 1e-30 else float("nan")


def pooled(rows: Sequence[Any], of: Callable[[Any], float]) -> Interval:
    """The interval of one figure over prompts."""
    return interval_of([float(of(row)) for row in rows])
