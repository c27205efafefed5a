"""Stores of several models side by side, for crosscoders that compare models.

The order of a store depends only on its seed and on the documents and positions of its rows. So stores that were
harvested from the same text, with equal settings except model and site, have their rows in the same order, and can be
read in parallel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.activations.store import Activations, Block, Rows, SideBySide
from sonde.errors import ActivationError, nearest
from sonde.facts import ModelRef, TextFacts


@dataclass(frozen=True)
class Lockstep(SideBySide):
    """Several stores of the same rows, read side by side.

    The sites are named by the position of their store: "1:layers.3.residual", "2:layers.3.residual".

    Raises ActivationError where the stores are not of the same rows.
    """

    stores: tuple[Activations, ...]
    chosen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        first = self.stores[0]
        for store in self.stores[1:]:
            if (store.n_rows, store.seed) != (first.n_rows, first.seed):
                raise ActivationError(
                    f"{store.folder} has {store.n_rows:,} rows with seed {store.seed}, "
                    f"but {first.folder} has {first.n_rows:,} with seed {first.seed}; "
                    "harvest both from the same text with the same settings, and with --massive 0 where one model has "
                    "massive activations that the other has not"
                )

    @property
    def sites(self) -> list[str]:
        return [f"{number}:{site}" for number, store in enumerate(self.stores, 1) for site in store.sites]

    def at(self, *sites: str) -> "Lockstep":
        """The same rows, with the vectors of these sites side by side.

        Raises ActivationError for a site that no store has.
        """
        for site in sites:
            if site not in self.sites:
                raise ActivationError(
                    f"there is no site {site!r} in these stores{nearest(site, self.sites)}; "
                    f"they hold {', '.join(self.sites)}"
                )
        return replace(self, chosen=sites or self.chosen)

    @property
    def _chosen(self) -> list[tuple[int, str]]:
        """(index of the store, name of the site there) of each chosen site; all sites by default."""
        parts = (site.split(":", 1) for site in self.chosen or self.sites)
        return [(int(number) - 1, site) for number, site in parts]

    @property
    def blocks(self) -> list[Block]:
        """The chosen sites, in the order of their vectors in a row."""
        blocks = (self.stores[number].at(site).blocks[0] for number, site in self._chosen)
        return [replace(block, site=name) for name, block in zip(self.chosen or self.sites, blocks, strict=True)]

    @property
    def norm_limits(self) -> dict[str, float]:
        """Of the chosen sites, the norm above which rows were left out, where there is a limit."""
        own = (self.stores[number].at(site).norm_limits.values() for number, site in self._chosen)
        return {name: limit for name, limits in zip(self.chosen or self.sites, own, strict=True) for limit in limits}

    def massive_lines(self) -> list[str]:
        """What a person reads about massive rows at the chosen sites."""
        own = (self.stores[number].at(site).massive_lines() for number, site in self._chosen)
        return [f"{number + 1}:{line}" for (number, _), lines in zip(self._chosen, own, strict=True) for line in lines]

    @property
    def n_rows(self) -> int:
        return self.stores[0].n_rows

    @cached_property
    def mean(self) -> Float[Tensor, " width"]:
        """Mean vector, in float64."""
        return torch.cat([self.stores[number].at(site).mean for number, site in self._chosen])

    @property
    def text_facts(self) -> TextFacts | None:
        return self.stores[0].text_facts

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The model of each store."""
        return tuple(store.facts.model for store in self.stores)

    def stream(self, batch_size: int, start: int = 0, **options: Any) -> Iterator[Float[Tensor, "row width"]]:
        """Yield batches [batch_size, width] of the chosen sites' vectors; see `Activations.batches`."""
        read = sorted({number for number, _ in self._chosen})
        streams = (self.stores[number].batches(batch_size, start, **options) for number in read)
        for batches in zip(*streams, strict=True):
            rows = dict(zip(read, batches, strict=True))
            self._check_equal(rows)
            yield torch.cat([rows[number].vectors(site) for number, site in self._chosen], dim=1)

    def batches(self, batch_size: int, start: int = 0) -> Iterator[Rows]:
        """Batches of the first store's rows, whose documents and positions are those of all stores."""
        return self.stores[0].batches(batch_size, start)

    def _check_equal(self, rows: dict[int, Rows]) -> None:
        (first, expected), *others = rows.items()
        for other, actual in others:
            for name in ("document", "position", "token"):
                if not torch.equal(getattr(actual, name), getattr(expected, name)):
                    raise ActivationError(
                        f"rows of {self.stores[other].folder} and {self.stores[first].folder} differ in their {name}s; "
                        "harvest both from the same text with the same settings"
                    )
