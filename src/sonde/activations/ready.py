"""Ready vectors: a store made of a matrix that somebody else harvested."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sonde.activations.rows import Layout
from sonde.activations.settings import StoreFormat
from sonde.activations.store import FORMAT, Activations
from sonde.activations.writing import finish, read_totals, write_rows
from sonde.errors import ActivationError
from sonde.manifests import new_artifact, storage_errors
from sonde.progress import Reporter, Silent

ROWS_AT_ONCE = 1 << 16


def from_vectors(
    vectors: Tensor | np.ndarray | str | Path,
    *,
    site: str,
    out: str | Path,
    model: str = "",
    store: StoreFormat = "bfloat16",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Activations:
    """Make a store of a ready matrix [row, width], each row a document of its own.

    Args:
        vectors: a tensor, an array, a .npy file, or a .safetensors file with one matrix in it. Files are read
            piece by piece.
        site: where in the model the vectors are from, as `sonde sites` has it.
        model: folder or hub name of the model that they are from; needed to measure and to index.
        store, seed: as for `harvest`.

    Raises:
        ActivationError: no matrix, an empty one, or values that are not finite.
    """
    folder, reporter = Path(out), reporter or Silent()
    matrix, name = _open(vectors)
    if len(matrix.shape) != 2 or 0 in matrix.shape:
        raise ActivationError(f"{name} has shape {list(matrix.shape)}, but a matrix [row, width] with rows is wanted")
    n_rows, width = matrix.shape
    layout = Layout.of_sites({site: width}, store)
    settings = {"site": [site], "store": store, "seed": seed, "text": name, "model": model, "out": str(folder)}
    with new_artifact(folder, format=FORMAT, settings=settings, parents={}) as draft:
        if draft.finished:
            reporter.say(f"{folder} is finished: {draft.finished.facts['rows']:,} rows")
            return Activations(folder, draft.finished)
        with storage_errors(folder):
            (folder / "segments").mkdir(exist_ok=True)
        totals = []
        with reporter.start("import", n_rows, "rows") as progress:
            for number, first in enumerate(range(0, n_rows, ROWS_AT_ONCE)):
                last = min(first + ROWS_AT_ONCE, n_rows)
                task = read_totals(folder, number)
                if task is None:
                    rows = layout.empty(last - first)
                    x = (
                        torch.as_tensor(np.array(matrix[first:last]))
                        if isinstance(matrix, np.ndarray)
                        else matrix[first:last]
                    )
                    if not torch.isfinite(x).all():
                        raise ActivationError(
                            f"{name} holds values that are not finite between rows {first:,} and {last:,}"
                        )
                    layout.column(rows, "document").copy_(torch.arange(first, last))
                    layout.put_vectors(rows, site, x.float())
                    is_first = np.zeros(last - first, dtype=bool)
                    told = {"tokens": last - first, "documents": last - first, "held_out_documents": 0}
                    task = write_rows(folder, number, rows, layout, seed, is_first, told)
                totals.append(task)
                progress.advance(last - first)
        finish(draft, totals, layout, {"dtype": store, "model": {"name": model, "id": ""}})
    assert draft.finished is not None
    return Activations(folder, draft.finished)


def _open(vectors: Any) -> tuple[Any, str]:
    """Something with a shape that gives rows by slice, and its name."""
    if isinstance(vectors, (Tensor, np.ndarray)):
        return vectors, "the matrix"
    path = Path(vectors)
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), str(path)
        file = safe_open(path, framework="pt")
        names = [name for name in file.keys() if len(file.get_slice(name).get_shape()) == 2]
        if len(names) == 1:
            return _Slice(file.get_slice(names[0])), f"{path} ({names[0]})"
    except (OSError, ValueError, SafetensorError) as error:
        raise ActivationError(f"{path} cannot be read as a .npy or .safetensors matrix ({error})") from error
    raise ActivationError(f"{path} holds {len(names)} matrices; give a file with one, or the tensor itself")


class _Slice:
    """A tensor in a safetensors file, read by rows."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.shape = tuple(rows.get_shape())

    def __getitem__(self, rows: slice) -> Tensor:
        return self._rows[rows]
