"""Writing documents of the built-in world as a corpus file."""

import json
from pathlib import Path

from sonde.manifests import storage_errors
from sonde.progress import Reporter, Silent
from sonde.world.generate import documents


def write(
    n_documents: int, out: str | Path, *, seed: int = 1, truth: bool = False, reporter: Reporter | None = None
) -> int:
    """Write documents as a .jsonl with the fields text, kind, language and concepts; returns its size in bytes.

    Args:
        truth: write the spans of all concepts too, as `spans`: [start, end, concept], in characters of the text.

    The built-in model was trained on documents of seed 0, so another seed gives text that it has not seen,
    but for what the world often says.

    Raises StorageError where the file cannot be written.
    """
    path = Path(out)
    temporary = path.with_name(path.name + ".tmp")
    with (
        storage_errors(path),
        temporary.open("w", encoding="utf-8") as file,
        (reporter or Silent()).start("write", n_documents, "documents") as progress,
    ):
        for document in documents(n_documents, seed):
            row = {"text": document.text, "kind": document.kind, "language": document.language}
            row |= {"concepts": document.concepts} | ({"spans": document.spans} if truth else {})
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            progress.advance(1)
    temporary.replace(path)
    return path.stat().st_size
