"""sonde splitting"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json


def splitting(
    small: Annotated[Path, Parameter()],
    large: Annotated[Path, Parameter()],
    /,
    *,
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
    feature: int
        Show the children of this feature of the smaller.
    n: int
        Features to show, those that are divided most.
    json: bool
        Print one JSON object.
    """
    from sonde.analysis.splitting import splitting
    from sonde.features.index import load_index

    parents = load_index(small)
    result = splitting(parents, load_index(large))
    if feature is not None:
        parents.feature(feature)  # raises FeatureError where there is none
    chosen = (
        [feature]
        if feature is not None
        else sorted(result.children, key=lambda number: -len(result.children[number]))[:n]
    )
    if json:
        tree = {
            number: [{"feature": c.feature.number, "cosine": c.cosine, "contained": c.contained} for c in children]
            for number, children in result.children.items()
        }
        print_json({"split": result.n_split, "orphans": result.n_orphans, "children": tree})
        return
    for number in chosen:
        print(_line(parents.feature(number)))
        for child in result.children.get(number, []):
            print(f"  cosine {child.cosine:.2f}, inside {child.contained:4.0%}  {_line(child.feature)}")
    print(
        f"{result.n_split:,} of {parents.n_features:,} features are divided into two or more; "
        f"{result.n_orphans:,} features of {large} divide none"
    )


def _line(feature) -> str:
    name = (
        feature.label.label if feature.label is not None else "at " + (", ".join(feature.usual_tokens()) or "nothing")
    )
    return f"feature {feature.number}, {feature.density:.3%} of tokens: {name}"
