"""Serving an index on this machine, and opening the browser at it.

Both wait until Ctrl-C, as a command does; in a notebook, whose own loop must go on, or with `background=True` they
return a `Server` that runs on a thread until it is stopped.
"""

import asyncio
import errno
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sonde.calls import public
from sonde.errors import ServeError
from sonde.features.index import Index, as_index
from sonde.progress import Reporter

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

ADDRESS, PORT = "127.0.0.1", 8321
MAX_HEAD_BYTES = 1 << 19
"""of a request's line and headers: the longest query, with every letter written as %XX"""


def listen(port: int, host: str = ADDRESS) -> socket.socket:
    """A socket bound to a port of an address, by default the loopback one; port 0 takes any that is free.

    Raises ServeError where the port is in use or not allowed.
    """
    if not 0 <= port < 2**16:
        raise ServeError(f"port {port} does not exist; take one from 1024 to 65535, or 0 for any that is free")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use; take another with --port, or --port 0 for any that is free"
        else:
            message = (
                f"cannot listen on {host}, port {port}: {error.strerror}; "
                "take a port above 1023, and an address of this machine"
            )
        raise ServeError(message) from error
    return listener


def make_server(app: "FastAPI", log_level: str = "warning") -> "uvicorn.Server":
    """The server that runs an app; it logs neither requests nor their content."""
    import uvicorn

    from sonde.web.patience import Connection

    config = uvicorn.Config(
        app, log_level=log_level, http=Connection, ws="none", h11_max_incomplete_event_size=MAX_HEAD_BYTES
    )
    return uvicorn.Server(config)


class Server:
    """A server that runs on a thread until it is stopped, or leaves the `with` block that it opens."""

    def __init__(self, server: "uvicorn.Server", listener: socket.socket, address: str) -> None:
        self.address = address
        self._server, self._listener = server, listener
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Server({self.address}{'' if self._thread.is_alive() else ', stopped'})"

    def stop(self) -> None:
        """End it, and free its port."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@public()
def serve(
    index: Index | str | Path,
    *,
    port: int = PORT,
    device: str = "auto",
    host: str = ADDRESS,
    name: str = "",
    token: str | None = None,
    background: bool = False,
) -> Server | None:
    """Serve an index until Ctrl-C: the page, its API, and OpenAI's protocol under /v1.

    Args:
        index: an index or its folder.
        port: the port to listen on; 0 takes any that is free.
        device: auto, cpu, cuda, cuda:N or mps; for the model, which the first request that needs it loads.
        host: the address to listen on; another than this machine's own needs a token and a name.
        name: the name or address by which other machines reach this one.
        token: what every request must bring as `Authorization: Bearer TOKEN`; by default what SONDE_TOKEN holds.
        background: return a `Server`, which runs until its `stop`; in a notebook it always does.

    Raises:
        ServeError: the port is in use, or there is no token where one is needed.
        ArtifactError: no such index, or one that cannot be read.
    """
    token = os.environ.get("SONDE_TOKEN", "") if token is None else token
    if host not in (ADDRESS, "localhost") and not (token and name):
        raise ServeError(
            f"on {host} other machines can reach the server; set a token in SONDE_TOKEN, and give the name by which "
            "they reach it with --name"
        )
    loaded = as_index(index)
    return run_server(loaded, listen(port, host), device, name=name, token=token, background=background)


@public(name="open")
def open_index(
    index: Index | str | Path,
    *,
    port: int = PORT,
    device: str = "auto",
    browser: bool = True,
    export: str | Path | None = None,
    examples: int = 10,
    background: bool = False,
    reporter: Reporter | None = None,
) -> Server | Path | None:
    """Open an index in the browser, on this machine only, until Ctrl-C; or export its page as a folder of files.

    Args:
        index: an index or its folder.
        port: the port to listen on; 0 takes any that is free.
        device: auto, cpu, cuda, cuda:N or mps; for the model, which the first request that needs it loads.
        browser: open the page in the browser; False only prints its address.
        export: write the page to this folder instead, as files that any browser opens with no server, and return the
            path of the page; without the views that need the model.
        examples: examples of each feature in an export.
        background: return a `Server`, which runs until its `stop`; in a notebook it always does.
        reporter: shows the progress of an export.

    Raises:
        ServeError: the port is in use, or the folder to export to holds something else.
        ArtifactError: no such index, or one that cannot be read.
    """
    loaded = as_index(index)
    if export is not None:
        from sonde.web.export import export as write

        return write(loaded, export, examples=examples, reporter=reporter)
    return run_server(loaded, listen(port), device, browser=browser, background=background)


def run_server(
    index: Index,
    listener: socket.socket,
    device: str,
    *,
    browser: bool = False,
    name: str = "",
    token: str = "",
    place: str = "",
    background: bool = False,
) -> Server | None:
    """Serve an index at a socket from `listen`, until Ctrl-C or on a thread.

    Args:
        place: where in the page to begin, such as "#/feature/311".
    """
    from sonde.web.app import make_app

    address = f"http://{name or ADDRESS}:{listener.getsockname()[1]}/{place}"
    server = make_server(make_app(index, device, name=name, token=token))
    listener.listen()  # before the address is printed, so that nobody who reads it is refused
    background = background or _is_in_a_loop()
    ends = "stop() ends it" if background else "Ctrl-C ends it"
    print(f"open at {address}   ({ends})", file=sys.stderr, flush=True)  # noqa: T201
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    if background:
        return Server(server, listener, address)
    server.run(sockets=[listener])
    return None


def _is_in_a_loop() -> bool:
    """Whether this thread runs an event loop already, as notebooks do."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
