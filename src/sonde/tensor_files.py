"""Safetensors files: the header, written and read, and the arrays after it, mapped into memory.

A file is eight bytes with the length of the header, the header (JSON: name -> dtype, shape, and where its bytes
begin and end, counted from the end of the header), and the arrays (https://github.com/huggingface/safetensors).
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonde.errors import ArtifactDamagedError
from sonde.remote import Place

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U64": "<u8",
    "U32": "<u4",
    "U8": "|u1",
    "I8": "|i1",
}
SCALE = ".scale"
"""ends the name of the scales of a matrix that is stored as int8: a row is its int8 row times its scale"""
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_LONGEST_HEADER = 1 << 20
"""bytes, far more than a header of ours has; a file that claims more is damaged"""
_ALIGNED = 64
"""arrays begin at a multiple of this in the file"""


class Entry(NamedTuple):
    """One array of a file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """offset of its first byte in the file"""
    end: int


@dataclass(frozen=True)
class Header:
    """What a file holds."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def header_bytes(arrays: dict[str, tuple[np.dtype, tuple[int, ...]]]) -> bytes:
    """The first bytes of a file of arrays of these types and shapes, padded so that the arrays are aligned."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in arrays.items():
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape)}
        header[name]["data_offsets"] = [end, end := end + dtype.itemsize * math.prod(shape)]
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def read_header(path: Place, read: Callable[[int, int], bytes] | None = None) -> Header:
    """Read a file's header.

    Args:
        path: the file, named in errors.
        read: gives bytes of it, from their offset and number; by default they are read from the disk.

    Raises ArtifactDamagedError where it is no header of a whole file.
    """
    try:
        read = read or _reader(path)
        length = int.from_bytes(read(0, 8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        values = json.loads(read(8, length))
        metadata = values.pop("__metadata__", {})
        return Header({name: _entry(8 + length, **value) for name, value in values.items()}, metadata)
    except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise _damaged(path, error) from error


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, mapped into memory: what is not looked at is not read.

    Raises ArtifactDamagedError where the file is not whole.
    """
    entries = read_header(path).entries
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # the subclass would cost time at every slice
        return {
            name: data[entry.begin : entry.end].view(_DTYPES[entry.dtype]).reshape(entry.shape)
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, OSError) as error:
        raise _damaged(path, error) from error


def map_matrix(path: Path, name: str) -> np.ndarray:
    """A matrix of floats of a file, mapped into memory; computed where it is stored as int8 with a scale a row.

    Raises ArtifactDamagedError where the file is not whole, or has no such matrix.
    """
    arrays = map_arrays(path)
    try:
        matrix = arrays[name]
        return matrix if matrix.dtype != np.int8 else matrix * arrays[name + SCALE].astype(np.float32)[:, None]
    except (KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def _reader(path: Place) -> Callable[[int, int], bytes]:
    assert isinstance(path, Path), "a file on an object store is read by its owner"

    def read(start: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    return read


def _damaged(path: Place, error: Exception) -> ArtifactDamagedError:
    return ArtifactDamagedError(f"{path} cannot be read as a safetensors file ({error}); make the artifact again")


def _entry(base: int, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> Entry:
    begin, end = data_offsets
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end):
        raise ValueError(f"data_offsets {data_offsets}")
    return Entry(dtype, tuple(shape), base + begin, base + end)
