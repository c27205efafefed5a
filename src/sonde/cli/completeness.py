"""sonde completeness"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import print_blocks


def completeness(
    index: Annotated[Path, Parameter()],
    /,
    *,
    concepts: Path,
    prompt: str = "This is about {concept}",
    device: str = "auto",
    json: bool = False,
) -> None:
    """Show which of some concepts have a feature, and how often a text must hold a concept before it gets one.

    Example: sonde completeness index --concepts elements.txt

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    concepts: Path
        A text file with a concept on each line.
    prompt: str
        A text that ends with {concept}; the five features that fire most on its last token are looked at.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.analysis.completeness import completeness

    found = completeness(index, concepts, prompt=prompt, device=device)
    if json:
        rows = [
            {"concept": p.concept, "per_million_words": p.frequency, "feature": p.feature.number if p.feature else None}
            for p in found.presences
        ]
        print_json({"share": found.share, "threshold": found.threshold, "slope": found.slope, "concepts": rows})
    else:
        print_blocks(found.draw())
