"""sonde open"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import quiet_libraries


def open_index(
    index: Path,
    /,
    *,
    port: int = 8321,
    device: str = "auto",
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
) -> None:
    """Open an index in the browser, on this machine only.

    Example: sonde open index

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    port: int
        Port to listen on; 0 takes any that is free.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    browser: bool
        Open the page in the browser; --no-browser only prints its address.
    """
    quiet_libraries()
    from sonde.web.serve import serve

    serve(index, port=port, device=device, browser=browser)
