"""Harvest: run a model over text once and keep the activations at some sites.

1. Open the text, the model's sites and the layout of a row.
2. Gather documents into tasks, each a fixed number of tokens whatever else happens; held-out documents are left out.
3. For each task: run the model up to the last site, keep the rows of the text, sort them by key, write one segment and
   its statistics. A task that an earlier run has written is skipped.
4. Sum the statistics in task order and write the manifest.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
import transformers
from torch import Tensor

from sonde.activations.advice import faster_way
from sonde.activations.contexts import BATCH_TOKENS, Batch, Context, Cutter, batches, make_batch
from sonde.activations.corpus import Corpus, TextSource, held_out_share, is_held_out
from sonde.activations.massive import norm_limits
from sonde.activations.rows import Layout
from sonde.activations.settings import HarvestKeywords, HarvestSettings
from sonde.activations.store import FORMAT, Activations, ActivationsFacts
from sonde.activations.writing import finish, read_totals, write_rows
from sonde.artifacts import new_artifact
from sonde.calls import public
from sonde.devices import ensure_memory
from sonde.errors import ActivationError, TextError
from sonde.facts import ModelRef
from sonde.manifests import storage_errors
from sonde.models.load import load_model
from sonde.models.massive import is_massive
from sonde.models.model import Model
from sonde.models.recorded import SentModel
from sonde.progress import Reporter, default_reporter
from sonde.settings import from_mapping, to_mapping
from sonde.tasks.run import run_tasks
from sonde.tasks.settings import Executor, TaskOptions
from sonde.tasks.worker import Worker

TASK_BYTES = 1 << 26
"""bytes of a task's vectors in float32; it fixes the batches, and so the arithmetic, of a run and of its resumption"""
MIN_TASK_TOKENS = 1024
COPIES_IN_MEMORY = 6
"""copies of a task's rows in memory at most: in parts, joined, sorted, and those of the task before"""
SINK_RATIO = 3.0
"""harvest points out an attention sink where the first tokens' mean norm is this many times that of the others"""


@public(HarvestSettings, own=("text",))
def harvest(
    model: Model | str | Path,
    text: TextSource,
    *,
    site: str | Sequence[str],
    workers: int | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[HarvestKeywords],
) -> Activations:
    """The store of the activations of `model` on `text` at one or more sites, shuffled, in a folder.

    Args:
        model: a model or what `load_model` takes.
        text: a .txt or .jsonl file, its .gz, a .npy of token ids, a folder of them, a list (of texts, lists of token
            ids, or rows with `field`), or a Hugging Face dataset.
        site: where to read; several are read in one pass, side by side in each row.
        workers: how many share the tasks, each with the model in its memory; one by default, on a cluster one for
            each node. The rows and their order are the same for any number, and for equal `threads` so are the bytes.
        executor: local (this process), processes, or ray (a Ray cluster, which RAY_ADDRESS names); by default
            processes where there are several workers.
        device, dtype: as for `load_model`; of a model that is loaded here.
        reporter: shows progress.
        settings: the other fields of `HarvestSettings`; `out` is needed.

    Returns:
        The store; the same command, run again, goes on where it stopped.

    Raises:
        TextError, PictureError, SiteError, ModelLacksError, ActivationError (values that are not finite),
        CapacityError, OutputOccupiedError, OutputBusyError, StorageError.
    """
    sites = (site,) if isinstance(site, str) else tuple(site)
    chosen = from_mapping(HarvestSettings, dict(settings) | {"site": sites})
    options = TaskOptions(workers=workers, executor=executor)
    reporter = reporter or default_reporter()
    loaded = model if isinstance(model, Model) else load_model(model, device=device, dtype=dtype)
    job = _open(loaded, text, chosen, options)
    recipe = {"settings": job.recorded_settings, "parents": {}, "model": job.model_ref}
    with new_artifact(chosen.out, format=FORMAT, **recipe) as draft:
        if draft.finished:
            store = Activations(chosen.out, draft.finished)
            reporter.say(f"{chosen.out} is finished: {store.n_rows:,} rows")
            return store
        totals = _run(job, options, reporter)
        layout, limits = job.worker.layout, job.worker.limits
        own: dict[str, Any] = {"skipped_lines": job.corpus.skipped}
        if job.held_out != chosen.held_out:
            own["held_out_share"] = job.held_out
        facts = finish(draft, totals, layout, chosen.store, job.model_ref, limits, **own)
        _report(job, totals, facts, reporter)
    assert draft.finished is not None
    return Activations(chosen.out, draft.finished)


# ---------------------------------------------------------------- open


@dataclass(frozen=True)
class _Harvest:
    """The worker, the text and the cutter of a harvest."""

    worker: "HarvestWorker"
    corpus: Corpus
    cutter: Cutter
    task_tokens: int
    held_out: float
    """share of the documents that is held out, as `held_out_share` has it"""

    @property
    def settings(self) -> HarvestSettings:
        return self.worker.settings

    @property
    def recorded_settings(self) -> dict[str, Any]:
        """The settings as the manifest keeps them."""
        described = to_mapping(self.settings) | {"model": self.worker.model.name, "text": self.corpus.name}
        return described | {"context": self.cutter.length}

    @property
    def model_ref(self) -> ModelRef:
        return self.worker.model.ref


def _open(model: Model, text: Any, settings: HarvestSettings, options: TaskOptions) -> _Harvest:
    """Check everything that can be checked before a folder is made."""
    widths = model.widths(settings.site)
    if not options.is_local:
        SentModel.of(model)  # raises where workers could not load it
    corpus = Corpus(text, settings.field, settings.skip_bad)
    cutter = Cutter(model, settings.context, settings.pack)
    layout = Layout.of_sites(widths, settings.store)
    task_tokens = TASK_BYTES // (4 * sum(widths.values()))
    if settings.memory is not None:
        task_tokens = min(task_tokens, settings.memory // (COPIES_IN_MEMORY * layout.record_bytes))
    task_tokens = max(MIN_TASK_TOKENS, task_tokens)
    needed = options.workers_here * COPIES_IN_MEMORY * task_tokens * layout.record_bytes
    ensure_memory(needed, "a harvest task", "a smaller --memory needs less")
    held_out = held_out_share(corpus, settings.held_out, settings.seed)
    return _Harvest(HarvestWorker(model, settings, layout), corpus, cutter, task_tokens, held_out)


# ---------------------------------------------------------------- tasks


@dataclass
class _Task:
    number: int
    contexts: list[Context] = field(default_factory=list)
    n_tokens: int = 0
    n_documents: int = 0
    n_held_out: int = 0


def _tasks(job: _Harvest) -> Iterator[_Task]:
    """Gather documents into tasks of `task_tokens`, until enough tokens are reached."""
    cutter, settings = job.cutter, job.settings
    task, documents = _Task(0), []
    n_total = 0
    for document in cutter.tokenize(job.corpus):
        if is_held_out(document.document, job.held_out, settings.seed):
            task.n_held_out += 1
            continue
        documents.append(document)
        task.n_tokens += len(document.ids)
        task.n_documents += 1
        n_total += len(document.ids)
        if settings.tokens and n_total >= settings.tokens:
            break
        if task.n_tokens >= job.task_tokens:
            task.contexts = list(cutter.contexts(documents))
            yield task
            task, documents = _Task(task.number + 1), []
    if task.n_documents or task.n_held_out:
        task.contexts = list(cutter.contexts(documents))
        yield task


class _Rows(NamedTuple):
    """The rows of a task, in the order in which the model read them."""

    records: np.ndarray
    """[row, bytes]"""
    is_first: np.ndarray
    """[row] whether a row is the first of its context"""
    massive: list[dict[str, Any]]
    """the rows that were left out, as the task's record keeps them"""


class HarvestWorker(Worker[_Task, _Rows, dict[str, Any]]):
    """Runs the model over tasks and writes a segment for each; the result of a task is its statistics.

    Args:
        limits: of each site, the norm above which a row is left out.
    """

    def __init__(
        self, model: Model, settings: HarvestSettings, layout: Layout, limits: dict[str, float] | None = None
    ) -> None:
        self.model, self.settings, self.layout, self.limits = model, settings, layout, limits or {}
        self.out = settings.out

    def recipe(self) -> tuple[Callable[..., "HarvestWorker"], tuple]:
        settings = replace(self.settings, out=self.out.resolve())
        return _load_worker, (SentModel.of(self.model), settings, self.layout, self.limits)

    def size(self, task: _Task) -> float:
        return task.n_tokens

    def finished(self, task: _Task) -> dict[str, Any] | None:
        return read_totals(self.out, task.number)

    def compute(self, task: _Task, advance: Callable[[float], None]) -> _Rows:
        parts, starts, massive = [self.layout.empty(0)], [np.empty(0, dtype=bool)], []
        for contexts in batches(task.contexts, BATCH_TOKENS):
            batch = make_batch(self.model, contexts, self.settings.special, self.settings.drop_first)
            vectors = {}
            for site, value in self.model.read(batch.tokens, self.settings.site).items():
                vectors[site] = value.flatten(2)[batch.text_mask].float().cpu()
                _refuse_non_finite(vectors[site], batch.document, batch.position, site)
            left_out = is_massive(vectors, self.limits)
            if left_out.any():
                massive += _described(batch, vectors, left_out)
                vectors = {site: x[~left_out] for site, x in vectors.items()}
            kept = (~left_out).numpy()
            parts.append(self._records(batch, kept, vectors))
            starts.append(batch.is_first[kept])
            advance(sum(context.n_text for context in contexts))
        return _Rows(np.concatenate(parts), np.concatenate(starts), massive)

    def _records(self, batch: Batch, kept: np.ndarray, vectors: dict[str, Tensor]) -> np.ndarray:
        """The rows of a batch that are kept, as records [row, bytes]."""
        records = self.layout.empty(int(kept.sum()))
        for name in ("document", "position", "token"):
            self.layout.column(records, name).copy_(torch.from_numpy(getattr(batch, name)[kept]))
        for site, x in vectors.items():
            self.layout.put_vectors(records, site, x)
        return records

    def write(self, task: _Task, computed: _Rows) -> dict[str, Any]:
        counts: dict[str, Any] = {
            "tokens": task.n_tokens,
            "documents": task.n_documents,
            "held_out_documents": task.n_held_out,
        }
        records, is_first, massive = computed
        counts |= {"massive": massive} if massive else {}
        return write_rows(self.out, task.number, records, self.layout, self.settings.seed, is_first, counts)


def _load_worker(
    model: SentModel, settings: HarvestSettings, layout: Layout, limits: dict[str, float]
) -> HarvestWorker:
    transformers.utils.logging.disable_progress_bar()  # the parent shows progress
    return HarvestWorker(model.load(), settings, layout, limits)


def _described(batch: Batch, vectors: dict[str, Tensor], left_out: Tensor) -> list[dict[str, Any]]:
    """What a store keeps of each row that is left out: where it is, its token and its norms."""
    norms = {site: x.norm(dim=1).tolist() for site, x in vectors.items()}
    return [
        {
            "document": int(batch.document[row]),
            "position": int(batch.position[row]),
            "token": int(batch.token[row]),
            "first": bool(batch.is_first[row]),
            "norm": {site: round(values[row], 3) for site, values in norms.items()},
        }
        for row in left_out.nonzero()[:, 0].tolist()
    ]


def _refuse_non_finite(vectors: Tensor, document: np.ndarray, position: np.ndarray, site: str) -> None:
    is_bad = ~torch.isfinite(vectors).all(dim=1)
    if is_bad.any():
        row = int(is_bad.nonzero()[0])
        raise ActivationError(
            f"{int(is_bad.sum()):,} activations at {site} are not finite, the first in document {document[row]} "
            f"at token {position[row]}; the model's weights are broken, or its dtype overflows: try --dtype float32"
        )


# ---------------------------------------------------------------- run and report


def _run(job: _Harvest, options: TaskOptions, reporter: Reporter) -> list[dict[str, Any]]:
    """Run all tasks; returns the statistics of each, in task order."""
    settings = job.settings
    with storage_errors(settings.out):
        (settings.out / "segments").mkdir(exist_ok=True)
    tasks = _tasks(job)
    first = next(tasks, _Task(0))
    job.worker.limits = norm_limits(
        job.worker.model, settings.site, first.contexts, settings.massive, special=settings.special
    )
    advice = faster_way(job.worker.model, first.contexts, job.cutter) if options.executor != "ray" else None
    if advice is not None:
        reporter.say(advice)
    tasks = itertools.chain([first], tasks)
    gpus = int(job.worker.model.device.type == "cuda")
    with reporter.start("harvest", settings.tokens, "tokens") as progress:
        totals = list(run_tasks(tasks, job.worker, options, progress, threads=settings.threads, gpus=gpus))
    if not any(task["rows"] for task in totals):
        if isinstance(settings.out, Path):
            shutil.rmtree(settings.out / "segments")  # so that the folder is free for another try
        raise TextError(job.corpus.nothing_left(settings.held_out, settings.drop_first))
    return totals


def _report(job: _Harvest, totals: list[dict[str, Any]], facts: ActivationsFacts, reporter: Reporter) -> None:
    """Report what a user would not expect of the store."""
    n_tokens, n_wanted = sum(task["tokens"] for task in totals), job.settings.tokens
    if n_wanted and n_tokens < n_wanted:
        reporter.say(
            f"{job.corpus.name} has {n_tokens:,} tokens to train on, fewer than the {n_wanted:,} asked for: "
            "all are used"
        )
    if job.corpus.skipped:
        reporter.say(f"{job.corpus.skipped:,} bad lines were left out")
    if facts.massive is not None:
        reporter.say(facts.massive.line(job.worker.model))
    for site, site_facts in facts.sites.items():
        ratio = site_facts.first_token_norm or 0
        if ratio > SINK_RATIO:
            reporter.say(
                f"{site}: the first token of a context is {ratio:.0f} times as long as others on average (an attention "
                "sink); --drop-first 1 leaves it out"
            )
