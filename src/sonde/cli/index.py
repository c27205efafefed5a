"""sonde index"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, load_recorded, print_json, reporter
from sonde.features.settings import IndexSettings
from sonde.settings import Bytes, to_mapping
from sonde.tasks.settings import TaskOptions


def index(
    settings: Annotated[IndexSettings, Parameter(name="*")],
    *,
    dictionary: list[Path],
    text: Path,
    model: str | None = None,
    tasks: Annotated[TaskOptions, Parameter(name="*")] = TaskOptions(),
    memory: Bytes = Bytes("512MB"),
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Find where every feature of a dictionary, or of several, fires in a text.

    Example: sonde index --dictionary dict --text corpus.jsonl --tokens 1M --out index

    Parameters
    ----------
    dictionary: list[Path]
        A folder written by sonde train. May be repeated: the text is read once for all, and each has its index in
        --out, under its folder's name.
    text: Path
        A .txt or .jsonl file, its .gz, or a folder of them.
    model: str
        The model to read with; by default the one that the dictionary was trained on.
    memory: int
        Bytes for what is merged at once, such as 200MB.
    json: bool
        Print one JSON object.
    """
    from sonde.dictionaries.load import load_dictionary
    from sonde.features.build import index

    loaded = [load_dictionary(folder, options.device) for folder in dictionary]
    reader = load_recorded(loaded[0].info.model, model, loaded[0].described, options)
    keywords: dict[str, Any] = {"memory": memory, "reporter": reporter()} | to_mapping(tasks) | to_mapping(settings)
    if len(loaded) > 1:
        indexes = index(reader, loaded, text, **keywords)
    else:
        indexes = [index(reader, loaded[0], text, **keywords)]
    if json:
        shown = [{"folder": str(each.folder), "id": each.manifest.id} | each.manifest.facts for each in indexes]
        print_json(shown if len(shown) > 1 else shown[0])
        return
    for each in indexes:
        print(
            f"{each.folder}: {each.facts.activations:,} activations of {each.n_features:,} features "
            f"on {each.n_tokens:,} tokens; sonde open {each.folder} shows them"
        )
