"""Index: one pass of text through model and dictionaries finds where every feature fires.

1. Read and tokenize documents, note each token's place in its text, and gather documents into tasks.
2. For each task: run the model up to the dictionaries' sites, encode, write every activation above zero, by feature, as a
   segment. A task that an earlier run has written is skipped.
3. For each dictionary: merge its segments, some features at a time: postings, density, maximum, mean; what fires together.
4. From the decoder: the direct logits. From the strongest examples: what search by words looks in.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save

from sonde.activations.contexts import BATCH_TOKENS, Context, Cutter, Tokenized, batches, make_batch
from sonde.activations.corpus import Corpus, Document
from sonde.activations.workers import here, in_order, processes, recipe
from sonde.artifacts import Draft, new_artifact
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import content_id, load_dictionary, save_dictionary
from sonde.dictionaries.reading import Reading, read_each, split_site
from sonde.errors import ArtifactMismatchError, ModelLacksError, TextError, UsageError
from sonde.facts import ModelRef
from sonde.features.database import Documents, write_search
from sonde.features.documents import DATABASE
from sonde.features.folder import COACTIVE, FEATURES, FORMAT, POSTINGS, IndexFacts
from sonde.features.index import Index
from sonde.features.postings import Fires, Kept, first_of_each, merged, pack, record_type, write_task
from sonde.features.settings import IndexSettings
from sonde.features.together import Together
from sonde.manifests import Manifest, parent_entry, write_bytes, write_json
from sonde.models.load import IN_MEMORY_MODEL, load_model
from sonde.models.model import Model
from sonde.progress import Progress, Reporter, Silent
from sonde.settings import check, from_mapping, to_mapping
from sonde.tensor_files import header_bytes

TASK_TOKENS = 1 << 16
"""it fixes the batches, and so the arithmetic, of a run and of its resumption"""
MEMORY = 512 * 10**6
SEGMENTS = "segments"
"""folder of what tasks write, which is removed in the end"""
INNER_DICTIONARY = "dictionary"
"""folder in the index of a dictionary that was made in memory"""
RESIDUAL_SITES = ("residual", "residual_mid", "attention", "mlp", "embedding", "final")
"""sites whose vectors live in the stream, so that the direct path to the logits means something"""


@overload
def index(
    model: Model | str | Path | None,
    dictionary: Dictionary | str | Path,
    text: str | Path | Sequence[str | Document],
    *,
    workers: int | None = None,
    memory: int = MEMORY,
    device: str = "auto",
    reporter: Reporter | None = None,
    **settings: Any,
) -> Index: ...
@overload
def index(
    model: Model | str | Path | None,
    dictionary: Sequence[Dictionary | str | Path],
    text: str | Path | Sequence[str | Document],
    *,
    workers: int | None = None,
    memory: int = MEMORY,
    device: str = "auto",
    reporter: Reporter | None = None,
    **settings: Any,
) -> list[Index]: ...
def index(
    model: Model | str | Path | None,
    dictionary: Dictionary | str | Path | Sequence[Dictionary | str | Path],
    text: str | Path | Sequence[str | Document],
    *,
    workers: int | None = None,
    memory: int = MEMORY,
    device: str = "auto",
    reporter: Reporter | None = None,
    **settings: Any,
) -> Index | list[Index]:
    """Find where every feature of a dictionary, or of several, fires in a text.

    Args:
        model: the model to read with; None for the one that the dictionary was trained on.
        dictionary: a dictionary or its folder. Of several, which must be of one model, each has an index of its own in
            `out`, under the name of its folder; the model reads the text once for all.
        text: a .txt or .jsonl file, its .gz, a .npy of token ids, a folder of them, or a list of texts.
        workers: how many processes share the tasks, each with the model in its memory. The index is the same for any number,
            where `threads` is.
        memory: bytes for what is merged at once, besides model and dictionaries; changes nothing that is written.
        device: auto, cpu, cuda, cuda:N or mps; for what is loaded here.
        reporter: told of progress.
        settings: the fields of `IndexSettings`; `out` is needed.

    Returns:
        The index, or one for each dictionary; the same command, run again, goes on where it stopped.

    Raises:
        ArtifactMismatchError (a dictionary does not fit the model), TextError, CapacityError, UsageError,
        OutputOccupiedError, OutputBusyError, StorageError.
    """
    chosen = from_mapping(IndexSettings, settings)
    reporter = reporter or Silent()
    alone = isinstance(dictionary, Dictionary | str | Path)
    given = [dictionary] if isinstance(dictionary, Dictionary | str | Path) else list(dictionary)
    check(len(given) > 0, "dictionary", "none", "at least one")
    check(workers is None or workers > 0, "workers", workers, "above 0")
    check(memory >= 10**6, "memory", memory, "at least 1MB")
    dictionaries = [one if isinstance(one, Dictionary) else load_dictionary(one, device) for one in given]
    reader = (
        model
        if isinstance(model, Model)
        else load_model(model or dictionaries[0].info.require_model().name, device=device)
    )
    if workers and workers > 1 and reader.name == IN_MEMORY_MODEL:
        raise UsageError("a model in memory cannot be sent to workers; give the folder or the name that they can load")
    readings = _readings(dictionaries, reader)
    corpus = Corpus(text, chosen.field, chosen.skip_bad)
    cutter = Cutter(reader, chosen.context)
    outs = [chosen.out] if alone else _own_folders(chosen.out, dictionaries)

    described = to_mapping(chosen) | {"text": corpus.name, "context": cutter.length}
    with contextlib.ExitStack() as stack:
        makings = []
        for reading, out in zip(readings, outs, strict=True):
            parents = {"dictionary": _parent(reading.dictionary)}
            draft = stack.enter_context(new_artifact(out, format=FORMAT, settings=described, parents=parents))
            if draft.finished:
                reporter.say(f"{out} is finished: {Index(out, draft.finished).n_tokens:,} tokens")
            elif reading.dictionary.artifact is None:
                save_dictionary(reading.dictionary, out / INNER_DICTIONARY)
            makings.append(_Making(reading, draft))
        unfinished = [making for making in makings if not making.draft.finished]
        if unfinished:
            _make(unfinished, reader, corpus, cutter, chosen, workers, memory, reporter)
    for out in outs:
        shutil.rmtree(out / SEGMENTS, ignore_errors=True)  # once the manifest is written
    found = []
    for making in makings:
        assert making.draft.finished is not None
        found.append(Index(making.draft.folder, making.draft.finished))
    return found[0] if alone else found


@dataclass(frozen=True)
class _Making:
    """An index that is being made."""

    reading: Reading
    draft: Draft[Path]

    @property
    def dictionary_folder(self) -> Path:
        artifact = self.reading.dictionary.artifact
        return self.draft.folder / INNER_DICTIONARY if artifact is None else artifact.folder


@dataclass
class _Task:
    number: int
    first_document: int
    starts: np.ndarray
    """[document] number of the first token of each document of the task"""
    contexts: list[Context]
    n_tokens: int


def _readings(dictionaries: Sequence[Dictionary], reader: Model) -> list[Reading]:
    """What each dictionary reads, all from one model; raises ArtifactMismatchError where they were trained on different ones."""
    first = dictionaries[0]
    for other in dictionaries[1:]:
        if (first.info.model, first.info.other_models) != (other.info.model, other.info.other_models):
            names = [one.artifact.folder if one.artifact else repr(one) for one in (first, other)]
            raise ArtifactMismatchError(
                f"{names[0]} and {names[1]} were trained on different models; index them one at a time"
            )
    readings = [Reading(first, reader)]
    return readings + [Reading(other, reader, readings[0].models[1:]) for other in dictionaries[1:]]


def _parent(dictionary: Dictionary) -> dict[str, Any]:
    """What the manifest keeps of the dictionary; one made in memory is saved in the index's own folder."""
    if dictionary.artifact is None:
        return {"id": content_id(dictionary), "path": INNER_DICTIONARY}
    return parent_entry(*dictionary.artifact)


def _own_folders(out: Path, dictionaries: Sequence[Dictionary]) -> list[Path]:
    names = [dictionary.artifact.folder.name for dictionary in dictionaries if dictionary.artifact is not None]
    if len(names) < len(dictionaries):
        raise UsageError("of several dictionaries, each names its index by its folder; save those that are in memory")
    twice = sorted(name for name in names if names.count(name) > 1)
    if twice:
        raise UsageError(
            f"two dictionaries are named {twice[0]}, and so would be their indexes; index them one at a time"
        )
    return [out / name for name in names]


def _make(
    makings: list[_Making],
    reader: Model,
    corpus: Corpus,
    cutter: Cutter,
    settings: IndexSettings,
    workers: int | None,
    memory: int,
    reporter: Reporter,
) -> None:
    """Run all tasks, then finish each index."""
    for making in makings:
        (making.draft.folder / SEGMENTS).mkdir(exist_ok=True)
    documents = Documents(makings[0].draft.folder, reader)
    with reporter.start("index", settings.tokens, "tokens") as progress:
        tasks = _tasks(documents.kept(cutter.tokenize(corpus), settings.tokens), documents, cutter)
        n_tasks = sum(1 for _ in _run_tasks(tasks, makings, settings, workers, progress))
    n_tokens = documents.starts[-1]
    if n_tokens == 0:
        raise TextError(f"{corpus.name}: there are no tokens to index")
    if settings.tokens and n_tokens < settings.tokens:
        reporter.say(
            f"{corpus.name} has {n_tokens:,} tokens, fewer than the {settings.tokens:,} asked for: all are used"
        )
    if corpus.skipped:
        reporter.say(f"{corpus.skipped:,} bad lines were left out")
    documents.close(*(making.draft.folder for making in makings[1:]))
    starts = np.asarray(documents.starts, dtype=np.int64)
    for making in makings:
        _finish(making, n_tasks, starts, settings, memory, reader)


def _tasks(tokenized: Iterable[Tokenized], documents: Documents, cutter: Cutter) -> Iterator[_Task]:
    """Gather documents into tasks of `TASK_TOKENS`."""
    number = first = 0
    waiting: list[Tokenized] = []

    def task() -> _Task:
        starts = np.asarray(documents.starts[first:-1], dtype=np.int64)
        return _Task(
            number, first, starts, list(cutter.contexts(waiting)), documents.starts[-1] - documents.starts[first]
        )

    for document in tokenized:
        waiting.append(document)
        if documents.starts[-1] - documents.starts[first] >= TASK_TOKENS:
            yield task()
            number, first, waiting = number + 1, first + len(waiting), []
    if documents.starts[-1] > documents.starts[first]:  # what is left may be empty documents
        yield task()


def _run_tasks(
    tasks: Iterable[_Task], makings: list[_Making], settings: IndexSettings, workers: int | None, progress: Progress
) -> Iterator[int]:
    """Have every task run; yield the tokens of each, in their order."""
    kept = _kept(settings)
    if not workers or workers == 1:
        indexer = _Indexer([making.reading for making in makings], [making.draft.folder for making in makings], kept)
        yield from here(tasks, lambda task, submit: indexer.run(task, submit, progress), settings.threads)
        return
    threads = settings.threads or max(1, torch.get_num_threads() // workers)
    model = recipe(makings[0].reading.models[0])
    folders = [making.dictionary_folder.resolve() for making in makings]
    outs = [making.draft.folder.resolve() for making in makings]
    with processes(_load_indexer, (*model, threads, folders, outs, kept), workers) as submit:
        for n_tokens in in_order(tasks, submit, workers):
            progress.advance(n_tokens)
            yield n_tokens


def _kept(settings: IndexSettings) -> Kept:
    return Kept(settings.sample, settings.sample or 0, settings.seed)


def _load_indexer(
    model: str, device: str, dtype: str, threads: int, folders: list[Path], outs: list[Path], kept: Kept
) -> Callable[[_Task], int]:
    """What a worker process keeps: the model and the dictionaries, loaded once."""
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()  # progress is the parent's to show
    readings = _readings(
        [load_dictionary(folder, device) for folder in folders], load_model(model, device=device, dtype=dtype)
    )
    indexer, progress = _Indexer(readings, outs, kept), Silent().start("", None, "")
    return lambda task: indexer.run(task, lambda do, *given: do(*given), progress)


class _Indexer:
    """Runs tasks, and writes a segment of each for each index."""

    def __init__(self, readings: list[Reading], outs: list[Path], kept: Kept) -> None:
        self.readings, self.outs, self.kept = readings, outs, kept

    @torch.no_grad()
    def run(self, task: _Task, write: Callable[..., Any], progress: Progress) -> Any:
        """Run one task, unless an earlier run has; `write(do, *given)` gives its tokens."""
        if all(_segment(out, task.number, ".json").exists() for out in self.outs):
            progress.advance(task.n_tokens)
            return write(lambda: task.n_tokens)
        parts: list[list[Fires]] = [[] for _ in self.outs]
        for contexts in batches(task.contexts, BATCH_TOKENS):
            batch = make_batch(self.readings[0].models[0], contexts)
            token = task.starts[batch.document - task.first_document] + batch.position
            for own, reading, (x, _) in zip(
                parts, self.readings, read_each(self.readings, batch.tokens, batch.text_mask), strict=True
            ):
                row, feature, value = (column.cpu().numpy() for column in reading.dictionary.active(x))
                own.append(Fires(token[row], feature, value.astype(np.float32)))
            progress.advance(sum(context.n_text for context in contexts))
        return write(self._write, task, parts)

    def _write(self, task: _Task, parts: list[list[Fires]]) -> int:
        for out, reading, own in zip(self.outs, self.readings, parts, strict=True):
            n = reading.dictionary.n_features
            fires = Fires(*map(np.concatenate, zip(*own, strict=True)))
            told: dict[str, Any] = {"tokens": task.n_tokens, "activations": len(fires.value)}
            if self.kept.strongest is not None:  # what is not kept counts too
                sums = np.bincount(fires.feature, fires.value.astype(np.float64), minlength=n)
                counted = {"count": np.bincount(fires.feature, minlength=n), "sum": sums}
                write_bytes(_segment(out, task.number, ".counts"), save(counted))
            write_task(_segment(out, task.number, ".safetensors"), self.kept.of_task(fires), n)
            write_json(_segment(out, task.number, ".json"), told)  # written last, so the segment is whole
        return task.n_tokens


def _segment(out: Path, number: int, suffix: str) -> Path:
    return out / SEGMENTS / f"{number:05d}{suffix}"


def _finish(
    making: _Making, n_tasks: int, starts: np.ndarray, settings: IndexSettings, memory: int, reader: Model
) -> None:
    """Merge an index's segments, add what the decoder says, and what search looks in."""
    dictionary, out = making.reading.dictionary, making.draft.folder
    statistics, files = _merge(out, n_tasks, starts, dictionary.n_features, settings, memory)
    has_logits = _add_logits(statistics, reader, dictionary, settings.top_logits)
    n_tokens, n_activations = int(starts[-1]), int(statistics["count"].sum())
    facts = IndexFacts(
        n_features=dictionary.n_features,
        tokens=n_tokens,
        documents=len(starts) - 1,
        activations=n_activations,
        dead=float((statistics["density"] == 0).mean()),
        l0=n_activations / n_tokens,
        site=dictionary.site,
        model=ModelRef(reader.name, reader.identity),
        logits=has_logits,
        why_no_chat=reader.why_no_chat(),
    ).to_json()
    write_bytes(out / FEATURES, save(statistics))
    # What has been written can be read already, and there is one more number of each feature to be had from it.
    statistics["same_word"] = write_search(Index(out, Manifest(FORMAT, 0, {}, {}, facts, {})))
    files[FEATURES] = write_bytes(out / FEATURES, save(statistics))
    making.draft.finish([DATABASE], facts, files)


def _merge(
    out: Path, n_tasks: int, starts: np.ndarray, n: int, settings: IndexSettings, memory: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Write the postings, and what fires together; returns what is known of each feature, and the files."""
    n_tokens = int(starts[-1])
    kept = _kept(settings)
    count, total = np.zeros(n, dtype=np.int64), np.zeros(n)
    for number in range(n_tasks if settings.sample is not None else 0):
        counted = load_file(_segment(out, number, ".counts"))
        count, total = count + counted["count"], total + counted["sum"]
    if settings.sample is None:
        n_kept = sum(json.loads(_segment(out, number, ".json").read_text())["activations"] for number in range(n_tasks))
    else:
        n_kept = int(kept.count(count).sum())
    maximum, together, kind = np.zeros(n, dtype=np.float32), Together(n_tokens, settings.seed), record_type(n_tokens)

    def parts() -> Iterator[Any]:
        yield header_bytes({"records": (np.dtype(np.uint8), (n_kept, kind.itemsize))})
        for fires in merged([_segment(out, number, ".safetensors") for number in range(n_tasks)], memory):
            first = first_of_each(fires.feature)
            features = fires.feature[first]
            maximum[features] = fires.value[first]
            if settings.sample is None and len(first):
                count[features] = np.diff(first, append=len(fires.feature))
                total[features] = np.add.reduceat(fires.value, first, dtype=np.float64)
            together.add(fires)
            yield pack(kept.of_sorted(fires), maximum, n_tokens).view(np.uint8).data

    files = {
        POSTINGS: write_bytes(out / POSTINGS, parts()),
        COACTIVE: write_bytes(out / COACTIVE, together.to_bytes(n)),
    }
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept.count(count))])
    mean = (total / np.maximum(count, 1)).astype(np.float32)
    found = {"offsets": offsets, "starts": starts, "count": count, "density": count / n_tokens}
    return found | {"maximum": maximum, "mean": mean}, files


def _add_logits(statistics: dict[str, np.ndarray], model: Model, dictionary: Dictionary, n: int) -> bool:
    """Add the tokens that each feature makes most and least likely; false where the model cannot say.

    Of several sites that are written, the last of the model speaks.
    """
    own = [split_site(site) for site in dictionary.writes]
    last = next(place for place, (number, _) in reversed(list(enumerate(own))) if number == 1)
    if own[last][1].split(".")[-1] not in RESIDUAL_SITES:
        return False
    W_dec = dictionary.W_dec.detach().split(list(dictionary.writes.values()), dim=1)[last]
    try:
        model.require_head("the direct path to the logits")
    except ModelLacksError:
        return False
    parts: dict[str, list[np.ndarray]] = {}
    for rows in W_dec.split(1024):
        logits = model.unembed(rows.to(model.device, model.dtype)).float()
        logits -= logits.mean(dim=1, keepdim=True)
        for which, largest in (("top", True), ("bottom", False)):
            values, tokens = logits.topk(min(n, logits.shape[1]), dim=1, largest=largest)
            parts.setdefault(f"{which}_logit_values", []).append(values.cpu().numpy())
            parts.setdefault(f"{which}_logit_tokens", []).append(tokens.cpu().numpy().astype(np.int32))
    statistics |= {name: np.concatenate(pieces) for name, pieces in parts.items()}
    return True
