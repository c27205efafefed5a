"""What the servers of judges answer: the text of a reply, what it cost, the JSON in it, and the words of an error."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx2

LETTERS_PER_TOKEN = 3.0
"""fewer than in any usual text, so that the estimated cost of a question is rather too high"""
FIRST_WORDS = 100
"""letters that are shown of an answer that cannot be read, or of a refusal twice as many"""
MOST_OBJECTS = 50
"""places in an answer at which a JSON object is looked for"""
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, RecursionError)
"""what reading an answer of another form raises"""


@dataclass(frozen=True)
class Said:
    """What a judge said, and what it cost."""

    text: str
    used: tuple[int, int]
    """tokens of question and answer"""
    cut: bool = False
    """whether it ended because it was too long"""


def estimated_tokens(text: str) -> int:
    return int(len(text) / LETTERS_PER_TOKEN) + 1


def read_reply(provider: str, reply: Any, question: str) -> Said:
    """What a reply of a provider's protocol says; raises one of UNREADABLE where it is none."""
    if provider == "anthropic":
        content, end = reply["content"], reply.get("stop_reason")
        names = ("input_tokens", "output_tokens")
    else:
        choice = reply["choices"][0]
        content, end = choice["message"].get("content"), choice.get("finish_reason")
        names = ("prompt_tokens", "completion_tokens")
    text = _text_of(content)
    usage = reply.get("usage") or {}
    estimates = (estimated_tokens(question), estimated_tokens(text))
    n_in, n_out = (_count(usage.get(name), estimate) for name, estimate in zip(names, estimates, strict=True))
    return Said(text, (n_in, n_out), end in ("length", "max_tokens"))


def _text_of(content: Any) -> str:
    """The text of a message's content, which may be a list of parts; what a model thinks is none of it."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part if isinstance(part, str) else part.get("text") for part in content if _is_text(part)]
    return "".join(text for text in texts if isinstance(text, str))


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or part["type"] in ("text", "output_text")


def _count(value: Any, estimate: int) -> int:
    """Tokens as a reply counts them, or the estimate where it does not."""
    return value if isinstance(value, int) and value >= 0 else estimate


def words_of(response: httpx2.Response) -> str:
    """The first words of a response; of an error's JSON its message."""
    text = response.text
    with contextlib.suppress(*UNREADABLE):
        reply = response.json()
        error = reply.get("error", reply)
        found = error if isinstance(error, str) else error.get("message") or error.get("detail")
        text = found if isinstance(found, str) else text
    words = " ".join(text.split())
    return words[: 2 * FIRST_WORDS] + ("..." if len(words) > 2 * FIRST_WORDS else "")


def objects_in(text: str) -> Iterator[Any]:
    """The JSON objects in a text and those inside of them, in order; none from what a model thinks aloud first."""
    text = text.rpartition("</think>")[2]
    places = (found.start() for found in re.finditer("{", text))
    for place in islice(places, MOST_OBJECTS):
        with contextlib.suppress(ValueError, RecursionError):
            yield json.JSONDecoder().raw_decode(text, place)[0]
