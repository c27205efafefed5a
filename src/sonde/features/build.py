"""Index: one pass of text through model and dictionaries finds where every feature fires.

1. Open the dictionaries, the model and the text.
2. Read and tokenize documents, record where each token stands in its text, and gather documents into tasks.
3. For each task: run the model up to the dictionaries' sites, encode, and write every activation above zero, sorted by
   feature, as a segment of each index. A task that an earlier run has written is skipped.
4. Finish each index (`finish.py`): merge its segments, and add what follows from them and from the decoder.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import transformers

from sonde.activations.contexts import BATCH_TOKENS, Context, Cutter, Tokenized, batches
from sonde.activations.corpus import Corpus, TextSource
from sonde.artifacts import Draft, new_artifact
from sonde.calls import public
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import content_id, load_dictionary, save_dictionary
from sonde.dictionaries.reading import Reading
from sonde.errors import ArtifactMismatchError, TextError, UsageError
from sonde.features.database import Documents
from sonde.features.finish import finish_index
from sonde.features.folder import FORMAT
from sonde.features.index import Index
from sonde.features.postings import Fires
from sonde.features.segments import SEGMENTS, Sampling, is_written, write_task
from sonde.features.settings import IndexKeywords, IndexSettings
from sonde.features.stream import stream_each
from sonde.manifests import parent_entry
from sonde.models.model import Model
from sonde.models.recorded import SentModel, recorded_model
from sonde.progress import Reporter, default_reporter
from sonde.settings import Bytes, check, from_mapping, to_mapping
from sonde.tasks.run import run_tasks
from sonde.tasks.settings import Executor, TaskOptions
from sonde.tasks.worker import Worker

TASK_TOKENS = 1 << 16
"""tokens of a task; it fixes the batches, and so the arithmetic, of a run and of its resumption"""
MEMORY = 512 * 10**6
INNER_DICTIONARY = "dictionary"
"""folder, in the index, of a dictionary that was made in memory"""


@overload
def index(
    model: Model | str | Path | None,
    dictionary: Dictionary | str | Path,
    text: TextSource,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    memory: int | str = MEMORY,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[IndexKeywords],
) -> Index: ...
@overload
def index(
    model: Model | str | Path | None,
    dictionary: Sequence[Dictionary | str | Path],
    text: TextSource,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    memory: int | str = MEMORY,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[IndexKeywords],
) -> list[Index]: ...
@public(IndexSettings, own=("text",))
def index(
    model: Model | str | Path | None,
    dictionary: Dictionary | str | Path | Sequence[Dictionary | str | Path],
    text: TextSource,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    memory: int | str = MEMORY,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[IndexKeywords],
) -> Index | list[Index]:
    """Find where every feature of a dictionary, or of several, fires in a text.

    Args:
        model: the model to read with; None for the one that the dictionary was trained on.
        dictionary: a dictionary or its folder. Of several, which must be of one model, each has an index of its own in
            `out`, under the name of its folder; the model reads the text once for all.
        text: a .txt or .jsonl file, its .gz, a .npy of token ids, a folder of them, or a list, as for `harvest`.
        workers: how many share the tasks, each with the model in its memory; one by default, on a cluster one for each
            node. The index is the same for any number, where `threads` is.
        executor: local (this process), processes, or ray (a Ray cluster, which RAY_ADDRESS names); by default
            processes where there are several workers.
        memory: bytes for what is merged at once, such as "200MB", besides model and dictionaries; changes nothing that
            is written.
        device, dtype: as for `load_model`; of what is loaded here.
        reporter: shows progress.
        settings: the fields of `IndexSettings`; `out` is needed.

    Returns:
        The index, or one for each dictionary; the same command, run again, goes on where it stopped.

    Raises:
        ArtifactMismatchError (a dictionary does not fit the model), TextError, CapacityError, UsageError,
        OutputOccupiedError, OutputBusyError, StorageError.
    """
    chosen = from_mapping(IndexSettings, settings)
    options = TaskOptions(workers=workers, executor=executor)
    memory = Bytes(memory)
    check(memory >= 10**6, "memory", memory, "at least 1MB")
    reporter = reporter or default_reporter()
    is_one = isinstance(dictionary, Dictionary | str | Path)
    dictionaries = _load(dictionary, device)
    first = dictionaries[0]
    loaded = recorded_model(first.info.model, model, of=first.described, device=device, dtype=dtype, reporter=reporter)
    job = _open(loaded, dictionaries, text, chosen, options)
    outs = [chosen.out] if is_one else _own_folders(chosen.out, dictionaries)
    with contextlib.ExitStack() as stack:
        drafts = [stack.enter_context(_draft(job, *pair)) for pair in zip(dictionaries, outs, strict=True)]
        unfinished = _unfinished(job, drafts, reporter)
        if unfinished:
            starts, n_tasks = _run(job, unfinished, options, reporter)
            for reading, draft in unfinished:
                finish_index(draft, reading.dictionary, loaded, starts, n_tasks, chosen, memory)
    indexes = [_finished(draft) for draft in drafts]
    return indexes[0] if is_one else indexes


# ---------------------------------------------------------------- open


def _load(dictionary: Dictionary | str | Path | Sequence[Dictionary | str | Path], device: str) -> list[Dictionary]:
    """The dictionaries to index, of which at least one must be given."""
    sources = [dictionary] if isinstance(dictionary, Dictionary | str | Path) else list(dictionary)
    check(len(sources) > 0, "dictionary", "none", "at least one")
    return [source if isinstance(source, Dictionary) else load_dictionary(source, device) for source in sources]


@dataclass(frozen=True)
class _Job:
    """What is read for one or several indexes, and how."""

    readings: list[Reading]
    """one for each dictionary, all of the same models"""
    corpus: Corpus
    cutter: Cutter
    settings: IndexSettings

    @property
    def recorded_settings(self) -> dict[str, Any]:
        """The settings as each manifest keeps them."""
        return to_mapping(self.settings) | {"text": self.corpus.name, "context": self.cutter.length}


def _open(
    model: Model, dictionaries: Sequence[Dictionary], text: Any, settings: IndexSettings, options: TaskOptions
) -> _Job:
    """Check everything that can be checked before a folder is made."""
    if not options.is_local:
        SentModel.of(model)  # raises where workers could not load it
    readings = _readings(dictionaries, model)
    return _Job(readings, Corpus(text, settings.field, settings.skip_bad), Cutter(model, settings.context), settings)


def _readings(dictionaries: Sequence[Dictionary], model: Model, others: Sequence[Model] | None = None) -> list[Reading]:
    """What each dictionary reads, all from the same models.

    Raises ArtifactMismatchError where the dictionaries were trained on different ones.
    """
    first = dictionaries[0]
    for other in dictionaries[1:]:
        if (first.info.model, first.info.other_models) != (other.info.model, other.info.other_models):
            names = [each.artifact.folder if each.artifact else repr(each) for each in (first, other)]
            raise ArtifactMismatchError(
                f"{names[0]} and {names[1]} were trained on different models; index them one at a time"
            )
    reading = Reading(first, model, others)
    return [reading] + [Reading(other, model, reading.models[1:]) for other in dictionaries[1:]]


def _own_folders(out: Path, dictionaries: Sequence[Dictionary]) -> list[Path]:
    """A folder in `out` for the index of each dictionary, under the name of the dictionary's folder."""
    names = [dictionary.artifact.folder.name for dictionary in dictionaries if dictionary.artifact is not None]
    if len(names) < len(dictionaries):
        raise UsageError("of several dictionaries, each names its index by its folder; save those that are in memory")
    twice = sorted(name for name in names if names.count(name) > 1)
    if twice:
        raise UsageError(
            f"two dictionaries are named {twice[0]}, and so would be their indexes; index them one at a time"
        )
    return [out / name for name in names]


def _draft(job: _Job, dictionary: Dictionary, out: Path) -> AbstractContextManager[Draft[Path]]:
    """Begin the index of one dictionary, or go on with it."""
    if dictionary.artifact is None:
        parent = {"id": content_id(dictionary), "path": INNER_DICTIONARY}
    else:
        parent = parent_entry(*dictionary.artifact)
    model = job.readings[0].models[0].ref
    return new_artifact(out, format=FORMAT, settings=job.recorded_settings, parents={"dictionary": parent}, model=model)


def _unfinished(job: _Job, drafts: Sequence[Draft[Path]], reporter: Reporter) -> list[tuple[Reading, Draft[Path]]]:
    """The indexes that are still to be made; a dictionary that is in memory alone is saved inside its index."""
    unfinished = []
    for reading, draft in zip(job.readings, drafts, strict=True):
        if draft.finished:
            reporter.say(f"{draft.folder} is finished: {Index(draft.folder, draft.finished).n_tokens:,} tokens")
            continue
        if reading.dictionary.artifact is None:
            save_dictionary(reading.dictionary, draft.folder / INNER_DICTIONARY)
        unfinished.append((reading, draft))
    return unfinished


def _finished(draft: Draft[Path]) -> Index:
    """The finished index; its segments are removed now that the manifest is written."""
    shutil.rmtree(draft.folder / SEGMENTS, ignore_errors=True)
    assert draft.finished is not None
    return Index(draft.folder, draft.finished)


# ---------------------------------------------------------------- tasks


@dataclass
class _Task:
    number: int
    first_document: int
    starts: np.ndarray
    """[document] number of the first token of each document of the task"""
    contexts: list[Context]
    n_tokens: int


def _tasks(tokenized: Iterable[Tokenized], documents: Documents, cutter: Cutter) -> Iterator[_Task]:
    """Gather documents into tasks of `TASK_TOKENS`."""
    number = first = 0
    gathered: list[Tokenized] = []

    def task() -> _Task:
        starts = np.asarray(documents.starts[first:-1], dtype=np.int64)
        n_tokens = documents.starts[-1] - documents.starts[first]
        return _Task(number, first, starts, list(cutter.contexts(gathered)), n_tokens)

    for document in tokenized:
        gathered.append(document)
        if documents.starts[-1] - documents.starts[first] >= TASK_TOKENS:
            yield task()
            number, first, gathered = number + 1, first + len(gathered), []
    if documents.starts[-1] > documents.starts[first]:  # what is left may be empty documents
        yield task()


class IndexWorker(Worker[_Task, list[list[Fires]], int]):
    """Runs the model and the dictionaries over tasks, and writes a segment per task for each index.

    A result is the number of tokens of a task.

    Args:
        readings: one for each dictionary.
        outs: the folder of each dictionary's index.
    """

    def __init__(self, readings: list[Reading], outs: list[Path], sampling: Sampling) -> None:
        self.readings, self.outs, self.sampling = readings, outs, sampling
        self.out = outs[0]

    def recipe(self) -> tuple[Callable[..., "IndexWorker"], tuple]:
        models = [SentModel.of(model) for model in self.readings[0].models]
        outs = [out.resolve() for out in self.outs]
        artifacts = [reading.dictionary.artifact for reading in self.readings]
        folders = [
            artifact.folder.resolve() if artifact else out / INNER_DICTIONARY
            for artifact, out in zip(artifacts, outs, strict=True)
        ]
        return _load_worker, (models, folders, outs, self.sampling)

    def size(self, task: _Task) -> float:
        return task.n_tokens

    def finished(self, task: _Task) -> int | None:
        return task.n_tokens if all(is_written(out, task.number) for out in self.outs) else None

    def compute(self, task: _Task, advance: Callable[[float], None]) -> list[list[Fires]]:
        """The activations above zero, for each dictionary in parts."""
        parts: list[list[Fires]] = [[] for _ in self.readings]
        for reads in stream_each(self.readings, batches(task.contexts, BATCH_TOKENS)):
            for fires, read in zip(parts, reads, strict=True):
                token = task.starts[read.batch.document - task.first_document] + read.batch.position
                row, feature, value = read.fires
                fires.append(Fires(token[row], feature, value.astype(np.float32)))
            advance(int(reads[0].text_mask.sum()))
        return parts

    def write(self, task: _Task, computed: list[list[Fires]]) -> int:
        for out, reading, parts in zip(self.outs, self.readings, computed, strict=True):
            fires = Fires(*map(np.concatenate, zip(*parts, strict=True)))
            write_task(out, task.number, fires, self.sampling, reading.dictionary.n_features, task.n_tokens)
        return task.n_tokens


def _load_worker(
    models: list[SentModel], dictionaries: list[Path], outs: list[Path], sampling: Sampling
) -> IndexWorker:
    transformers.utils.logging.disable_progress_bar()  # the parent shows progress
    model, *others = (sent.load() for sent in models)
    loaded = [load_dictionary(folder, models[0].device) for folder in dictionaries]
    return IndexWorker(_readings(loaded, model, others), outs, sampling)


# ---------------------------------------------------------------- run


def _run(
    job: _Job, unfinished: list[tuple[Reading, Draft[Path]]], options: TaskOptions, reporter: Reporter
) -> tuple[np.ndarray, int]:
    """Run all tasks; returns the number of each document's first token, with that of all tokens, and of the tasks."""
    settings, model = job.settings, job.readings[0].models[0]
    outs = [draft.folder for _, draft in unfinished]
    for out in outs:
        (out / SEGMENTS).mkdir(exist_ok=True)
    worker = IndexWorker([reading for reading, _ in unfinished], outs, Sampling(settings.sample, settings.seed))
    documents = Documents(outs[0], model)
    tasks = _tasks(documents.write_each(job.cutter.tokenize(job.corpus), settings.tokens), documents, job.cutter)
    gpus = int(model.device.type == "cuda")
    with reporter.start("index", settings.tokens, "tokens") as progress:
        n_tasks = sum(1 for _ in run_tasks(tasks, worker, options, progress, threads=settings.threads, gpus=gpus))
    n_tokens = documents.starts[-1]
    if n_tokens == 0:
        raise TextError(f"{job.corpus.name}: there are no tokens to index")
    documents.close(copies=outs[1:])
    if settings.tokens and n_tokens < settings.tokens:
        reporter.say(
            f"{job.corpus.name} has {n_tokens:,} tokens, fewer than the {settings.tokens:,} asked for: all are used"
        )
    if job.corpus.skipped:
        reporter.say(f"{job.corpus.skipped:,} bad lines were left out")
    return np.asarray(documents.starts, dtype=np.int64), n_tasks
