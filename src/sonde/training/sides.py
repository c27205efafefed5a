"""What a dictionary in training reads and what it writes, cut from the rows of a store and scaled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import Scaling
from sonde.training.plan import Plan, Source


@dataclass(frozen=True)
class Sides:
    """The two sides of a dictionary. Each site is scaled by a number of its own, so that all count alike."""

    reads: dict[str, int]
    """site -> width"""
    writes: dict[str, int]
    inputs: Scaling
    outputs: Scaling
    columns: dict[str, slice]
    """where each site stands in a row"""
    variance: float
    """total variance of what is written, scaled"""

    @classmethod
    def of(cls, store: Source, plan: Plan, device: torch.device | str = "cpu") -> "Sides":
        """The sides that a plan has chosen in the rows of a store."""
        columns, end = {}, 0
        for block in store.blocks:
            columns[block.site] = slice(end, end := end + block.width)
        widths = {block.site: block.width for block in store.blocks}
        variance = {
            block.site: block.mean_squared_norm - store.mean[columns[block.site]].square().sum().item()
            for block in store.blocks
        }
        origin = store.mean.float() if plan.centred else torch.zeros(store.width)

        def scaling(sites: Sequence[str]) -> Scaling:
            scale = [torch.full((widths[site],), plan.scale[site]) for site in sites]
            mean = [origin[columns[site]] for site in sites]
            return Scaling(torch.cat(mean).to(device), torch.cat(scale).to(device))

        return cls(
            {site: widths[site] for site in plan.reads},
            {site: widths[site] for site in plan.writes},
            scaling(plan.reads),
            scaling(plan.writes),
            columns,
            sum(variance[site] * plan.scale[site] ** 2 for site in plan.writes),
        )

    @property
    def alike(self) -> bool:
        """Whether what is written is what is read."""
        return self.reads == self.writes

    def raw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(x [row, d_in], y [row, d_out]) of rows of the store; one tensor where they are alike."""
        x = self._side(rows, self.reads)
        return x, x if self.alike else self._side(rows, self.writes)

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The same, scaled, in float32."""
        x, y = self.raw(rows)
        scaled = self.inputs(x)
        return scaled, scaled if self.alike else self.outputs(y)

    def sample(self, store: Source, n_rows: int) -> Iterator[Float[Tensor, "row d_in"]]:
        """Yield scaled inputs of about so many rows that stand for all of the store's, in batches."""
        for rows in store.sample(n_rows):
            yield self(rows.to(self.inputs.mean.device))[0]

    def _side(self, rows: Tensor, sites: Mapping[str, int]) -> Tensor:
        if list(sites) == list(self.columns):
            return rows
        parts = [rows[:, self.columns[site]] for site in sites]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
