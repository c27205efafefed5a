"""sonde open"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import PageOptions, quiet_libraries, reporter
from sonde.settings import to_mapping


def open_index(
    index: Path,
    /,
    *,
    options: Annotated[PageOptions, Parameter(name="*")] = PageOptions(),  # noqa: B008
    export: Path | None = None,
    examples: int = 10,
) -> None:
    """Open an index in the browser, on this machine only, or export its page as a folder of files.

    Example: sonde open index, or sonde open index --export paper-page

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    export: Path
        Write the page to this folder instead, as files that any browser opens with no server, without the views that
        need the model.
    examples: int
        Examples of each feature in an export.
    """
    quiet_libraries()
    from sonde.web.serve import open_index

    shown: dict[str, Any] = {"export": export, "examples": examples, "reporter": reporter()} | to_mapping(options)
    written = open_index(index, **shown)
    if written is not None:
        print(written)
