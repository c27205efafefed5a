"""The exact shuffle: a row's place in the order is a pure function of a seed and of the row's identity.

Every row has a 64-bit key, a keyed hash of (document, position), and rows are dealt by it (`dealing.py`): a uniform
permutation in one write and one read, however the rows were split over segments. Later epochs visit the piles in
another order and sort each by another key.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_keys(seed: int, epoch: int, document: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Keys [row] of rows, as uint64: a keyed hash of (document, position).

    The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, figure 14), applied to
    the seed, the epoch, the document and the position in turn.
    """
    with np.errstate(over="ignore"):
        state = mix(np.uint64(seed) + _GOLDEN)
        state = mix(state ^ (np.uint64(epoch) * _GOLDEN))
        keyed = mix(state ^ (document.astype(np.uint64) * _GOLDEN))
        return mix(keyed ^ (position.astype(np.uint64) * _GOLDEN) ^ _GOLDEN)


def mix(z):
    """The finaliser of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def shuffled(keys: np.ndarray, document: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The indices [row] that sort rows by key; equal keys by (document, position)."""
    order = np.argsort(keys, kind="stable")
    if len(keys) and (keys[order[1:]] == keys[order[:-1]]).any():  # expected once in billions of rows
        order = np.lexsort((position, document, keys))
    return order


def pile_order(seed: int, epoch: int, n_piles: int) -> np.ndarray:
    """The order [n_piles] in which an epoch visits the piles; the first epoch visits them as they are numbered."""
    piles = np.arange(n_piles)
    if epoch == 0:
        return piles
    return np.argsort(row_keys(seed, epoch, piles, np.full(n_piles, 1 << 40)), kind="stable")
