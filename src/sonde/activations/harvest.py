"""Harvest: run a model over text once and keep what passes some sites.

1. Read and tokenize documents; leave the held-out ones aside.
2. Gather documents into tasks, each a fixed number of tokens whatever else happens.
3. For each task: run the model up to the last site, keep the rows of real text, deal them by key, write one
   segment and its statistics. A task that an earlier run has written is skipped.
4. Sum the statistics in task order and write the manifest.
"""

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, Context, Cutter, batches, make_batch
from sonde.activations.corpus import Corpus, Document, is_held_out
from sonde.activations.rows import Layout
from sonde.activations.settings import HarvestSettings
from sonde.activations.store import FORMAT, Activations
from sonde.activations.workers import in_order
from sonde.activations.writing import finish, read_totals, write_rows
from sonde.devices import ensure_memory
from sonde.errors import ActivationError, TextError, UsageError
from sonde.manifests import new_artifact, storage_errors
from sonde.models.load import IN_MEMORY_MODEL, load_model
from sonde.models.model import Model
from sonde.progress import Progress, Reporter, Silent
from sonde.settings import check, from_mapping, to_mapping

Result = TypeVar("Result")

TASK_BYTES = 1 << 26
"""a task's vectors in float32; it fixes the batches, and so the arithmetic, of a run and of its resumption"""
SINK_RATIO = 3.0
"""first tokens of contexts whose mean norm is this many times that of all rows are worth a word"""


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
    site: str | Sequence[str],
    workers: int = 1,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Activations:
    """Run `model` over `text` and keep what passes one or more sites, shuffled, in a folder.

    Args:
        model: a model or what `load_model` takes.
        text: a .txt or .jsonl file, its .gz, a folder of them, or a list of texts.
        site: where to read; several are read in one pass, side by side in each row.
        workers: processes that share the tasks, each with the model in its memory. The rows and their order are
            the same for any number, and so are the bytes where `threads` is.
        reporter: told of progress.
        settings: the other fields of `HarvestSettings`; `out` is needed.

    Returns:
        The store; the same command, run again, goes on where it stopped.

    Raises:
        TextError, PictureError, SiteError, ModelLacksError, ActivationError (values that are not finite),
        CapacityError, OutputOccupiedError, OutputBusyError, StorageError.
    """
    sites = (site,) if isinstance(site, str) else tuple(site)
    chosen = from_mapping(HarvestSettings, settings | {"site": sites})
    reporter = reporter or Silent()
    loaded = model if isinstance(model, Model) else load_model(model)
    for name in sites:
        loaded.site(name)
    corpus = Corpus(text, chosen.field, chosen.skip_bad)
    cutter = Cutter(loaded, chosen.context)
    probe = loaded.read(loaded.pad([[*cutter.before, 0]]), sites)
    widths = {name: value.flatten(2).shape[-1] for name, value in probe.items()}
    layout = Layout.of_sites(widths, chosen.store)
    check(workers > 0, "workers", workers, "above 0")
    if workers > 1 and loaded.name == IN_MEMORY_MODEL:
        raise UsageError("a model in memory cannot be sent to workers; give the folder or the name that they can load")
    task_tokens = max(1024, TASK_BYTES // (4 * sum(widths.values())))
    ensure_memory(6 * workers * task_tokens * layout.record_bytes, "a harvest task", "choose fewer or narrower sites")

    described = to_mapping(chosen) | {"model": loaded.name, "text": corpus.name}
    described["context"] = cutter.length
    with new_artifact(chosen.out, format=FORMAT, settings=described, parents={}) as draft:
        if draft.finished:
            reporter.say(f"{chosen.out} is finished: {draft.finished.facts['rows']:,} rows")
            return Activations(chosen.out, draft.finished)
        with storage_errors(chosen.out):
            (chosen.out / "segments").mkdir(exist_ok=True)
        with reporter.start("harvest", chosen.tokens, "tokens") as progress:
            tasks = _tasks(corpus, cutter, chosen, task_tokens)
            totals = list(_run_tasks(loaded, tasks, chosen, layout, workers, progress))
        if not any(task["rows"] for task in totals):
            raise TextError(
                f"{corpus.name}: no tokens were left to harvest; give more text, or a smaller held_out than {chosen.held_out}"
            )
        more = {"dtype": chosen.store, "model": {"name": loaded.name, "id": loaded.identity}}
        facts = finish(draft, totals, layout, more | {"skipped_lines": corpus.skipped})
        n_tokens = sum(task["tokens"] for task in totals)
        if chosen.tokens and n_tokens < chosen.tokens:
            reporter.say(
                f"{corpus.name} has {n_tokens:,} tokens to train on, fewer than the {chosen.tokens:,} asked for: all are used"
            )
        if corpus.skipped:
            reporter.say(f"{corpus.skipped:,} bad lines were left out")
        for name, found in facts["sites"].items():
            if (found["first_token_norm"] or 0) > SINK_RATIO:
                reporter.say(
                    f"{name}: the first token of a context is {found['first_token_norm']:.0f} times as long as others "
                    "on average (an attention sink); --drop-first 1 leaves it out"
                )
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


def _run_tasks(
    model: Model, tasks: Iterable[_Task], settings: HarvestSettings, layout: Layout, workers: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield the statistics of each task, in their order, from this process or from several."""
    cores = torch.get_num_threads()
    threads = settings.threads or max(1, cores // workers)
    if workers == 1:
        torch.set_num_threads(threads)
        try:
            with concurrent.futures.ThreadPoolExecutor(1, "sonde-write") as writer:
                waiting = None  # one task is written while the next one runs
                for task in tasks:
                    before, waiting = waiting, _run_task(model, task, settings, layout, progress, writer.submit)
                    if before is not None:
                        yield before.result()
                if waiting is not None:
                    yield waiting.result()
        finally:
            torch.set_num_threads(cores)
        return
    dtype = str(model.dtype).removeprefix("torch.")
    arguments = (model.name, str(model.device), dtype, threads, settings, layout)
    for totals in in_order(tasks, _Worker, arguments, workers):
        progress.advance(totals["tokens"])
        yield totals


class _Worker:
    """What a worker process keeps: the model, loaded once."""

    def __init__(
        self, model: str, device: str, dtype: str, threads: int, settings: HarvestSettings, layout: Layout
    ) -> None:
        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()  # progress is the parent's to show
        self.model = load_model(model, device=device, dtype=dtype)
        self.settings, self.layout = settings, layout

    def __call__(self, task: _Task) -> dict[str, Any]:
        progress = Silent().start("", None, "")
        return _run_task(self.model, task, self.settings, self.layout, progress, lambda do, *given: do(*given))


def _run_task(
    model: Model,
    task: _Task,
    settings: HarvestSettings,
    layout: Layout,
    progress: Progress,
    write: Callable[..., Result],
) -> Result:
    """Run one task and have its segment written, unless an earlier run has; `write(do, *given)` gives its statistics."""
    if (totals := read_totals(settings.out, task.number)) is not None:
        progress.advance(task.n_tokens)
        return write(dict, totals)

    parts, starts = [], []
    for contexts in batches(task.contexts, BATCH_TOKENS):
        batch = make_batch(model, contexts, settings.special, settings.drop_first)
        rows = layout.empty(len(batch.token))
        for name in ("document", "position", "token"):
            layout.column(rows, name).copy_(torch.from_numpy(getattr(batch, name)))
        for site, value in model.read(batch.tokens, settings.site).items():
            x = value.flatten(2)[batch.text_mask].float().cpu()
            _refuse_non_finite(x, batch.document, batch.position, site)
            layout.put_vectors(rows, site, x)
        parts.append(rows)
        starts.append(batch.is_first)
        progress.advance(sum(context.n_text for context in contexts))
    rows = np.concatenate(parts) if parts else layout.empty(0)
    is_first = np.concatenate(starts) if starts else np.empty(0, dtype=bool)

    told = {"tokens": task.n_tokens, "documents": task.n_documents, "held_out_documents": task.n_held_out}
    return write(write_rows, settings.out, task.number, rows, layout, settings.seed, is_first, told)


def _refuse_non_finite(vectors: Tensor, document: np.ndarray, position: np.ndarray, site: str) -> None:
    bad = ~torch.isfinite(vectors).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ActivationError(
            f"{int(bad.sum()):,} activations at {site} are not finite, the first in document {document[row]} at token {position[row]}; "
            "the model's weights are broken, or its dtype overflows: try --dtype float32"
        )
