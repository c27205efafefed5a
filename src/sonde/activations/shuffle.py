"""The exact shuffle: a row's place is a pure function of a seed and of the row's identity.

Every row has a 64-bit key, a keyed hash of (document, position). Segments are written sorted by key with a
table of offsets by its top bits; a *pile* is all rows whose keys start with the same bits. Reading one pile
at a time and sorting it by key gives a uniform permutation in one write and one read, the same however the
rows were split over segments. Later epochs visit the piles in another order and sort each by another key.
This is the distribution sort of every shuffle engine, with random keys.
"""

import numpy as np

OFFSET_BITS = 12
"""segments keep the offset of each of 2**12 key ranges"""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_keys(seed: int, epoch: int, document: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Keys [row] of rows, as uint64: a keyed hash of (document, position).

    The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 14), applied to
    the seed, the epoch, the document and the position in turn.
    """
    with np.errstate(over="ignore"):
        state = _mix(np.uint64(seed) + _GOLDEN)
        state = _mix(state ^ (np.uint64(epoch) * _GOLDEN))
        keyed = _mix(state ^ (document.astype(np.uint64) * _GOLDEN))
        return _mix(keyed ^ (position.astype(np.uint64) * _GOLDEN) ^ _GOLDEN)


def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def shuffled(keys: np.ndarray, document: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The order [row] that sorts rows by key; equal keys by (document, position)."""
    return np.lexsort((position, document, keys))


def offset_table(sorted_keys: np.ndarray) -> np.ndarray:
    """Where each of the 2**OFFSET_BITS key ranges begins in sorted keys, and the end [2**OFFSET_BITS + 1]."""
    starts = np.arange(2**OFFSET_BITS, dtype=np.uint64) << np.uint64(64 - OFFSET_BITS)
    return np.append(np.searchsorted(sorted_keys, starts), len(sorted_keys)).astype(np.int64)


def pile_count(n_rows: int, row_bytes: int, pile_bytes: int = 1 << 28) -> int:
    """How many piles to read a store in: a power of two that makes them about `pile_bytes` large.

    It depends on the store alone, so that later epochs have one order on every machine.
    """
    wanted = max(1, -(-n_rows * row_bytes // pile_bytes))
    return min(2**OFFSET_BITS, 1 << (wanted - 1).bit_length())


def pile_order(seed: int, epoch: int, n_piles: int) -> np.ndarray:
    """The order in which an epoch visits the piles; the first epoch goes straight through."""
    piles = np.arange(n_piles)
    if epoch == 0:
        return piles
    return np.argsort(row_keys(seed, epoch, piles, np.full(n_piles, 1 << 40)), kind="stable")
