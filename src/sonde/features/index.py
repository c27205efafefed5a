"""Index: one pass of text through model and dictionary finds where every feature fires.

1. Read and tokenize documents; note each token's place in its text.
2. Run the model up to the dictionary's site, encode, keep every activation above zero.
3. Sort what was kept by feature, strongest first: the postings.
4. From the postings: density, maximum, mean; from the decoder: the direct logits.
5. Write the documents and, for search by words, what stands around each feature's strongest examples.
"""

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from sonde.activations.contexts import Context, Cutter, Tokenized, groups, make_batch
from sonde.activations.corpus import Corpus, Document
from sonde.devices import ensure_memory
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading, split_site
from sonde.errors import ModelLacksError, TextError
from sonde.features.settings import IndexSettings
from sonde.features.store import CONTEXT_TOKENS, DATABASE, FEATURES, FORMAT, POSTINGS, Index, read_document
from sonde.manifests import new_artifact, parent_entry, storage_errors, write_bytes
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Progress, Reporter, Silent
from sonde.settings import from_mapping, to_mapping

SEARCHED_EXAMPLES = 20
BYTES_PER_TOKEN = 4
"""about what a token takes in a text file; for the estimate of memory alone"""
POSTING_BYTES = 60
"""peak memory of an activation while postings are sorted: columns, keys, order and sorted copies"""
RESIDUAL_SITES = ("residual", "residual_mid", "attention", "mlp", "embedding", "final")
"""sites whose vectors live in the stream, so that the direct path to the logits means something"""


def index(
    model: Model | str | Path | None,
    dictionary: Dictionary | str | Path,
    text: str | Path | Sequence[str | Document],
    *,
    device: str = "auto",
    reporter: Reporter | None = None,
    **settings: Any,
) -> Index:
    """Find where every feature of a dictionary fires in a text.

    Args:
        model: the model to read with; None for the one that the dictionary was trained on.
        dictionary: a dictionary or its folder.
        text: a .txt or .jsonl file, its .gz, a folder of them, or a list of texts.
        device: auto, cpu, cuda, cuda:N or mps; for what is loaded here.
        reporter: told of progress.
        settings: the fields of `IndexSettings`; `out` is needed.

    Raises:
        ArtifactMismatchError (the dictionary does not fit the model), TextError, CapacityError,
        OutputOccupiedError, OutputBusyError, StorageError.
    """
    chosen = from_mapping(IndexSettings, settings)
    reporter = reporter or Silent()
    loaded = dictionary if isinstance(dictionary, Dictionary) else load_dictionary(dictionary, device)
    assert loaded.folder is not None and loaded.manifest is not None
    reader = model if isinstance(model, Model) else load_model(model or loaded.facts["model"]["name"], device=device)
    reading = Reading(loaded, reader)
    corpus = Corpus(text, chosen.field, chosen.skip_bad)
    cutter = Cutter(reader)
    per_token = max(loaded.facts["training_rows"]["l0"], 1.0)
    n_expected = chosen.tokens or corpus.size_bytes // BYTES_PER_TOKEN
    ensure_memory(
        n_expected * per_token * POSTING_BYTES,
        f"an index of {n_expected:,} tokens with {per_token:.0f} active features each",
        "fewer --tokens need less",
    )

    described = to_mapping(chosen) | {"text": corpus.name}
    parents = {"dictionary": parent_entry(loaded.folder, loaded.manifest)}
    with new_artifact(chosen.out, format=FORMAT, settings=described, parents=parents) as draft:
        if draft.finished:
            reporter.say(f"{chosen.out} is finished: {draft.finished.facts['tokens']:,} tokens")
            return Index(chosen.out, draft.finished)
        database = _new_database(chosen.out / DATABASE)
        with database, reporter.start("index", chosen.tokens, "tokens") as progress:
            columns, n_tokens, n_documents = _collect(reading, corpus, cutter, chosen.tokens, database, progress)
        if n_tokens == 0:
            raise TextError(f"{corpus.name}: there are no tokens to index")
        if chosen.tokens and n_tokens < chosen.tokens:
            reporter.say(
                f"{corpus.name} has {n_tokens:,} tokens, fewer than the {chosen.tokens:,} asked for: all are used"
            )
        if corpus.skipped:
            reporter.say(f"{corpus.skipped:,} bad lines were left out")
        postings = _sort_postings(*columns, loaded.n_features)
        statistics = _statistics(postings, n_tokens)
        has_logits = _add_logits(statistics, reader, loaded, chosen.top_logits)
        facts = {
            "n_features": loaded.n_features,
            "tokens": n_tokens,
            "documents": n_documents,
            "activations": len(postings["value"]),
            "dead": float((statistics["density"] == 0).mean()),
            "l0": len(postings["value"]) / n_tokens,
            "site": loaded.site,
            "model": {"name": reader.name, "id": reader.identity},
            "logits": has_logits,
        }
        write_bytes(chosen.out / POSTINGS, save(postings))
        write_bytes(chosen.out / FEATURES, save(statistics))
        _write_vocabulary(database, reader)
        _write_search(database, postings)
        _close_database(database, chosen.out / DATABASE)
        draft.finish([POSTINGS, FEATURES, DATABASE], facts)
    assert draft.finished is not None
    return Index(chosen.out, draft.finished)


def _collect(
    reading: Reading,
    corpus: Corpus,
    cutter: Cutter,
    limit: int | None,
    database: sqlite3.Connection,
    progress: Progress,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], int, int]:
    """Run all documents; return (feature, document, position, value) of every activation, tokens, documents."""
    n_tokens = n_documents = 0

    def noted() -> Iterator[Tokenized]:
        nonlocal n_tokens, n_documents
        for document in cutter.tokenize(corpus):
            _write_document(database, document, reading.models[0])
            n_tokens += len(document.ids)
            n_documents += 1
            yield document

    parts = []
    for group in groups(noted(), cutter, limit):
        parts.append(_fire(reading, group))
        progress.advance(sum(context.n_text for context in group))
    if not parts:
        empty = np.empty(0)
        return (empty, empty, empty, empty), 0, 0
    feature, document_number, position, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return (feature, document_number, position, value), n_tokens, n_documents


@torch.no_grad()
def _fire(reading: Reading, contexts: list[Context]) -> tuple[np.ndarray, ...]:
    """All activations above zero in a batch of contexts."""
    batch = make_batch(reading.models[0], contexts)
    x, _ = reading(batch.tokens, batch.text_mask)
    row, feature, value = reading.dictionary.active(x)
    rows = row.cpu().numpy()
    return (
        feature.cpu().numpy().astype(np.int32),
        batch.document[rows].astype(np.uint32),
        batch.position[rows].astype(np.uint32),
        value.float().cpu().numpy(),
    )


def _sort_postings(
    feature: np.ndarray, document: np.ndarray, position: np.ndarray, value: np.ndarray, n_features: int
) -> dict[str, np.ndarray]:
    """By feature, strongest first; equal activations in the order of the text."""
    order = np.lexsort((position, document, -value, feature))
    offsets = np.zeros(n_features + 1, dtype=np.int64)
    np.cumsum(np.bincount(feature, minlength=n_features), out=offsets[1:])
    return {"offsets": offsets, "document": document[order], "position": position[order], "value": value[order]}


def _statistics(postings: dict[str, np.ndarray], n_tokens: int) -> dict[str, np.ndarray]:
    """density, maximum and mean of each feature."""
    offsets, value = postings["offsets"], postings["value"]
    counts = np.diff(offsets)
    fires = counts > 0
    maximum, mean = np.zeros(len(counts), dtype=np.float32), np.zeros(len(counts), dtype=np.float32)
    maximum[fires] = value[offsets[:-1][fires]]
    if fires.any():
        sums = np.add.reduceat(value.astype(np.float64), offsets[:-1][fires])
        mean[fires] = sums / counts[fires]
    return {"density": counts / n_tokens, "maximum": maximum, "mean": mean}


def _add_logits(statistics: dict[str, np.ndarray], model: Model, dictionary: Dictionary, n: int) -> bool:
    """Add the tokens that each feature makes most and least likely; false where the model cannot say.

    Of several sites that are written, the last of the model speaks.
    """
    own = [split_site(site) for site in dictionary.writes]
    last = next(place for place, (number, _) in reversed(list(enumerate(own))) if number == 1)
    if own[last][1].split(".")[-1] not in RESIDUAL_SITES:
        return False
    W_dec = dictionary.W_dec.split(list(dictionary.writes.values()), dim=1)[last]
    try:
        model.need_head("the direct path to the logits")
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


def _new_database(path: Path) -> sqlite3.Connection:
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    database.executescript(
        """
        PRAGMA journal_mode = OFF;
        PRAGMA synchronous = OFF;
        CREATE TABLE documents (number INTEGER PRIMARY KEY, text TEXT NOT NULL, spans BLOB NOT NULL);
        CREATE TABLE pictures (
            document INTEGER, number INTEGER, first INTEGER, rows INTEGER, columns INTEGER, image BLOB NOT NULL,
            PRIMARY KEY (document, number)
        ) WITHOUT ROWID;
        CREATE TABLE vocabulary (token INTEGER PRIMARY KEY, text TEXT NOT NULL);
        CREATE VIRTUAL TABLE examples USING fts5 (fires, contexts, tokenize = "unicode61 remove_diacritics 2");
        """
    )
    return database


def _write_document(database: sqlite3.Connection, document: Tokenized, model: Model) -> None:
    """Keep a document, where its tokens stand in it, and its pictures as the model sees them."""
    packed = zlib.compress(np.asarray(document.spans, dtype="<i4").tobytes(), 1)
    database.execute("INSERT INTO documents VALUES (?, ?, ?)", (document.number, document.document.text, packed))
    for number, (first, picture) in enumerate(document.pictures):
        row = (document.number, number, first, *picture.grid, model.need_pictures().encode(picture))
        database.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?)", row)


def _close_database(database: sqlite3.Connection, path: Path) -> None:
    """Commit and flush: the index is rebuilt from nothing if this never happens, so no journal is needed."""
    with storage_errors(path):
        database.commit()
        database.close()
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _write_vocabulary(database: sqlite3.Connection, model: Model) -> None:
    tokenizer = model.need_tokenizer()
    rows = ((token, tokenizer.decode([token])) for token in range(len(tokenizer)))
    database.executemany("INSERT INTO vocabulary VALUES (?, ?)", rows)


def _write_search(database: sqlite3.Connection, postings: dict[str, np.ndarray]) -> None:
    """For each feature: the words at which its strongest examples fire, and the text around them."""
    offsets = postings["offsets"]
    for number in range(len(offsets) - 1):
        strongest = range(offsets[number], min(offsets[number + 1], offsets[number] + SEARCHED_EXAMPLES))
        fires, contexts = [], set()
        for place in strongest:
            text, spans = read_document(database, int(postings["document"][place]))
            position = int(postings["position"][place])
            around = spans[max(0, position - CONTEXT_TOKENS) : position + CONTEXT_TOKENS + 1]
            contexts.add(text[around[0][0] : around[-1][1]])
            fires.append(_whole_word(text, *spans[position]))
        if fires:
            row = (number, " ".join(fires), "\n".join(sorted(contexts)))
            database.execute("INSERT INTO examples (rowid, fires, contexts) VALUES (?, ?, ?)", row)


def _whole_word(text: str, start: int, end: int) -> str:
    """The word that holds a span: tokens are often parts of words, and people search for words."""
    while start > 0 and text[start - 1].isalnum() and text[start : start + 1].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return text[start:end].strip()
