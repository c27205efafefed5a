"""sonde train"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, reporter
from sonde.settings import to_mapping
from sonde.training.settings import TrainSettings


def train(
    settings: Annotated[TrainSettings, Parameter(name="*")],
    *,
    activations: Path,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Train a dictionary of features on harvested activations.

    Example: sonde train --activations acts --kind topk --n-features 4096 --k 32 --out dict

    Parameters
    ----------
    activations: Path
        A folder written by sonde harvest.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    from sonde.training.train import train

    dictionary = train(activations, device=device, reporter=reporter(), **to_mapping(settings))
    if json:
        assert dictionary.manifest is not None
        print_json({"folder": str(dictionary.folder), "id": dictionary.manifest.id} | dictionary.facts)
    else:
        facts = dictionary.facts
        print(
            f"{dictionary.folder}: {facts['n_features']:,} features of kind {facts['kind']} at {facts['site']}; sonde measure --dictionary {dictionary.folder} says how good they are"
        )
