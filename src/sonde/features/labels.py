"""Labels of features by people and judges, with evidence and scores, and notes.

A SQLite file beside the index, which any number of processes may write at once. Nothing is changed or removed: the
newest label of a feature counts, and the earlier ones stay as its history.
"""

import contextlib
import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonde.errors import ArtifactDamagedError, TextError
from sonde.features.words import queries
from sonde.locks import open_alone
from sonde.manifests import storage_errors, write_bytes
from sonde.remote import local_path
from sonde.texts import escaped, read_lines, require_unicode

LABELS = "labels.sqlite"
WAIT_S = 30.0
"""how long to wait for another process that is writing"""
MOST_RANKED = 5_000
"""labels that are ranked at most; where more match, some are returned in no order"""
_TABLES = """
CREATE TABLE labels (
    id INTEGER PRIMARY KEY, feature INTEGER NOT NULL, label TEXT NOT NULL, by TEXT NOT NULL,
    evidence TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX labels_of ON labels (feature, id);
CREATE TABLE scores (
    id INTEGER PRIMARY KEY, feature INTEGER NOT NULL, label TEXT NOT NULL, score TEXT NOT NULL, by TEXT NOT NULL,
    value REAL, details TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX scores_of ON scores (feature, id);
CREATE TABLE notes (
    id INTEGER PRIMARY KEY, feature INTEGER NOT NULL, note TEXT NOT NULL, by TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX notes_of ON notes (feature, id);
CREATE VIRTUAL TABLE words USING fts5 (label, notes, tokenize = "unicode61 remove_diacritics 2", prefix = "2 3");
"""
_LABELS = "SELECT feature, label, by, evidence, at FROM labels"
_NEWEST = "SELECT MAX(id) FROM labels"


def create_database(path: Path, tables: str) -> None:
    """Create a database that several processes may write, with its tables, unless there is one."""
    if path.exists():
        return
    # Created under another name and then linked: while a database turns to write-ahead logging, others that open it may
    # fail.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with storage_errors(path):
        try:
            database = sqlite3.connect(temporary)
            database.executescript("PRAGMA journal_mode = WAL;" + tables)
            database.close()
            _name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _name(made: Path, path: Path) -> None:
    """Give a new database its name, unless another process was faster."""
    try:
        os.link(made, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):  # of file systems without hard links
            raise
        with open_alone(lock := path.with_name(f"{path.name}.lock"), wait=True):
            if not path.exists():
                made.rename(path)
            lock.unlink()


@dataclass(frozen=True)
class Label:
    """What a person or a judge says that a feature stands for."""

    feature: int
    label: str
    by: str
    """a person, embedded (the explainer that needs no model), or the judge's provider:model"""
    evidence: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0
    """seconds since 1970"""


@dataclass(frozen=True)
class Score:
    """How well a label fits a feature, by one test."""

    feature: int
    label: str
    """the label that was tested; empty where a test needs none"""
    score: str
    """name of the test"""
    by: str
    """who judged"""
    value: float | None
    """None where the judge gave no usable answer"""
    details: dict[str, Any] = field(default_factory=dict)
    """chance, controls, how many questions were asked and how many failed"""
    at: float = 0.0


class Labels:
    """The labels, scores and notes of an index folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LABELS

    def __getitem__(self, feature: int) -> Label | None:
        """The newest label of a feature."""
        labels = self.history(feature)
        return labels[-1] if labels else None

    def all(self) -> dict[int, Label]:
        """The newest label of each feature that has one."""
        return {row[0]: _label(row) for row in self._read(f"{_LABELS} WHERE id IN ({_NEWEST} GROUP BY feature)")}

    @property
    def n_labelled(self) -> int:
        """Features that have a label."""
        rows = self._read("SELECT COUNT(DISTINCT feature) FROM labels")
        return rows[0][0] if rows else 0

    def of(self, features: Sequence[int]) -> dict[int, Label]:
        """The newest label of each of these features that has one, by one query."""
        newest = f"{_NEWEST} WHERE feature IN (SELECT value FROM json_each(?)) GROUP BY feature"
        numbers = json.dumps([int(feature) for feature in features])
        return {row[0]: _label(row) for row in self._read(f"{_LABELS} WHERE id IN ({newest})", numbers)}

    def history(self, feature: int) -> list[Label]:
        """All labels of a feature, the newest last."""
        return [_label(row) for row in self._read(f"{_LABELS} WHERE feature = ? ORDER BY id", feature)]

    def add(self, feature: int, label: str, by: str = "person", evidence: dict[str, Any] | None = None) -> Label:
        """Give a feature a label; raises TextError where it is empty or no Unicode."""
        if not label.strip():
            raise TextError(f"the label of feature {feature} is empty; write a few words")
        require_unicode(label, f"the label of feature {feature}")
        new = Label(feature, " ".join(label.split()), by, evidence or {}, time.time())
        with self._writing() as database:
            row = (new.feature, new.label, new.by, escaped(json.dumps(new.evidence, ensure_ascii=False)), new.at)
            database.execute("INSERT INTO labels (feature, label, by, evidence, at) VALUES (?, ?, ?, ?, ?)", row)
            self._index_words(database, feature)
        return new

    def add_note(self, feature: int, note: str, by: str = "person") -> None:
        """Add a note; raises TextError where it is empty or no Unicode."""
        if not note.strip():
            raise TextError(f"the note on feature {feature} is empty; write a few words")
        require_unicode(note, f"the note on feature {feature}")
        with self._writing() as database:
            row = (feature, note.strip(), by, time.time())
            database.execute("INSERT INTO notes (feature, note, by, at) VALUES (?, ?, ?, ?)", row)
            self._index_words(database, feature)

    def notes(self, feature: int) -> list[str]:
        return [row[0] for row in self._read("SELECT note FROM notes WHERE feature = ? ORDER BY id", feature)]

    def add_score(self, score: Score) -> None:
        with self._writing() as database:
            row = (score.feature, score.label, score.score, score.by, score.value)
            row = (*row, escaped(json.dumps(score.details, ensure_ascii=False)), score.at or time.time())
            database.execute(
                "INSERT INTO scores (feature, label, score, by, value, details, at) VALUES (?, ?, ?, ?, ?, ?, ?)", row
            )

    def scores(self, feature: int | None = None) -> list[Score]:
        """Scores of a feature, or of all, the newest last."""
        query = "SELECT feature, label, score, by, value, details, at FROM scores"
        where, values = ("", ()) if feature is None else (" WHERE feature = ?", (feature,))
        rows = self._read(f"{query}{where} ORDER BY id", *values)
        return [_score(row) for row in rows]

    def search(self, words: str, n: int = 20) -> list[tuple[Label, float]]:
        """Features whose label or notes hold all the words, best first, with BM25; the last word may be a prefix.

        Phrases and whole words come first (`sonde.features.words`). The label is empty where only notes hold them.
        """
        found: dict[int, tuple[Label, float]] = {}
        for query in queries(words):
            if len(found) < n:
                for label, score in self.matching(query, n):
                    found.setdefault(label.feature, (label, score))
        return list(found.values())[:n]

    def matching(self, query: str, n: int) -> list[tuple[Label, float]]:
        """Features whose label or notes match a query of FTS5, best first, with BM25.

        BM25 is 0 for all where too many match to be ranked.
        """
        matching = "FROM words WHERE words MATCH ?"
        if len(self._read(f"SELECT rowid {matching} LIMIT ?", query, MOST_RANKED + 1)) <= MOST_RANKED:
            ranked = f"SELECT rowid, -bm25(words, 4.0, 1.0) {matching} ORDER BY bm25(words, 4.0, 1.0), rowid LIMIT ?"
            rows = self._read(ranked, query, n)
        else:  # to rank all labels that hold a very common word would take long, and be of no use
            rows = self._read(f"SELECT rowid, 0.0 {matching} LIMIT ?", query, n)
        labels = self.of([feature for feature, _ in rows])
        return [(labels.get(feature) or Label(feature, "", ""), score) for feature, score in rows]

    def export(self, path: str | Path) -> int:
        """Write all labels, scores and notes as JSON lines; returns how many."""
        lines = []
        for table in ("labels", "scores", "notes"):
            names = [row[1] for row in self._read(f"PRAGMA table_info({table})")][1:]
            for row in self._read(f"SELECT {', '.join(names)} FROM {table} ORDER BY id"):
                lines.append(json.dumps({"table": table} | dict(zip(names, row, strict=True)), ensure_ascii=False))
        write_bytes(local_path(path), "".join(line + "\n" for line in lines).encode())
        return len(lines)

    def import_(self, path: str | Path) -> int:
        """Add the labels, scores and notes of a file written by `export`; returns how many were new.

        Raises TextError where a line is none of those, and then nothing is added.
        """
        with self._writing() as database:
            lines = enumerate(read_lines(path), 1)
            return sum(self._add_line(database, line, f"{path}, line {n}") for n, line in lines if line.strip())

    def _add_line(self, database: sqlite3.Connection, line: str, where: str) -> bool:
        """Add one line of an exported file; false where it is here already."""
        try:
            row = json.loads(line)
            table, names = row.pop("table"), list(row)
            columns = {info[1] for info in database.execute(f"PRAGMA table_info({table})")} - {"id"}
            assert table in ("labels", "scores", "notes") and set(names) == columns
        except (ValueError, KeyError, AssertionError, AttributeError, sqlite3.Error) as error:
            raise TextError(f"{where}: this is no label, score or note that sonde wrote") from error
        same = " AND ".join(f"{name} IS ?" for name in names)
        values = [row[name] for name in names]
        if database.execute(f"SELECT 1 FROM {table} WHERE {same}", values).fetchone() is not None:
            return False
        places = ", ".join("?" * len(names))
        database.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", values)
        self._index_words(database, row["feature"])
        return True

    def _index_words(self, database: sqlite3.Connection, feature: int) -> None:
        """Bring the words that `search` looks in up to date."""
        row = database.execute(
            "SELECT label FROM labels WHERE feature = ? ORDER BY id DESC LIMIT 1", (feature,)
        ).fetchone()
        notes = "\n".join(note for (note,) in database.execute("SELECT note FROM notes WHERE feature = ?", (feature,)))
        database.execute("DELETE FROM words WHERE rowid = ?", (feature,))
        database.execute(
            "INSERT INTO words (rowid, label, notes) VALUES (?, ?, ?)", (feature, row[0] if row else "", notes)
        )

    def _read(self, query: str, *values: Any) -> list[tuple]:
        if not self.path.exists():
            return []
        with storage_errors(self.path), self._open() as database:
            return database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        create_database(self.path, _TABLES)
        with storage_errors(self.path), self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # SQLite itself ends it where the disk is full
                    database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        try:
            yield database
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise ArtifactDamagedError(
                f"{self.path} cannot be read ({error}); move it away, or import what was exported"
            ) from error
        finally:
            database.close()


def _label(row: tuple) -> Label:
    return Label(row[0], row[1], row[2], json.loads(row[3]), row[4])


def _score(row: tuple) -> Score:
    return Score(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6])
