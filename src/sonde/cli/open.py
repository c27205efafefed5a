"""sonde open"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import quiet_libraries, reporter


def open_index(
    index: Path,
    /,
    *,
    port: int = 8321,
    device: str = "auto",
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    export: Path | None = None,
    examples: int = 10,
) -> None:
    """Open an index in the browser, on this machine only, or export its page as a folder of files.

    Example: sonde open index, or sonde open index --export paper-page

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
    export: Path
        Write the page to this folder instead, as files that any browser opens with no server, without the views that need the model.
    examples: int
        Examples of each feature in an export.
    """
    quiet_libraries()
    if export is not None:
        from sonde.web.export import export as write

        print(write(index, export, examples=examples, reporter=reporter()))
        return
    from sonde.web.serve import serve

    serve(index, port=port, device=device, browser=browser)
