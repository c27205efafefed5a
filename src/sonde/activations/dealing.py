"""Dealing: fixed-size records into piles by a key, written once and read once.

This is the distribution sort of every shuffle engine, independent of what the records hold. Records come in
*segments*, each sorted by its 64-bit keys and written whole, with a table of where each of 4,096 ranges of keys begins
and a checksum of each range. A *pile* is all records whose keys begin with the same bits. Reading pile after pile, each
sorted by key, gives one order for any number of segments, and for any size of pile.

With random keys the order is a uniform permutation: see `shuffle.py`.
"""

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from xxhash import xxh3_64_intdigest

from sonde.errors import ArtifactDamagedError
from sonde.manifests import write_bytes
from sonde.remote import Place, RemotePath
from sonde.tensor_files import Entry, header_bytes, read_header

Result = TypeVar("Result")

TABLE_BITS = 12
N_RANGES = 1 << TABLE_BITS
"""ranges of keys in a segment's table, and so the most piles that a store can be read in"""
_ROWS_AT_ONCE = 512
_REQUESTS_AT_ONCE = 16
"""segments of an object store that are read at the same time, as each request waits long for its answer"""


def write_segment(path: Place, keys: np.ndarray, records: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """Write records [n, bytes] uint8 as one safetensors file, atomically; returns its size and checksum.

    Args:
        keys: [n] uint64.
        order: [n] indices that sort the keys; they also decide among equal keys.
    """
    offsets = offset_table(keys[order])
    checksums = np.zeros(N_RANGES, dtype=np.uint64)
    # A few ranges at a time, so that records are gathered, summed and written while they are in the cache.
    step = max(1, N_RANGES * _ROWS_AT_ONCE // max(1, len(records)))
    most = max(int(offsets[min(first + step, N_RANGES)] - offsets[first]) for first in range(0, N_RANGES, step))
    room = np.empty((most, records.shape[1]), dtype=np.uint8)

    def parts() -> Iterator[Any]:
        laid_out = {"records": records, "offsets": offsets, "checksums": checksums}
        yield header_bytes({name: (array.dtype, array.shape) for name, array in laid_out.items()})
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
    """A segment on disk; only the ranges that are needed are read."""

    path: Place

    @property
    def record_bytes(self) -> int:
        return self._entries["records"].shape[1]

    def read_into(self, target: np.ndarray, first: int, last: int) -> None:
        """Read the records of key ranges `first` up to `last`, in the order of their keys, into `target` [n, bytes].

        Raises ArtifactDamagedError, with file and offset, where a range differs from what was written.
        """
        first_record, size = self._entries["records"].begin, self.record_bytes
        data = target.reshape(-1)
        begin = first_record + int(self.offsets[first]) * size
        self._fill(data, begin)
        ends = ((self.offsets[first : last + 1] - self.offsets[first]) * size).tolist()
        view, start = data.data, 0
        for end, expected in zip(ends[1:], self._checksums[first:last].tolist(), strict=True):
            if xxh3_64_intdigest(view[start:end]) != expected:
                raise ArtifactDamagedError(
                    f"{self.path} was altered in the {end - start:,} bytes from offset {begin + start:,}; "
                    "make the artifact again"
                )
            start = end

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each range of keys begins [N_RANGES + 1]."""
        return self._small("offsets", np.int64)

    @cached_property
    def _checksums(self) -> np.ndarray:
        return self._small("checksums", np.uint64)

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        entries = read_header(self.path, self._read).entries
        if entries.keys() != {"offsets", "checksums", "records"} or len(entries["records"].shape) != 2:
            raise ArtifactDamagedError(f"{self.path} is no whole segment; make the artifact again")
        return entries

    def _small(self, name: str, dtype: type) -> np.ndarray:
        entry = self._entries[name]
        return np.frombuffer(self._read(entry.begin, entry.end - entry.begin), dtype=dtype)

    def _read(self, start: int, length: int) -> bytes:
        data = np.empty(length, dtype=np.uint8)
        self._fill(data, start)
        return data.tobytes()

    def _fill(self, data: np.ndarray, start: int) -> None:
        """Fill `data` with the bytes from `start` on."""
        view, length, filled = data.data, len(data), 0
        try:
            if isinstance(self.path, RemotePath):
                answer = self.path.read_range(start, length) if length else memoryview(b"")
                filled = len(answer)
                view[:filled] = answer
            else:
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
                f"{self.path} ends {length - filled:,} bytes early, before offset {start + length:,}; "
                "make the artifact again"
            )


def pile_count(n_records: int, record_bytes: int, pile_bytes: int) -> int:
    """The number of piles of about `pile_bytes` to read a store in: a power of two, N_RANGES at most."""
    wanted = max(1, -(-n_records * record_bytes // pile_bytes))
    return min(N_RANGES, 1 << (wanted - 1).bit_length())


def read_pile(segments: Sequence[Segment], number: int, n_piles: int, room: np.ndarray | None = None) -> np.ndarray:
    """All records of one pile [n, bytes], segment after segment, unsorted; in `room` [bytes], if given."""
    first, last = number * (N_RANGES // n_piles), (number + 1) * (N_RANGES // n_piles)
    ends = np.cumsum([segment.offsets[last] - segment.offsets[first] for segment in segments])
    n, size = int(ends[-1]), segments[0].record_bytes
    pile = (np.empty(n * size, dtype=np.uint8) if room is None else room[: n * size]).reshape(n, size)
    parts = np.split(pile, ends[:-1])
    _for_each(lambda number: segments[number].read_into(parts[number], first, last), segments)
    return pile


def total_offsets(segments: Sequence[Segment]) -> np.ndarray:
    """Where each range of keys begins in all segments together, and the number of records [N_RANGES + 1]."""
    return np.sum(_for_each(lambda number: segments[number].offsets, segments), axis=0)


def pile_sizes(offsets: np.ndarray, n_piles: int) -> np.ndarray:
    """Number of records in each pile [n_piles], from `total_offsets`."""
    return np.diff(offsets[:: N_RANGES // n_piles])


def _for_each(do: Callable[[int], Result], segments: Sequence[Segment]) -> list[Result]:
    """The results of `do` for the number of each segment; several run at once on an object store."""
    numbers = range(len(segments))
    if not isinstance(segments[0].path, RemotePath):
        return [do(number) for number in numbers]
    with concurrent.futures.ThreadPoolExecutor(_REQUESTS_AT_ONCE, "sonde-request") as pool:
        return list(pool.map(do, numbers))


def _checksum(records: np.ndarray) -> int:
    return xxh3_64_intdigest(np.ascontiguousarray(records).data)
