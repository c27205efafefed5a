"""sonde measure"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, load_recorded, print_json, quality_table, reporter
from sonde.settings import Count


def measure(
    *,
    dictionary: Path,
    model: str | None = None,
    text: Path | None = None,
    tokens: Count | None = None,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Measure a dictionary on documents that it was not trained on.

    Example: sonde measure --dictionary dict

    Parameters
    ----------
    dictionary: Path
        A folder written by sonde train.
    model: str
        The model to measure with; by default the one that the dictionary was trained on.
    text: Path
        Text to measure on; by default the documents that were held out of training.
    tokens: int
        Stop after the document in which this many tokens are reached.
    json: bool
        Print one JSON object.
    """
    from sonde.analysis.measure import measure
    from sonde.dictionaries.load import load_dictionary

    loaded = load_dictionary(dictionary, options.device)
    reader = load_recorded(loaded.info.model, model, loaded.described, options)
    measurement = measure(loaded, model=reader, text=text, tokens=tokens, reporter=reporter())
    if json:
        print_json(measurement.to_json())
        return
    print(quality_table(measurement))
