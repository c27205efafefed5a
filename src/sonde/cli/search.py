"""sonde search"""

import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import print_json
from sonde.display import table
from sonde.errors import SettingsError, UsageError
from sonde.settings import parse_range

STATISTICS = ("density", "maximum", "mean", "same_word", "neuron")


def search(
    index: Annotated[Path, Parameter()],
    words: Annotated[str, Parameter()] = "",
    /,
    *,
    like: int | None = None,
    density: str | None = None,
    maximum: str | None = None,
    mean: str | None = None,
    same_word: str | None = None,
    neuron: str | None = None,
    n: int = 20,
    json: bool = False,
) -> None:
    """Find features by words in their labels, notes or examples, by likeness to a feature, or by statistics.

    Example: sonde search index "golden gate"

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    words: str
        Words that label, notes or examples must hold.
    like: int
        A feature whose neighbours by decoder cosine are wanted.
    density: str
        Range of the share of tokens on which it fires, such as 1e-4..1e-2; ..1e-3 for rare ones, 0..0 for dead ones.
    maximum: str
        Range of the largest activation.
    mean: str
        Range of the mean activation where it fires.
    same_word: str
        Range of the share of the strongest examples that fire at one word; 1..1 for features of one word.
    neuron: str
        Range of the correlation with the neuron that is most like it, such as 0.3.., after sonde neurons.
    n: int
        Features to show.
    json: bool
        Print one JSON object.
    """
    from sonde.features.index import load_index

    found = load_index(index)
    ranges: dict[str, Any] = {
        "density": density,
        "maximum": maximum,
        "mean": mean,
        "same_word": same_word,
        "neuron": neuron,
    }
    ranges = {name: _range(name, given) for name, given in ranges.items() if given is not None}
    if sum(map(bool, (words, like is not None, ranges))) != 1:
        raise UsageError(
            "say what to search by, and one thing only: words, --like, or ranges such as --density 1e-4..1e-2"
        )
    if words:
        hits = [(hit.feature, hit.snippet) for hit in found.search(words, n)]
    elif like is not None:
        near = found.feature(like).neighbours(n)
        hits = [(hit.feature, f"cosine {hit.score:.2f}  {_summary(hit.feature)}") for hit in near]
    else:
        bounds = {
            name: (-math.inf if low is None else low, math.inf if high is None else high)
            for name, (low, high) in ranges.items()
        }
        hits = [(feature, _summary(feature)) for feature in found.where(**bounds)[:n]]
    if json:
        rows = [{"feature": f.number, "density": f.density, "maximum": f.maximum, "snippet": said} for f, said in hits]
        print_json({"words": words, "like": like} | ranges | {"features": rows})
        return
    if not hits:
        print(
            f"no feature of {index} has label, notes or examples with {words!r}"
            if words
            else f"no feature of {index} is like that"
        )
        return
    rows = [["feature", "density", "maximum", "label or example"]]
    rows += [[str(f.number), f"{f.density:.3%}", f"{f.maximum:.2f}", " ".join(said.split())] for f, said in hits]
    print(table(rows, right=(0, 1, 2)))


def _summary(feature: Any) -> str:
    return feature.label.label if feature.label is not None else ", ".join(feature.usual_tokens())


def _range(name: str, text: str) -> tuple[float | None, float | None]:
    """The bounds of a range; raises UsageError naming the flag."""
    try:
        return parse_range(text)
    except SettingsError as error:
        raise UsageError(f"--{name.replace('_', '-')}: {error}") from error
