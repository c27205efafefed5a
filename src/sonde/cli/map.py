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
    """Lay features out in a plane, those that are alike near each other, in clusters with names.

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

    made = feature_map(indexes, seed=seed, reporter=reporter())
    sizes = np.sum([np.bincount(one.cluster[one.cluster >= 0], minlength=len(one.names)) for one in made], axis=0)
    if json:
        print_json(
            {
                "clusters": [
                    {"name": name, "features": int(size)} for name, size in zip(made[0].names, sizes, strict=True)
                ]
            }
        )
        return
    rows = [["cluster", "features", "name"]]
    rows += [
        [str(number), str(sizes[number]), made[0].names[number]]
        for number in np.argsort(-sizes, kind="stable")[:n].tolist()
    ]
    print(table(rows, right=(0, 1)))
    outside = sum(int((one.cluster < 0).sum()) for one in made)
    print(f"{len(sizes):,} clusters; {outside:,} features are in none; index.map has all")
