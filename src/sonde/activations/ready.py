"""Ready vectors: a store made of activations from elsewhere.

They are a matrix (a tensor, a .npy or .safetensors file), or a folder written by SAELens' CacheActivationsRunner.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sonde.activations.massive import norm_limit
from sonde.activations.rows import Layout
from sonde.activations.settings import StoreFormat
from sonde.activations.store import FORMAT, Activations
from sonde.activations.writing import finish, read_totals, write_rows
from sonde.artifacts import new_artifact
from sonde.calls import public
from sonde.errors import ActivationError
from sonde.manifests import storage_errors
from sonde.models.load import model_ref
from sonde.models.massive import is_massive
from sonde.progress import Reporter, default_reporter
from sonde.remote import Place, local_path, place
from sonde.settings import check

ROWS_AT_ONCE = 1 << 16


class _Source(Protocol):
    """Rows that can be read by number."""

    name: str
    shape: tuple[int, ...]

    def read(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vectors [row, width] in float32, and document, position and token [row] of rows `first` up to `last`."""
        ...


@public()
def from_vectors(
    vectors: Tensor | np.ndarray | str | Path,
    *,
    site: str,
    out: str | Place,
    model: str = "",
    store: StoreFormat = "bfloat16",
    massive: float = 0.0,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Activations:
    """A store made of ready vectors. Files are read piece by piece.

    Args:
        vectors: a tensor or an array [row, width], a .npy file, a .safetensors file with one matrix in it, or a folder
            of SAELens' cached activations (which needs the extra `hf`). Each row of a matrix is a document of its own;
            each sequence of a folder is a document, and keeps its tokens.
        site: the site in the model that the vectors come from, as `sonde sites` names it.
        model: folder or hub name of the model that they come from; needed to measure and to index.
        out: folder to write, or a URL on an object store (s3://, gs://, az://).
        store: number format of the vectors on disk; int8 has a scale for each row.
        massive: leave out rows whose norm is above this many times the median of the first 65,536 (massive
            activations; `harvest` takes 10); 0 keeps them.
        seed: decides the shuffle.
        reporter: shows progress.

    Raises:
        ActivationError: not a matrix, an empty one, or values that are not real, not finite, or too large for `store`.
        SettingsError: `massive` is neither 0 nor above 1.
    """
    check(massive == 0 or massive > 1, "massive", massive, "0, or above 1")
    folder, reporter = place(out), reporter or default_reporter()
    source = _open(vectors)
    if len(source.shape) != 2 or 0 in source.shape:
        raise ActivationError(
            f"{source.name} has shape {list(source.shape)}, but a matrix [row, width] with rows is wanted"
        )
    n_rows, width = source.shape
    source.read(0, 1)  # raises, before a folder is made, where these are no numbers
    layout = Layout.of_sites({site: width}, store)
    settings: dict[str, Any] = {"site": [site], "store": store, "seed": seed, "text": source.name, "out": str(folder)}
    settings |= {"massive": massive} if massive else {}  # stores without it keep the id that they have always had
    ref = model_ref(model)
    with new_artifact(folder, format=FORMAT, settings=settings | {"model": ref.name}, parents={}, model=ref) as draft:
        if draft.finished:
            finished = Activations(folder, draft.finished)
            reporter.say(f"{folder} is finished: {finished.n_rows:,} rows")
            return finished
        with storage_errors(folder):
            (folder / "segments").mkdir(exist_ok=True)
        limits = _limits(source, site, massive)
        totals = []
        with reporter.start("import", n_rows, "rows") as progress:
            for number, first in enumerate(range(0, n_rows, ROWS_AT_ONCE)):
                last = min(first + ROWS_AT_ONCE, n_rows)
                task = read_totals(folder, number)
                if task is None:
                    task = _write(source, first, last, folder, number, layout, limits, seed)
                totals.append(task)
                progress.advance(last - first)
        facts = finish(draft, totals, layout, store, ref, limits=limits)
    assert draft.finished is not None
    made = Activations(folder, draft.finished)
    for line in made.massive_lines() if facts.massive is None else [facts.massive.line()]:
        reporter.say(line)
    return made


def _limits(source: _Source, site: str, massive: float) -> dict[str, float]:
    """The norm above which a row is left out, by the first rows; {} where all are kept."""
    if not massive:
        return {}
    x, *_ = source.read(0, min(ROWS_AT_ONCE, source.shape[0]))
    limit = norm_limit(x.norm(dim=1), massive)
    return {} if limit is None else {site: limit}


def _write(
    source: _Source,
    first: int,
    last: int,
    folder: Place,
    number: int,
    layout: Layout,
    limits: dict[str, float],
    seed: int,
) -> dict[str, Any]:
    x, document, position, token = source.read(first, last)
    if not torch.isfinite(x).all():
        raise ActivationError(
            f"{source.name} holds values that are not finite, or too large for float32, "
            f"between rows {first:,} and {last:,}"
        )
    [site] = layout.widths
    n_documents = int((position == 0).sum())
    counts: dict[str, Any] = {"tokens": last - first, "documents": n_documents, "held_out_documents": 0}
    left_out = is_massive({site: x}, limits)
    if left_out.any():
        places = zip(*(each[left_out].tolist() for each in (position, token, x.norm(dim=1))), strict=True)
        counts["massive"] = [
            {"first": place == 0, "token": own, "norm": {site: round(norm, 3)}} for place, own, norm in places
        ]
    x, document, position, token = (each[~left_out] for each in (x, document, position, token))
    rows = layout.empty(len(x))
    for name, values in (("document", document), ("position", position), ("token", token)):
        layout.column(rows, name).copy_(values)
    layout.put_vectors(rows, site, x)
    return write_rows(folder, number, rows, layout, seed, (position == 0).numpy(), counts)


def _open(vectors: Any) -> _Source:
    if isinstance(vectors, (Tensor, np.ndarray)):
        return _Matrix("the matrix", vectors)
    path = local_path(vectors)
    if path.is_dir():
        return _Sequences(path)
    try:
        if path.suffix == ".npy":
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                raise ValueError("it is an archive of several")
            return _Matrix(str(path), loaded)
        file = safe_open(path, framework="pt")
        names = [name for name in file.keys() if len(file.get_slice(name).get_shape()) == 2]
        if len(names) == 1:
            rows = file.get_slice(names[0])
            return _Matrix(f"{path} ({names[0]})", rows, tuple(rows.get_shape()))
    except (OSError, ValueError, SafetensorError) as error:
        raise ActivationError(f"{path} cannot be read as a .npy or .safetensors matrix ({error})") from error
    raise ActivationError(f"{path} holds {len(names)} matrices; give a file with one, or the tensor itself")


def _numbers(x: Any, name: str) -> Tensor:
    """Real numbers of whatever format and byte order in float32; raises ActivationError for others."""
    kind = x.dtype.kind if isinstance(x, np.ndarray) else "c" if x.is_complex() else "f"
    if kind not in "fiub":
        raise ActivationError(f"{name} holds {x.dtype}, but real numbers are wanted; convert it to float32")
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            return torch.from_numpy(x.astype(np.float32)) if isinstance(x, np.ndarray) else x.detach().cpu().float()
    except RuntimeError as error:
        raise ActivationError(f"{name} holds {x.dtype}, which torch cannot read; convert it to float32") from error


class _Matrix:
    """The rows of a matrix; each is a document."""

    def __init__(self, name: str, rows: Any, shape: tuple[int, ...] | None = None) -> None:
        self.name, self._rows = name, rows
        self.shape = shape or tuple(rows.shape)

    def read(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        zeros = torch.zeros(last - first, dtype=torch.int64)
        return _numbers(self._rows[first:last], self.name), torch.arange(first, last), zeros, zeros


class _Sequences:
    """SAELens' cached activations: a Hugging Face dataset with a sequence of vectors per row, and its token_ids."""

    name: str
    shape: tuple[int, ...]

    def __init__(self, folder: Path) -> None:
        try:
            import datasets
        except ImportError as error:
            raise ActivationError(
                f"{folder} is a folder, and reading SAELens' cached activations needs datasets: pip install 'sonde[hf]'"
            ) from error
        try:
            dataset = datasets.load_from_disk(str(folder))
            assert isinstance(dataset, datasets.Dataset)
            features = dataset.features.items()
            columns = {name: feature.shape for name, feature in features if isinstance(feature, datasets.Array2D)}
        except (OSError, ValueError, AssertionError) as error:
            raise ActivationError(f"{folder} holds no activations that SAELens cached ({error})") from error
        if len(columns) != 1:
            raise ActivationError(f"{folder} holds {len(columns)} columns of activations, but one is wanted")
        [(self._column, (self._length, width))] = columns.items()
        self._sequences = dataset.with_format("numpy")
        self.name, self.shape = f"{folder} ({self._column})", (len(dataset) * self._length, width)

    def read(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        begin, end = first // self._length, -(-last // self._length)
        sequences = self._sequences[begin:end]
        row = torch.arange(first, last)
        rows = slice(first - begin * self._length, last - begin * self._length)
        x = _numbers(np.stack(sequences[self._column]).reshape(-1, self.shape[1])[rows], self.name)
        token = torch.zeros(last - first, dtype=torch.int64)
        if "token_ids" in sequences:
            token = torch.from_numpy(np.stack(sequences["token_ids"]).reshape(-1)[rows].astype(np.int64))
        return x, row // self._length, row % self._length, token
