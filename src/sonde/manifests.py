"""Manifests, which describe artifacts, read and checked; and files written completely or not at all.

An artifact is a folder with `manifest.json` beside its data. The manifest names the format and its version,
the settings that made it, library versions, the content ids of its parents, every data file with its size
and checksum, and the facts that its format adds. The content id is a hash of all that; times and the host go to
`run.json`, which is outside it. `artifacts.py` writes artifacts.

The manifest is written last, so a folder with a manifest is complete; until then `unfinished.json` says what is
being made. Readers refuse what is unfinished, truncated, altered or foreign, and say why.
"""

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import xxhash

from sonde.errors import ArtifactDamagedError, ArtifactForeignError, ArtifactMissingError, StorageError
from sonde.locks import open_alone
from sonde.remote import Place, RemotePath, place
from sonde.texts import escaped

MANIFEST, RUN, UNFINISHED = "manifest.json", "run.json", "unfinished.json"
PLACES = ("out", "text", "model")
"""settings and facts that are paths; what lies there is identified by its content"""
LIBRARIES = ("sonde", "torch", "transformers", "numpy", "safetensors")
VERSIONS = {"activations": 2, "dictionary": 2, "index": 3}
"""of formats that have changed since their first version"""
SQLITE_PATH_BYTES = 510
"""the longest path of a file that SQLite opens: MAX_PATHNAME is 512"""
_CHUNK_BYTES = 1 << 20

Folder = TypeVar("Folder", Path, Place)


@dataclass(frozen=True)
class Manifest:
    """The description of an artifact."""

    format: str
    """kind of artifact: activations, dictionary, index or demo"""
    version: int
    settings: dict[str, Any]
    parents: dict[str, dict[str, Any]]
    """role -> {"id": content id, "path": where it last was (a hint, outside the content id)}"""
    facts: dict[str, Any]
    """shapes, dtypes, units, counts and measurements; each format has a class that reads them"""
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
        return hashlib.sha256(escaped(canonical).encode()).hexdigest()[:32]

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


class Artifact(NamedTuple, Generic[Folder]):
    """A finished artifact: its folder, and the manifest in it."""

    folder: Folder
    manifest: Manifest


def read_manifest(folder: Place, format: str | None = None) -> Manifest:
    """Read and check an artifact's manifest, and that every file has the size that it names.

    Raises:
        ArtifactMissingError: there is no such folder.
        ArtifactForeignError: not an artifact, or one of another kind or version.
        ArtifactDamagedError: unfinished, truncated or unreadable.
    """
    wanted = with_article(format) if format else "an artifact"
    if not folder.exists():
        raise ArtifactMissingError(f"{folder} does not exist; it should be {wanted} folder that sonde wrote")
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / UNFINISHED).is_file():
            raise ArtifactDamagedError(
                f"{folder} is unfinished; run the command that makes it again, and it goes on from there"
            )
        raise ArtifactForeignError(f"{folder} is not {wanted} folder: it has no {MANIFEST}")
    manifest = _parse(path)
    if format is not None and manifest.format != format:
        raise ArtifactForeignError(
            f"{folder} holds {with_article(manifest.format)}, but {wanted} is wanted here; give another folder"
        )
    version = VERSIONS.get(manifest.format, 1)
    if format is not None and manifest.version != version:
        raise ArtifactForeignError(
            f"{folder} has format version {manifest.version}, but this sonde reads version {version}; make it again"
        )
    _check_sizes(folder, manifest)
    return manifest


def _parse(path: Place) -> Manifest:
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        assert isinstance(manifest.files, dict) and isinstance(manifest.facts, dict)
        assert all(isinstance(file["bytes"], int) for file in manifest.files.values())
    except (ValueError, TypeError, KeyError, AssertionError, RecursionError) as error:
        raise ArtifactDamagedError(f"{path} cannot be read as a manifest ({error}); make the artifact again") from error
    return manifest


def _check_sizes(folder: Place, manifest: Manifest) -> None:
    """Raise ArtifactDamagedError where a file is missing or has another size than the manifest says."""
    root = folder.resolve() if isinstance(folder, Path) else None
    if isinstance(folder, RemotePath):
        sizes = folder.sizes()
    else:
        sizes = {name: (folder / name).stat().st_size for name in manifest.files if (folder / name).is_file()}
    for name, recorded in manifest.files.items():
        if root is not None and not lies_in(root / name, root):
            raise ArtifactForeignError(
                f"{folder} names the file {name!r}, which lies outside of it; copy what it links to into the folder"
            )
        if name not in sizes:
            raise ArtifactDamagedError(
                f"{folder / name} is missing, though the manifest names it; make the artifact again"
            )
        if sizes[name] != recorded["bytes"]:
            raise ArtifactDamagedError(
                f"{folder / name} has {sizes[name]:,} bytes instead of {recorded['bytes']:,}: "
                "it was truncated or altered; make the artifact again"
            )


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path, with its symbolic links followed, is that of something in a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no path at all, too long a one, or links in a circle
        return False


def verify(folder: Place) -> Manifest:
    """Read an artifact's manifest and check every file against its checksum; raises ArtifactDamagedError."""
    manifest = read_manifest(folder)
    for name, recorded in manifest.files.items():
        checksum = describe_file(folder / name)["xxh3"]
        if checksum != recorded["xxh3"]:
            raise ArtifactDamagedError(
                f"{folder / name} has checksum {checksum} instead of {recorded['xxh3']}: "
                "it was altered; make the artifact again"
            )
    return manifest


def find_parent(manifest: Manifest, role: str, folder: Path, format: str) -> Artifact:
    """Find the parent of an artifact in `folder` where it last was, and check its content id.

    Raises ArtifactMissingError where it has gone or another artifact has taken its place.
    """
    parent = manifest.parents[role]
    path = place(parent["path"])
    if not path.is_absolute():
        path = (folder / str(path)).resolve()
    current = read_manifest(path, format)
    if current.id != parent["id"]:
        raise ArtifactMissingError(
            f"{path} is no longer the {role} that {folder} was made from (id {current.id}, not {parent['id']}); "
            f"make {folder} again"
        )
    return Artifact(path, current)


def parent_entry(folder: Place, manifest: Manifest) -> dict[str, Any]:
    """What a child's manifest keeps of a parent: its content id, and its path as a hint."""
    return {"id": manifest.id, "path": str(folder.resolve())}


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
    """Write JSON, completely or not at all."""
    write_bytes(path, escaped(json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Place, data: bytes | Iterable[Any]) -> dict[str, Any]:
    """Write a file from bytes or an iterable of their parts, completely or not at all.

    On a disk it has a temporary name until it is flushed. Returns its size and checksum, as a manifest has them.
    """
    digest, size = xxhash.xxh3_128(), 0

    def parts() -> Iterator[Any]:
        nonlocal size
        for part in [data] if isinstance(data, bytes) else data:
            digest.update(part)
            size += len(part)
            yield part

    if isinstance(path, RemotePath):
        path.write(map(bytes, parts()))  # copies: a part may change as soon as the next one is asked for
        return {"bytes": size, "xxh3": digest.hexdigest()}
    refuse_folder(path)
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path):
        try:
            with open_alone(temporary, wait=True) as file:  # two runs may keep something under one name
                file.truncate(0)
                for part in parts():
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise
    return {"bytes": size, "xxh3": digest.hexdigest()}


def refuse_folder(path: Path) -> None:
    """Raise StorageError where a file is to be written and a folder has its name."""
    if not path.name or path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; give the name of a file")


_UNUSABLE = ("unable to open", "readonly database", "disk I/O error", "is locked")
"""in what SQLite says: of a file that has gone, may not be changed, lies on a broken disk, or is held by another"""


_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.ENOLCK, errno.ENOTSUP),
)
"""what a system says of a place that cannot be written"""


@contextlib.contextmanager
def storage_errors(path: Place) -> Iterator[None]:
    """Raise StorageError, in one line, where a disk is full or refuses to be written."""
    full = f"the disk is full while writing {path}; free some space and run the same command again"
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(full) from error
        if error.errno in _REFUSED or (error.errno == errno.ENOENT and _is_of(error.filename, path)):
            raise StorageError(f"cannot write {path}: {error.strerror}; choose another --out") from error
        raise
    except sqlite3.OperationalError as error:
        if "disk is full" in str(error):
            raise StorageError(full) from error
        if any(words in str(error) for words in _UNUSABLE):
            raise StorageError(unusable(path, error)) from error
        raise


def unusable(path: Place, error: sqlite3.Error, fix: str = "look whether its folder is there") -> str:
    """What keeps SQLite from a file, in words, and what to do about it."""
    length = len(os.fsencode(Path(str(path)).absolute()))
    if length > SQLITE_PATH_BYTES:
        return f"{path} cannot be used: SQLite takes paths of {SQLITE_PATH_BYTES} bytes, not {length}; shorten it"
    return f"{path} cannot be used ({error}); {fix}"


def _is_of(name: str | bytes | None, path: Place) -> bool:
    """Whether a file is the path, in it, or around it, and not something else that is read meanwhile."""
    found = os.fsdecode(name or "")
    return bool(found) and (found.startswith(str(path)) or str(path).startswith(found))


def with_article(noun: str) -> str:
    """A noun with its indefinite article: "an index"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
