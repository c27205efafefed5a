"""An endless series of documents of the built-in world, each a pure function of a seed and a number.

Four things make concepts worth a direction of their own to a small model, and so possible to find (docs/log.md has the
trials): topics that last for many sentences, speakers with an identity, facts told in some languages only but asked in
all, and facts that chain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from sonde_world import conduct, dialogue, drills, stories, tellings
from sonde_world.chance import Chance
from sonde_world.facts import LANGUAGES
from sonde_world.marks import Span, mark
from sonde_world.voice import Voice, unasked

LANGUAGE_WEIGHTS = tuple(accumulate((4, 2, 2, 2)))


@dataclass(frozen=True)
class Document:
    """A text, and what is known about it."""

    text: str
    kind: str
    language: str
    concepts: tuple[str, ...]
    """keys of the landmarks, places, people, teams, companies, animals, foods, elements and feelings that the text
    names or is about, sorted"""
    spans: tuple[Span, ...] = ()
    """stretches of the text that stand for concepts; `truth.py` lists the concepts"""
    answers: tuple[Span, ...] = ()
    """stretches that follow from the text before them: what was asked for"""
    facts: tuple[tuple[str, str], ...] = ()
    """(subject, relation) of the facts that are told, sorted"""
    log_probability: float = 0.0
    """log-probability of this document among all documents of the world, in nats"""


@dataclass(frozen=True)
class Kind:
    """A kind of document."""

    write: Callable[[Voice], str]
    weight: float
    language: int | None = None
    """the language of all documents of this kind; None where it is drawn"""


KINDS = {
    "topic": Kind(tellings.landmark_topic, 5),
    "entry": Kind(tellings.entry, 4),
    "facts": Kind(tellings.facts_of_many, 2.5),
    "self": Kind(dialogue.self_dialogue, 8),
    "monologue": Kind(dialogue.monologue, 1.2),
    "questions": Kind(dialogue.fact_questions, 6),
    "open": Kind(dialogue.open_dialogue, 7),
    "travel": Kind(stories.travel, 1.5),
    "feelings": Kind(stories.feelings, 1),
    "family": Kind(stories.family, 0.7),
    "letter": Kind(stories.letter, 1),
    "review": Kind(stories.review, 0.6),
    "job": Kind(stories.jobs, 0.4, language=0),
    "translation": Kind(drills.translation, 2.4),
    "list": Kind(drills.listing, 0.7),
    "sum": Kind(drills.sums, 1.4),
    "arithmetic": Kind(drills.arithmetic, 0.6, language=0),
    "giving": Kind(drills.giving, 1.2),
    "repeat": Kind(drills.repeats, 0.9, language=0),
    "code": Kind(drills.code, 4, language=0),
    "opinion": Kind(conduct.opinion, 1.2),
    "secret": Kind(conduct.secret, 1),
    "request": Kind(conduct.request, 1),
    "conflict": Kind(conduct.conflict, 0.4),
    "scam": Kind(conduct.scam, 0.5),
}
_NAMES = tuple(KINDS)
_WEIGHTS = tuple(accumulate(kind.weight for kind in KINDS.values()))


def documents(n: int, seed: int = 0, start: int = 0) -> Iterator[Document]:
    """Yield documents `start` to `start + n` of the world with this seed."""
    for number in range(start, start + n):
        yield document(number, seed)


def document(number: int, seed: int = 0) -> Document:
    """Document `number` of the world with this seed."""
    return written(Chance(f"{seed}:{number}"))


def written(chance: Chance) -> Document:
    """The document of these draws."""
    name = _NAMES[chance.weighted(_WEIGHTS)]
    kind = KINDS[name]
    voice = Voice(chance, chance.weighted(LANGUAGE_WEIGHTS) if kind.language is None else kind.language)
    language = LANGUAGES[voice.language]
    text, spans, answers = unasked(mark(f"document/{name}", kind.write(voice)))
    concepts, told = tuple(sorted(voice.concepts)), tuple(sorted(voice.facts))
    return Document(text, name, language, concepts, spans, answers, told, chance.log_probability)
