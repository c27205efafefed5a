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
    """Take a port on an address, by default the loopback one; port 0 takes any. Raises ServeError where it is taken or not allowed."""
    if not 0 <= port < 2**16:
        raise ServeError(f"port {port} does not exist; take one from 1024 to 65535, or 0 for any that is free")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} is in use; take another with --port, or --port 0 for any that is free"
            ) from error
        raise ServeError(
            f"cannot listen on {host}, port {port}: {error.strerror}; take a port above 1023, and an address of this machine"
        ) from error
    return listener


def make_server(app: "FastAPI", log_level: str = "warning") -> "uvicorn.Server":
    """What runs an app; it says nothing of requests, and logs none of their content."""
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level=log_level, h11_max_incomplete_event_size=MAX_HEAD_BYTES))


def serve(
    index: str | Path,
    *,
    port: int = 8321,
    listener: socket.socket | None = None,
    device: str = "auto",
    browser: bool = True,
    place: str = "",
    host: str = ADDRESS,
    name: str = "",
    token: str = "",
) -> None:
    """Serve an index until Ctrl-C: the page, its API, and OpenAI's protocol under /v1.

    Args:
        listener: a socket from `listen`, where the port was taken earlier.
        place: where in the page to begin, such as "#/feature/311".
        host: the address to listen on; another than this machine's own wants a token.
        name: by which name or address other machines reach this one.
        token: what every request must bring as `Authorization: Bearer TOKEN`.

    Raises:
        ServeError: the port is taken, or there is no token where one is needed.
        ArtifactError: no such index, or one that cannot be read.
    """
    if host not in (ADDRESS, "localhost") and not (token and name):
        raise ServeError(
            f"on {host} other machines can reach the server; set a token in SONDE_TOKEN, and say by which name they reach it with --name"
        )
    loaded = load_index(index)
    taken = listener or listen(port, host)

    from sonde.web.app import make_app

    address = f"http://{name or ADDRESS}:{taken.getsockname()[1]}/{place}"
    server = make_server(make_app(loaded, device, name=name, token=token))
    taken.listen()  # so that whoever reads the address is not refused
    print(f"open at {address}   (Ctrl-C ends it)", file=sys.stderr, flush=True)  # noqa: T201
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    server.run(sockets=[taken])
