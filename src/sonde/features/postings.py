"""Postings: every token on which each feature fires, and how much, in five bytes an activation.

The tokens of a text are numbered, document after document. A posting holds the activation as a share of the feature's
maximum (float16, so right to one part in 2,000) and the number of the token: its 16 low bits, and as many bytes above
them as the text needs. A feature's postings stand together, strongest first.
"""

from typing import NamedTuple

import numpy as np

_SMALLEST = np.float16(6e-8)
"""the smallest float16 above zero, so that no activation becomes zero"""


class Fires(NamedTuple):
    """Activations: of one feature strongest first, or of a task in any order."""

    token: np.ndarray
    """[activation] number of the token in the whole text"""
    feature: np.ndarray
    value: np.ndarray


def record_type(n_tokens: int) -> np.dtype:
    """The layout of a posting in a text of so many tokens."""
    fields = [("value", "<f2"), ("low", "<u2")]
    if n_tokens > 1 << 16:
        fields.append(("high", "u1" if n_tokens <= 1 << 24 else "<u2" if n_tokens <= 1 << 32 else "<u4"))
    return np.dtype(fields)


def pack(fires: Fires, maximum: np.ndarray, n_tokens: int) -> np.ndarray:
    """Postings [activation] of activations, given the maximum of each feature [feature]."""
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
