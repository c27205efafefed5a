"""sonde search"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import print_json
from sonde.display import table
from sonde.settings import parse_range


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
    from sonde.features.search import search

    ranges: dict[str, Any] = {"density": density, "maximum": maximum, "mean": mean}
    ranges |= {"same_word": same_word, "neuron": neuron}
    ranges = {name: given for name, given in ranges.items() if given is not None}
    hits = search(index, words, like=like, n=n, **ranges)
    if json:
        rows = [
            {"feature": hit.feature.number, "density": hit.feature.density, "maximum": hit.feature.maximum}
            | {"snippet": _said(hit, hits.by)}
            for hit in hits
        ]
        bounds = {name: parse_range(given) for name, given in ranges.items()}
        print_json({"words": words, "like": like} | bounds | {"features": rows})
    elif not hits:
        what = f"has label, notes or examples with {words!r}" if words else "is like that"
        print(f"no feature of {index} {what}")
    else:
        rows = [["feature", "density", "maximum", "label or example"]]
        for hit in hits:
            shown = (hit.feature.number, f"{hit.feature.density:.3%}", f"{hit.feature.maximum:.2f}")
            rows.append([*map(str, shown), " ".join(_said(hit, hits.by).split())])
        print(table(rows, right=(0, 1, 2)))


def _said(hit: Any, by: str) -> str:
    """What was found in it, or else its label or the tokens at which it fires."""
    feature = hit.feature
    usual = feature.label.label if feature.label is not None else ", ".join(feature.usual_tokens())
    return hit.snippet or (f"cosine {hit.score:.2f}  {usual}" if by == "cosine" else usual)
