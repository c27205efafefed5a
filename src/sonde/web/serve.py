"""Serving an index on this machine, and opening the browser at it."""

import errno
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from sonde.errors import ServeError
from sonde.features.index import load_index

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

ADDRESS = "127.0.0.1"
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

    return uvicorn.Server(uvicorn.Config(app, log_level=log_level, h11_max_incomplete_event_size=MAX_HEAD_BYTES))


def serve(
    index: str | Path,
    *,
    port: int = 8321,
    device: str = "auto",
    browser: bool = True,
    host: str = ADDRESS,
    name: str = "",
    token: str = "",
    listener: socket.socket | None = None,
    place: str = "",
) -> None:
    """Serve an index until Ctrl-C: the page, its API, and OpenAI's protocol under /v1.

    Args:
        browser: open the page in the browser.
        host: the address to listen on; another than this machine's own needs a token.
        name: the name or address by which other machines reach this one.
        token: what every request must bring as `Authorization: Bearer TOKEN`.
        listener: a socket from `listen`, where the port was taken earlier.
        place: where in the page to begin, such as "#/feature/311".

    Raises:
        ServeError: the port is in use, or there is no token where one is needed.
        ArtifactError: no such index, or one that cannot be read.
    """
    if host not in (ADDRESS, "localhost") and not (token and name):
        raise ServeError(
            f"on {host} other machines can reach the server; set a token in SONDE_TOKEN, and give the name by which "
            "they reach it with --name"
        )
    loaded = load_index(index)
    listener = listener or listen(port, host)

    from sonde.web.app import make_app

    address = f"http://{name or ADDRESS}:{listener.getsockname()[1]}/{place}"
    server = make_server(make_app(loaded, device, name=name, token=token))
    listener.listen()  # before the address is printed, so that nobody who reads it is refused
    print(f"open at {address}   (Ctrl-C ends it)", file=sys.stderr, flush=True)  # noqa: T201
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    server.run(sockets=[listener])
