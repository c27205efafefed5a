"""sonde read"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import table


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
    quiet_libraries()
    from sonde.features.reader import read

    found = read(index, texts, unlike=unlike, on=on, n=n, device=device)
    first = found.texts[0]
    if json:
        features = [
            {"feature": hit.feature.number, "score": hit.score, "maximum": hit.feature.maximum}
            | {"values": first.of(hit.feature.number).tolist()}
            for hit in found.hits
        ]
        print_json({"texts": list(texts), "unlike": list(unlike), "pieces": list(first.pieces), "features": features})
        return
    if not found.hits:
        print("no feature fires there" + (" more than on the texts of --unlike" if unlike else ""))
        return
    rows = [["feature", "activation", "of its maximum", "strongest at", "fires mostly at"]]
    for hit in found.hits:
        values, feature = first.of(hit.feature.number), hit.feature
        at = first.pieces[int(values.argmax())].strip() if values.any() else "-"
        share = f"{hit.score / feature.maximum:.0%}" if feature.maximum else "-"
        rows.append(
            [str(feature.number), f"{hit.score:.2f}", share, at, ", ".join(feature.usual_tokens(3)) or "nothing"]
        )
    print(table(rows, right=(0, 1, 2)))
