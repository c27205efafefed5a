"""sonde concepts"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import print_blocks
from sonde.settings import Count


def concepts(
    index: Annotated[Path, Parameter()],
    /,
    *,
    text: Path,
    label: str = "label",
    field: str = "text",
    n: Count | None = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Show how well single features tell labelled texts apart, beside single neurons and linear probes.

    Example: sonde concepts index --text reviews.jsonl --label sentiment

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    text: Path
        A .jsonl file, or its .gz, of texts with labels.
    label: str
        The field that holds the label.
    field: str
        The field that holds the text.
    n: int
        Use so many texts; all by default.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.probes.concepts import concepts

    scores = concepts(index, text, label, field=field, n=n, device=device)
    if json:
        print_json([vars(each) | {"feature": each.feature.number} for each in scores])
    else:
        print_blocks(scores.draw())
