"""sonde neurons"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries, reporter
from sonde.display import print_blocks
from sonde.settings import Count


def neurons(
    index: Annotated[Path, Parameter()],
    /,
    *,
    tokens: Count = Count(16384),
    seed: int = 0,
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
    seed: int
        Decides which documents.
    n: int
        Features to show, those with the largest correlation.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.analysis.neurons import neurons

    found = neurons(index, tokens=tokens, seed=seed, n=n, device=device, reporter=reporter())
    if json:
        rows = [
            {
                "feature": number,
                "correlation": float(correlation),
                "site": found.site_of(number),
                "neuron": int(found.neuron[number]),
            }
            for number, correlation in enumerate(found.correlation)
        ]
        print_json({"tokens": found.tokens, "share_unlike": found.share_unlike, "features": rows})
    else:
        print_blocks(found.drawing())
