"""Activations on disk: segments of rows sorted by key, and the stream that training reads.

manifest.json                what it is; see docs/formats.md
statistics.safetensors       mean [width], second_moment [width]
segments/00000.safetensors   vectors [row, width], token, document, position [row], offsets
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sonde.activations import shuffle
from sonde.devices import DTYPES
from sonde.errors import ArtifactDamagedError
from sonde.manifests import Manifest, read_manifest

FORMAT = "activations"


@dataclass(frozen=True)
class Activations:
    """A finished store. Made by `harvest` or `load_activations`."""

    folder: Path
    manifest: Manifest

    @property
    def n_rows(self) -> int:
        return self.manifest.facts["rows"]

    @property
    def width(self) -> int:
        return self.manifest.facts["width"]

    @property
    def seed(self) -> int:
        return self.manifest.settings["seed"]

    @cached_property
    def mean(self) -> Tensor:
        """Mean vector [width], float64."""
        return self._statistics["mean"]

    @cached_property
    def variance(self) -> float:
        """Total variance: mean squared distance from the mean."""
        return float(self.manifest.facts["mean_squared_norm"] - self.mean.square().sum())

    @cached_property
    def _statistics(self) -> dict[str, Tensor]:
        return load_file(self.folder / "statistics.safetensors")

    @cached_property
    def n_piles(self) -> int:
        row_bytes = self.width * DTYPES[self.manifest.settings["store"]].itemsize
        return shuffle.pile_count(self.n_rows, row_bytes)

    @cached_property
    def _offsets(self) -> np.ndarray:
        """Where piles begin in each segment [segment, pile + 1]."""
        step = 2**shuffle.OFFSET_BITS // self.n_piles
        tables = []
        for segment in self.segments:
            with _open(segment) as file:
                tables.append(file.get_tensor("offsets").numpy()[::step])
        return np.stack(tables)

    @cached_property
    def segments(self) -> list[Path]:
        names = sorted(name for name in self.manifest.files if name.startswith("segments/"))
        return [self.folder / name for name in names]

    def pile(self, number: int, epoch: int = 0) -> dict[str, Tensor]:
        """One pile's rows in the order of an epoch: vectors [row, width], token, document, position [row]."""
        parts: dict[str, list[Tensor]] = {name: [] for name in ("vectors", "token", "document", "position")}
        for segment, offsets in zip(self.segments, self._offsets, strict=True):
            first, last = int(offsets[number]), int(offsets[number + 1])
            if first == last:
                continue
            with _open(segment) as file:
                for name, rows in parts.items():
                    rows.append(file.get_slice(name)[first:last])
        joined = {name: torch.cat(rows) if rows else torch.empty(0) for name, rows in parts.items()}
        document, position = joined["document"].numpy(), joined["position"].numpy()
        keys = shuffle.row_keys(self.seed, epoch, document, position)
        order = torch.from_numpy(shuffle.shuffled(keys, document, position))
        return {name: rows[order] if len(rows) else rows for name, rows in joined.items()}

    def stream(self, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """Yield batches [batch_size, width] of vectors for ever, from row number `start` of the shuffled order.

        Row number `n_rows * e + r` is row r of epoch e, so the position in the data is one integer.
        """
        epoch, skip = divmod(start, self.n_rows)
        sizes = np.diff(self._offsets, axis=1).sum(axis=0)
        rest: list[Tensor] = []
        while True:
            for number in shuffle.pile_order(self.seed, epoch, self.n_piles):
                if skip >= sizes[number]:
                    skip -= int(sizes[number])
                    continue
                rows = self.pile(int(number), epoch)["vectors"][skip:]
                skip = 0
                joined = torch.cat([*rest, rows]) if rest else rows
                n_whole = len(joined) // batch_size * batch_size
                yield from joined[:n_whole].split(batch_size)
                rest = [joined[n_whole:].clone()]
            epoch += 1


def load_activations(folder: str | Path) -> Activations:
    """Open a store; raises ArtifactError where it is missing, foreign, unfinished or truncated."""
    path = Path(folder)
    return Activations(path, read_manifest(path, FORMAT))


def _open(segment: Path):
    try:
        return safe_open(segment, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ArtifactDamagedError(f"{segment} cannot be read ({error}); make the artifact again") from error
