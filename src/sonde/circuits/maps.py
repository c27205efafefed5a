"""Maps of layers by positions or heads: drawn in terminals and notebooks, as SVG, and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sonde.circuits.agreement import Interval, interval_of, pearson, top
from sonde.display import Block, Drawn, Grid, Line, Segment, escape, shorten

_CELL, _LEFT, _TOP = 44, 90, 66
_RISES, _FALLS = "255,145,0", "40,120,220"
_MOST_COLUMNS = 32
"""of a map in a terminal"""


@dataclass(frozen=True)
class HeatMap:
    """A table of numbers, each on a colour that says how large it is and which sign it has."""

    values: np.ndarray
    """[row, column]"""
    rows: Sequence[str]
    columns: Sequence[str]
    corner: str = ""

    @cached_property
    def most(self) -> float:
        """The largest number, by size; the darkest colour."""
        sizes = np.abs(self.values[np.isfinite(self.values)])
        return max(float(sizes.max(initial=0.0)), 1e-12)

    def html(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg()}</div>'

    def svg(self) -> str:
        """The map as an SVG file, in colours that can be read on light and dark pages."""
        width, height = _LEFT + _CELL * len(self.columns), _TOP + 20 * len(self.rows)
        parts = [f'<text x="4" y="{_TOP - 8}">{escape(self.corner)}</text>']
        for column, name in enumerate(self.columns):
            x, y = _LEFT + _CELL * column + _CELL // 2, _TOP - 8
            parts.append(f'<text x="{x}" y="{y}" transform="rotate(-45 {x} {y})">{escape(shorten(name, 12))}</text>')
        for row, name in enumerate(self.rows):
            y = _TOP + 20 * row
            parts.append(f'<text x="4" y="{y + 14}">{escape(shorten(name, 14))}</text>')
            for column, value in enumerate(self.values[row].tolist()):
                x = _LEFT + _CELL * column
                box = f'x="{x}" y="{y}" width="{_CELL - 1}" height="19"'
                title = f"{name}, {self.columns[column]}: {value:.4f}"
                parts.append(f'<rect {box} fill="{self._colour(value)}"><title>{escape(title)}</title></rect>')
                parts.append(f'<text x="{x + _CELL // 2}" y="{y + 14}" text-anchor="middle">{value:.2f}</text>')
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        style = "font:11px system-ui,sans-serif;fill:currentColor"
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">{"".join(parts)}</svg>'

    def _colour(self, value: float) -> str:
        share = 0.0 if np.isnan(value) else min(1.0, abs(value) / self.most)
        return f"rgba({_RISES if value > 0 else _FALLS},{0.75 * share:.2f})"

    def segments(self) -> Iterator[Segment]:
        shown = range(min(len(self.columns), _MOST_COLUMNS))
        names = [shorten(self.columns[column], 7).rjust(7) for column in shown]
        yield Segment(f"{shorten(self.corner, 12):<12} {' '.join(names)}")
        if len(self.columns) > _MOST_COLUMNS:
            yield Segment(f"  (and {len(self.columns) - _MOST_COLUMNS} more)")
        for row, name in enumerate(self.rows):
            yield Segment(f"\n{shorten(name, 12):<12} ")
            for column in shown:
                value = float(self.values[row, column])
                yield Segment(f"{value:7.2f}", max(0.0, value / self.most), value < -0.5 * self.most)
                yield Segment(" ")


@dataclass(frozen=True, eq=False)
class Map:
    """The figures of patches at one kind of site."""

    site: str
    """layers.N. left out, where it is a site of layers"""
    layers: tuple[int, ...]
    """none of a site that is not a layer's"""
    columns: tuple[str, ...]
    values: np.ndarray | None
    """[pair, layer, column] exact; None where only estimates were asked for"""
    estimates: np.ndarray | None
    """[pair, layer, column] by attribution"""

    @property
    def rows(self) -> list[str]:
        return [f"layer {layer}" for layer in self.layers] or [self.site]

    @property
    def shown(self) -> np.ndarray:
        """[layer, column] means over pairs: exact, or else estimated."""
        known = self.values if self.values is not None else self.estimates
        assert known is not None
        return known.mean(axis=0)

    def interval(self, layer: int, column: int) -> Interval:
        """The mean over pairs of one cell, by its place, and its 95 % interval."""
        known = self.values if self.values is not None else self.estimates
        assert known is not None
        return interval_of(known[:, layer, column].tolist())

    def error(self) -> dict[str, float] | None:
        """How the estimates differ from the exact figures, over all cells of all pairs."""
        if self.values is None or self.estimates is None:
            return None
        exact, estimate = self.values.mean(axis=0).ravel(), self.estimates.mean(axis=0).ravel()
        n = min(10, len(exact))
        off = self.values.ravel() - self.estimates.ravel()
        return {
            "pearson": pearson(self.values.ravel(), self.estimates.ravel()),
            "pearson of means": pearson(exact, estimate),
            "mean absolute error": float(np.abs(off).mean()),
            "largest error": float(np.abs(off).max()),
            "strongest in common": len(np.intersect1d(top(exact, n), top(estimate, n))) / n,
        }

    def heat(self) -> HeatMap:
        return HeatMap(self.shown, self.rows, self.columns, self.site)

    def to_json(self) -> dict[str, Any]:
        columns = range(len(self.columns))
        intervals = [[vars(self.interval(row, column)) for column in columns] for row in range(len(self.rows))]
        found = {"site": self.site, "layers": list(self.layers), "columns": list(self.columns), "cells": intervals}
        arrays = {"exact": self.values, "estimates": self.estimates}
        found |= {name: None if array is None else array.tolist() for name, array in arrays.items()}
        return found | {"error": self.error()}


@dataclass(frozen=True, eq=False)
class Patching(Drawn):
    """What patches at each place do to the answers of pairs of prompts."""

    maps: tuple[Map, ...]
    said: str
    """what was put where"""
    means: str
    """what the figures are"""
    pairs: int
    clean: tuple[float, ...]
    """[pair] logit difference of the clean run; none without a wrong answer"""
    corrupt: tuple[float, ...]
    base: float
    """the figure of a run without a patch, as a mean over pairs"""

    @property
    def right(self) -> int:
        """Pairs in which the clean run prefers the answer."""
        return sum(value > 0 for value in self.clean)

    def __repr__(self) -> str:
        return f"Patching({self.pairs} pairs, {', '.join(found.site for found in self.maps)}: {self.said})"

    def draw(self, n: int = 10) -> list[Block]:
        """A map for each kind of site, and the n places at which most was changed."""
        blocks: list[Block] = [Line(self.said, strong=True), Line(self.means)]
        if self.clean:
            known = f"the logit difference is {interval_of(self.clean)} in the clean runs"
            known += f" and {interval_of(self.corrupt)} in the corrupt ones" if self.corrupt else ""
            blocks.append(Line(known))
            if self.right < self.pairs:
                blocks.append(
                    Line(f"the clean run prefers the right answer in {self.right} of {self.pairs} pairs only")
                )
        for found in self.maps:
            blocks += [found.heat(), self._strongest(found, n), *_errors(found)]
        return blocks

    def _strongest(self, found: Map, n: int) -> Grid:
        shown = found.shown
        rows = []
        for place in np.argsort(-np.abs(shown - self.base).ravel(), kind="stable")[:n].tolist():
            row, column = divmod(place, shown.shape[1])
            interval = found.interval(row, column)
            cells = [found.rows[row], found.columns[column], f"{interval.mean:.3f}"]
            cells.append(f"{interval.low:.3f} to {interval.high:.3f}" if self.pairs > 1 else "")
            estimated = found.values is not None and found.estimates is not None
            rows.append([*cells, f"{found.estimates.mean(axis=0)[row, column]:.3f}" if estimated else ""])  # type: ignore[union-attr]
        return Grid(rows, (found.site, "", "figure", "95 % interval", "estimate"), right=(2, 3, 4))

    def to_json(self) -> dict[str, Any]:
        facts = {"pairs": self.pairs, "said": self.said, "figure": self.means, "without a patch": self.base}
        facts |= {"clean": list(self.clean), "corrupt": list(self.corrupt), "right": self.right}
        return facts | {"maps": [found.to_json() for found in self.maps]}

    def svg(self) -> str:
        """All maps, one under the other, as one SVG file."""
        drawn, y, width = [], 0, 0
        for found in self.maps:
            heat = found.heat()
            drawn.append(f'<g transform="translate(0 {y})">{heat.svg()}</g>')
            y += _TOP + 20 * len(heat.rows) + 12
            width = max(width, _LEFT + _CELL * len(heat.columns))
        size = f'width="{width}" height="{y}" viewBox="0 0 {width} {y}"'
        style = "background:white;color:black"
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">{"".join(drawn)}</svg>\n'


def _errors(found: Map) -> list[Block]:
    error = found.error()
    if error is None:
        return []
    return [
        Line(
            f"estimates against exact patches: Pearson's correlation {error['pearson']:.3f}, mean absolute error "
            f"{error['mean absolute error']:.3f}, largest {error['largest error']:.3f}; "
            f"{error['strongest in common']:.0%} of the ten strongest in common"
        )
    ]
