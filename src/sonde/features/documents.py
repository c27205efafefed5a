"""The text of an index, read from its SQLite file: documents, their pictures, the vocabulary, and search by words."""

import sqlite3
import zlib
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sonde.errors import ArtifactDamagedError, FeatureError
from sonde.features.words import terms_of
from sonde.manifests import unusable

DATABASE = "index.sqlite"
MOST_SPAN_BYTES = 1 << 28
"""of a document's spans, unpacked: 32 million tokens; what claims more was made to fill the memory"""


class PictureSpan(NamedTuple):
    """Where a picture is in a document: its patches are tokens that follow each other, row by row."""

    first: int
    """position of the first patch"""
    rows: int
    columns: int

    @property
    def n_patches(self) -> int:
        return self.rows * self.columns


class IndexText:
    """The documents, pictures and vocabulary of an index, and the words at and around which features fire."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _database(self) -> sqlite3.Connection:
        try:
            uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"  # which escapes # and ? in names
            return sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise ArtifactDamagedError(unusable(self.path, error, "make the index again")) from error

    def document(self, number: int) -> tuple[str, np.ndarray]:
        """A document's text and the spans [token, (start, end)] of its tokens in it."""
        return read_document(self._database, number)

    def pictures(self, document: int) -> list[PictureSpan]:
        """Where the pictures of a document are."""
        query = "SELECT first, rows, columns FROM pictures WHERE document = ? ORDER BY number"
        return [PictureSpan(*row) for row in self._database.execute(query, (document,))]

    def picture(self, document: int, number: int) -> bytes:
        """A picture of a document as the model saw it, as a WebP file; raises FeatureError where there is none."""
        query = "SELECT image FROM pictures WHERE document = ? AND number = ?"
        row = self._database.execute(query, (document, number)).fetchone()
        if row is None:
            raise FeatureError(f"document {document} of the index has no picture {number}")
        return row[0]

    def token(self, token: int) -> str:
        """The text of a token id."""
        row = self._database.execute("SELECT text FROM vocabulary WHERE token = ?", (token,)).fetchone()
        return row[0] if row else f"<{token}>"

    def matching(self, query: str, words: str, n: int) -> list[tuple[int, str, float]]:
        """(feature, snippet, BM25) of features whose examples match one of the `queries` of some words, best first.

        Of several words, those at which a feature fires count again, as a phrase is seldom whole there.
        """
        terms = terms_of(words)
        if len(terms) > 1:
            query = f"({query}) AND (({query}) OR fires : ({' OR '.join(terms)}))"
        select = (
            "SELECT rowid, snippet(examples, 1, '', '', '...', 16), -bm25(examples, 8.0, 1.0) FROM examples "
            "WHERE examples MATCH ? ORDER BY bm25(examples, 8.0, 1.0) LIMIT ?"
        )
        return self._database.execute(select, (query, n)).fetchall()


def read_document(database: sqlite3.Connection, number: int) -> tuple[str, np.ndarray]:
    """A document's text and the spans [token, (start, end)] of its tokens in it."""
    row = database.execute("SELECT text, spans FROM documents WHERE number = ?", (number,)).fetchone()
    assert row is not None, f"document {number} is in the postings, so it is in the table"
    unpack = zlib.decompressobj()
    spans = unpack.decompress(row[1], MOST_SPAN_BYTES)
    if unpack.unconsumed_tail:
        raise ArtifactDamagedError(f"document {number} of the index claims more tokens than any has; make it again")
    return row[0], np.frombuffer(spans, dtype="<i4").reshape(-1, 2)


def locate(token: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents of tokens, and positions in them.

    Args:
        token: numbers of tokens in the whole text.
        starts: number of the first token of each document.
    """
    document = np.searchsorted(starts, token, side="right") - 1
    return document, token - starts[document]
