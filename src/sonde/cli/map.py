"""sonde map"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, reporter
from sonde.display import print_blocks


def feature_map(
    indexes: Annotated[tuple[Path, ...], Parameter()], /, *, seed: int = 0, n: int = 20, json: bool = False
) -> None:
    """Lay features out in a plane, similar ones near each other, in clusters with names.

    Example: sonde map index

    Parameters
    ----------
    indexes: tuple[Path, ...]
        Folders written by sonde index; several of one site are laid out together.
    seed: int
        Decides the layout.
    n: int
        Clusters to show, the largest.
    json: bool
        Print one JSON object.
    """
    from sonde.analysis.layout import feature_map

    maps = feature_map(indexes, seed=seed, n=n, reporter=reporter())
    if json:
        clusters = [{"name": name, "features": int(size)} for name, size in zip(maps[0].names, maps.sizes, strict=True)]
        print_json({"clusters": clusters})
    else:
        print_blocks(maps.drawing())
