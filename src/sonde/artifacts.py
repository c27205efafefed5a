"""Writing artifacts: in the final folder, under a lock, with the manifest last.

Until the manifest is written, `unfinished.json` says what is being made. So the same command, run again, knows
that it may go on, and a command with other settings is refused.
"""

import contextlib
import json
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic

from sonde.errors import OutputOccupiedError, SondeError, StorageError
from sonde.facts import ModelRef
from sonde.locks import LOCK, locked
from sonde.manifests import (
    MANIFEST,
    RUN,
    UNFINISHED,
    VERSIONS,
    Folder,
    Manifest,
    describe_file,
    library_versions,
    read_manifest,
    storage_errors,
    with_article,
    write_json,
)
from sonde.remote import Place, RemotePath


class Draft(Generic[Folder]):
    """An artifact that is being written; made by `new_artifact`."""

    def __init__(self, folder: Folder, resumed: bool) -> None:
        self.folder = folder
        self.resumed = resumed
        """whether an earlier, unfinished run of the same command left something here"""
        self.finished: Manifest | None = None
        """the manifest, where the very same command has already finished"""
        self._facts: dict[str, Any] | None = None
        self._files: dict[str, dict[str, Any] | None] = {}

    def finish(self, files: list[str], facts: dict[str, Any], known: dict[str, dict[str, Any]] | None = None) -> None:
        """Declare the data complete; the manifest is written when the `with` block ends.

        Args:
            files: names of the data files, relative to the folder.
            facts: what the manifest is to say.
            known: further files, with their sizes and checksums as `write_bytes` returned them.
        """
        self._files, self._facts = dict.fromkeys(files) | (known or {}), facts


@contextlib.contextmanager
def new_artifact(
    folder: Folder,
    *,
    format: str,
    settings: dict[str, Any],
    parents: dict[str, dict[str, Any]],
    model: ModelRef | None = None,
) -> Iterator[Draft[Folder]]:
    """Make an artifact in `folder`, or go on with one that the same settings, parents and model began.

    Yields a Draft. Where `draft.finished` is set, the same command has already made it and there is nothing
    to do. Otherwise write the data, then call `draft.finish(files, facts)`; the manifest is written last.

    Args:
        model: what reads the data; where its content id is known, that counts, and not where it lies.

    Raises:
        OutputOccupiedError: the folder holds something else.
        OutputBusyError: another run is writing it.
        StorageError: it cannot be written, or the disk is full.
    """
    recipe = _recipe(format, VERSIONS.get(format, 1), settings, parents, model.id if model else "")
    created = _refuse_occupied(folder, format)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(folder), locked(folder) as check_lock:
        if (folder / MANIFEST).exists():
            draft = Draft(folder, resumed=False)
            draft.finished = _finished(folder, recipe)
            yield draft
            return
        draft = Draft(folder, resumed=_was_begun(folder, recipe))
        if not draft.resumed:
            write_json(folder / UNFINISHED, recipe)
        began = time.time()
        try:
            with storage_errors(folder):
                yield draft
        except SondeError:
            if created and not draft.resumed:
                _remove_if_empty(folder)
            raise
        assert draft._facts is not None, "the writer ended without draft.finish(...)"
        files = {name: known or describe_file(folder / name) for name, known in sorted(draft._files.items())}
        manifest = Manifest(format, recipe["version"], settings, parents, draft._facts, files, library_versions())
        check_lock()
        write_json(
            folder / RUN,
            {"began": began, "ended": time.time(), "host": platform.node(), "python": platform.python_version()},
        )
        write_json(folder / MANIFEST, manifest.to_json())
        (folder / UNFINISHED).unlink(missing_ok=True)
        draft.finished = manifest


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder that is no artifact, made where it is missing, for this process.

    Raises:
        OutputBusyError: another run is writing it.
        StorageError: it cannot be written, or the disk is full.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(folder), locked(folder):
        yield


def _recipe(
    format: str, version: int, settings: dict[str, Any], parents: dict[str, dict[str, Any]], model: str
) -> dict[str, Any]:
    """What decides whether two runs make the same artifact; of a model its content id, or its name if none is known."""
    elsewhere = ("out", *parents, *(["model"] if model else []))
    return {
        "format": format,
        "version": version,
        "settings": {name: value for name, value in settings.items() if name not in elsewhere},
        "parents": {role: parent["id"] for role, parent in parents.items()} | ({"model": model} if model else {}),
    }


def _refuse_occupied(folder: Place, format: str) -> bool:
    """Refuse a folder that holds anything but an artifact; return whether the folder has to be created."""
    if str(folder) != str(folder).encode("utf-8", "replace").decode():
        raise StorageError(
            f"cannot write {folder}: its name is no UTF-8, which .safetensors need; choose another --out"
        )
    if not folder.exists():
        return True
    if not folder.is_dir():
        raise OutputOccupiedError(f"{folder} is a file; give --out a new folder for the {format}")
    names = {entry.name for entry in folder.iterdir()}  # looked at once, as another run may just begin here
    others = sorted(names - {LOCK})
    if others and not names & {MANIFEST, UNFINISHED, f"{UNFINISHED}.tmp"}:
        raise OutputOccupiedError(f"{folder} holds something else ({others[0]}); give --out a new or empty folder")
    return False


def _finished(folder: Place, recipe: dict[str, Any]) -> Manifest:
    """The manifest of a finished artifact; raises OutputOccupiedError where another recipe made it."""
    manifest = read_manifest(folder)
    model = (manifest.facts.get("model") or {}).get("id", "") if "model" in recipe["parents"] else ""
    present = _recipe(manifest.format, manifest.version, manifest.settings, manifest.parents, model)
    if present != recipe:
        raise OutputOccupiedError(
            f"{folder} already holds {with_article(manifest.format)} made differently "
            f"({_difference(present, recipe)}); give --out a new folder"
        )
    return manifest


def _was_begun(folder: Place, recipe: dict[str, Any]) -> bool:
    """Whether a run of this recipe was begun here; raises OutputOccupiedError where another was."""
    path = folder / UNFINISHED
    if not path.exists():
        return False
    try:
        present = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        present = {}
    if present == json.loads(json.dumps(recipe)):
        return True
    if present.get("format") == recipe["format"] and len(list(folder.iterdir())) <= 2:
        return False  # begun, but nothing was written yet: free to use
    raise OutputOccupiedError(
        f"{folder} holds an unfinished run with other settings ({_difference(present, recipe)}); "
        "finish it, delete it, or give --out a new folder"
    )


def _difference(present: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first thing in which two recipes differ."""
    for part in ("format", "version"):
        if present.get(part) != wanted[part]:
            return f"{part} {present.get(part)} instead of {wanted[part]}"
    for part in ("settings", "parents"):
        old, new = present.get(part, {}), wanted[part]
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                return f"{name} {old.get(name)} instead of {new.get(name)}"
    return "its manifest differs"


def _remove_if_empty(folder: Place) -> None:
    """Remove a folder that was created for a run that wrote nothing."""
    if {entry.name for entry in folder.iterdir()} - {LOCK, UNFINISHED}:
        return
    if isinstance(folder, RemotePath):
        (folder / UNFINISHED).unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
