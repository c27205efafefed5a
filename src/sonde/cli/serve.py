"""sonde serve"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ServerOptions, quiet_libraries


def serve(
    index: Path,
    /,
    *,
    options: Annotated[ServerOptions, Parameter(name="*")] = ServerOptions(),  # noqa: B008
    host: str = "127.0.0.1",
    name: str = "",
) -> None:
    """Serve a model whose features can be turned to any client of OpenAI's API, and the page.

    Example: sonde serve index --port 8321, then OPENAI_BASE_URL=http://127.0.0.1:8321/v1 for any client

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    host: str
        Address to listen on. Another than this machine's own needs a token in SONDE_TOKEN, which every request must
        then bring.
    name: str
        The name or address by which other machines reach this one.
    """
    quiet_libraries()
    from sonde.web.serve import serve

    serve(index, port=options.port, device=options.device, host=host, name=name)
