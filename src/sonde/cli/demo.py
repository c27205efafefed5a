"""sonde demo"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import PageOptions, print_json, quiet_libraries, reporter


def demo(
    *,
    out: Path = Path("sonde-demo"),
    serve: Annotated[bool, Parameter(negative="--no-serve")] = True,
    options: Annotated[PageOptions, Parameter(name="*")] = PageOptions(),  # noqa: B008
    json: bool = False,
) -> None:
    """Find features of the built-in model on this machine, turn one up, and open the page.

    Example: sonde demo --no-serve

    Run again, it reuses what is there.

    Parameters
    ----------
    out: Path
        Folder for what the demo makes.
    serve: bool
        Open the page at the end; --no-serve only prints the summary.
    json: bool
        Print the summary as one JSON object.
    """
    from sonde.features.index import load_index
    from sonde.web.serve import listen, run_server

    listener = listen(options.port) if serve else None  # so that a port in use fails now, not after minutes of work
    quiet_libraries()
    from sonde_world.demo import demo, format_summary

    summary = demo(out, device=options.device, reporter=reporter())
    print_json(summary) if json else print(format_summary(summary, out))
    if listener:
        place = f"#/chat?edit={'&edit='.join(summary['edits'])}"
        run_server(load_index(out / "index"), listener, options.device, browser=options.browser, place=place)
