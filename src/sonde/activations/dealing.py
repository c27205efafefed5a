"""Dealing: fixed-size records into piles by a key, written once and read once.

This is the distribution sort of every shuffle engine, and it knows nothing of what the records hold. Records
come in *segments*, each sorted by its 64-bit keys and written whole, with a table of where each of 4,096 ranges
of keys begins and a checksum of each range. A *pile* is all records whose keys begin with the same bits. Reading
pile after pile, each sorted by key, is one order for any number of segments, and for any size of pile.

With random keys the order is a uniform permutation: see `shuffle.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from sonde.errors import ArtifactDamagedError
from sonde.manifests import write_bytes

TABLE_BITS = 12
N_RANGES = 1 << TABLE_BITS
"""ranges of keys that a segment's table tells apart, and so the most piles that a store can be read in"""
_ALIGNED = 64
"""records begin at a multiple of this in the file"""
_DTYPES = {np.dtype(np.int64): "I64", np.dtype(np.uint64): "U64", np.dtype(np.uint8): "U8"}


def write_segment(path: Path, keys: np.ndarray, records: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """Write records [n, bytes] uint8 as one safetensors file, whole or not at all; return its size and checksum.

    Args:
        keys: [n] uint64.
        order: [n] what sorts the keys; where keys are equal it decides.
    """
    # numpy gathers rows one by one, torch with all its threads
    dealt = torch.from_numpy(records).index_select(0, torch.from_numpy(order)).numpy()
    offsets = offset_table(keys[order])
    sums = [_checksum(dealt[first:last]) for first, last in zip(offsets[:-1], offsets[1:], strict=True)]
    return write_bytes(
        path, *_pack({"offsets": offsets, "checksums": np.array(sums, dtype=np.uint64), "records": dealt})
    )


def offset_table(sorted_keys: np.ndarray) -> np.ndarray:
    """Where each range of keys begins in sorted keys, and their number [N_RANGES + 1] int64."""
    starts = np.arange(N_RANGES, dtype=np.uint64) << np.uint64(64 - TABLE_BITS)
    return np.append(np.searchsorted(sorted_keys, starts), len(sorted_keys)).astype(np.int64)


@dataclass(frozen=True)
class Segment:
    """A segment on disk, of which no more is read than is asked for."""

    path: Path

    def records(self, first: int, last: int) -> np.ndarray:
        """The records of key ranges `first` up to `last` [n, bytes], in the order of their keys.

        Raises ArtifactDamagedError, with file and offset, where a range is not what was written.
        """
        start, _, (_, size) = self._tensors["records"]
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        found = np.frombuffer(self._read(start + begin * size, (end - begin) * size), dtype=np.uint8).reshape(-1, size)
        for number in range(first, last):
            a, b = int(self.offsets[number]) - begin, int(self.offsets[number + 1]) - begin
            if _checksum(found[a:b]) != self._checksums[number]:
                raise ArtifactDamagedError(
                    f"{self.path} was altered in the {(b - a) * size:,} bytes from offset "
                    f"{start + (begin + a) * size:,}; make the artifact again"
                )
        return found

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

    def _read(self, start: int, length: int) -> bytearray:
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                data = bytearray(length)
                view, filled = memoryview(data), 0
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
        return data


def pile_count(n_records: int, record_bytes: int, pile_bytes: int) -> int:
    """How many piles of about `pile_bytes` to read a store in: a power of two, N_RANGES at most."""
    wanted = max(1, -(-n_records * record_bytes // pile_bytes))
    return min(N_RANGES, 1 << (wanted - 1).bit_length())


def read_pile(segments: Sequence[Segment], number: int, n_piles: int) -> np.ndarray:
    """All records of one pile [n, bytes], segment after segment, not sorted across them."""
    width = N_RANGES // n_piles
    return np.concatenate([segment.records(number * width, (number + 1) * width) for segment in segments])


def pile_sizes(segments: Sequence[Segment], n_piles: int) -> np.ndarray:
    """Number of records in each pile [n_piles]."""
    total = np.sum([segment.offsets for segment in segments], axis=0)
    return np.diff(total[:: N_RANGES // n_piles])


def _checksum(records: np.ndarray) -> int:
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(records).data)


def _pack(arrays: dict[str, np.ndarray]) -> list[Any]:
    """The parts of a safetensors file whose last array is aligned."""
    head, end = {}, 0
    for name, array in arrays.items():
        head[name] = {"dtype": _DTYPES[array.dtype], "shape": list(array.shape)}
        head[name]["data_offsets"] = [end, end := end + array.nbytes]
    text = json.dumps(head).encode()
    last = end - next(reversed(arrays.values())).nbytes
    text += b" " * (-(8 + len(text) + last) % _ALIGNED)
    return [
        len(text).to_bytes(8, "little"),
        text,
        *(array.reshape(-1).view(np.uint8).data for array in arrays.values()),
    ]
