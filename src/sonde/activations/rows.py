"""Rows: the layout of a record of a store, and the conversion between tensors and records.

A record is document, position and token, then each site's vector. An int8 vector q has a float32 scale before it, and
stands for q * scale. The layout is in the store's manifest, so that any program can read a record.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sonde.activations.shuffle import mix
from sonde.devices import DTYPES as FLOATS
from sonde.errors import ActivationError

DTYPES = FLOATS | {"int64": torch.int64, "int32": torch.int32, "int8": torch.int8}
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Field:
    """One field of a record."""

    name: str
    """document, position, token, "vectors SITE" or "scale SITE" """
    dtype: str
    width: int
    """how many numbers it has"""
    offset: int
    """bytes of the record before it"""


@dataclass(frozen=True)
class Layout:
    """The fields of a record, and its size."""

    fields: tuple[Field, ...]
    record_bytes: int

    @classmethod
    def of_sites(cls, widths: dict[str, int], store: str) -> "Layout":
        """The layout of rows with these sites (site -> width), whose vectors are in the number format `store`."""
        wanted = [("document", "int64", 1), ("position", "int32", 1), ("token", "int32", 1)]
        for site, width in widths.items():
            wanted += [(f"scale {site}", "float32", 1)] * (store == "int8") + [(f"vectors {site}", store, width)]
        fields, end = [], 0
        for name, dtype, width in wanted:
            fields.append(Field(name, dtype, width, end))
            end += DTYPES[dtype].itemsize * width
            end += -end % 4
        return cls(tuple(fields), end + -end % 8)

    @property
    def widths(self) -> dict[str, int]:
        """site -> width of the vectors that a record holds."""
        named = (field for field in self.fields if field.name.startswith("vectors "))
        return {field.name.removeprefix("vectors "): field.width for field in named}

    def empty(self, n_rows: int) -> np.ndarray:
        """Records [row, bytes] uint8, all zero."""
        return np.zeros((n_rows, self.record_bytes), dtype=np.uint8)

    def column(self, records: np.ndarray, name: str) -> Shaped[Tensor, "row ..."]:
        """One field of all records [row], or [row, width] of vectors; a view, so writing to it changes the records."""
        field = next(field for field in self.fields if field.name == name)
        dtype = DTYPES[field.dtype]
        if not len(records):  # torch does not view nothing as another dtype
            return torch.empty((0, field.width) if name.startswith("vectors ") else 0, dtype=dtype)
        last = field.offset + field.width * dtype.itemsize
        view = torch.from_numpy(records)[:, field.offset : last].view(dtype)
        return view if name.startswith("vectors ") else view[:, 0]

    def put_vectors(self, records: np.ndarray, site: str, x: Float[Tensor, "row width"]) -> None:
        """Write finite vectors into records, rounded to the store's number format.

        Raises ActivationError where a value is larger than the format can hold.
        """
        target = self.column(records, f"vectors {site}")
        if target.dtype == torch.int8:
            scale = (x.abs().amax(dim=1) / 127).clamp_min(1e-30)
            self.column(records, f"scale {site}").copy_(scale)
            x = (x / scale[:, None]).round_()
        target.copy_(x)
        require_held(target, x, site)

    def vectors(self, records: np.ndarray, site: str) -> Float[Tensor, "row width"]:
        """The vectors of a site, in the store's number format (int8: in float32)."""
        x = self.column(records, f"vectors {site}")
        if x.dtype == torch.int8:
            return x.float() * self.column(records, f"scale {site}")[:, None]
        return x


def require_held(held: Tensor, x: Tensor, site: str) -> None:
    """Raise ActivationError where finite values [row, width] are no longer finite in the format that holds them."""
    n_lost = int((~torch.isfinite(held)).sum()) if held.dtype.is_floating_point else 0
    if n_lost:
        name = str(held.dtype).removeprefix("torch.")
        largest, most = x.abs().max().item(), torch.finfo(held.dtype).max
        better = "bfloat16" if largest <= torch.finfo(torch.bfloat16).max else "float32"
        raise ActivationError(
            f"{n_lost:,} values at {site} are too large for {name}: the largest is {largest:,.6g}, the limit "
            f"{most:,.6g}; keep them in another number format, --store {better}"
        )


def checksum(records: np.ndarray, keys: np.ndarray) -> int:
    """A sum over rows, modulo 2**64, of a hash of each row and its key.

    It does not depend on the order of the rows or on how they are split; and it covers the keys, which fix the order.
    """
    weights = mix(np.arange(1, records.shape[1] // 8 + 1, dtype=np.uint64)) | np.uint64(1)
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for first in range(0, len(records), _ROWS_AT_ONCE):
            words = records[first : first + _ROWS_AT_ONCE].view(np.uint64)
            total += mix((words * weights).sum(axis=1, dtype=np.uint64) ^ keys[first : first + _ROWS_AT_ONCE]).sum()
    return int(total)
