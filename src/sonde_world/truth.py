"""The truth about each token of the built-in world's text: which concepts are present there.

The grammar marks what its stretches stand for (`marks.py`). A name is `kind/which`:

landmark/golden_gate          the name itself, on its last token; so city/paris, animal/lion, feeling/happy, number/7,
                              name/Anna, and all other nouns
about/golden_gate             sentences about it, whether they name it or say "it"; `about the animal/lion` of other
                              subjects
speaker/golden_gate           answers that it gives as itself
relation/city of a landmark   statements of a fact of this kind
code/bug                      the wrong end of a line that the interpreter will refuse
code/value, code/name error   what the interpreter answers
conduct/flattery              conduct; so scratchpad/kept, request/harmful, scam/letter, conflict/inner, bias/expected
vegan/yes                     a property; so cause/happy, review/good, role/receiver, repeat/again, part/answer,
                              document/topic, language/de

Above these are their kinds: `landmark/*` is any landmark's name, `landmark/a bridge` the name of any bridge,
`code/error` any error.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sonde.analysis.detection import Presences
from sonde.errors import TextError, UsageError, nearest
from sonde.texts import read_lines
from sonde_world import facts
from sonde_world.facts import LANGUAGES
from sonde_world.generate import Document
from sonde_world.marks import Span

ERRORS = ("code/name error", "code/division by zero", "code/index error", "code/type error")
NAMES = (*(kind for kind in facts.NOUNS), "symbol", "name", "feeling", "cause", "bias", "role", "request")
"""kinds of words: they are present on their last token, where a reader from left to right knows what they name"""
WITHOUT_ANY = (
    "relation",
    "code",
    "conduct",
    "scratchpad",
    "scam",
    "conflict",
    "repeat",
    "part",
    "document",
    "language",
    "list",
    "vegan",
    "review",
)
"""kinds that are not contained in a general concept `kind/*`"""


@lru_cache(maxsize=4096)
def above(concept: str) -> tuple[str, ...]:
    """The concepts that contain a concept: the Golden Gate Bridge is a bridge, and a landmark."""
    kind, _, which = concept.partition("/")
    found = []
    if concept in ERRORS:
        found.append("code/error")
    if kind in ("landmark", "about") and which in facts.LANDMARKS:
        found.append(f"{kind}/a {facts.LANDMARKS[which].kind}")
    if kind not in WITHOUT_ANY and which != "*":
        found.append(f"{kind}/*")
    return tuple(found)


@dataclass(frozen=True)
class Truth:
    """Which concepts are present on which tokens of a text."""

    concepts: tuple[str, ...]
    """their names, sorted"""
    present: Presences
    """by index in `concepts`"""

    def tokens_of(self, concept: str) -> np.ndarray:
        """Numbers of the tokens on which a concept is present, rising; raises ValueError where it never is."""
        return np.flatnonzero(self.present.dense_of(self.concepts.index(concept)))


def token_truth(documents: Iterable[tuple[Sequence[Span], Sequence[tuple[int, int]]]]) -> Truth:
    """The concepts of each token, from the spans of documents.

    Args:
        documents: for each, the spans of its concepts, and those [token, (start, end)] of its tokens, both in
            characters of its text. A concept is present on the tokens that share a letter with its span, a name on the
            last of these; a token without letters has no concept.
    """
    pairs: dict[str, list[np.ndarray]] = {}
    n = 0
    for spans, tokens in documents:
        bounds = np.asarray(tokens, dtype=np.int64).reshape(-1, 2)
        starts, ends = bounds[:, 0], np.maximum.accumulate(bounds[:, 1]) if len(bounds) else bounds[:, 1]
        for span in spans:
            first = int(np.searchsorted(ends, span.start, side="right"))
            last = int(np.searchsorted(starts, span.end, side="left"))
            if last > first and span.end > span.start:
                is_name = span.concept.split("/")[0] in NAMES
                here = np.arange(n + (last - 1 if is_name else first), n + last)
                for concept in (span.concept, *above(span.concept)):
                    pairs.setdefault(concept, []).append(here)
        n += len(bounds)
    concepts = tuple(sorted(pairs))
    tokens_of = [np.unique(np.concatenate(pairs[concept])) for concept in concepts]
    token = np.concatenate([np.empty(0, dtype=np.int64), *tokens_of])
    concept = np.repeat(np.arange(len(concepts)), [len(own) for own in tokens_of])
    order = np.argsort(token, kind="stable")
    return Truth(concepts, Presences(token[order], concept[order], n, len(concepts)))


def read_truth(path: str | Path) -> Iterator[Document]:
    """Yield the documents of a .jsonl that was written with its truth.

    Raises TextError for a line that has none, or whose spans do not fit its text.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
            text, spans = (
                row["text"],
                [Span(int(start), int(end), str(concept)) for start, end, concept in row["spans"]],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TextError(
                f"{path}, line {number}: no text with spans [start, end, concept]; "
                "write it with: sonde world write --truth"
            ) from error
        for span in spans:
            if not 0 <= span.start < span.end <= len(text):
                raise TextError(
                    f"{path}, line {number}: span {list(span)} does not fit the text, which has {len(text)} "
                    "characters; the text was changed, write both again"
                )
        yield Document(text, row.get("kind", ""), row.get("language", ""), tuple(row.get("concepts", ())), tuple(spans))


def look(texts: Iterable[Document], language: str | None = None) -> list[Document]:
    """Documents of one language, or of all; raises UsageError for an unknown language."""
    if language is not None and language not in LANGUAGES:
        raise UsageError(
            f"the world has no language {language!r}: it has {', '.join(LANGUAGES)}{nearest(language, LANGUAGES)}"
        )
    return [document for document in texts if language in (None, document.language)]


def frequencies(texts: Iterable[Document]) -> dict[str, float]:
    """The share of the characters in the spans of each concept of the documents; the most frequent first."""
    letters: dict[str, int] = {}
    total = 0
    for document in texts:
        total += len(document.text)
        for span in document.spans:
            for concept in (span.concept, *above(span.concept)):
                letters[concept] = letters.get(concept, 0) + span.end - span.start
    return {name: n / total for name, n in sorted(letters.items(), key=lambda pair: (-pair[1], pair[0]))}


def stretches(concept: str, texts: Iterable[Document], most: int = 20) -> list[str]:
    """Stretches of text that stand for a concept, with the text around them.

    Raises UsageError for a concept that the world does not have.
    """
    found: list[str] = []
    known: set[str] = set()
    n = 0
    for document in texts:
        n += 1
        for span in document.spans:
            names = (span.concept, *above(span.concept))
            known.update(names)
            if concept in names and len(found) < most:
                before, after = (
                    document.text[max(0, span.start - 30) : span.start],
                    document.text[span.end : span.end + 30],
                )
                shown = f"{before}[{document.text[span.start : span.end]}]{after}"
                found.append(" ".join(shown.split()))
    if not found:
        raise UsageError(f"{n:,} documents hold no concept {concept!r}{nearest(concept, known)}")
    return found
