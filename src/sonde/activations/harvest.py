"""Harvest: run a model over text once and keep what passes some sites.

1. Read and tokenize documents; leave the held-out ones aside.
2. Gather documents into tasks, each a fixed number of tokens whatever else happens.
3. For each task: run the model up to the last site, keep the rows of real text, deal them by key, write one
   segment and its statistics. A task that an earlier run has written is skipped.
4. Sum the statistics in task order and write the manifest.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
import transformers
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, Context, Cutter, batches, make_batch
from sonde.activations.corpus import Corpus, Document, is_held_out
from sonde.activations.rows import Layout
from sonde.activations.settings import Executor, HarvestSettings
from sonde.activations.store import FORMAT, Activations
from sonde.activations.workers import cluster, here, in_order, on_cluster, processes, recipe
from sonde.activations.writing import finish, read_totals, segment_name, write_rows
from sonde.artifacts import new_artifact
from sonde.devices import ensure_memory
from sonde.errors import ActivationError, StorageError, TextError, UsageError
from sonde.facts import ModelRef
from sonde.manifests import storage_errors
from sonde.models.load import IN_MEMORY_MODEL, load_model
from sonde.models.model import Model
from sonde.progress import Progress, Reporter, Silent
from sonde.settings import check, from_mapping, to_mapping

Result = TypeVar("Result")

TASK_BYTES = 1 << 26
"""a task's vectors in float32; it fixes the batches, and so the arithmetic, of a run and of its resumption"""
TIMES_HELD = 6
"""how often a task's rows are in memory at most: in parts, whole, sorted, and those of the task before"""
SINK_RATIO = 3.0
"""first tokens of contexts whose mean norm is this many times that of all rows are worth a word"""


@dataclass
class _Task:
    number: int
    contexts: list[Context] = field(default_factory=list)
    n_tokens: int = 0
    n_documents: int = 0
    n_held_out: int = 0


def harvest(
    model: Model | str | Path,
    text: str | Path | Sequence[str | Document],
    *,
    site: str | Sequence[str],
    workers: int | None = None,
    executor: Executor | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Activations:
    """Run `model` over `text` and keep what passes one or more sites, shuffled, in a folder.

    Args:
        model: a model or what `load_model` takes.
        text: a .txt or .jsonl file, its .gz, a .npy of token ids, a folder of them, or a list of texts.
        site: where to read; several are read in one pass, side by side in each row.
        workers: how many share the tasks, each with the model in its memory; one by default, on a cluster one for
            each node. The rows and their order are the same for any number, and so are the bytes where `threads` is.
        executor: local (this process), processes, or ray (a Ray cluster, which RAY_ADDRESS names); by default
            processes where there are several workers.
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
    cutter = Cutter(loaded, chosen.context, chosen.pack)
    probe = loaded.read(loaded.pad([[*cutter.before, 0]]), sites)
    widths = {name: value.flatten(2).shape[-1] for name, value in probe.items()}
    layout = Layout.of_sites(widths, chosen.store)
    check(workers is None or workers > 0, "workers", workers, "above 0")
    executor = executor or ("processes" if workers and workers > 1 else "local")
    check(executor in get_args(Executor), "executor", executor, f"one of {', '.join(get_args(Executor))}")
    check(executor != "local" or workers in (None, 1), "workers", workers, "1 where executor is local")
    if executor != "local" and loaded.name == IN_MEMORY_MODEL:
        raise UsageError("a model in memory cannot be sent to workers; give the folder or the name that they can load")
    task_tokens = TASK_BYTES // (4 * sum(widths.values()))
    if chosen.memory is not None:
        task_tokens = min(task_tokens, chosen.memory // (TIMES_HELD * layout.record_bytes))
    task_tokens = max(1024, task_tokens)
    at_once = (workers or 1) if executor == "processes" else 1
    ensure_memory(
        at_once * TIMES_HELD * task_tokens * layout.record_bytes, "a harvest task", "a smaller --memory needs less"
    )

    described = to_mapping(chosen) | {"model": loaded.name, "text": corpus.name}
    described["context"] = cutter.length
    with new_artifact(chosen.out, format=FORMAT, settings=described, parents={}) as draft:
        if draft.finished:
            store = Activations(chosen.out, draft.finished)
            reporter.say(f"{chosen.out} is finished: {store.n_rows:,} rows")
            return store
        with storage_errors(chosen.out):
            (chosen.out / "segments").mkdir(exist_ok=True)
        with reporter.start("harvest", chosen.tokens, "tokens") as progress:
            tasks = _tasks(corpus, cutter, chosen, task_tokens)
            totals = list(_run_tasks(loaded, tasks, chosen, layout, executor, workers, progress))
        if not any(task["rows"] for task in totals):
            raise TextError(
                f"{corpus.name}: no tokens were left to harvest; give more text, or a smaller held_out than {chosen.held_out}"
            )
        facts = finish(draft, totals, layout, chosen.store, ModelRef(loaded.name, loaded.identity), corpus.skipped)
        n_tokens = sum(task["tokens"] for task in totals)
        if chosen.tokens and n_tokens < chosen.tokens:
            reporter.say(
                f"{corpus.name} has {n_tokens:,} tokens to train on, fewer than the {chosen.tokens:,} asked for: all are used"
            )
        if corpus.skipped:
            reporter.say(f"{corpus.skipped:,} bad lines were left out")
        for name, site_facts in facts.sites.items():
            if (ratio := site_facts.first_token_norm or 0) > SINK_RATIO:
                reporter.say(
                    f"{name}: the first token of a context is {ratio:.0f} times as long as others "
                    "on average (an attention sink); --drop-first 1 leaves it out"
                )
    assert draft.finished is not None
    return Activations(chosen.out, draft.finished)


def _tasks(corpus: Iterable[Document], cutter: Cutter, settings: HarvestSettings, task_tokens: int) -> Iterator[_Task]:
    """Gather documents into tasks of `task_tokens`, until enough tokens are reached."""
    task, documents = _Task(0), []
    n_total = 0
    for document in cutter.tokenize(corpus):
        if is_held_out(document.document, settings.held_out, settings.seed):
            task.n_held_out += 1
            continue
        documents.append(document)
        task.n_tokens += len(document.ids)
        task.n_documents += 1
        n_total += len(document.ids)
        if settings.tokens and n_total >= settings.tokens:
            break
        if task.n_tokens >= task_tokens:
            task.contexts = list(cutter.contexts(documents))
            yield task
            task, documents = _Task(task.number + 1), []
    if task.n_documents or task.n_held_out:
        task.contexts = list(cutter.contexts(documents))
        yield task


def _run_tasks(
    model: Model,
    tasks: Iterable[_Task],
    settings: HarvestSettings,
    layout: Layout,
    executor: Executor,
    workers: int | None,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """Yield the statistics of each task, in their order."""
    if executor == "local":
        yield from here(
            tasks, lambda task, submit: _run_task(model, task, settings, layout, progress, submit), settings.threads
        )
        return
    settings = replace(settings, out=settings.out.resolve())  # workers may run in another folder

    def arguments(threads: int) -> tuple:
        return *recipe(model), threads, settings, layout

    with contextlib.ExitStack() as stack:
        if executor == "ray":
            ray = stack.enter_context(cluster())
            cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            workers = workers or max(1, sum(n > 0 for n in cpus))
            threads = settings.threads or min((n for n in cpus if n > 0), default=1)
            gpus = int(model.device.type == "cuda")
            submit = on_cluster(ray, _Worker, arguments(threads), threads, gpus)
        else:
            workers = workers or 1
            threads = settings.threads or max(1, torch.get_num_threads() // workers)
            submit = stack.enter_context(processes(_Worker, arguments(threads), workers))
        for totals in in_order(tasks, submit, workers):
            segment = settings.out / segment_name(totals["segment"])
            if executor == "ray" and not segment.is_file():
                raise StorageError(
                    f"a node wrote {segment}, but it is not to be seen here; give --out a folder that all nodes share, "
                    "or a URL (s3://, gs://, az://)"
                )
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
