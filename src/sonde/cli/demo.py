"""sonde demo"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries, reporter


def demo(
    *,
    out: Path = Path("sonde-demo"),
    serve: Annotated[bool, Parameter(negative="--no-serve")] = True,
    port: int = 8321,
    device: str = "auto",
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
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
    port: int
        Port to listen on; 0 takes any that is free.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    browser: bool
        Open the page in the browser; --no-browser only prints its address.
    json: bool
        Print the summary as one JSON object.
    """
    from sonde.web.serve import listen
    from sonde.web.serve import serve as serve_index

    listener = listen(port) if serve else None  # a port in use is said now, not after minutes of work
    quiet_libraries()
    from sonde_world.demo import demo, format_summary

    summary = demo(out, device=device, reporter=reporter())
    print_json(summary) if json else print(format_summary(summary, out))
    if listener:
        place = f"#/chat?edit={'&edit='.join(summary['edits'])}"
        serve_index(out / "index", listener=listener, device=device, browser=browser, place=place)
