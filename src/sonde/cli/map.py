"""sonde map"""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from sonde.cli.common import print_json, reporter
from sonde.display import table


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

    maps = feature_map(indexes, seed=seed, reporter=reporter())
    sizes = np.sum([np.bincount(each.cluster[each.cluster >= 0], minlength=len(each.names)) for each in maps], axis=0)
    if json:
        print_json(
            {
                "clusters": [
                    {"name": name, "features": int(size)} for name, size in zip(maps[0].names, sizes, strict=True)
                ]
            }
        )
        return
    rows = [["cluster", "features", "name"]]
    rows += [
        [str(number), str(sizes[number]), maps[0].names[number]]
        for number in np.argsort(-sizes, kind="stable")[:n].tolist()
    ]
    print(table(rows, right=(0, 1)))
    outside = sum(int((each.cluster < 0).sum()) for each in maps)
    print(f"{len(sizes):,} clusters; {outside:,} features are in none; index.map has all")
