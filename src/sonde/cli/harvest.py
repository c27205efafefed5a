"""sonde harvest"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.activations.settings import HarvestSettings
from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.settings import to_mapping
from sonde.tasks.settings import TaskOptions


def harvest(
    settings: Annotated[HarvestSettings, Parameter(name="*")],
    *,
    model: str,
    text: Path,
    tasks: Annotated[TaskOptions, Parameter(name="*")] = TaskOptions(),
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Run a model over text once and keep the activations at a site, shuffled.

    Example: sonde harvest --model world --site layers.3.residual --text corpus.jsonl --out acts

    Parameters
    ----------
    model: str
        A model folder, a hub name, or world, the model in the package.
    text: Path
        A .txt or .jsonl file, its .gz, or a folder of them.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.activations.harvest import harvest

    plain = to_mapping(options) | to_mapping(tasks) | to_mapping(settings)
    store = harvest(model, text, reporter=reporter(), **plain)
    if json:
        print_json({"folder": str(store.folder), "id": store.manifest.id} | store.manifest.facts)
        return
    facts = store.facts
    widths = ", ".join(f"{name} ({site.width})" for name, site in facts.sites.items())
    print(
        f"{store.folder}: {facts.rows:,} rows at {widths} "
        f"from {facts.documents:,} documents ({facts.held_out_documents:,} held out)"
    )
