"""sonde index"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, load_model, print_json, reporter
from sonde.features.settings import IndexSettings
from sonde.settings import to_mapping


def index(
    settings: Annotated[IndexSettings, Parameter(name="*")],
    *,
    dictionary: Path,
    text: Path,
    model: str | None = None,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),  # noqa: B008
    json: bool = False,
) -> None:
    """Find where every feature of a dictionary fires in a text.

    Example: sonde index --dictionary dict --text corpus.jsonl --tokens 1M --out index

    Parameters
    ----------
    dictionary: Path
        A folder written by sonde train.
    text: Path
        A .txt or .jsonl file, its .gz, or a folder of them.
    model: str
        The model to read with; by default the one that the dictionary was trained on.
    json: bool
        Print one JSON object.
    """
    from sonde.dictionaries.load import load_dictionary
    from sonde.features.index import index

    loaded = load_dictionary(dictionary, options.device)
    reader = load_model(model or loaded.facts["model"]["name"], options)
    made = index(reader, loaded, text, reporter=reporter(), **to_mapping(settings))
    facts = made.manifest.facts
    if json:
        print_json({"folder": str(made.folder), "id": made.manifest.id} | facts)
    else:
        print(
            f"{made.folder}: {facts['activations']:,} activations of {facts['n_features']:,} features on {facts['tokens']:,} tokens; sonde open {made.folder} shows them"
        )
