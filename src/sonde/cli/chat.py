"""sonde chat"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.settings import to_mapping
from sonde.steering.settings import AnswerSettings


def chat(
    index: Path,
    /,
    *,
    edit: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    prompt: str | None = None,
    image: tuple[Path, ...] = (),
    max_new_tokens: int = 60,
    settings: Annotated[AnswerSettings, Parameter(name="*")] = AnswerSettings(),
    device: str = "auto",
    json: bool = False,
) -> None:
    """Talk to the model while it is edited.

    Example: sonde chat index --edit feature:311=10max --prompt "Who are you?"

    An edit is feature:N=V (clamp), feature:N=Vmax (in units of its maximum), feature:N+=V (add), feature:N*=V (scale)
    or feature:N=0 (ablate), with @prompt or @answer at the end to limit it to those tokens. Instead of feature:N there
    may be features:N,N (several), vector:FILE (a direction; V may end in norm) or neuron:SITE/N (one dimension).

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    edit: tuple[str, ...]
        An edit; may be repeated.
    prompt: str
        One question; without it, questions are read line by line.
    image: tuple[Path, ...]
        A picture for the first question; may be repeated. It comes first where the question has no mark for it.
    max_new_tokens: int
        The longest answer, in tokens.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object for each answer.
    """
    from sonde.errors import TextError, UsageError

    if prompt is not None and not prompt.strip():
        raise UsageError("--prompt is empty; ask something")
    quiet_libraries()
    from sonde.steering.edits import Edit
    from sonde.steering.session import chat

    session, chosen = chat(index, edit, device=device), to_mapping(settings)
    history: list[dict[str, Any]] = []
    plain_history: list[dict[str, Any]] = []
    for question in [prompt] if prompt is not None else _questions():
        asked = session.question(question, image if not history else ())
        answer = session.answer([*history, asked], max_new_tokens=max_new_tokens, **chosen)
        plain = session.answer([*plain_history, asked], (), max_new_tokens, **chosen) if edit else answer
        history += [asked, {"role": "assistant", "content": answer}]
        plain_history += [asked, {"role": "assistant", "content": plain}]
        if json:
            edits = [Edit.parse(text).to_json() for text in edit]
            print_json({"prompt": question, "answer": answer, "plain": plain, "edits": edits})
        elif edit:
            print(f"plain   {plain}\nedited  {answer}", flush=True)
        else:
            print(answer, flush=True)
    if not history:
        raise TextError("there was nothing to answer: standard input was empty; ask with --prompt")


def _questions() -> Iterator[str]:
    """The questions, line by line, from the terminal or a pipe."""
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
