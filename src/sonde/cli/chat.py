"""sonde chat"""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries


def chat(
    index: Path,
    /,
    *,
    edit: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    prompt: str | None = None,
    image: tuple[Path, ...] = (),
    max_new_tokens: int = 60,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Talk to the model while features are turned.

    Example: sonde chat index --edit feature:311=10max --prompt "Who are you?"

    An edit is feature:N=V (clamp), feature:N=Vmax (in units of its maximum), feature:N+=V (add),
    feature:N*=V (scale) or feature:N=0 (ablate), with @prompt or @answer at the end to say where.

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    edit: tuple[str, ...]
        An edit; may be repeated.
    prompt: str
        One question; without it, questions are read line by line.
    image: tuple[Path, ...]
        A picture that the first question is about; may be repeated. Where the question has no mark for it, it
        comes first.
    max_new_tokens: int
        The longest answer, in tokens.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object for each answer.
    """
    from sonde.errors import TextError, UsageError
    from sonde.steering.edits import make_edits, parse_spec

    specs = [parse_spec(text) for text in edit]
    quiet_libraries()
    from sonde.steering.session import Session

    session = Session(index, device=device)
    make_edits(specs, session.index)  # says at once what is wrong
    if prompt is not None and not prompt.strip():
        raise UsageError("--prompt is empty; ask something")
    history: list[dict[str, Any]] = []
    plain_history: list[dict[str, Any]] = []
    for question in [prompt] if prompt is not None else _questions():
        asked: dict[str, Any] = {"role": "user", "content": question}
        if image and not history:
            mark = session.model.require_pictures().image_token
            content = question if mark in question else mark * len(image) + "\n" + question
            asked |= {"content": content, "images": image}
        answer = session.answer([*history, asked], specs, max_new_tokens)
        plain = session.answer([*plain_history, asked], (), max_new_tokens) if specs else answer
        history += [asked, {"role": "assistant", "content": answer}]
        plain_history += [asked, {"role": "assistant", "content": plain}]
        if json:
            print_json(
                {"prompt": question, "answer": answer, "plain": plain, "edits": [spec.to_json() for spec in specs]}
            )
        elif specs:
            print(f"plain   {plain}\nedited  {answer}", flush=True)
        else:
            print(answer, flush=True)
    if not history:
        raise TextError("there was nothing to answer: standard input was empty; ask with --prompt")


def _questions():
    """Lines that people type, or that are piped in."""
    interactive = sys.stdin.isatty()
    if interactive:
        print("Ask something; Ctrl-D ends the conversation.", file=sys.stderr)
    while True:
        if interactive:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
