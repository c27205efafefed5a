"""sonde search"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, table


def search(
    index: Annotated[Path, Parameter()],
    words: Annotated[str, Parameter()],
    /,
    *,
    n: int = 20,
    json: bool = False,
) -> None:
    """Find features by words in their labels and notes, words at which they fire, or words around them.

    Example: sonde search index "golden gate"

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    words: str
        Words that label, notes or examples must hold.
    n: int
        Features to show.
    json: bool
        Print one JSON object.
    """
    from sonde.features.store import load_index

    found = load_index(index).search(words, n)
    if json:
        print_json(
            {
                "words": words,
                "features": [
                    {"feature": f.number, "density": f.density, "maximum": f.maximum, "snippet": s} for f, s in found
                ],
            }
        )
        return
    if not found:
        print(f"no feature of {index} has examples with {words!r}")
        return
    rows = [["feature", "density", "maximum", "example"]]
    rows += [[str(f.number), f"{f.density:.3%}", f"{f.maximum:.2f}", " ".join(snippet.split())] for f, snippet in found]
    print(table(rows, right=(0, 1, 2)))
