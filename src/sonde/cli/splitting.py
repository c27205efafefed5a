"""sonde splitting"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json
from sonde.display import print_blocks


def splitting(
    small: Annotated[Path, Parameter()],
    large: Annotated[Path, Parameter()],
    /,
    *,
    cosine: float = 0.4,
    contained: float = 0.5,
    feature: int | None = None,
    n: int = 10,
    json: bool = False,
) -> None:
    """Show how a larger dictionary's features divide those of a smaller one.

    Example: sonde splitting both/small both/large, after sonde index --dictionary small --dictionary large --out both

    Parameters
    ----------
    small: Path
        An index of the smaller dictionary.
    large: Path
        An index of the larger one, on the same text.
    cosine: float
        The smallest between the decoder rows of a feature and of the one that it divides.
    contained: float
        The smallest share of a feature's tokens on which the one that it divides fires too.
    feature: int
        Show the children of this feature of the smaller.
    n: int
        Features to show, those that are divided most.
    json: bool
        Print one JSON object.
    """
    from sonde.analysis.splitting import splitting

    found = splitting(small, large, cosine=cosine, contained=contained, feature=feature, n=n)
    if json:
        tree = {
            number: [{"feature": c.feature.number, "cosine": c.cosine, "contained": c.contained} for c in children]
            for number, children in found.children.items()
        }
        print_json({"split": found.n_split, "orphans": found.n_orphans, "children": tree})
    else:
        print_blocks(found.drawing())
