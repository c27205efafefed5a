"""sonde label"""

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, reporter
from sonde.display import print_blocks
from sonde.labels.settings import LabelSettings
from sonde.settings import to_mapping


def label(
    index: Annotated[Path, Parameter()],
    /,
    settings: Annotated[LabelSettings, Parameter(name="*")] = LabelSettings(),
    *,
    dry_run: bool = False,
    export: Path | None = None,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
    json: bool = False,
) -> None:
    """Describe each feature in words, and test the descriptions.

    Example: sonde label index --judge openai:gpt-5-mini --n 100 --budget-tokens 1M

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    dry_run: bool
        Ask nothing, and say how many questions there would be and what they may cost at most.
    export: Path
        Write all labels, scores and notes as JSON lines, and do nothing else.
    import_: Path
        Add labels, scores and notes that another index exported, and do nothing else.
    json: bool
        Print one JSON object.
    """
    from sonde.features.index import load_index
    from sonde.labels.label import label

    loaded = load_index(index)
    if export is not None:
        print(f"{export}: {loaded.labels.export(export):,} labels, scores and notes")
        return
    if import_ is not None:
        print(f"{index}: {loaded.labels.import_(import_):,} new labels, scores and notes")
        return
    report = label(loaded, dry_run=dry_run, reporter=reporter(), **to_mapping(settings))
    if json:
        print_json(dataclasses.asdict(report))
        return
    print_blocks(report.draw())
    if not dry_run:
        print(f"sonde search {index} WORDS finds them")
