"""Artifacts: folders that explain themselves.

An artifact is a folder with `manifest.json` beside its data. The manifest names the format and its version,
the settings that made it, library versions, the content ids of its parents, every data file with its size
and checksum, and whatever the format adds. The content id is a hash of all that; times and the host go to
`run.json`, which is outside it.

A writer works in the final folder under a lock and writes the manifest last, so a folder with a manifest is
whole. Until then `unfinished.json` says what is being made, which is how the same command, run again, knows
that it may go on. Readers refuse what is unfinished, truncated, altered or foreign, and say why.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import xxhash

from sonde.errors import (
    ArtifactDamagedError,
    ArtifactForeignError,
    ArtifactMissingError,
    OutputOccupiedError,
    SondeError,
    StorageError,
)
from sonde.locks import LOCK, locked
from sonde.remote import Place, RemotePath, place

MANIFEST, RUN, UNFINISHED = "manifest.json", "run.json", "unfinished.json"
PLACES = ("out", "text", "model")
"""settings and facts that say where something lies; what lies there is known by its content"""
LIBRARIES = ("sonde", "torch", "transformers", "numpy", "safetensors")
VERSIONS = {"activations": 2, "dictionary": 2, "index": 3}
"""of formats that have changed since their first version"""
_CHUNK_BYTES = 1 << 20

Folder = TypeVar("Folder", Path, Place)


@dataclass(frozen=True)
class Manifest:
    """What an artifact says of itself."""

    format: str
    """kind of artifact: activations, dictionary, index or demo"""
    version: int
    settings: dict[str, Any]
    parents: dict[str, dict[str, Any]]
    """role -> {"id": content id, "path": where it last was (a hint, outside the content id)}"""
    facts: dict[str, Any]
    """shapes, dtypes, units, counts and measurements"""
    files: dict[str, dict[str, Any]]
    """relative name -> {"bytes": size, "xxh3": checksum}"""
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The content id: a hash of everything but where parents, text, model and output lie."""
        body = self.to_json()
        body["parents"] = {role: parent["id"] for role, parent in self.parents.items()}
        body["settings"] = {
            name: value for name, value in self.settings.items() if name not in (*PLACES, *self.parents)
        }
        body["facts"] = {name: value for name, value in self.facts.items() if name not in PLACES}
        if "model" in self.facts:
            body["facts"]["model"] = self.facts["model"]["id"]
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "version": self.version,
            "settings": self.settings,
            "parents": self.parents,
            "facts": self.facts,
            "files": self.files,
            "libraries": self.libraries,
        }


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def describe_file(path: Place) -> dict[str, Any]:
    """Size and xxh3-128 checksum of a file, as a manifest has them."""
    digest, size = xxhash.xxh3_128(), 0
    for chunk in path.chunks() if isinstance(path, RemotePath) else _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "xxh3": digest.hexdigest()}


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def write_json(path: Place, value: Any) -> None:
    """Write JSON under a temporary name, flush it to the disk and rename it, so that it is whole or absent."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Place, data: bytes | Iterable[Any]) -> dict[str, Any]:
    """Write a file, given whole or in parts, so that it is whole or absent.

    On a disk it has a temporary name until it is flushed. Returns its size and checksum, as a manifest has them.
    """
    digest, size = xxhash.xxh3_128(), 0

    def summed() -> Iterator[Any]:
        nonlocal size
        for part in [data] if isinstance(data, bytes) else data:
            digest.update(part)
            size += len(part)
            yield part

    if isinstance(path, RemotePath):
        path.write(map(bytes, summed()))  # copies: a part may change as soon as the next one is asked for
        return {"bytes": size, "xxh3": digest.hexdigest()}
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                for part in summed():
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise
    return {"bytes": size, "xxh3": digest.hexdigest()}


@contextlib.contextmanager
def storage_errors(path: Place) -> Iterator[None]:
    """Turn what a disk can refuse into one line that says what happened."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk is full while writing {path}; free some space and run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another --out") from error
        raise
    except sqlite3.OperationalError as error:
        if "disk is full" in str(error):
            raise StorageError(
                f"the disk is full while writing {path}; free some space and run the same command again"
            ) from error
        raise


def read_manifest(folder: Place, format: str | None = None) -> Manifest:
    """Read and check an artifact's manifest, and that every file has the size that it names.

    Raises:
        ArtifactMissingError: there is no such folder.
        ArtifactForeignError: not an artifact, or one of another kind or version.
        ArtifactDamagedError: unfinished, truncated or unreadable.
    """
    wanted = f"{_article(format)} {format}" if format else "an artifact"
    if not folder.exists():
        raise ArtifactMissingError(f"{folder} does not exist; it should be {wanted} folder that sonde wrote")
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / UNFINISHED).is_file():
            raise ArtifactDamagedError(
                f"{folder} is unfinished; run the command that makes it again, and it goes on from there"
            )
        raise ArtifactForeignError(f"{folder} is not {wanted} folder: it has no {MANIFEST}")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**body)
        assert isinstance(manifest.files, dict) and isinstance(manifest.facts, dict)
    except (ValueError, TypeError, AssertionError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read as a manifest ({error}); make the artifact again") from error
    if format is not None and manifest.format != format:
        raise ArtifactForeignError(
            f"{folder} holds {_article(manifest.format)} {manifest.format}, but {wanted} is wanted here"
        )
    version = VERSIONS.get(manifest.format, 1)
    if format is not None and manifest.version != version:
        raise ArtifactForeignError(
            f"{folder} has format version {manifest.version}, but this sonde reads version {version}; make it again"
        )
    sizes = folder.sizes() if isinstance(folder, RemotePath) else _sizes(folder, manifest.files)
    for name, recorded in manifest.files.items():
        file = folder / name
        if name not in sizes:
            raise ArtifactDamagedError(f"{file} is missing, though the manifest names it; make the artifact again")
        if sizes[name] != recorded["bytes"]:
            raise ArtifactDamagedError(
                f"{file} has {sizes[name]:,} bytes instead of {recorded['bytes']:,}: it was truncated or altered; make the artifact again"
            )
    return manifest


def _sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}


def verify(folder: Place) -> Manifest:
    """Read an artifact and check every file against its checksum; raises ArtifactDamagedError."""
    manifest = read_manifest(folder)
    for name, recorded in manifest.files.items():
        seen = describe_file(folder / name)["xxh3"]
        if seen != recorded["xxh3"]:
            raise ArtifactDamagedError(
                f"{folder / name} has checksum {seen} instead of {recorded['xxh3']}: it was altered; make the artifact again"
            )
    return manifest


def find_parent(manifest: Manifest, role: str, folder: Path, format: str) -> tuple[Place, Manifest]:
    """Find a parent artifact where it last was, and check that it is the very one.

    Raises ArtifactMissingError where it is not there any more or is another one now.
    """
    parent = manifest.parents[role]
    path = place(parent["path"])
    if not path.is_absolute():
        path = (folder / str(path)).resolve()
    found = read_manifest(path, format)
    if found.id != parent["id"]:
        raise ArtifactMissingError(
            f"{path} is no longer the {role} that {folder} was made from (id {found.id}, not {parent['id']})"
        )
    return path, found


def parent_entry(folder: Place, manifest: Manifest) -> dict[str, Any]:
    """What a child's manifest keeps of a parent: its content id, and its path as a hint."""
    return {"id": manifest.id, "path": str(folder.resolve())}


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
        """Say that the artifact is whole; its manifest is written when the `with` block ends.

        Args:
            known: further files, with their sizes and checksums as `write_bytes` gave them.
        """
        self._files, self._facts = dict.fromkeys(files) | (known or {}), facts


@contextlib.contextmanager
def new_artifact(
    folder: Folder, *, format: str, settings: dict[str, Any], parents: dict[str, dict[str, Any]]
) -> Iterator[Draft[Folder]]:
    """Make an artifact in `folder`, or go on with one that the same settings and parents began.

    Yields a Draft. Where `draft.finished` is set, the same command has already made it and there is nothing
    to do. Otherwise write the data, then call `draft.finish(files, facts)`; the manifest is written last.

    Raises:
        OutputOccupiedError: the folder holds something else.
        OutputBusyError: another run is writing it.
        StorageError: it cannot be written, or the disk is full.
    """
    version = VERSIONS.get(format, 1)
    recipe = {
        "format": format,
        "version": version,
        "settings": {name: value for name, value in settings.items() if name not in ("out", *parents)},
        "parents": {role: parent["id"] for role, parent in parents.items()},
    }
    created = _refuse_foreign(folder, format)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(folder), locked(folder) as check_lock:
        if (folder / MANIFEST).exists():
            draft = Draft(folder, resumed=False)
            draft.finished = _same_or_refuse(folder, recipe)
            yield draft
            return
        resumed = _same_beginning(folder, recipe)
        if not resumed:
            write_json(folder / UNFINISHED, recipe)
        draft = Draft(folder, resumed)
        began = time.time()
        try:
            with storage_errors(folder):
                yield draft
        except SondeError:
            if created and not resumed:
                _remove_if_empty(folder)
            raise
        assert draft._facts is not None, "the writer ended without draft.finish(...)"
        files = {name: known or describe_file(folder / name) for name, known in sorted(draft._files.items())}
        manifest = Manifest(format, version, settings, parents, draft._facts, files, library_versions())
        check_lock()
        write_json(
            folder / RUN,
            {"began": began, "ended": time.time(), "host": platform.node(), "python": platform.python_version()},
        )
        write_json(folder / MANIFEST, manifest.to_json())
        (folder / UNFINISHED).unlink(missing_ok=True)
        draft.finished = manifest


def _refuse_foreign(folder: Place, format: str) -> bool:
    """Refuse a folder that holds anything but our own work; return whether it has to be created."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        raise OutputOccupiedError(f"{folder} is a file; give --out a new folder for the {format}")
    ours = (folder / MANIFEST).exists() or (folder / UNFINISHED).exists()
    strangers = [entry.name for entry in folder.iterdir() if entry.name != LOCK]
    if strangers and not ours:
        raise OutputOccupiedError(
            f"{folder} holds something else ({sorted(strangers)[0]}); give --out a new or empty folder"
        )
    return False


def _same_or_refuse(folder: Place, recipe: dict[str, Any]) -> Manifest:
    manifest = read_manifest(folder)
    found = {
        "format": manifest.format,
        "version": manifest.version,
        "settings": {k: v for k, v in manifest.settings.items() if k not in ("out", *manifest.parents)},
        "parents": {role: parent["id"] for role, parent in manifest.parents.items()},
    }
    if found != recipe:
        raise OutputOccupiedError(
            f"{folder} already holds {_article(manifest.format)} {manifest.format} made differently ({_difference(found, recipe)}); give --out a new folder"
        )
    return manifest


def _same_beginning(folder: Place, recipe: dict[str, Any]) -> bool:
    path = folder / UNFINISHED
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    if found == json.loads(json.dumps(recipe)):
        return True
    if found.get("format") == recipe["format"] and len(list(folder.iterdir())) <= 2:
        return False  # begun, but nothing was written yet: free to use
    raise OutputOccupiedError(
        f"{folder} holds an unfinished run with other settings ({_difference(found, recipe)}); finish it, delete it, or give --out a new folder"
    )


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first thing in which two recipes differ."""
    for part in ("format", "version"):
        if found.get(part) != wanted[part]:
            return f"{part} {found.get(part)} instead of {wanted[part]}"
    for part in ("settings", "parents"):
        old, new = found.get(part, {}), wanted[part]
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                return f"{name} {old.get(name)} instead of {new.get(name)}"
    return "its manifest differs"


def _remove_if_empty(folder: Place) -> None:
    """Take back a folder that was made for a run that wrote nothing."""
    if {entry.name for entry in folder.iterdir()} - {LOCK, UNFINISHED}:
        return
    if isinstance(folder, RemotePath):
        (folder / UNFINISHED).unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _article(noun: str | None) -> str:
    return "an" if noun and noun[0] in "aeiou" else "a"
