"""A server of an index on a thread of the test."""

import contextlib
import threading
from pathlib import Path

from sonde.features.index import load_index
from sonde.web.app import make_app
from sonde.web.serve import listen, make_server


@contextlib.contextmanager
def served(index: Path):
    """Serve an index on any free port; gives its address."""
    listener = listen(0)
    listener.listen()
    server = make_server(make_app(load_index(index), "cpu"), "critical")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
