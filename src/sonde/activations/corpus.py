"""Reading text: .txt, .jsonl, their .gz, .npy of token ids, or a folder of them.

A .jsonl has one document per line, an object: one field has its text or a list of token ids, and the field `images` may
name its pictures. A .txt has documents separated by blank lines, a .npy one document of token ids in each row.
"""

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from sonde.display import shorten
from sonde.errors import PictureError, TextError, nearest
from sonde.texts import require_unicode, without_mark

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz", ".npy")


IN_MEMORY = "(texts in memory)"
"""recorded instead of a path where texts were given as a list"""


@dataclass(frozen=True)
class Document:
    """A text, and a picture for each of its picture marks."""

    text: str
    images: tuple[Any, ...] = ()
    """paths or PIL images, one for each mark in the text"""
    place: str = "a text in memory"
    """file and line it was read from, for messages"""
    ids: tuple[int, ...] | None = None
    """token ids, where the document was given as tokens instead of text"""


TextSource = str | Path | Iterable[str | Document | Sequence[int] | Mapping[str, Any]]
"""a file or a folder; or texts, token ids, or rows of a dataset"""


class Corpus:
    """The documents of a file or folder, in a fixed order, or of a list or a Hugging Face dataset.

    An element of a list is a text, a document, a list of token ids, or a row with `field`, as datasets have them.

    `skipped` counts the documents left out with `skip_bad` in the last pass.

    Raises TextError where there is no such file, or none that can be read.
    """

    def __init__(self, source: TextSource, field: str = "text", skip_bad: bool = False) -> None:
        self.field = field
        self.skip_bad = skip_bad
        self.skipped = 0
        self.texts = None if isinstance(source, (str, Path)) else _elements(source)
        self.path = Path(os.path.expanduser(source)) if isinstance(source, (str, Path)) else Path(IN_MEMORY)
        self.files = self._find_files() if self.texts is None else []

    @property
    def size_bytes(self) -> int:
        """About how much text there is: the size on disk, four times that for compressed files."""
        if self.texts is not None:
            return sum(len(document.text) for document in self._in_memory())
        return sum(file.stat().st_size * (4 if file.suffix == ".gz" else 1) for file in self.files)

    @property
    def name(self) -> str:
        """The path of the text as a manifest keeps it."""
        return IN_MEMORY if self.texts is not None else str(self.path.resolve())

    def __iter__(self) -> Iterator[Document]:
        """Yield each document; raises TextError, naming file and line, where one is broken."""
        self.skipped = 0
        n_documents = 0
        parts = [self._in_memory()] if self.texts is not None else map(self._documents, self.files)
        for part in parts:
            for document in part:
                n_documents += 1
                yield document
        if n_documents == 0:
            raise TextError(f"{self.path} holds no text: it is empty; give a file with at least one document")

    def nothing_left(self, held_out: float, drop_first: int) -> str:
        """What to say where none of its tokens becomes a row."""
        dropped = f", or a smaller drop_first than {drop_first}" if drop_first else ""
        return f"{self.name}: no tokens were left; give more text, or a smaller held_out than {held_out}{dropped}"

    def _in_memory(self) -> Iterator[Document]:
        assert self.texts is not None
        return (as_document(element, number, self.field) for number, element in enumerate(self.texts))

    def _find_files(self) -> list[Path]:
        try:
            exists = self.path.exists()
        except OSError:  # longer than any name: the text itself
            exists = False
        if not exists:
            shown = shorten(str(self.path), 200)
            raise TextError(f"there is no text file or folder {shown}; give texts themselves in a list")
        if self.path.is_dir():
            files = sorted(file for file in self.path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
            if not files:
                raise TextError(f"{self.path} holds no text files; sonde reads {', '.join(SUFFIXES)}")
            return files
        if not self.path.name.endswith(SUFFIXES):
            raise TextError(f"{self.path} is not a text file that sonde reads; it reads {', '.join(SUFFIXES)}")
        return [self.path]

    def _documents(self, file: Path) -> Iterator[Document]:
        lines = self._lines(file)
        if file.suffix == ".npy":
            return self._token_rows(file)
        return (
            self._json_lines(file, lines)
            if ".jsonl" in file.name
            else (Document(text, place=str(file)) for text in _paragraphs(lines))
        )

    def _lines(self, file: Path) -> Iterator[tuple[int, str]]:
        """Yield (line number, line); raises TextError, in one line, where the file is not text."""
        line = 0
        try:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
                for line, raw in enumerate(stream, start=1):
                    if line == 1:
                        raw = without_mark(raw, file)
                    if b"\0" in raw:
                        raise TextError(f"{file} is binary, not text: there is a zero byte in line {line}")
                    yield line, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TextError(
                f"{file}, line {line}: not UTF-8 (byte {error.object[error.start]:#04x}); convert the file to UTF-8"
            ) from error
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise TextError(f"{file} is not a whole gzip file after line {line}: {error}") from error
        except OSError as error:
            raise TextError(f"cannot read {file}: {error.strerror or error}") from error

    def _token_rows(self, file: Path) -> Iterator[Document]:
        try:
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise TextError(f"{file} cannot be read as a matrix of token ids ({error})") from error
        if rows.ndim != 2 or rows.dtype.kind not in "iu":
            raise TextError(
                f"{file} holds {rows.dtype} {list(rows.shape)}, but whole numbers [document, token] are wanted; "
                "reshape it"
            )
        for number, row in enumerate(rows):
            yield Document("", (), f"{file}, row {number}", tuple(row.tolist()))

    def _json_lines(self, file: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Document]:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                yield self._document_of(file, number, line)
            except (TextError, PictureError):
                if not self.skip_bad:
                    raise
                self.skipped += 1

    def _document_of(self, file: Path, number: int, line: str) -> Document:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextError(
                f"{file}, line {number}: not JSON ({error}); mend it, or leave bad lines out with --skip-bad"
            ) from error
        if not isinstance(row, dict):
            raise TextError(
                f"{file}, line {number}: an object is wanted, not a {type(row).__name__}; "
                "leave bad lines out with --skip-bad"
            )
        if self.field not in row:
            seen = ", ".join(list(row)[:8]) or "nothing"
            raise TextError(
                f"{file}, line {number}: no field {self.field!r}{nearest(self.field, row)} (it has {seen}); "
                "name the field with --field"
            )
        text = row[self.field]
        ids = None
        if isinstance(text, list) and text and all(type(token) is int for token in text):
            text, ids = "", tuple(text)
        if isinstance(text, str):
            require_unicode(text, f"{file}, line {number}, the field {self.field!r},")
        if not isinstance(text, str):
            raise TextError(
                f"{file}, line {number}: the field {self.field!r} holds a {type(text).__name__}, not text; "
                "leave bad lines out with --skip-bad"
            )
        images = row.get("images") or ()
        if not isinstance(images, list | tuple) or not all(isinstance(image, str) for image in images):
            raise TextError(
                f"{file}, line {number}: the field 'images' must be a list of paths; "
                "leave bad lines out with --skip-bad"
            )
        place, paths = f"{file}, line {number}", tuple(file.parent / image for image in images)
        for path in paths:
            if not path.is_file():
                raise PictureError(f"{place}: there is no picture {path}; leave such lines out with --skip-bad")
        if paths and ids:
            raise PictureError(
                f"{place}: pictures belong to text, not to token ids; leave such lines out with --skip-bad"
            )
        return Document(text, paths, place, ids)


def as_document(element: Any, number: int | None = None, field: str = "text") -> Document:
    """A document from an element of a list: a text, a document, token ids, or a row of a dataset.

    Args:
        number: place in the list, for messages; None of a text by itself.
        field: of a row, what holds its text or its ids; `images` may hold its pictures.

    Raises TextError, with the place and what is there, for anything else.
    """
    if isinstance(element, Document):
        return element
    place = "a text in memory" if number is None else f"texts[{number}]"
    images: tuple[Any, ...] = ()
    if isinstance(element, Mapping):
        if field not in element:
            seen = ", ".join(map(str, list(element)[:8])) or "nothing"
            raise TextError(
                f"{place} has no field {field!r}{nearest(field, map(str, element))} (it has {seen}); name the field"
            )
        images, element = tuple(element.get("images") or ()), element[field]
    if isinstance(element, str):
        require_unicode(element, place)
        return Document(str(element), images, place)
    ids = _token_ids(element)
    if ids is None or images:
        what = "token ids with pictures" if images else f"{shorten(repr(element), 40)} ({type(element).__name__})"
        raise TextError(f"{place} is {what}, but a text, or a list of token ids, is wanted; leave it out or convert it")
    return Document("", (), place, ids)


def _elements(source: Any) -> Any:
    """A list, a dataset, or whatever else gives the same elements each time it is gone through."""
    if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
        named = f"a {type(source).__name__}" + " of several parts: give one" * isinstance(source, Mapping)
        raise TextError(f"the text is {named}; a file, a folder, a list of texts or a dataset is wanted")
    if type(source).__module__.startswith("datasets.") and hasattr(source, "__getitem__"):
        return source  # larger than memory, perhaps
    return list(source)


def _token_ids(element: Any) -> tuple[int, ...] | None:
    """The token ids of a list, an array or a tensor; None where it is none of these."""
    if hasattr(element, "tolist"):
        element = element.tolist()
    if not isinstance(element, list | tuple) or not all(type(token) is int for token in element):
        return None
    return tuple(element)


def _paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    paragraph: list[str] = []
    for _, line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).strip()
            paragraph = []
    if paragraph:
        yield "".join(paragraph).strip()


def is_held_out(document: Document, share: float, seed: int) -> bool:
    """Whether a document is held out of training: whether a keyed hash of its content is below `share`.

    Hashing the text and the names of its pictures, not its number, keeps copies of one document on the same side.
    """
    return _keyed_hash(document, seed) < share * 2**64


def held_out_share(documents: Iterable[Document], share: float, seed: int) -> float:
    """The share that holds something out: `share`, unless a small text has no document below it by chance.

    A text with enough documents that one is to be held out, none of which is, has the lowest hash held out, so that
    there is something to measure on. No more is read than up to the first document that is held out.
    """
    lowest, n_lowest, n = 2**64, 0, 0
    for document in documents if share else ():
        n, value = n + 1, _keyed_hash(document, seed)
        if value < share * 2**64:
            return share
        if value <= lowest:
            lowest, n_lowest = value, n_lowest + 1 if value == lowest else 1
    if n * share < 1 or n_lowest > 1:  # of copies, all would be held out
        return share
    return math.nextafter(lowest / 2**64, 1)


def _keyed_hash(document: Document, seed: int) -> int:
    names = [image.name if isinstance(image, Path) else "" for image in document.images]
    tokens = [] if document.ids is None else [str(document.ids)]
    content = "\0".join([document.text if document.ids is None else "", *names, *tokens])
    return xxhash.xxh3_64_intdigest(content.encode(), seed=seed)
