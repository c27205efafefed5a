"""Vector files: a direction at a site, such as a difference of means or a probe, kept to be edited along.

A vector file is a .safetensors file with one tensor [width] named `vector`, and the metadata `site` and, where it is
known, `norm`, the mean norm of the site's activations.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sonde.calls import public
from sonde.errors import EditError
from sonde.manifests import lies_in, write_bytes
from sonde.remote import local_path


@dataclass(frozen=True, eq=False)
class Vector:
    """A direction at a site."""

    vector: Float[Tensor, " width"]
    site: str
    norm: float | None = None
    """mean norm of the site's activations"""


@public()
def save_vector(path: str | Path, vector: Float[Tensor, " width"], *, site: str, norm: float | None = None) -> Path:
    """Write a direction to a vector file; returns its path.

    Args:
        path: a name that ends in .safetensors.
        vector: in the site's own units: `vector:FILE+=1` adds it as it is.
        site: where it was found, and where edits along it act.
        norm: mean norm of the site's activations, such as `model.read(text, site).norm(dim=-1).mean()`; needed by
            edits in units of it.

    Raises:
        EditError: not one row of finite numbers other than zero, or a norm that is not above zero.
        StorageError: the file cannot be written.
    """
    _check(str(path), vector, norm)
    metadata = {"site": site} | ({} if norm is None else {"norm": repr(float(norm))})
    found = local_path(path)
    write_bytes(found, save({"vector": vector.detach().cpu().contiguous()}, metadata))
    return found


@public()
def load_vector(path: str | Path) -> Vector:
    """Read the vector file at a path; raises EditError where there is none, or it is not one."""
    path = local_path(path)
    if not path.is_file():
        raise EditError(f"there is no vector file {path}; write one with save_vector")
    try:
        with safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            vector = file.get_tensor("vector") if "vector" in names else None
        norm = float(metadata["norm"]) if "norm" in metadata else None
    except (SafetensorError, OSError, ValueError) as error:
        raise EditError(f"{path} cannot be read as a vector file ({error})") from error
    if vector is None or "site" not in metadata:
        lacks = "no tensor named vector" if vector is None else "no site in its metadata"
        raise EditError(f"{path} is not a vector file: it has {lacks}; write it with save_vector")
    _check(str(path), vector, norm)
    return Vector(vector, metadata["site"], norm)


def find_vector(name: str, folder: Path | None, confined: bool) -> Path:
    """Where the vector file of an edit lies.

    Args:
        name: as the edit has it.
        folder: the index's, in which it may lie.
        confined: look in the folder alone, as a server does.

    Raises EditError where a confined name leads out of the folder.
    """
    here = Path(name) if confined else local_path(name)
    beside = here if folder is None else folder / here
    if confined and not (folder is not None and lies_in(beside, folder)):
        raise EditError(
            f"the vector file {name[:200]!r} lies outside the index; copy it into its folder, and give its name there"
        )
    return beside if confined or not here.is_file() else here


def _check(name: str, vector: Tensor, norm: float | None) -> None:
    if vector.ndim != 1 or not vector.is_floating_point() or not len(vector):
        raise EditError(f"{name}: a vector has one axis of decimal numbers, not {list(vector.shape)} of {vector.dtype}")
    if not torch.isfinite(vector).all() or not vector.any():
        raise EditError(f"{name}: the vector is {'zero' if torch.isfinite(vector).all() else 'not finite'}")
    if norm is not None and not (math.isfinite(norm) and norm > 0):
        raise EditError(f"{name}: the norm is {norm}, but must be above zero")
