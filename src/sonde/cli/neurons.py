"""sonde neurons"""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries, reporter
from sonde.display import table
from sonde.settings import Count


def neurons(
    index: Annotated[Path, Parameter()],
    /,
    *,
    tokens: Count = Count(16384),
    n: int = 10,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Correlate features with neurons: each with every neuron up to its site.

    Example: sonde neurons index

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    tokens: int
        About how many tokens of the index's own text to look at.
    n: int
        Features to show, those with the largest correlation.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.analysis.neurons import neurons
    from sonde.features.added import LIKE_A_NEURON
    from sonde.features.reader import Reader

    report = neurons(Reader(index, device=device), tokens=tokens, reporter=reporter())
    order = np.argsort(-np.abs(report.correlation), kind="stable")[:n].tolist()
    if json:
        rows = [
            {
                "feature": number,
                "correlation": float(report.correlation[number]),
                "site": report.sites[report.site[number]],
                "neuron": int(report.neuron[number]),
            }
            for number in range(len(report.correlation))
        ]
        print_json({"tokens": report.tokens, "share_unlike": report.share_unlike, "features": rows})
        return
    rows = [["feature", "correlation", "site", "neuron"]]
    rows += [
        [str(f), f"{report.correlation[f]:+.2f}", report.sites[report.site[f]], str(report.neuron[f])] for f in order
    ]
    print(table(rows, right=(0, 1, 3)))
    print(
        f"{report.share_unlike:.0%} of the features that fire on {report.tokens:,} tokens have no neuron with a "
        f"correlation above {LIKE_A_NEURON}"
    )
