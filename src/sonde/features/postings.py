"""Postings: every token on which each feature fires, and how much, in five bytes an activation.

Tokens of a text are numbered through, document after document. A record is the activation as a share of the feature's maximum
(float16, so right to one part in 2,000) and the number of the token: its 16 low bits, and as many bytes above them as the text needs.
A feature's records stand together, strongest first.

They are dealt like an activation store's rows (`activations/dealing.py`): each task writes a segment sorted by feature, and reading pile after
pile, each a range of features, merges them in bounded memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonde.activations.dealing import N_RANGES, Segment, pile_count, read_pile, total_offsets, write_segment
from sonde.activations.shuffle import mix

SEGMENT_RECORD = np.dtype([("token", "<u8"), ("feature", "<u4"), ("value", "<f4")])
"""a record as tasks write it; `value` is the activation itself"""
TIMES_HELD = 6
"""how often a pile is in memory at most: records, keys, their order, sorted columns"""
_SMALLEST = np.float16(6e-8)


class Fires(NamedTuple):
    """Activations: of one feature strongest first, or of a task in any order."""

    token: np.ndarray
    """[activation] number of the token in the whole text"""
    feature: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Kept:
    """What is kept of a feature's activations: all, or the strongest and some of the others at random."""

    strongest: int | None = None
    """None: all are kept"""
    others: int = 0
    seed: int = 0

    def count(self, counts: np.ndarray) -> np.ndarray:
        """How many are kept of each feature [feature], of how many it has."""
        return counts if self.strongest is None else np.minimum(counts, self.strongest + self.others)

    def of_task(self, fires: Fires) -> Fires:
        """What may be kept of one task's activations."""
        if self.strongest is None:
            return fires
        strong = _among_first(fires.feature, -fires.value, self.strongest)
        # Of those that are kept by chance, the strongest of all the text may be left out later.
        chance = _among_first(fires.feature, self._dice(fires), self.strongest + self.others)
        return Fires(*(column[strong | chance] for column in fires))

    def of_sorted(self, fires: Fires) -> Fires:
        """What is kept of activations by feature, strongest first."""
        if self.strongest is None:
            return fires
        kept = _rank(fires.feature) < self.strongest
        weak = Fires(*(column[~kept] for column in fires))
        kept[~kept] = _among_first(weak.feature, self._dice(weak), self.others)
        return Fires(*(column[kept] for column in fires))

    def _dice(self, fires: Fires) -> np.ndarray:
        with np.errstate(over="ignore"):
            return mix(mix(fires.token.astype(np.uint64) + np.uint64(self.seed)) ^ fires.feature.astype(np.uint64))


def _among_first(feature: np.ndarray, key: np.ndarray, n: int) -> np.ndarray:
    """Which are among the n of their feature with the least keys [activation]."""
    order = np.lexsort((key, feature))
    found = np.zeros(len(order), dtype=bool)
    found[order[_rank(feature[order]) < n]] = True
    return found


def first_of_each(feature: np.ndarray) -> np.ndarray:
    """Where each feature begins in activations by feature."""
    return np.flatnonzero(np.diff(feature.astype(np.int64), prepend=-1))


def _rank(feature: np.ndarray) -> np.ndarray:
    """The place of each activation among those of its feature, which stand together."""
    first = first_of_each(feature)
    return np.arange(len(feature)) - np.repeat(first, np.diff(first, append=len(feature)))


def write_task(path: Path, fires: Fires, n_features: int) -> dict[str, Any]:
    """Write one task's activations as a segment, by feature, strongest first; returns the file's size and checksum."""
    records = np.empty(len(fires.value), dtype=SEGMENT_RECORD)
    for name, column in zip(fires._fields, fires, strict=True):
        records[name] = column
    order = np.lexsort((fires.token, -fires.value, fires.feature))
    raw = records.view(np.uint8).reshape(len(records), SEGMENT_RECORD.itemsize)
    return write_segment(path, _keys(fires.feature, n_features), raw, order)


def _keys(feature: np.ndarray, n_features: int) -> np.ndarray:
    """Keys that the dealing engine sorts by: feature numbers, spread over all 64 bits."""
    return feature.astype(np.uint64) << np.uint64(64 - max(1, (n_features - 1).bit_length()))


def merged(paths: Sequence[Path], memory: int) -> Iterator[Fires]:
    """All segments' activations, sorted by feature, strongest first and then by token: some features at a time."""
    segments = [Segment(path) for path in paths]
    if not segments:
        return
    n_records = int(total_offsets(segments)[N_RANGES])
    n_piles = pile_count(n_records, SEGMENT_RECORD.itemsize * TIMES_HELD, memory)
    for number in range(n_piles):
        records = read_pile(segments, number, n_piles).reshape(-1).view(SEGMENT_RECORD)
        # Activations are above zero, so their bits rise with them. Segments stand in the order of the text, and so do tokens in each.
        strength = np.ascontiguousarray(records["value"]).view(np.uint32)
        key = (records["feature"].astype(np.uint64) << np.uint64(32)) | (np.uint32(0xFFFFFFFF) - strength)
        order = np.argsort(key, kind="stable")
        yield Fires(*(records[name][order] for name in Fires._fields))


def record_type(n_tokens: int) -> np.dtype:
    """The layout of a posting in a text of so many tokens."""
    fields = [("value", "<f2"), ("low", "<u2")]
    if n_tokens > 1 << 16:
        fields.append(("high", "u1" if n_tokens <= 1 << 24 else "<u2" if n_tokens <= 1 << 32 else "<u4"))
    return np.dtype(fields)


def pack(fires: Fires, maximum: np.ndarray, n_tokens: int) -> np.ndarray:
    """Postings [activation] of activations, from the maximum of each feature [feature]."""
    packed = np.empty(len(fires.value), dtype=record_type(n_tokens))
    packed["value"] = np.maximum((fires.value / maximum[fires.feature]).astype(np.float16), _SMALLEST)
    packed["low"] = fires.token & 0xFFFF
    if "high" in packed.dtype.fields:  # type: ignore[operator]
        packed["high"] = fires.token >> 16
    return packed


def tokens_of(packed: np.ndarray) -> np.ndarray:
    """The number of each posting's token [activation] int64."""
    token = packed["low"].astype(np.int64)
    if "high" in packed.dtype.fields:  # type: ignore[operator]
        token |= packed["high"].astype(np.int64) << 16
    return token
