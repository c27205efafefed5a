"""Prompts as people give them: one, or a .jsonl file of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonde.display import shorten
from sonde.errors import SettingsError, TextError, nearest
from sonde.models.model import Model, Tokens
from sonde.texts import read_lines, require_unicode


@dataclass(frozen=True)
class Asked:
    """A prompt, and what is asked of its next token."""

    prompt: str
    target: str
    against: str | None


def read_prompts(
    prompt: str | None,
    target: str | None,
    against: str | None,
    prompts: str | Path | Iterable[Mapping[str, Any]] | None,
) -> list[Asked]:
    """One prompt, or those of a file or a list of rows; raises SettingsError or TextError for what is missing."""
    if (prompt is None) == (prompts is None):
        given = "both were given" if prompt is not None else "neither was given"
        raise SettingsError(f"one prompt with its target is wanted, or a file of prompts; {given}")
    if prompts is None:
        if target is None:
            raise SettingsError("the prompt has no target; give the next token that is asked about, with its space")
        return [Asked(str(prompt), target, against)]
    if target is not None or against is not None:
        raise SettingsError("a file of prompts says the target of each; leave target and against out")
    rows = read_rows(prompts, needed=("prompt", "target"), other=("against",))
    return [Asked(row["prompt"], row["target"], row.get("against")) for row in rows]


def read_rows(
    source: str | Path | Iterable[Mapping[str, Any]], *, needed: Sequence[str], other: Sequence[str] = ()
) -> list[dict[str, str]]:
    """The rows of a .jsonl file, or of a list, with these texts.

    Raises TextError, naming the row, where one has no such text, or there is no row.
    """
    rows = _lines(source) if isinstance(source, str | Path) else [(f"row {n}", row) for n, row in enumerate(source, 1)]
    if not rows:
        raise TextError(f"{source} holds no rows; give one object with {', '.join(needed)} in each line")
    found = []
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise TextError(f"{place} is {shorten(repr(row), 40)}, but must be an object with {', '.join(needed)}")
        for name in needed:
            if name not in row:
                raise TextError(f"{place} has no field {name!r}{nearest(name, map(str, row))}")
        texts = {name: row[name] for name in (*needed, *other) if row.get(name) is not None}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise TextError(f"{place}: {name} is {shorten(repr(text), 40)}, but must be text")
            require_unicode(text, f"{place}: {name}")
        found.append(texts)
    return found


def _lines(path: str | Path) -> list[tuple[str, Any]]:
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            rows.append((f"{path}, line {number}", json.loads(line)))
        except ValueError as error:
            raise TextError(f"{path}, line {number} is no JSON ({error}); write one object in each line") from error
    return rows


def tokens_of(model: Model, prompt: str, chat: bool = False) -> Tokens:
    """A prompt's tokens, or with `chat` those of a conversation that it opens, up to the answer.

    Raises TextError where it is empty, or longer than the model's context.
    """
    if not prompt.strip():
        raise TextError("the prompt is empty; give a text whose next token is asked about")
    tokens = model.chat_tokens([{"role": "user", "content": prompt}]) if chat else model.tokenize(prompt)
    length = tokens.ids.shape[1]
    if length > model.context_length:
        raise TextError(
            f"the prompt {shorten(repr(prompt), 40)} has {length:,} tokens, but the context of {model.name} holds "
            f"{model.context_length:,}; shorten it"
        )
    return tokens
