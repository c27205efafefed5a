"""Documents of the built-in world, written as a corpus file."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from sonde.manifests import write_bytes
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path
from sonde_world.generate import Document, documents
from sonde_world.pictures import picture_document


def write(
    n_documents: int,
    out: str | Path,
    *,
    seed: int = 1,
    truth: bool = False,
    pictures: int = 0,
    reporter: Reporter | None = None,
) -> int:
    """Write documents as a .jsonl with the fields text, kind, language and concepts; returns its size in bytes.

    Args:
        truth: write the truth of each document too: the `spans` of all concepts and the `answers`, both as [start, end,
            concept] in characters of the text, the `facts` that are told as [subject, relation], and the text's
            `log_probability` under the world's grammar, in nats.
        pictures: number of documents with a drawing to write after the others; the drawings go into a folder beside the
            .jsonl.

    The built-in model was trained on documents of seed 0, so another seed gives new text, apart from sentences that are
    frequent in the world.

    Raises StorageError where the file cannot be written.
    """
    path = local_path(out)
    with (reporter or default_reporter()).start("write", n_documents + pictures, "documents") as progress:

        def lines() -> Iterator[bytes]:
            for row in chain(_texts(n_documents, seed, truth), _pictures(pictures, seed, truth, path)):
                yield (json.dumps(row, ensure_ascii=False) + "\n").encode()
                progress.advance(1)

        return write_bytes(path, lines())["bytes"]


def _texts(n: int, seed: int, truth: bool) -> Iterator[dict[str, Any]]:
    for document in documents(n, seed):
        row = _row(document)
        if truth:
            row |= _known(document) | {"facts": document.facts, "log_probability": document.log_probability}
        yield row


def _row(document: Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in ("text", "kind", "language", "concepts")}


def _known(document: Document) -> dict[str, Any]:
    return {"spans": document.spans, "answers": document.answers}


def _pictures(n: int, seed: int, truth: bool, path: Path) -> Iterator[dict[str, Any]]:
    """Documents with drawings, whose files are written as they are yielded."""
    folder = path.with_name(f"{path.stem}-pictures")
    if n:
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        document = picture_document(number, seed)
        image = folder / f"{number:06}.png"
        document.image.save(image)
        yield _row(document) | {"images": [f"{folder.name}/{image.name}"]} | (_known(document) if truth else {})
