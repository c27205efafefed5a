"""Arrays of a safetensors file, memory-mapped. Needs no torch."""

import json
from pathlib import Path

import numpy as np

from sonde.errors import ArtifactDamagedError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U8": "|u1"}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped: what is not looked at is not read.

    Format: https://github.com/huggingface/safetensors, 8 bytes of length, a JSON header, and the arrays.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # the subclass would cost time at every slice
        end = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:end].tobytes())
        header.pop("__metadata__", None)
        return {name: _array(data[end:], **entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read ({error}); make it again") from error


def _array(data: np.ndarray, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> np.ndarray:
    return data[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)
