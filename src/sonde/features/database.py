"""Writing an index's database: documents, vocabulary, and the words in which search looks."""

import os
import shutil
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sonde.activations.contexts import Tokenized
from sonde.features.documents import DATABASE, read_document
from sonde.features.examples import CONTEXT_TOKENS
from sonde.features.index import Index
from sonde.manifests import storage_errors
from sonde.models.model import Model
from sonde.models.token_text import TokenTexts

SEARCHED_EXAMPLES = 20
FEATURES_AT_ONCE = 1 << 13
"""features whose examples are gathered together, so that a document is unpacked once for all of them"""

_TABLES = """
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


class Documents:
    """The documents of a text, written to the database as they pass.

    `starts` has the number of each document's first token, and at its end the number of all tokens.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self.path, self.model = folder / DATABASE, model
        self.path.unlink(missing_ok=True)
        self._database = sqlite3.connect(self.path)
        self._database.executescript(_TABLES)
        tokenizer = model.require_tokenizer()
        texts = TokenTexts(tokenizer)
        rows = ((token, texts.text(token)) for token in range(len(tokenizer)))
        self._database.executemany("INSERT INTO vocabulary VALUES (?, ?)", rows)
        self.starts = [0]

    def write_each(self, documents: Iterable[Tokenized], limit: int | None) -> Iterator[Tokenized]:
        """Yield each document once it is written, until `limit` tokens are reached.

        Written are its text, where its tokens stand in it, and its pictures as the model sees them.
        """
        for document in documents:
            packed = zlib.compress(np.asarray(document.spans, dtype="<i4").tobytes(), 1)
            self._database.execute(
                "INSERT INTO documents VALUES (?, ?, ?)", (document.number, document.document.text, packed)
            )
            for number, (first, picture) in enumerate(document.pictures):
                row = (document.number, number, first, *picture.grid, self.model.require_pictures().encode(picture))
                self._database.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?)", row)
            self.starts.append(self.starts[-1] + len(document.ids))
            yield document
            if limit and self.starts[-1] >= limit:
                return

    def close(self, copies: Iterable[Path]) -> None:
        """Commit, and copy the database into the folders of other indexes of the same text."""
        with storage_errors(self.path):
            self._database.commit()
            self._database.close()
            for folder in copies:
                shutil.copyfile(self.path, folder / DATABASE)


def write_search(index: Index) -> np.ndarray:
    """Write for each feature the words at which its strongest examples fire, and the text around them.

    Returns the share of those examples that fire at their most common word [feature]; 0 for a dead feature.
    """
    path, same_word = index.folder / DATABASE, np.zeros(index.n_features, dtype=np.float32)
    with storage_errors(path):
        database = sqlite3.connect(path)
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        for first in range(0, index.n_features, FEATURES_AT_ONCE):
            examples = _examples(database, index, range(first, min(first + FEATURES_AT_ONCE, index.n_features)))
            rows = [
                (feature, " ".join(words), "\n".join(sorted(contexts)))
                for feature, (words, contexts) in examples.items()
            ]
            database.executemany("INSERT INTO examples (rowid, fires, contexts) VALUES (?, ?, ?)", rows)
            for feature, (words, _) in examples.items():
                [(_, n)] = Counter(word.lower() for word in words).most_common(1)
                same_word[feature] = n / len(words)
        database.commit()
        database.close()
        # Without a journal: where a crash comes before this, the whole database is made again.
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    return same_word


def _examples(database: sqlite3.Connection, index: Index, features: range) -> dict[int, tuple[list[str], set[str]]]:
    """feature -> (the words at which its strongest examples fire, the texts around them), of features that fire."""
    places: list[tuple[int, int, int]] = []
    for feature in features:
        fires = index.fires(feature, SEARCHED_EXAMPLES)
        places += zip(fires.document.tolist(), fires.position.tolist(), [feature] * len(fires.value), strict=True)
    examples: dict[int, tuple[list[str], set[str]]] = {}
    current, text, spans = -1, "", np.empty((0, 2), dtype=np.int32)
    for document, position, feature in sorted(places):
        if document != current:
            (text, spans), current = read_document(database, document), document
        around = spans[max(0, position - CONTEXT_TOKENS) : position + CONTEXT_TOKENS + 1]
        words, contexts = examples.setdefault(feature, ([], set()))
        words.append(_whole_word(text, *spans[position]))
        contexts.add(text[around[0][0] : around[-1][1]])
    return dict(sorted(examples.items()))


def _whole_word(text: str, start: int, end: int) -> str:
    """The word around a span: tokens are often parts of words, and people search for words."""
    while start > 0 and text[start - 1].isalnum() and text[start : start + 1].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return text[start:end].strip()
