"""Marks: annotations of concepts in a text, carried through the grammar within the text itself.

A marked stretch is `BEGIN name NAMED text END`, three characters of Unicode's private use area, which no text contains.
Stretches may be nested; sentences are combined, capitalised and contracted with the marks in them, and `unmarked`
removes them in the end.
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
    """The plain text, and its spans, sorted by start, the longer first."""
    parts: list[str] = []
    open_marks: list[tuple[int, str]] = []
    spans: list[Span] = []
    length = place = 0
    for match in _MARK.finditer(marked):
        parts.append(marked[place : match.start()])
        length += match.start() - place
        place = match.end()
        if match[0] == END:
            start, concept = open_marks.pop()
            spans.append(Span(start, length, concept))
        else:
            open_marks.append((length, match[1]))
    parts.append(marked[place:])
    return "".join(parts), tuple(sorted(set(spans), key=lambda span: (span.start, -span.end, span.concept)))


def capitalised(marked: str) -> str:
    """The marked text with its first letter in upper case."""
    match = _FIRST.match(marked)
    return marked if match is None else f"{match[1]}{match[2].upper()}{marked[match.end() :]}"
