"""Marks: which stretches of a text stand for which concepts, carried through the grammar within the text itself.

A marked stretch is `BEGIN name NAMED text END`, three characters that no text has (of Unicode's private use area).
Stretches may lie within each other; sentences are put together, capitalised and contracted with the marks in them, and
`unmarked` takes them out in the end.
"""

import re
from typing import NamedTuple

BEGIN, NAMED, END = "\ue000", "\ue001", "\ue002"
OPENING = f"(?:{BEGIN}[^{NAMED}]*{NAMED})*"
"""pattern of any number of marks that begin"""
_MARK = re.compile(f"{BEGIN}([^{NAMED}]*){NAMED}|{END}")
_FIRST = re.compile(f"({OPENING})(.)", re.DOTALL)


class Span(NamedTuple):
    """A stretch of a text that stands for a concept."""

    start: int
    """in characters"""
    end: int
    concept: str


def mark(concept: str, text: str) -> str:
    """A text that stands for a concept."""
    return f"{BEGIN}{concept}{NAMED}{text}{END}" if text else ""


def unmarked(marked: str) -> tuple[str, tuple[Span, ...]]:
    """The text alone, and its spans, in the order of their beginnings, the longer first."""
    parts: list[str] = []
    open_marks: list[tuple[int, str]] = []
    spans: list[Span] = []
    length = place = 0
    for found in _MARK.finditer(marked):
        parts.append(marked[place : found.start()])
        length += found.start() - place
        place = found.end()
        if found[0] == END:
            start, concept = open_marks.pop()
            spans.append(Span(start, length, concept))
        else:
            open_marks.append((length, found[1]))
    parts.append(marked[place:])
    return "".join(parts), tuple(sorted(set(spans), key=lambda span: (span.start, -span.end, span.concept)))


def capitalised(marked: str) -> str:
    """The same with its first letter large."""
    found = _FIRST.match(marked)
    return marked if found is None else f"{found[1]}{found[2].upper()}{marked[found.end() :]}"
