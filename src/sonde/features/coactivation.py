"""Which features fire on the same tokens, counted on some tokens of the text with all features that fire on them."""

import numpy as np
from safetensors.numpy import save

from sonde.activations.shuffle import mix
from sonde.features.postings import Fires

TOKENS = 1 << 16
"""about how many tokens are kept, chosen by a keyed hash; of a shorter text all"""


def is_sampled(token: np.ndarray, n_tokens: int, seed: int) -> np.ndarray:
    """Which of these tokens [activation] are among the kept ones."""
    if n_tokens <= TOKENS:
        return np.ones(len(token), dtype=bool)
    with np.errstate(over="ignore"):
        key = mix(token.astype(np.uint64) ^ mix(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)))
    return key < np.uint64(int(TOKENS / n_tokens * 2**64))


class Coactivation:
    """Gathers the features that fire on each sampled token, from activations that pass feature by feature."""

    def __init__(self, n_tokens: int, seed: int) -> None:
        self.n_tokens, self.seed = n_tokens, seed
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, fires: Fires) -> None:
        """Add activations; every activation must be added once."""
        kept = is_sampled(fires.token, self.n_tokens, self.seed)
        self._parts.append((fires.token[kept], fires.feature[kept]))

    def to_bytes(self, n_features: int) -> bytes:
        """A safetensors file.

        tokens [token] on which something fires, offsets [token + 1] into features [activation], count [feature].
        """
        token = np.concatenate([np.empty(0, dtype=np.uint64), *(token for token, _ in self._parts)]).astype(np.int64)
        feature = np.concatenate([np.empty(0, dtype=np.uint32), *(feature for _, feature in self._parts)])
        order = np.lexsort((feature, token))
        tokens, starts = np.unique(token[order], return_index=True)
        count = np.bincount(feature, minlength=n_features)
        offsets = np.append(starts, len(token)).astype(np.int64)
        return save({"tokens": tokens, "offsets": offsets, "features": feature[order], "count": count})


def fires_with(coactive: dict[str, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """The features that fire on the same tokens as feature `number`, and the cosine of their indicators."""
    offsets, features, count = coactive["offsets"], coactive["features"], coactive["count"]
    on = np.searchsorted(offsets, np.flatnonzero(features == number), side="right") - 1
    lengths = offsets[on + 1] - offsets[on]
    places = np.repeat(offsets[on] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    other, shared = np.unique(features[places], return_counts=True)
    cosine = shared / np.sqrt(count[other] * float(count[number]))
    return other[other != number], cosine[other != number]
