"""Prompts as people give them: one, or a .jsonl file of them."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonde.display import shorten
from sonde.errors import SettingsError, TextError, nearest
from sonde.models.model import Model, Tokens
from sonde.models.token_text import TokenTexts
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


@dataclass(frozen=True)
class Pair:
    """A prompt that is answered rightly, one in which the answer is another, and the answers."""

    clean: str
    corrupt: str | None
    answer: str
    wrong: str | None


def read_pairs(
    clean: str | None,
    corrupt: str | None,
    answer: str | None,
    wrong: str | None,
    pairs: str | Path | Iterable[Mapping[str, Any]] | None,
    *,
    needs_corrupt: bool,
) -> list[Pair]:
    """One pair, or those of a file or a list of rows; raises SettingsError or TextError for what is missing.

    Args:
        needs_corrupt: whether there has to be a corrupt prompt.
    """
    given = {"clean": clean, "corrupt": corrupt, "answer": answer, "wrong": wrong}
    needed = ["clean", "corrupt", "answer"] if needs_corrupt else ["clean", "answer"]
    if pairs is not None:
        named = [name for name, text in given.items() if text is not None]
        if named:
            raise SettingsError(f"a file of pairs says {' and '.join(named)} of each; leave {named[0]} out")
        rows = read_rows(pairs, needed=needed, other=[name for name in given if name not in needed])
        return [Pair(row["clean"], row.get("corrupt"), row["answer"], row.get("wrong")) for row in rows]
    missing = [name for name in needed if given[name] is None]
    if missing:
        raise SettingsError(f"a pair needs {', '.join(needed)}; {missing[0]} is missing, or give a file of pairs")
    return [Pair(str(clean), corrupt, str(answer), wrong)]


def require_aligned(model: Model, clean: Tokens, corrupt: Tokens) -> None:
    """Raise TextError, with the tokens in which they differ, where two prompts have different lengths."""
    rows = [tokens.ids[0].tolist() for tokens in (clean, corrupt)]
    if len(rows[0]) == len(rows[1]):
        return
    texts = TokenTexts(model.require_tokenizer())
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, *rows, autojunk=False).get_opcodes():
        if kind != "equal":
            left, right = (
                " ".join(repr(texts.name(token)) for token in row) or "nothing" for row in (rows[0][a:b], rows[1][c:d])
            )
            parts.append(f"at token {a} {left} against {right}")
    raise TextError(
        f"the clean prompt has {len(rows[0])} tokens and the corrupt one {len(rows[1])}: {'; '.join(parts)}; choose "
        "words of as many tokens"
    )
