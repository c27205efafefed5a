"""Dealing: fixed-size records into piles by a key, written once and read once.

This is the distribution sort of every shuffle engine, and it knows nothing of what the records hold. Records
come in *segments*, each sorted by its 64-bit keys and written whole, with a table of where each of 4,096 ranges
of keys begins and a checksum of each range. A *pile* is all records whose keys begin with the same bits. Reading
pile after pile, each sorted by key, is one order for any number of segments, and for any size of pile.

With random keys the order is a uniform permutation: see `shuffle.py`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from sonde.errors import ArtifactDamagedError
from sonde.manifests import write_bytes

TABLE_BITS = 12
N_RANGES = 1 << TABLE_BITS
"""ranges of keys that a segment's table tells apart, and so the most piles that a store can be read in"""
_ROWS_AT_ONCE = 512
_ALIGNED = 64
"""records begin at a multiple of this in the file"""
_DTYPES = {np.dtype(np.int64): "I64", np.dtype(np.uint64): "U64", np.dtype(np.uint8): "U8"}


def write_segment(path: Path, keys: np.ndarray, records: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """Write records [n, bytes] uint8 as one safetensors file, whole or not at all; return its size and checksum.

    Args:
        keys: [n] uint64.
        order: [n] what sorts the keys; where keys are equal it decides.
    """
    offsets = offset_table(keys[order])
    checksums = np.zeros(N_RANGES, dtype=np.uint64)
    # A few ranges at a time, so that records are gathered, summed and written while they are in the cache.
    step = max(1, N_RANGES * _ROWS_AT_ONCE // max(1, len(records)))
    most = max(int(offsets[min(first + step, N_RANGES)] - offsets[first]) for first in range(0, N_RANGES, step))
    room = np.empty((most, records.shape[1]), dtype=np.uint8)

    def parts() -> Iterator[Any]:
        yield _header({"records": records, "offsets": offsets, "checksums": checksums})
        for first in range(0, N_RANGES, step):
            last = min(first + step, N_RANGES)
            begin, end = int(offsets[first]), int(offsets[last])
            dealt = room[: end - begin]
            np.take(records, order[begin:end], axis=0, out=dealt, mode="clip")  # the default mode copies once more
            for number in range(first, last):
                checksums[number] = _checksum(dealt[offsets[number] - begin : offsets[number + 1] - begin])
            yield dealt.reshape(-1).data
        yield offsets.data.cast("B")
        yield checksums.data.cast("B")

    return write_bytes(path, parts())


def offset_table(sorted_keys: np.ndarray) -> np.ndarray:
    """Where each range of keys begins in sorted keys, and their number [N_RANGES + 1] int64."""
    starts = np.arange(N_RANGES, dtype=np.uint64) << np.uint64(64 - TABLE_BITS)
    return np.append(np.searchsorted(sorted_keys, starts), len(sorted_keys)).astype(np.int64)


@dataclass(frozen=True)
class Segment:
    """A segment on disk, of which no more is read than is asked for."""

    path: Path

    @property
    def record_bytes(self) -> int:
        return self._tensors["records"][2][1]

    def read_into(self, found: np.ndarray, first: int, last: int) -> None:
        """Read the records of key ranges `first` up to `last`, in the order of their keys, into [n, bytes].

        Raises ArtifactDamagedError, with file and offset, where a range is not what was written.
        """
        start, size = self._tensors["records"][0], self.record_bytes
        begin = int(self.offsets[first])
        self._fill(found.reshape(-1), start + begin * size)
        for number in range(first, last):
            a, b = int(self.offsets[number]) - begin, int(self.offsets[number + 1]) - begin
            if _checksum(found[a:b]) != self._checksums[number]:
                raise ArtifactDamagedError(
                    f"{self.path} was altered in the {(b - a) * size:,} bytes from offset "
                    f"{start + (begin + a) * size:,}; make the artifact again"
                )

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each range of keys begins [N_RANGES + 1]."""
        return self._small("offsets", np.int64)

    @cached_property
    def _checksums(self) -> np.ndarray:
        return self._small("checksums", np.uint64)

    @cached_property
    def _tensors(self) -> dict[str, tuple[int, int, list[int]]]:
        """Name -> (offset in the file, bytes, shape), from the safetensors header."""
        try:
            length = int.from_bytes(self._read(0, 8), "little")
            head = json.loads(self._read(8, length))
            tensors = {}
            for name, entry in head.items():
                begin, end = entry["data_offsets"]
                tensors[name] = (8 + length + begin, end - begin, entry["shape"])
            assert {"offsets", "checksums", "records"} == set(tensors)
        except (ValueError, KeyError, TypeError, AssertionError, OverflowError, MemoryError) as error:
            raise ArtifactDamagedError(f"{self.path} is no whole segment; make the artifact again") from error
        return tensors

    def _small(self, name: str, dtype: type) -> np.ndarray:
        start, length, _ = self._tensors[name]
        return np.frombuffer(self._read(start, length), dtype=dtype)

    def _read(self, start: int, length: int) -> bytes:
        if length > self.path.stat().st_size:
            raise ValueError(f"{length} bytes")
        data = np.empty(length, dtype=np.uint8)
        self._fill(data, start)
        return data.tobytes()

    def _fill(self, data: np.ndarray, start: int) -> None:
        """Read as many bytes as `data` holds, from `start` on."""
        view, length, filled = data.data, len(data), 0
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                while filled < length and (n := file.readinto(view[filled:])):
                    filled += n
        except OSError as error:
            raise ArtifactDamagedError(
                f"{self.path} cannot be read ({error.strerror}); make the artifact again"
            ) from error
        if filled < length:
            raise ArtifactDamagedError(
                f"{self.path} ends {length - filled:,} bytes early, before offset {start + length:,}; make the artifact again"
            )


def pile_count(n_records: int, record_bytes: int, pile_bytes: int) -> int:
    """How many piles of about `pile_bytes` to read a store in: a power of two, N_RANGES at most."""
    wanted = max(1, -(-n_records * record_bytes // pile_bytes))
    return min(N_RANGES, 1 << (wanted - 1).bit_length())


def read_pile(segments: Sequence[Segment], number: int, n_piles: int) -> np.ndarray:
    """All records of one pile [n, bytes], segment after segment, not sorted across them."""
    first, last = number * (N_RANGES // n_piles), (number + 1) * (N_RANGES // n_piles)
    sizes = [int(segment.offsets[last] - segment.offsets[first]) for segment in segments]
    pile = np.empty((sum(sizes), segments[0].record_bytes), dtype=np.uint8)
    end = 0
    for segment, size in zip(segments, sizes, strict=True):
        segment.read_into(pile[end : end + size], first, last)
        end += size
    return pile


def pile_sizes(segments: Sequence[Segment], n_piles: int) -> np.ndarray:
    """Number of records in each pile [n_piles]."""
    total = np.sum([segment.offsets for segment in segments], axis=0)
    return np.diff(total[:: N_RANGES // n_piles])


def _checksum(records: np.ndarray) -> int:
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(records).data)


def _header(arrays: dict[str, np.ndarray]) -> bytes:
    """The header of a safetensors file, so long that what follows is aligned."""
    head, end = {}, 0
    for name, array in arrays.items():
        head[name] = {"dtype": _DTYPES[array.dtype], "shape": list(array.shape)}
        head[name]["data_offsets"] = [end, end := end + array.nbytes]
    text = json.dumps(head).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text
