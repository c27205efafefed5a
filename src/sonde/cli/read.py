"""sonde read"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import table
from sonde.errors import UsageError


def read(
    index: Annotated[Path, Parameter()],
    texts: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)],
    /,
    *,
    unlike: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    on: str = "max",
    n: int = 20,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Run texts through the model and show which features fire on them.

    Example: sonde read index "We walked over the Golden Gate Bridge" --unlike "We walked over the street"

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    texts: tuple[str, ...]
        One text or more; of several, the mean counts.
    unlike: tuple[str, ...]
        A text on which the features should not fire; may be repeated.
    on: str
        Which tokens count: max, the strongest; last; mean, all; or a range such as
        3..7, from token 3 up to and without 7, counted from 0.
    n: int
        Features to show.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    from sonde.features.index import load_index

    loaded, tokens = load_index(index), _tokens(on)
    quiet_libraries()
    from sonde.features.reader import Reader

    reader = Reader(loaded, device=device)
    activations = [reader.read(text) for text in texts]
    hits, first = reader.search(activations, unlike=unlike, on=tokens, n=n), activations[0]
    if json:
        features = [
            {"feature": hit.feature.number, "score": hit.score, "maximum": hit.feature.maximum}
            | {"values": first.of(hit.feature.number).tolist()}
            for hit in hits
        ]
        print_json({"texts": list(texts), "unlike": list(unlike), "pieces": list(first.pieces), "features": features})
        return
    if not hits:
        print("no feature fires there" + (" more than on the texts of --unlike" if unlike else ""))
        return
    rows = [["feature", "activation", "of its maximum", "strongest at", "fires mostly at"]]
    for hit in hits:
        values, feature = first.of(hit.feature.number), hit.feature
        at = first.pieces[int(values.argmax())].strip() if values.any() else "-"
        share = f"{hit.score / feature.maximum:.0%}" if feature.maximum else "-"
        rows.append(
            [str(feature.number), f"{hit.score:.2f}", share, at, ", ".join(feature.usual_tokens(3)) or "nothing"]
        )
    print(table(rows, right=(0, 1, 2)))


def _tokens(on: str):
    """Read --on; raises UsageError."""
    if on in ("max", "last", "mean"):
        return on
    first, dots, last = on.partition("..")
    if not dots or not all(part.lstrip("-").isdigit() or not part for part in (first, last)):
        form = on.replace(":", "..") if ":" in on else "3..7"
        raise UsageError(f"--on is {on!r}, but must be max, last, mean, or a range of tokens such as {form}")
    return slice(int(first) if first else None, int(last) if last else None)
