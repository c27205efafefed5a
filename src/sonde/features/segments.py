"""Segments: the activations that each task finds, sorted by feature, until they are merged into postings.

They are written and read by the engine of the activation store (`activations/dealing.py`), keyed by feature: reading
pile after pile, each a range of features, merges them in bounded memory.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from sonde.activations.dealing import N_RANGES, Segment, pile_count, read_pile, total_offsets, write_segment
from sonde.activations.shuffle import mix
from sonde.features.postings import Fires
from sonde.manifests import write_bytes, write_json

SEGMENTS = "segments"
"""folder of an index that is being made; removed in the end"""
RECORD = np.dtype([("token", "<u8"), ("feature", "<u4"), ("value", "<f4")])
"""`value` is the activation itself"""
COPIES_IN_MEMORY = 6
"""how often a pile is in memory at most: records, keys, their order, sorted columns"""


@dataclass(frozen=True)
class Sampling:
    """Which activations of a feature are kept: all, or the `n` strongest and as many others at random."""

    n: int | None
    """None: all are kept"""
    seed: int

    def n_kept(self, count: np.ndarray) -> np.ndarray:
        """How many activations are kept of each feature [feature], of how many it has."""
        return count if self.n is None else np.minimum(count, 2 * self.n)

    def candidates(self, fires: Fires) -> Fires:
        """Those of one task's activations that may be kept, whatever other tasks find."""
        if self.n is None:
            return fires
        is_strong = _has_smallest_keys(fires.feature, -fires.value, self.n)
        # Of those drawn at random, up to n may turn out to be among the strongest of the whole text.
        is_drawn = _has_smallest_keys(fires.feature, self._random_keys(fires), 2 * self.n)
        return Fires(*(column[is_strong | is_drawn] for column in fires))

    def keep(self, fires: Fires) -> Fires:
        """What is kept of all activations of some features, given by feature, strongest first."""
        if self.n is None:
            return fires
        is_kept = _rank(fires.feature) < self.n
        weak = Fires(*(column[~is_kept] for column in fires))
        is_kept[~is_kept] = _has_smallest_keys(weak.feature, self._random_keys(weak), self.n)
        return Fires(*(column[is_kept] for column in fires))

    def _random_keys(self, fires: Fires) -> np.ndarray:
        with np.errstate(over="ignore"):
            return mix(mix(fires.token.astype(np.uint64) + np.uint64(self.seed)) ^ fires.feature.astype(np.uint64))


def _has_smallest_keys(feature: np.ndarray, key: np.ndarray, n: int) -> np.ndarray:
    """Whether each activation's key is among the n smallest of its feature [activation]."""
    order = np.lexsort((key, feature))
    is_among = np.zeros(len(order), dtype=bool)
    is_among[order[_rank(feature[order]) < n]] = True
    return is_among


def _rank(feature: np.ndarray) -> np.ndarray:
    """The place of each activation among those of its feature, which stand together [activation]."""
    first = starts_of_features(feature)
    return np.arange(len(feature)) - np.repeat(first, np.diff(first, append=len(feature)))


def starts_of_features(feature: np.ndarray) -> np.ndarray:
    """Where each feature begins in activations that are sorted by feature."""
    return np.flatnonzero(np.diff(feature.astype(np.int64), prepend=-1))


# ---------------------------------------------------------------- what a task writes


def write_task(out: Path, number: int, fires: Fires, sampling: Sampling, n_features: int, n_tokens: int) -> None:
    """Write one task's activations as a segment, sorted by feature, strongest first, with their counts."""
    if sampling.n is not None:  # what is not kept counts too
        sums = np.bincount(fires.feature, fires.value.astype(np.float64), minlength=n_features)
        counts = {"count": np.bincount(fires.feature, minlength=n_features), "sum": sums}
        write_bytes(_path(out, number, ".counts"), save(counts))
    _write_segment(_path(out, number, ".safetensors"), sampling.candidates(fires), n_features)
    # Written last: where it exists, the segment is complete.
    write_json(_path(out, number, ".json"), {"tokens": n_tokens, "activations": len(fires.value)})


def is_written(out: Path, number: int) -> bool:
    """Whether a task has been written."""
    return _path(out, number, ".json").exists()


def read_n_activations(out: Path, n_tasks: int) -> int:
    """Number of activations that all tasks found."""
    return sum(json.loads(_path(out, number, ".json").read_text())["activations"] for number in range(n_tasks))


def read_counts(out: Path, n_tasks: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Number and sum of each feature's activations [feature], as tasks counted them where activations are sampled."""
    count, total = np.zeros(n_features, dtype=np.int64), np.zeros(n_features)
    for number in range(n_tasks):
        counts = load_file(_path(out, number, ".counts"))
        count, total = count + counts["count"], total + counts["sum"]
    return count, total


def merge_segments(out: Path, n_tasks: int, memory: int) -> Iterator[Fires]:
    """Yield all tasks' activations, some features at a time, sorted by feature, strongest first and then by token."""
    segments = [Segment(_path(out, number, ".safetensors")) for number in range(n_tasks)]
    if not segments:
        return
    n_records = int(total_offsets(segments)[N_RANGES])
    n_piles = pile_count(n_records, RECORD.itemsize * COPIES_IN_MEMORY, memory)
    for number in range(n_piles):
        records = read_pile(segments, number, n_piles).reshape(-1).view(RECORD)
        # Activations are above zero, so their bits rise with them. Segments are in text order, and so are the tokens in
        # each.
        strength = np.ascontiguousarray(records["value"]).view(np.uint32)
        key = (records["feature"].astype(np.uint64) << np.uint64(32)) | (np.uint32(0xFFFFFFFF) - strength)
        order = np.argsort(key, kind="stable")
        yield Fires(*(records[name][order] for name in Fires._fields))


def _path(out: Path, number: int, suffix: str) -> Path:
    return out / SEGMENTS / f"{number:05d}{suffix}"


def _write_segment(path: Path, fires: Fires, n_features: int) -> None:
    records = np.empty(len(fires.value), dtype=RECORD)
    for name, column in zip(fires._fields, fires, strict=True):
        records[name] = column
    order = np.lexsort((fires.token, -fires.value, fires.feature))
    # The engine sorts by 64-bit keys: feature numbers, spread over all bits.
    keys = fires.feature.astype(np.uint64) << np.uint64(64 - max(1, (n_features - 1).bit_length()))
    write_segment(path, keys, records.view(np.uint8).reshape(len(records), RECORD.itemsize), order)
