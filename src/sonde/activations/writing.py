"""Writing a store: a segment and its sums for each task, and the facts of the manifest from all of them."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from sonde.activations import shuffle
from sonde.activations.dealing import write_segment
from sonde.activations.rows import Layout, checksum
from sonde.activations.settings import MASSIVE
from sonde.activations.store import ActivationsFacts, MassiveFacts, SiteFacts
from sonde.artifacts import Draft
from sonde.facts import ModelRef
from sonde.manifests import write_bytes, write_json
from sonde.remote import Place

NORM_EDGES = np.geomspace(1e-4, 1e8, 1201)
"""bins of the histogram of norms: 100 per decade, so quantiles are accurate to 2.4 %"""


MASSIVE_TOKENS = 8
"""tokens that a manifest names of the rows that were left out"""
_ROWS_AT_ONCE = 256


def write_rows(
    folder: Place,
    number: int,
    rows: np.ndarray,
    layout: Layout,
    seed: int,
    is_first: np.ndarray,
    counts: dict[str, Any],
) -> dict[str, Any]:
    """Write one task's rows [row, bytes] as a segment; returns the task's sums and its `counts`.

    Args:
        is_first: [row] whether a row is the first of its context.
    """
    document, position = (layout.column(rows, name).numpy() for name in ("document", "position"))
    keys = shuffle.row_keys(seed, 0, document, position)
    order = shuffle.shuffled(keys, document, position)
    segment = folder / segment_name(number)
    file = write_segment(segment, keys, rows, order)
    per_document = np.unique(document, return_counts=True)[1].astype(float)
    totals = counts | {
        "segment": number,
        "file": file,
        "rows": len(rows),
        "pairs": float((per_document * (per_document - 1)).sum()),
        "checksum": checksum(rows, keys),
        "sites": {site: _statistics(layout.vectors(rows, site), is_first) for site in layout.widths},
    }
    write_json(segment.with_suffix(".json"), totals)
    return totals


def read_totals(folder: Place, number: int) -> dict[str, Any] | None:
    """The sums of a task that was written before, or None."""
    record = (folder / segment_name(number)).with_suffix(".json")  # written last, so the segment is complete
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else None


def segment_name(number: int) -> str:
    return f"segments/{number:05d}.safetensors"


def finish(
    draft: Draft,
    totals: list[dict[str, Any]],
    layout: Layout,
    dtype: str,
    model: ModelRef,
    limits: Mapping[str, float] | None = None,
    **own: Any,
) -> ActivationsFacts:
    """Sum over all tasks and finish the store; returns the facts of its manifest.

    Args:
        limits: of each site, the norm above which rows were left out.
        own: facts that only some stores have.
    """
    sites, statistics = _sum_up(totals, layout.widths)
    for site, limit in (limits or {}).items():
        sites[site] = replace(sites[site], norm_limit=limit, massive_rows=None, massive_norm=None)
    rows = sum(task["rows"] for task in totals)
    facts = ActivationsFacts(
        rows=rows,
        documents=sum(task["documents"] for task in totals),
        held_out_documents=sum(task["held_out_documents"] for task in totals),
        same_document_ideal=sum(task["pairs"] for task in totals) / max(1, rows * (rows - 1)),
        order_checksum=f"{sum(task['checksum'] for task in totals) % 2**64:016x}",
        sites=sites,
        record_bytes=layout.record_bytes,
        fields=layout.fields,
        dtype=dtype,
        model=model,
        **own,
        massive=_sum_up_massive([row for task in totals for row in task.get("massive", ())]),
    )
    write_bytes(draft.folder / "statistics.safetensors", save(statistics))
    segments = {segment_name(task["segment"]): task["file"] for task in totals}
    draft.finish(["statistics.safetensors"], facts.to_json(), segments)
    return facts


def _statistics(vectors: Tensor, is_first: np.ndarray) -> dict[str, Any]:
    """Sums over the stored vectors of a segment, in float64."""
    total, squares = (torch.zeros(vectors.shape[1], dtype=torch.float64) for _ in range(2))
    lengths = []
    room = torch.empty(_ROWS_AT_ONCE, vectors.shape[1], dtype=torch.float64)  # small enough to stay in the cache
    for rows in vectors.split(_ROWS_AT_ONCE):
        x = room[: len(rows)].copy_(rows)
        total += x.sum(dim=0)
        squares += x.square_().sum(dim=0)
        lengths.append(x.sum(dim=1).sqrt_())
    norms = torch.cat(lengths).numpy() if lengths else np.empty(0)
    return {
        "sum": total.tolist(),
        "sum_of_squares": squares.tolist(),
        "norm_sum": float(norms.sum()),
        "first_norm_sum": float(norms[is_first].sum()),
        "first_rows": int(is_first.sum()),
        "norm_histogram": np.histogram(np.clip(norms, NORM_EDGES[0], NORM_EDGES[-1]), NORM_EDGES)[0].tolist(),
    }


def _sum_up(totals: list[dict[str, Any]], widths: dict[str, int]) -> tuple[dict[str, SiteFacts], dict[str, Tensor]]:
    """Sum the statistics of all tasks, in task order."""
    rows = sum(task["rows"] for task in totals)
    sites, statistics = {}, {}
    for site, width in widths.items():
        parts = [task["sites"][site] for task in totals if task["rows"]]
        mean, second = (_add(parts, name, width) / max(rows, 1) for name in ("sum", "sum_of_squares"))
        histogram = _add(parts, "norm_histogram", len(NORM_EDGES) - 1)
        cumulative = np.cumsum(histogram) / max(rows, 1)
        places = {
            q: min(int(np.searchsorted(cumulative, q)) + 1, len(NORM_EDGES) - 1) for q in (0.01, 0.1, 0.5, 0.9, 0.99)
        }
        n_massive, massive_norm = _count_massive(histogram, NORM_EDGES[places[0.5]])
        n_first = sum(part["first_rows"] for part in parts)
        first = sum(part["first_norm_sum"] for part in parts) / max(n_first, 1)
        others = sum(part["norm_sum"] - part["first_norm_sum"] for part in parts) / max(rows - n_first, 1)
        squared_norm = float(second.sum())
        sites[site] = SiteFacts(
            width=width,
            mean_squared_norm=squared_norm,
            scale=math.sqrt(width / max(squared_norm, 1e-30)),
            norm_quantiles={str(q): float(NORM_EDGES[place]) for q, place in places.items()},
            first_token_norm=first / others if n_first and others else None,
            massive_rows=n_massive or None,
            massive_norm=massive_norm or None,
        )
        statistics |= {f"mean {site}": torch.from_numpy(mean), f"second_moment {site}": torch.from_numpy(second)}
    return sites, statistics


def _count_massive(histogram: np.ndarray, median: float) -> tuple[int, float]:
    """How many rows have norms far above the median, and their mean norm; where half are nothing, none has."""
    among = histogram * (NORM_EDGES[:-1] >= MASSIVE * median) * (median > NORM_EDGES[1])
    n = int(among.sum())
    return n, float(among @ np.sqrt(NORM_EDGES[:-1] * NORM_EDGES[1:]) / max(n, 1))


def _sum_up_massive(rows: list[dict[str, Any]]) -> MassiveFacts | None:
    """What a manifest says of the rows that were left out; each row is as harvest describes it."""
    if not rows:
        return None
    return MassiveFacts(
        rows=len(rows),
        first=sum(row["first"] for row in rows),
        tokens=Counter(row["token"] for row in rows).most_common(MASSIVE_TOKENS),
        norms={site: sum(row["norm"][site] for row in rows) / len(rows) for site in rows[0]["norm"]},
    )


def _add(parts: list[dict[str, Any]], name: str, width: int) -> np.ndarray:
    total = np.zeros(width)
    for part in parts:
        total += part[name]
    return total
