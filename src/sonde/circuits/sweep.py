"""The work of patching: runs of pairs of prompts, patches of one layer as rows of a batch, and their estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.circuits.maps import Map
from sonde.circuits.metrics import Metric, MetricName
from sonde.circuits.passes import Run
from sonde.circuits.patched import Patched
from sonde.circuits.paths import Receiver, along, held_sites
from sonde.errors import SettingsError, TextError
from sonde.models.model import Model, Tokens
from sonde.progress import Progress

Mode = Literal["denoise", "noise"]
Put = Literal["other", "zero", "mean", "resample"]
By = Literal["position", "head", "layer"]
Method = Literal["exact", "attribution", "both"]


@dataclass(frozen=True)
class Kind:
    """Sites of one kind, in the layers that are patched, and what of each is patched at a time."""

    name: str
    sites: tuple[str, ...]
    layers: tuple[int, ...]
    by: By
    n_heads: int | None


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """A pair as tokens."""

    clean: Tokens
    corrupt: Tokens | None
    answer: int
    wrong: int | None
    pieces: tuple[str, ...]
    """the text of each token of the clean prompt"""

    @property
    def length(self) -> int:
        return self.clean.ids.shape[1]


def cells(kind: Kind, x: Float[Tensor, "1 ..."], positions: Sequence[int] | None) -> Bool[Tensor, "cell ..."]:
    """The mask of each cell of a map, in the form in which it broadcasts to a site's value x."""
    is_pattern = kind.name.endswith("pattern")
    length = x.shape[2] if is_pattern else x.shape[1]
    allowed = torch.zeros(length, dtype=torch.bool, device=x.device)
    allowed[slice(None) if positions is None else list(positions)] = True
    if kind.by == "position":
        mask = torch.eye(length, dtype=torch.bool, device=x.device)[allowed][:, :, None]
    elif kind.by == "head":
        mask = torch.eye(kind.n_heads or 1, dtype=torch.bool, device=x.device)[:, None, :] & allowed[None, :, None]
    else:
        mask = allowed[None, :, None]
    if is_pattern:  # [cell, head, query position, key position]
        return mask.transpose(1, 2)[..., None]
    return mask[..., None] if x.ndim == 4 else mask


@dataclass(frozen=True, eq=False)
class Sweep:
    """All patches of all pairs."""

    model: Model
    plan: Sequence[Kind]
    pairs: Sequence[AlignedPair]
    positions: list[int] | None
    mode: Mode
    put: Put
    metric: MetricName
    method: Method
    steps: int
    seed: int
    to: Sequence[Receiver] = ()
    """of paths, what the senders reach; none where values are put for all that reads them"""
    held: bool = False
    """whether paths through MLPs are left out"""

    @property
    def sites(self) -> list[str]:
        return list(dict.fromkeys(site for kind in self.plan for site in kind.sites))

    @property
    def kept(self) -> list[str]:
        """The sites whose values in the run that is patched are needed."""
        return [*self.sites, *(held_sites(self.model, self.held) if self.to else ())]

    def columns(self, kind: Kind) -> list[str]:
        if kind.by == "layer":
            return ["all"]
        if kind.by == "head":
            return [f"head {head}" for head in range(kind.n_heads or 0)]
        first = self.pairs[0]
        places = sorted(place % first.length for place in self.positions or range(first.length))
        same = [all(pair.pieces[place] == first.pieces[place] for pair in self.pairs) for place in places]
        return [
            f"{place} {first.pieces[place]}" if is_same else str(place)
            for place, is_same in zip(places, same, strict=True)
        ]

    @property
    def total(self) -> int:
        """Patches in all; of attribution alone, pairs."""
        of_pair = sum(len(kind.sites) * len(self.columns(kind)) for kind in self.plan)
        return len(self.pairs) * (1 if self.method == "attribution" else of_pair)

    def run(self, progress: Progress) -> tuple[list[Map], list[Metric]]:
        mean = self._means() if self.put == "mean" else {}
        exact: list[list[Any]] = [[] for _ in self.plan]
        estimates: list[list[Any]] = [[] for _ in self.plan]
        metrics = []
        for pair in self.pairs:
            base, values, metric = self._runs(pair, mean)
            metrics.append(metric)
            if self.method != "exact":
                gradients = self._gradients(base, values, metric, pair)
                for kind, found in zip(self.plan, estimates, strict=True):
                    found.append(self._estimates(kind, base, values, gradients, metric))
            if self.method == "attribution":
                progress.advance(1)
                continue
            for kind, found in zip(self.plan, exact, strict=True):
                found.append(self._exact(kind, base, values, metric, progress))
        return [self._map(*parts) for parts in zip(self.plan, exact, estimates, strict=True)], metrics

    def _map(self, kind: Kind, exact: list[Any], estimates: list[Any]) -> Map:
        arrays = (np.stack(found) if found else None for found in (exact, estimates))
        return Map(kind.name, kind.layers, tuple(self.columns(kind)), *arrays)

    def _runs(self, pair: AlignedPair, mean: Mapping[str, Tensor]) -> tuple[Run, dict[str, Tensor], Metric]:
        """The run that is patched, the values that are put into it, and the metric."""
        into_clean = self.put != "other" or self.mode == "noise"
        tokens, others = (pair.clean, pair.corrupt) if into_clean else (pair.corrupt, pair.clean)
        assert tokens is not None
        base = Run(self.model, tokens, self.kept, track=self.method != "exact")
        own = base.last().detach()
        other = None if others is None else Run(self.model, others, [*self.sites, "embedding"])
        last = None if other is None else other.last()
        clean, corrupt = (own, last) if into_clean else (last, own)
        assert clean is not None
        return (
            base,
            self._values(pair, base, other, mean),
            Metric(self.metric, pair.answer, pair.wrong, clean, corrupt, own),
        )

    def _values(
        self, pair: AlignedPair, base: Run, other: Run | None, mean: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "1 ..."]]:
        if self.put == "other":
            assert other is not None
            return dict(other.values)
        if self.put == "resample":
            return dict(self.model.read(self._another(pair).clean, self.sites))
        own = {site: base.values[site].detach() for site in self.sites}
        if self.put == "zero":
            return {site: torch.zeros_like(x) for site, x in own.items()}
        return {site: mean[site].expand_as(x) for site, x in own.items()}

    def _another(self, pair: AlignedPair) -> AlignedPair:
        """Another pair of as many tokens; raises TextError where there is none."""
        others = [other for other in self.pairs if other is not pair and other.length == pair.length]
        if not others:
            raise TextError(
                f"no other prompt has {pair.length} tokens, as {''.join(pair.pieces)[:40]!r} has, whose values could "
                "take their place; give more prompts of one length"
            )
        place = next(number for number, other in enumerate(self.pairs) if other is pair)
        return others[np.random.default_rng([self.seed, place]).integers(len(others))]

    def _means(self) -> dict[str, Tensor]:
        """The mean value of a token at each site, over all clean prompts."""
        if any(kind.name.endswith("pattern") for kind in self.plan):
            raise SettingsError("patterns of prompts of several lengths have no mean; put zero or resample")
        total: dict[str, Tensor] = {}
        for pair in self.pairs:
            for site, x in self.model.read(pair.clean, self.sites).items():
                total[site] = total.get(site, 0) + x.sum(dim=1, keepdim=True)
        n = sum(pair.length for pair in self.pairs)
        return {site: x / n for site, x in total.items()}

    @torch.no_grad()
    def _exact(
        self, kind: Kind, base: Run, values: Mapping[str, Tensor], metric: Metric, progress: Progress
    ) -> Float[np.ndarray, "layer column"]:
        rows = []
        for site in kind.sites:
            masks = cells(kind, values[site], self.positions)
            figures = []
            for some in masks.split(base.rows_at_once):
                if self.to:
                    logits = along(base, site, values[site], some, self.to, self.held)
                else:
                    logits = base.changed([Patched(site, values[site], some)], len(some))
                figures.append(metric(logits).cpu())
                progress.advance(len(some))
            rows.append(torch.cat(figures))
        return torch.stack(rows).double().numpy()

    # ------------------------------------------------------------ attribution

    def _gradients(
        self, base: Run, values: Mapping[str, Tensor], metric: Metric, pair: AlignedPair
    ) -> dict[str, Float[Tensor, "1 ..."]]:
        """The metric's gradient at each site, in the run that is patched or as a mean over runs on the way."""
        if self.steps == 1:
            metric(base.last()).sum().backward()
            return {site: _grad(base.values[site]) for site in self.sites}
        start = self.model.read(base.tokens, "embedding")
        total = {site: torch.zeros_like(base.values[site]) for site in self.sites}
        shares = (torch.arange(self.steps, device=start.device) + 0.5) / self.steps
        for some in shares.split(base.rows_at_once):
            path = start + some[:, None, None].to(start) * (values["embedding"] - start)
            whole = torch.ones(1, 1, 1, dtype=torch.bool, device=start.device)
            with self.model.edited(Patched("embedding", path, whole)), self.model.gradients(self.sites) as tracked:
                metric(base.changed([], len(some), layer=0)).sum().backward()
            for site, x in tracked.items():
                total[site] += _grad(x).sum(dim=0, keepdim=True) / self.steps
        return total

    def _estimates(
        self,
        kind: Kind,
        base: Run,
        values: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        metric: Metric,
    ) -> Float[np.ndarray, "layer column"]:
        unpatched = float(metric(base.last().detach())[0])
        rows = []
        for site in kind.sites:
            change = (values[site] - base.values[site].detach()) * gradients[site]
            masks = cells(kind, change, self.positions)
            rows.append(torch.stack([(change * mask).sum() for mask in masks]) + unpatched)
        return torch.stack(rows).double().cpu().numpy()


def _grad(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad
