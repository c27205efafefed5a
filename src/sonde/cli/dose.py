"""sonde dose"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import print_blocks
from sonde.settings import to_mapping
from sonde.steering.settings import AnswerSettings


def dose(
    index: Path,
    /,
    *,
    edit: Annotated[list[str], Parameter(negative_iterable=())],
    prompt: str,
    at: Annotated[list[float] | None, Parameter(negative_iterable=())] = None,
    max_new_tokens: int = 40,
    settings: Annotated[AnswerSettings, Parameter(name="*")] = AnswerSettings(),
    device: str = "auto",
    json: bool = False,
) -> None:
    """Show what a model answers as it is edited more and more strongly, and where it breaks.

    Example: sonde dose index --edit feature:311=1max --prompt "Who are you?"

    Each answer is shown with how strongly the edited features fire on it, in units of their maxima, and with its
    perplexity, both measured by the model without edits, and with the share of its runs of three tokens that it had
    before.

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    edit: list[str]
        An edit, as of sonde chat, whose value is multiplied by each dose; may be repeated.
    prompt: str
        The question.
    at: list[float]
        A dose; may be repeated. By default from a quarter to four.
    max_new_tokens: int
        The longest answer, in tokens.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON array.
    """
    quiet_libraries()
    from sonde.steering.session import dose

    chosen = to_mapping(settings)
    responses = dose(index, edit, prompt, at=at, max_new_tokens=max_new_tokens, device=device, **chosen)
    if json:
        print_json([response.to_json() for response in responses])
    else:
        print_blocks(responses.draw())
