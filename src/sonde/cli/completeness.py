"""sonde completeness"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import table
from sonde.errors import TextError


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
    try:
        names = [line.strip() for line in concepts.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{concepts} cannot be read as text; give a file with a concept on each line") from error
    if not names or "{concept}" not in prompt:
        raise TextError(f"{concepts} has no lines" if not names else f"the prompt {prompt!r} has no {{concept}} in it")
    quiet_libraries()
    from sonde.analysis.completeness import completeness
    from sonde.features.reader import Reader

    result = completeness(Reader(index, device=device), names, prompt=prompt)
    if json:
        rows = [
            {"concept": p.concept, "per_million_words": p.frequency, "feature": p.feature.number if p.feature else None}
            for p in result.presences
        ]
        print_json({"share": result.share, "threshold": result.threshold, "slope": result.slope, "concepts": rows})
        return
    rows = [["concept", "of a million words", "feature"]]
    rows += [
        [p.concept, f"{p.frequency:,.1f}", str(p.feature.number) if p.feature else "-"]
        for p in sorted(result.presences, key=lambda p: -p.frequency)
    ]
    print(table(rows, right=(1, 2)))
    print(
        f"{result.share:.0%} of the concepts that the text holds have a feature; half of them do from "
        f"{result.threshold:,.1f} in a million words on"
    )
