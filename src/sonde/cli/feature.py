"""sonde feature"""

from pathlib import Path
from typing import Literal

from sonde.cli.common import print_json
from sonde.display import print_blocks


def feature(
    index: Path,
    number: int,
    /,
    *,
    n: int = 10,
    by: Literal["top", "random", "interval"] = "top",
    json: bool = False,
) -> None:
    """Show a feature and its examples.

    Example: sonde feature index 311 --by interval

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    number: int
        Number of the feature.
    n: int
        Examples to show.
    by: str
        Which examples: the strongest, some at random, or one from each of n equal intervals of activation.
    json: bool
        Print one JSON object.
    """
    from sonde.features.index import feature

    found = feature(index, number, n=n, by=by)
    if json:
        print_json(found.to_json(n, by))
    else:
        print_blocks(found.drawing())
