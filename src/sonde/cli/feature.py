"""sonde feature"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.text import Text

from sonde.cli.common import print_json
from sonde.errors import ArtifactMissingError

if TYPE_CHECKING:
    from sonde.features.examples import ExamplePicture


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
    from sonde.features.feature import QUANTILES
    from sonde.features.index import load_index

    found = load_index(index).feature(number)
    if json:
        print_json(found.to_json(n, by))
        return
    if found.label is not None:
        print(f"{found.label.label}  ({found.label.by})")
    print(
        f"feature {number}: fires on {found.density:.3%} of tokens, at most {found.maximum:.2f}, {found.mean:.2f} on average where it fires"
    )
    if found.is_dead:
        print("it fires nowhere in this index")
        return
    low = "  ".join(f"{share:.0%} {value:.2f}" for share, value in zip(QUANTILES, found.quantiles(), strict=True))
    print(f"of its {found.count:,} activations lie below: {low}")
    try:
        print("nearest: " + "  ".join(f"{hit.feature.number} {hit.score:.2f}" for hit in found.neighbours(5)))
    except ArtifactMissingError:  # the dictionary has gone, and the rest of the index is whole
        pass
    if together := found.fires_with(5):
        print("fires with: " + "  ".join(f"{hit.feature.number} {hit.score:.2f}" for hit in together))
    for name, pairs in (("more likely", found.top_logits), ("less likely", found.bottom_logits)):
        if pairs:
            print(f"{name}: " + "  ".join(f"{token.strip() or token!r} {value:+.2f}" for token, value in pairs))
    examples = found.examples(n, by)
    if any(example.pictures for example in examples):
        print("patches of pictures as row,column counted from the top left corner, from 1")
    console = Console(highlight=False, soft_wrap=True)
    for example in examples:
        line = Text(f"{example.value:7.2f}  ")
        pictures = {picture.piece: picture for picture in example.pictures}
        for number, (text, value) in enumerate(example.pieces):
            strength = value / found.maximum
            piece = _describe(pictures[number]) if number in pictures else text
            # Where colours cannot be seen, the strongest token stands in brackets.
            marked = f"[{piece}]" if value == example.value and not sys.stdout.isatty() else piece
            line.append(
                " ".join(marked.splitlines()) or " ",
                style=f"on rgb({int(90 + 130 * strength)},{int(70 + 40 * strength)},20)" if value > 0 else "",
            )
        console.print(line)


def _describe(picture: "ExamplePicture") -> str:
    """Where in a picture a feature fires: <picture 1 of 6 x 6 patches: 2,3 4.10; 2,4 3.95>"""
    patches = "; ".join(f"{row + 1},{column + 1} {value:.2f}" for row, column, value in picture.strongest())
    return f"<picture {picture.number + 1} of {picture.rows} x {picture.columns} patches: {patches or 'nowhere'}>"
