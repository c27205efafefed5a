"""sonde measure"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.display import print_blocks
from sonde.settings import Count, to_mapping


def measure(
    *,
    dictionary: Path,
    model: str | None = None,
    text: Path | None = None,
    tokens: Count | None = None,
    seconds: float | None = None,
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
    seconds: float
        Stop after the batch in which this time is over.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.analysis.measure import measure

    chosen: dict[str, Any] = {"model": model, "text": text, "tokens": tokens, "seconds": seconds} | to_mapping(options)
    measurement = measure(dictionary, reporter=reporter(), **chosen)
    if json:
        print_json(measurement.to_json())
    else:
        print_blocks(measurement.draw())
