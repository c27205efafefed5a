"""sonde dose"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import table


def dose(
    index: Path,
    /,
    *,
    edit: Annotated[list[str], Parameter(negative_iterable=())],
    prompt: str,
    at: Annotated[list[float] | None, Parameter(negative_iterable=())] = None,
    max_new_tokens: int = 40,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Show what a model answers as features are turned further, and where it breaks.

    Example: sonde dose index --edit feature:311=1max --prompt "Who are you?"

    Each answer is shown with how strongly the turned features fire on it, in units of their maxima, and with its perplexity, both by the model as it is.

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    edit: list[str]
        What to turn; the values are multiplied by each dose. May be given several times.
    prompt: str
        The question.
    at: list[float]
        Doses; by default from a quarter to four. May be given several times.
    max_new_tokens: int
        Longest answer.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON array.
    """
    quiet_libraries()
    from sonde.features.reader import Reader
    from sonde.steering.batching import Batcher
    from sonde.steering.dose import DOSES, dose_response
    from sonde.steering.edits import parse_spec

    specs = [parse_spec(one) for one in edit]
    reader = Reader(index, device=device)
    reader.model.require_head("answers")
    asked = reader.model.chat_tokens([{"role": "user", "content": prompt}])
    found = dose_response(
        reader, Batcher(reader.model), specs, asked, doses=tuple(at or DOSES), max_tokens=max_new_tokens
    )
    if json:
        print_json([response.to_json() for response in found])
        return
    rows = [["dose", "concept", "perplexity", "answer"]]
    for response in found:
        perplexity = "-" if response.perplexity is None else f"{response.perplexity:.3g}"
        rows.append(
            ["as it is" if response.dose is None else f"{response.dose:g}", f"{response.concept:.2f}", perplexity]
            + [" ".join(response.answer.split())]
        )
    print(table(rows, right=(0, 1, 2)))
