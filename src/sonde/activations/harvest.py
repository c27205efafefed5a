"""Harvest: run a model over text once and keep what passes a site.

1. Read and tokenize documents; leave the held-out ones aside.
2. Gather documents into tasks, each a fixed number of tokens whatever else happens.
3. For each task: run the model up to the site, keep the rows of real text, sort them by key, write one
   segment and its statistics. A task that an earlier run has written is skipped.
4. Sum the statistics in task order and write the manifest.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from sonde.activations import shuffle
from sonde.activations.contexts import BATCH_TOKENS, Context, Cutter, batches, make_batch
from sonde.activations.corpus import Corpus, Document, is_held_out
from sonde.activations.settings import HarvestSettings
from sonde.activations.store import FORMAT, Activations
from sonde.devices import DTYPES, ensure_memory
from sonde.errors import ActivationError, TextError
from sonde.manifests import new_artifact, storage_errors, write_bytes, write_json
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Progress, Reporter, Silent
from sonde.settings import from_mapping, to_mapping

TASK_BYTES = 1 << 26
"""a task's vectors in float32; it fixes the batches, and so the arithmetic, of a run and of its resumption"""
NORM_EDGES = np.geomspace(1e-4, 1e8, 1201)
"""bins of the histogram of norms: 100 to a decade, so quantiles are right to 2.4 %"""


@dataclass
class _Task:
    number: int
    contexts: list[Context]
    n_tokens: int
    n_documents: int
    n_held_out: int


def harvest(
    model: Model | str | Path,
    text: str | Path | Sequence[str | Document],
    *,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Activations:
    """Run `model` over `text` and keep what passes a site, shuffled, in a folder.

    Args:
        model: a model or what `load_model` takes.
        text: a .txt or .jsonl file, its .gz, a folder of them, or a list of texts.
        reporter: told of progress.
        settings: the fields of `HarvestSettings`; `site` and `out` are needed.

    Returns:
        The store; the same command, run again, goes on where it stopped.

    Raises:
        TextError, SiteError, ModelLacksError, ActivationError (values that are not finite), CapacityError,
        OutputOccupiedError, OutputBusyError, StorageError.
    """
    chosen = from_mapping(HarvestSettings, settings)
    reporter = reporter or Silent()
    loaded = model if isinstance(model, Model) else load_model(model)
    loaded.site(chosen.site)
    corpus = Corpus(text, chosen.field, chosen.skip_bad)
    cutter = Cutter(loaded, chosen.context)
    width = loaded.read(loaded.pad([[*cutter.before, 0]]), chosen.site)[chosen.site].flatten(2).shape[-1]
    task_tokens = max(1024, TASK_BYTES // (4 * width))
    ensure_memory(5 * task_tokens * width * 4, "a harvest task", "choose a narrower site")

    described = to_mapping(chosen) | {"model": loaded.name, "text": corpus.name}
    described["context"] = cutter.length
    with new_artifact(chosen.out, format=FORMAT, settings=described, parents={}) as draft:
        if draft.finished:
            reporter.say(f"{chosen.out} is finished: {draft.finished.facts['rows']:,} rows")
            return Activations(chosen.out, draft.finished)
        with storage_errors(chosen.out):
            (chosen.out / "segments").mkdir(exist_ok=True)
        totals = []
        with reporter.start("harvest", chosen.tokens, "tokens") as progress:
            for task in _tasks(corpus, cutter, chosen, task_tokens):
                totals.append(_run_task(loaded, task, chosen, width, progress))
        facts, statistics = _summary(totals, width)
        if facts["rows"] == 0:
            raise TextError(
                f"{corpus.name}: no tokens were left to harvest; give more text, or a smaller held_out than {chosen.held_out}"
            )
        write_bytes(chosen.out / "statistics.safetensors", save(statistics))
        if chosen.tokens and facts["rows"] < chosen.tokens:
            reporter.say(
                f"{corpus.name} has {facts['rows']:,} tokens to train on, fewer than the {chosen.tokens:,} asked for: all are used"
            )
        if corpus.skipped:
            reporter.say(f"{corpus.skipped:,} bad lines were left out")
        facts |= {
            "site": chosen.site,
            "width": width,
            "dtype": chosen.store,
            "model": {"name": loaded.name, "id": loaded.identity},
            "skipped_lines": corpus.skipped,
        }
        names = [f"segments/{task['segment']:05d}.safetensors" for task in totals]
        draft.finish([*names, "statistics.safetensors"], facts)
    assert draft.finished is not None
    return Activations(chosen.out, draft.finished)


def _tasks(corpus: Iterable[Document], cutter: Cutter, settings: HarvestSettings, task_tokens: int) -> Iterator[_Task]:
    """Gather documents into tasks of `task_tokens`, until enough tokens are reached."""
    task = _Task(0, [], 0, 0, 0)
    n_total = 0
    for document in cutter.tokenize(corpus):
        if is_held_out(document.document, settings.held_out, settings.seed):
            task.n_held_out += 1
            continue
        task.contexts += cutter.cut(document)
        task.n_tokens += len(document.ids)
        task.n_documents += 1
        n_total += len(document.ids)
        if settings.tokens and n_total >= settings.tokens:
            break
        if task.n_tokens >= task_tokens:
            yield task
            task = _Task(task.number + 1, [], 0, 0, 0)
    if task.n_documents or task.n_held_out:
        yield task


def _run_task(model: Model, task: _Task, settings: HarvestSettings, width: int, progress: Progress) -> dict[str, Any]:
    """Write one task's segment, unless an earlier run has; return its statistics."""
    segment = settings.out / f"segments/{task.number:05d}.safetensors"
    record = segment.with_suffix(".json")
    if record.exists():  # written after the segment, so the segment is whole
        progress.advance(task.n_tokens)
        return json.loads(record.read_text(encoding="utf-8"))

    vectors = torch.empty((task.n_tokens, width), dtype=torch.float32)
    token, document, position = (np.empty(task.n_tokens, dtype=np.int64) for _ in range(3))
    filled = 0
    for contexts in batches(task.contexts, BATCH_TOKENS):
        batch = make_batch(model, contexts)
        x = model.read(batch.tokens, settings.site)[settings.site].flatten(2)[batch.text_mask].float().cpu()
        rows = slice(filled, filled + len(x))
        vectors[rows], token[rows], document[rows], position[rows] = x, batch.token, batch.document, batch.position
        filled += len(x)
        progress.advance(len(x))
    _refuse_non_finite(vectors, document, position, settings.site)

    keys = shuffle.row_keys(settings.seed, 0, document, position)
    order = shuffle.shuffled(keys, document, position)
    stored = vectors[torch.from_numpy(order)].to(DTYPES[settings.store])
    columns = {
        "vectors": stored,
        "token": torch.from_numpy(token[order].astype(np.int32)),
        "document": torch.from_numpy(document[order]),
        "position": torch.from_numpy(position[order].astype(np.int32)),
        "offsets": torch.from_numpy(shuffle.offset_table(keys[order])),
    }
    write_bytes(segment, save(columns))
    totals = _statistics(stored) | {
        "segment": task.number,
        "documents": task.n_documents,
        "held_out_documents": task.n_held_out,
    }
    write_json(record, totals)
    return totals


def _refuse_non_finite(vectors: Tensor, document: np.ndarray, position: np.ndarray, site: str) -> None:
    bad = ~torch.isfinite(vectors).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ActivationError(
            f"{int(bad.sum()):,} activations at {site} are not finite, the first in document {document[row]} at token {position[row]}; "
            "the model's weights are broken, or its dtype overflows: try --dtype float32"
        )


def _statistics(vectors: Tensor) -> dict[str, Any]:
    """Sums over a segment as it is stored, in float64."""
    exact = vectors.double()
    norms = exact.norm(dim=1).numpy()
    return {
        "rows": len(vectors),
        "sum": exact.sum(dim=0).tolist(),
        "sum_of_squares": exact.square().sum(dim=0).tolist(),
        "norm_histogram": np.histogram(np.clip(norms, NORM_EDGES[0], NORM_EDGES[-1]), NORM_EDGES)[0].tolist(),
    }


def _summary(totals: list[dict[str, Any]], width: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Sum the statistics of all tasks, in task order."""
    rows = sum(task["rows"] for task in totals)
    total, squares = np.zeros(width), np.zeros(width)
    histogram = np.zeros(len(NORM_EDGES) - 1)
    for task in totals:
        if task["rows"]:
            total += task["sum"]
            squares += task["sum_of_squares"]
            histogram += task["norm_histogram"]
    mean, second = total / max(rows, 1), squares / max(rows, 1)
    cumulative = np.cumsum(histogram) / max(rows, 1)
    quantiles = {
        str(q): float(NORM_EDGES[min(np.searchsorted(cumulative, q) + 1, len(NORM_EDGES) - 1)])
        for q in (0.01, 0.1, 0.5, 0.9, 0.99)
    }
    facts = {
        "rows": rows,
        "documents": sum(task["documents"] for task in totals),
        "held_out_documents": sum(task["held_out_documents"] for task in totals),
        "mean_squared_norm": float(second.sum()),
        "norm_quantiles": quantiles,
    }
    return facts, {"mean": torch.from_numpy(mean), "second_moment": torch.from_numpy(second)}
