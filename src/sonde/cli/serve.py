"""sonde serve"""

import os
from pathlib import Path

from sonde.cli.common import quiet_libraries


def serve(
    index: Path,
    /,
    *,
    port: int = 8321,
    host: str = "127.0.0.1",
    name: str = "",
    device: str = "auto",
) -> None:
    """Serve a model whose features can be turned to any client of OpenAI's API, and the page.

    Example: sonde serve index --port 8321, then OPENAI_BASE_URL=http://127.0.0.1:8321/v1 for any client

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    port: int
        Port to listen on; 0 takes any that is free.
    host: str
        Address to listen on. Another than this machine's own wants a token in SONDE_TOKEN, which every request must then bring.
    name: str
        By which name or address other machines reach this one.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    """
    quiet_libraries()
    from sonde.web.serve import serve

    token = os.environ.get("SONDE_TOKEN", "")
    serve(index, port=port, device=device, browser=False, host=host, name=name, token=token)
