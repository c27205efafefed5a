"""The area under the ROC curve: the chance that a score is higher where something is present than where it is not.

Ties count half. From ranks: if P rows of P + N have it, and their ranks from the lowest score (tied rows share the mean
of their ranks) add up to R, the area is (R - P (P + 1) / 2) / (P N).

For features that are silent on most rows, the areas follow from their activations alone. With m activations, p of them
on the P rows and these at ranks r from the strongest, counted from zero, the number of pairs in the right order is

    p N - sum(r) + p (p - 1) / 2 + (P - p) (N - (m - p)) / 2
"""

from collections.abc import Iterator

import numpy as np
import torch

from sonde.analysis.detection import Presences, SparseActivations

COLUMNS_AT_ONCE = 32
FEATURES_AT_ONCE = 256
PAIRS_AT_ONCE = 1 << 23


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The area for scores where something is present and scores where it is not; nan if either is empty."""
    n_pairs = len(positive) * len(negative)
    if not n_pairs:
        return float("nan")
    ordered = np.sort(negative)
    below, up_to = (int(np.searchsorted(ordered, positive, side).sum()) for side in ("left", "right"))
    return below / n_pairs + (up_to - below) / n_pairs / 2


def auc_of_columns(scores: np.ndarray, present: Presences) -> np.ndarray:
    """The areas [column, concept] of scores [row, column]; nan for a concept that is on no row, or on all."""
    token, concept = present.token, present.concept
    positive = present.counts.astype(np.float64)
    rank_sums = np.empty((scores.shape[1], present.n_concepts))
    rank = np.empty(present.n_tokens)
    for first in range(0, scores.shape[1], COLUMNS_AT_ONCE):
        some = torch.from_numpy(np.ascontiguousarray(scores[:, first : first + COLUMNS_AT_ONCE].T))
        values, orders = some.sort(dim=1, stable=True)
        for column, (ordered, order) in enumerate(zip(values.numpy(), orders.numpy(), strict=True), start=first):
            rank[order] = _middle_ranks(ordered) + 1
            rank_sums[column] = np.bincount(concept, rank[token], minlength=present.n_concepts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (rank_sums - positive * (positive + 1) / 2) / (positive * (present.n_tokens - positive))


def auc_of_features(fires: SparseActivations, present: Presences) -> np.ndarray:
    """The areas [feature, concept] of activations; nan for a concept that is on no row, or on all."""
    order = np.lexsort((-fires.value, fires.feature))
    feature, token = fires.feature[order], fires.token[order]
    starts = np.searchsorted(feature, np.arange(fires.n_features + 1))
    rank = _middle_ranks(feature, fires.value[order]) - starts[feature]
    offsets = np.searchsorted(present.token, np.arange(present.n_tokens + 1))
    n_held = np.diff(offsets)[token]
    """[activation] concepts on its row"""
    p, rank_sums = np.zeros((2, fires.n_features, present.n_concepts))
    for first, last in _chunks(starts, n_held):
        here = slice(starts[first], starts[last])
        n = n_held[here]
        place = np.repeat(offsets[token[here]] - np.cumsum(n) + n, n) + np.arange(n.sum())
        key = np.repeat(feature[here] - first, n) * present.n_concepts + present.concept[place]
        shape = (last - first, present.n_concepts)
        p[first:last] = np.bincount(key, minlength=shape[0] * shape[1]).reshape(shape)
        rank_sums[first:last] = np.bincount(key, np.repeat(rank[here], n), shape[0] * shape[1]).reshape(shape)
    m = np.diff(starts)[:, None]
    positive = present.counts[None].astype(np.float64)
    negative = present.n_tokens - positive
    right = p * negative - rank_sums + p * (p - 1) / 2 + (positive - p) * (negative - (m - p)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return right / (positive * negative)


def _middle_ranks(*ordered: np.ndarray) -> np.ndarray:
    """Ranks from zero of rows in order; rows that are equal in every column share the mean of their ranks."""
    n = len(ordered[0])
    starts = np.flatnonzero(np.any([np.diff(column, prepend=np.nan) != 0 for column in ordered], axis=0))
    ends = np.append(starts[1:], n)
    return np.repeat((starts + ends - 1) / 2, ends - starts)


def _chunks(starts: np.ndarray, n_held: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of features with at most `PAIRS_AT_ONCE` pairs of an activation and a concept, or of one feature alone."""
    first, n_features = 0, len(starts) - 1
    while first < n_features:
        last = min(first + FEATURES_AT_ONCE, n_features)
        pairs = np.cumsum(n_held[starts[first] : starts[last]])
        while last > first + 1 and len(pairs) and pairs[-1] > PAIRS_AT_ONCE:
            last = first + (last - first) // 2
            pairs = pairs[: starts[last] - starts[first]]
        yield first, last
        first = last
