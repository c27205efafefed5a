"""sonde index"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, load_model, print_json, reporter
from sonde.features.settings import IndexSettings
from sonde.settings import Bytes, to_mapping


def index(
    settings: Annotated[IndexSettings, Parameter(name="*")],
    *,
    dictionary: list[Path],
    text: Path,
    model: str | None = None,
    workers: int | None = None,
    memory: Bytes = Bytes("512MB"),
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Find where every feature of a dictionary, or of several, fires in a text.

    Example: sonde index --dictionary dict --text corpus.jsonl --tokens 1M --out index

    Parameters
    ----------
    dictionary: list[Path]
        A folder written by sonde train. May be repeated: the text is read once for all, and each has its index in --out, under
        its folder's name.
    text: Path
        A .txt or .jsonl file, its .gz, or a folder of them.
    model: str
        The model to read with; by default the one that the dictionary was trained on.
    workers: int
        How many processes share the work, each with the model in its memory.
    memory: int
        Bytes for what is merged at once, such as 200MB.
    json: bool
        Print one JSON object.
    """
    from sonde.dictionaries.load import load_dictionary
    from sonde.features.build import index

    loaded = [load_dictionary(folder, options.device) for folder in dictionary]
    reader = load_model(model or loaded[0].info.require_model().name, options)
    given: dict[str, Any] = {"workers": workers, "memory": memory, "reporter": reporter()} | to_mapping(settings)
    made = index(reader, loaded, text, **given) if len(loaded) > 1 else [index(reader, loaded[0], text, **given)]
    if json:
        told = [{"folder": str(one.folder), "id": one.manifest.id} | one.manifest.facts for one in made]
        print_json(told if len(told) > 1 else told[0])
        return
    for one in made:
        print(
            f"{one.folder}: {one.facts.activations:,} activations of {one.n_features:,} features "
            f"on {one.n_tokens:,} tokens; sonde open {one.folder} shows them"
        )
