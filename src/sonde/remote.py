"""Folders on object stores: s3://, gs:// and az:// URLs, with the part of pathlib's interface that artifacts use.

Credentials, region and endpoint come from the environment, by the names that each cloud's own tools use
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME and so on).
An object appears whole or not at all, so nothing is written under a temporary name.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from sonde.errors import StorageError, nearest

SCHEMES = ("s3", "gs", "az")
RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
PART_BYTES = 8 << 20
"""of what is written piece by piece; S3 wants at least 5 MiB of each part but the last"""
LONGEST_NAME = 255
"""bytes of a name in a folder, on the file systems that are in use"""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://?(?P<rest>[^/].*)")


class RemotePath:
    """A place on an object store, such as s3://bucket/runs/acts."""

    def __init__(self, url: str, /) -> None:
        self.url = url.rstrip("/")
        scheme, _, rest = self.url.partition("://")
        bucket, _, self._key = rest.partition("/")
        self._bucket = f"{scheme}://{bucket}"

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def with_suffix(self, suffix: str) -> "RemotePath":
        return RemotePath(self.url.removesuffix(self.suffix) + suffix)

    def resolve(self) -> "RemotePath":
        return self

    def is_absolute(self) -> bool:
        return True

    def mkdir(self, **_: Any) -> None:
        """Object stores have no folders to make."""

    # ---------------------------------------------------------------- looking

    def is_file(self) -> bool:
        return self.e_tag() is not None

    def is_dir(self) -> bool:
        return any(True for _ in self.iterdir())

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def e_tag(self) -> str | None:
        """The object's e_tag, which changes whenever it is written; None where there is no object."""
        try:
            with _errors(self, "read") as obstore:
                return obstore.head(self._store, self._key)["e_tag"]
        except FileNotFoundError:
            return None

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yield the objects and folders in this folder."""
        with _errors(self, "read") as obstore:
            found = obstore.list_with_delimiter(self._store, self._key)
        for key in [entry["path"] for entry in found["objects"]] + list(found["common_prefixes"]):
            yield self / key.rstrip("/").rpartition("/")[2]

    def sizes(self) -> dict[str, int]:
        """Name, from here, and size in bytes of every object below."""
        with _errors(self, "read") as obstore:
            pages = list(obstore.list(self._store, self._key))
        return {entry["path"][len(self._key) + 1 :]: entry["size"] for page in pages for entry in page}

    # ---------------------------------------------------------------- reading and writing

    def read_bytes(self) -> bytes:
        with _errors(self, "read") as obstore:
            return bytes(obstore.get(self._store, self._key).bytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_range(self, start: int, length: int) -> memoryview:
        """Part of the object, or less where it ends before."""
        with _errors(self, "read") as obstore:
            return memoryview(obstore.get_range(self._store, self._key, start=start, length=length))

    def chunks(self) -> Iterator[memoryview]:
        """The object, piece by piece."""
        with _errors(self, "read") as obstore:
            yield from map(memoryview, obstore.get(self._store, self._key).stream(min_chunk_size=1 << 20))

    def write(self, parts: bytes | Iterable[Any]) -> None:
        """Write the object, given whole or in parts."""
        with _errors(self, "write") as obstore:
            if isinstance(parts, bytes):
                obstore.put(self._store, self._key, parts)
            else:
                obstore.put(self._store, self._key, iter(parts), chunk_size=PART_BYTES)

    def write_if(self, e_tag: str | None, data: bytes) -> str | None:
        """Write the object if it is still the one with this e_tag (None: if there is none); its new e_tag, or None."""
        with _errors(self, "write") as obstore:
            try:
                mode = "create" if e_tag is None else {"e_tag": e_tag}
                return obstore.put(self._store, self._key, data, mode=mode)["e_tag"]
            except (
                FileNotFoundError,
                obstore.exceptions.AlreadyExistsError,
                obstore.exceptions.PreconditionError,
            ) as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def unlink(self, missing_ok: bool = False) -> None:
        with contextlib.suppress(FileNotFoundError), _errors(self, "write") as obstore:
            obstore.delete(self._store, self._key)

    @property
    def _store(self) -> Any:
        return _open_store(self._bucket)


Place = Path | RemotePath


def local_path(where: str | Path) -> Path:
    """A path of this machine, with the ~ of a home that is known; raises StorageError for what can be no path."""
    path = Path(os.path.expanduser(where))
    longest = max((len(part.encode("utf-8", "surrogatepass")) for part in path.parts), default=0)
    if longest > LONGEST_NAME:
        raise StorageError(
            f"{str(path)[:80]!r}... can be no path: a name in it has {longest:,} bytes, of {LONGEST_NAME} at most; "
            "choose a shorter one"
        )
    if "\0" in str(path):
        raise StorageError(f"{str(path)!r} can be no path: it has a zero byte in it")
    return path


def place(where: str | Path | RemotePath) -> Place:
    """A local path, or a place on an object store; raises StorageError for a scheme that sonde does not know."""
    if isinstance(where, RemotePath):
        return where
    url = _URL.fullmatch(str(where))  # with one slash too: what was a Path on the way here has lost the other
    if url is None or (url[1] not in SCHEMES and "://" not in str(where)):
        return local_path(where)
    if url[1] not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise StorageError(
            f"{where} is on no kind of store that sonde knows{nearest(url[1], SCHEMES)}; use a path or one of {known}"
        )
    return RemotePath(f"{url[1]}://{url['rest']}")


@contextlib.contextmanager
def _errors(path: RemotePath, verb: str) -> Iterator[Any]:
    """Yield obstore, with what a store refuses turned into one line; a missing object stays a FileNotFoundError."""
    import obstore  # most runs never need it

    try:
        yield obstore
    except (obstore.exceptions.BaseError, FileNotFoundError) as error:
        said = str(error)
        if "NoSuchBucket" in said:
            raise StorageError(
                f"cannot {verb} {path}: the bucket does not exist; "
                "make it, or name another, and run the same command again"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise
        code = re.search(r"<Code>(\w+)</Code>.*?<Message>(.*?)</Message>", said, re.DOTALL)
        reason = f"{code[1]}, {code[2]}" if code else next(iter(said.splitlines()), type(error).__name__)
        raise StorageError(
            f"cannot {verb} {path}: {reason[:240].rstrip('. ')}; the same command goes on when that is mended"
        ) from error


@lru_cache(maxsize=16)
def _open_store(bucket: str) -> Any:
    from obstore.store import from_url

    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if bucket.startswith("s3://") and endpoint.startswith("http://"):  # a server of one's own, on one's own network
        options["client_options"] = {"allow_http": True}
    return from_url(bucket, retry_config=RETRIES, **options)
