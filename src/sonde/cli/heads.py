"""sonde heads"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.display import print_blocks
from sonde.settings import Count


def heads(
    *,
    model: str,
    text: Path | None = None,
    field: str = "text",
    tokens: Count = Count(16384),
    prompt: str | None = None,
    target: str | None = None,
    against: str | None = None,
    length: int = 25,
    repeats: int = 4,
    sequences: int = 10,
    seed: int = 0,
    n: int = 10,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Score attention heads: induction and its parts, what ablating them costs, and what each adds to an answer.

    Example: sonde heads --model world --text corpus.jsonl

    Parameters
    ----------
    model: str
        A model folder, a hub name, or world or smollm2.
    text: Path
        Natural text to measure on, too.
    field: str
        The field of a .jsonl that holds the text.
    tokens: int
        About how many tokens of the text to read.
    prompt: str
        A prompt whose next token is attributed to layers and heads by the direct path.
    target: str
        That next token, with its space.
    against: str
        Another, whose logit is subtracted.
    length: int
        Tokens of a random sequence.
    repeats: int
        Times that it occurs.
    sequences: int
        How many of them.
    seed: int
        Decides the random tokens.
    n: int
        Heads to show.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.circuits.heads import heads

    repeated = {"length": length, "repeats": repeats, "sequences": sequences, "seed": seed}
    asked = {"prompt": prompt, "target": target, "against": against}
    places = {"device": options.device, "dtype": options.dtype, "reporter": reporter()}
    found = heads(model, text, field=field, tokens=tokens, n=n, **asked, **repeated, **places)
    if json:
        print_json(found.to_json())
    else:
        print_blocks(found.drawing())
