"""sonde effects"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries, reporter
from sonde.display import print_blocks
from sonde.settings import Count


def effects(
    index: Annotated[Path, Parameter()],
    /,
    *,
    text: Path,
    others: Path,
    dose: float = 1.0,
    where: str = "prompt",
    n: int = 10,
    candidates: int = 20,
    most: int = 5,
    texts: Count = Count(16),
    tokens: int = 24,
    field: str = "text",
    preset: str = "",
    device: str = "auto",
    json: bool = False,
) -> None:
    """Find the features that turn the model towards some texts, by what clamping them does to the texts' probability.

    Example: sonde effects index --text bridge.jsonl --others other.jsonl --preset bridge

    A feature that fires on a thing need not bring it about. Texts about a concept, and others, are given to the model
    as answers to questions that have nothing to do with either; an effect is how much more probable a clamp makes the
    first, less how much the others, in nats a token. Features are chosen on half of the texts and judged on the rest.

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    text: Path
        Texts about the concept: a .txt or .jsonl file, or a folder of them.
    others: Path
        Texts about anything else.
    dose: float
        What a feature is clamped to, in multiples of its maximum.
    where: str
        prompt for the tokens of the question, all for the answer's too, or answer.
    n: int
        Features to show.
    candidates: int
        Features that are clamped, those that tell the texts best.
    most: int
        Features of the set, at most.
    texts: int
        Use so many texts of each kind.
    tokens: int
        Of each text, from its beginning.
    field: str
        Field of a .jsonl that holds the text.
    preset: str
        Keep the set under this name, as sonde preset does.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.analysis.effects import effects

    found = effects(
        index,
        text,
        others,
        dose=dose,
        where=where,
        n=n,
        candidates=candidates,
        most=most,
        texts=texts,
        tokens=tokens,
        field=field,
        preset=preset,
        device=device,
        reporter=reporter(),
    )
    if json:
        print_json({"features": [each.to_json() for each in found], "set": found.set.to_json()})
    else:
        print_blocks(found.draw())
