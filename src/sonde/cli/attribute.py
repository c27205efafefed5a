"""sonde attribute"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries, reporter
from sonde.display import print_blocks


def attribute(
    index: Annotated[list[Path], Parameter()],
    /,
    *,
    prompt: str | None = None,
    target: str | None = None,
    against: str | None = None,
    prompts: Path | None = None,
    chat: bool = False,
    steps: int = 1,
    ablate: int | None = None,
    n: int = 10,
    model: str | None = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Show which features made an answer: the attribution of each that fires, and the effect of ablating it.

    Example: sonde attribute index --prompt "The capital of France is" --target " Paris" --against " Rome"

    Parameters
    ----------
    index: list[Path]
        Folders of indexes or of dictionaries of one model, such as of several layers.
    prompt: str
        A text whose next token is asked about.
    target: str
        The next token, with its space; or feature:N, of the last of several dictionaries; or vector:FILE.
    against: str
        Another next token, whose logit is subtracted; without it the target's log-probability counts.
    prompts: Path
        Instead of one prompt a .jsonl file with prompt, target and perhaps against in each row.
    chat: bool
        Put each prompt to the model as a user's message, whose answer begins with the target.
    steps: int
        Points of the path along which the gradient is taken (integrated gradients); 1 takes it where the prompt is.
    ablate: int
        Ablate so many features of a prompt, those with the largest attributions; all by default, 0 for none.
    n: int
        Features to show.
    model: str
        In place of the model that the first index was made with.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.circuits.attribution import attribute

    options = {"prompts": prompts, "chat": chat, "steps": steps, "ablate": ablate, "n": n}
    places = {"model": model, "device": device, "reporter": reporter()}
    found = attribute(index, prompt, target=target, against=against, **options, **places)
    if json:
        print_json(found.to_json())
    else:
        print_blocks(found.drawing())
