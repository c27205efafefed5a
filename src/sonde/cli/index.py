"""sonde index"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
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
    quiet_libraries()
    from sonde.features.build import index

    plain = to_mapping(options) | to_mapping(tasks) | to_mapping(settings)
    keywords: dict[str, Any] = {"memory": memory, "reporter": reporter()} | plain
    if len(dictionary) > 1:
        indexes = index(model, dictionary, text, **keywords)
    else:
        indexes = [index(model, dictionary[0], text, **keywords)]
    if json:
        shown = [{"folder": str(each.folder), "id": each.manifest.id} | each.manifest.facts for each in indexes]
        print_json(shown if len(shown) > 1 else shown[0])
        return
    for each in indexes:
        print(
            f"{each.folder}: {each.facts.activations:,} activations of {each.n_features:,} features "
            f"on {each.n_tokens:,} tokens; sonde open {each.folder} shows them"
        )
