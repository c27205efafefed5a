"""One writer at a time in a folder, on a disk or on an object store."""

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from sonde.errors import OutputBusyError, StorageError
from sonde.remote import Place, RemotePath

LOCK = ".lock"
CLAIM_SECONDS = 15.0
"""a claim on an object store that is not renewed for so long belongs to a run that is dead"""


@contextlib.contextmanager
def locked(folder: Place) -> Iterator[Callable[[], None]]:
    """Hold a folder for this process; raises OutputBusyError where another run has it.

    On a disk the operating system lets go of the lock when the process dies. On an object store the lock is a
    claim that its holder renews; a run that finds one watches whether it is renewed. What is yielded, when called,
    raises OutputBusyError where this process was cut off for so long that another has taken over.
    """
    if isinstance(folder, RemotePath):
        with _claimed(folder) as check:
            yield check
        return
    path = folder / LOCK
    try:
        handle = open_alone(path, wait=False)
    except BlockingIOError as error:
        raise _busy(folder) from error
    try:
        yield lambda: None
    finally:
        path.unlink(missing_ok=True)
        handle.close()


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[BinaryIO]:
    """Hold a file for this process, open to append; made where there is none.

    Raises OutputBusyError where another run has it.
    """
    try:
        handle = open_alone(path, wait=False)
    except BlockingIOError as error:
        raise _busy(path) from error
    with handle:
        yield handle


def open_alone(path: Path, wait: bool) -> BinaryIO:
    """The file of this name, made where there is none, open to append; nobody else has it so at the same time.

    Raises BlockingIOError where another has it, and is not to be waited for.
    """
    while True:
        handle = path.open("ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Who had it may have removed or renamed it since it was opened here; then the name is another file's.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                    return handle
        except BaseException:
            handle.close()
            raise
        handle.close()


@contextlib.contextmanager
def _claimed(folder: RemotePath) -> Iterator[Callable[[], None]]:
    path, run, stop = folder / LOCK, uuid.uuid4().hex, threading.Event()

    def claim(beat: int) -> bytes:
        return json.dumps({"run": run, "host": platform.node(), "pid": os.getpid(), "beat": beat}).encode()

    tag = path.write_if(None, claim(0)) or _take_over(folder, claim(0))

    def renew() -> None:
        nonlocal tag
        beat = 0
        while tag is not None and not stop.wait(CLAIM_SECONDS / 4):
            beat += 1
            with contextlib.suppress(StorageError):  # a store that is away for a moment; the next beat may get through
                tag = path.write_if(tag, claim(beat))

    def check() -> None:
        if tag is None:
            raise _busy(folder)

    renewing = threading.Thread(target=renew, name="sonde-claim", daemon=True)
    renewing.start()
    try:
        yield check
    finally:
        stop.set()
        renewing.join()
        if tag is not None:
            with contextlib.suppress(StorageError):
                path.unlink()


def _take_over(folder: RemotePath, claim: bytes) -> str:
    """Replace the claim of a run that is dead; returns the new one's e_tag."""
    path = folder / LOCK
    seen = path.e_tag()
    if seen is not None and not _died_here(path):
        until = time.monotonic() + CLAIM_SECONDS
        while time.monotonic() < until:
            time.sleep(CLAIM_SECONDS / 20)
            if path.e_tag() != seen:
                raise _busy(folder)
    tag = path.write_if(seen, claim)
    if tag is None:
        raise _busy(folder)
    return tag


def _died_here(path: RemotePath) -> bool:
    """Whether a claim is that of a process of this machine which is no more."""
    with contextlib.suppress(ValueError, KeyError, TypeError, FileNotFoundError, PermissionError):
        claim = json.loads(path.read_text())
        if claim["host"] == platform.node():
            try:
                os.kill(claim["pid"], 0)
            except ProcessLookupError:
                return True
    return False


def _busy(output: Path | RemotePath) -> OutputBusyError:
    return OutputBusyError(f"another run is writing {output}; wait for it, or give another --out")
