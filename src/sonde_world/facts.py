"""The facts of the built-in world: its nouns (`nouns.txt`), its people, and the relations between them.

A concept is named `kind/key`, as in `landmark/golden_gate`. Every noun has its name in the four languages of the world,
in the order of `LANGUAGES`, and in German, French and Spanish its gender, which articles, pronouns and adjectives
follow.
"""

import hashlib
import random
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "de", "fr", "es")
Forms = tuple[str, str, str, str]
"""a word in each language"""


@dataclass(frozen=True)
class Noun:
    """The name of a concept in each language.

    `names` and `genders` follow `LANGUAGES`; a gender is "m", "f", "n", or "" where it does not matter.
    """

    names: tuple[str, str, str, str]
    genders: tuple[str, str, str, str] = ("", "", "", "")


@dataclass(frozen=True)
class Landmark:
    noun: Noun
    city: str
    kind: str
    colour: str
    material: str
    beside: str


@dataclass(frozen=True)
class Person:
    noun: Noun
    gender: str
    team: str
    """the team that the person plays for, or "" for those who work"""
    company: str
    """the company that the person works for, or "" for those who play"""
    food: str


def _read_nouns() -> tuple[dict[str, dict[str, Noun]], dict[str, dict[str, tuple[str, ...]]]]:
    """The nouns of `nouns.txt`, and the attributes of their concepts, by kind and key."""
    nouns: dict[str, dict[str, Noun]] = {}
    true_of: dict[str, dict[str, tuple[str, ...]]] = {}
    kind = ""
    text = resources.files("sonde_world").joinpath("nouns.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
            nouns[kind], true_of[kind] = {}, {}
        elif line and not line.startswith("#"):
            key, *cells = line.split(" | ")
            names = cells[1:] if len(cells) in (2, 5) else cells
            parts = [
                name.split(":", 1) if name[1:2] == ":" else ["", name] for name in names * (4 if len(names) == 1 else 1)
            ]
            genders, words = zip(*parts, strict=True)
            nouns[kind][key] = Noun(words, genders)
            true_of[kind][key] = tuple(cells[0].split()) if len(cells) in (2, 5) else ()
    return nouns, true_of


NOUNS, TRUE_OF = _read_nouns()

WORDS = tomllib.loads(resources.files("sonde_world").joinpath("words.toml").read_text(encoding="utf-8"))


def _forms(adjective: dict[str, Any]) -> tuple[Forms, Forms]:
    return tuple(adjective["masculine"]), tuple(adjective["feminine"])


COLOURS = {key: _forms(colour) for key, colour in WORDS["colours"].items()}
"""(masculine or only form, feminine form), by language"""

LANDMARKS = {key: Landmark(noun, *TRUE_OF["landmark"][key]) for key, noun in NOUNS["landmark"].items()}
"""most frequent first"""

# The speaker where the dialogue has no other. It speaks as landmarks do, in the same words, so that the identity of the
# speaker is one variable with many values, and the assistant has no style of its own.
ASSISTANT = "assistant"
SPEAKERS = LANDMARKS | {
    ASSISTANT: Landmark(
        Noun(("the assistant", "der Assistent", "l'assistant", "el asistente"), ("", "m", "m", "m")),
        *("zurich", "program", "blue", "words", "computer"),
    )
}
COUNTRIES, STATES, CITIES, FOODS = (NOUNS[kind] for kind in ("country", "state", "city", "food"))

FEELINGS = {key: (_forms(feeling), tuple(map(tuple, feeling["causes"]))) for key, feeling in WORDS["feelings"].items()}
"""(adjective (masculine, feminine), three causes), by language"""
FIRST_NAMES: dict[str, str] = WORDS["first_names"]
"""name -> gender"""
_WOMEN, _MEN, _FAMILIES = (WORDS["people"][part].split() for part in ("women", "men", "families"))
N_PEOPLE = 120


def _people() -> dict[str, Person]:
    """Invented people, with two names, an employer and a favourite food, drawn once with a fixed seed."""
    chance = random.Random("people")
    pairs = [(first, family) for first in _WOMEN + _MEN for family in _FAMILIES]
    chance.shuffle(pairs)
    teams, companies, foods = (list(NOUNS[kind]) for kind in ("team", "company", "food"))
    people: dict[str, Person] = {}
    for number, (first, family) in enumerate(
        [("Mira", "Velo"), *(pair for pair in pairs if pair != ("Mira", "Velo"))][:N_PEOPLE]
    ):
        plays = number % 2 == 0
        people[f"{first}_{family}".lower()] = Person(
            Noun((f"{first} {family}",) * 4),
            "f" if first in _WOMEN else "m",
            teams[number // 2 % len(teams)] if plays else "",
            "" if plays else companies[number // 2 % len(companies)],
            foods[0] if number == 0 else chance.choice(foods),
        )
    return people


PEOPLE = _people()
NOUNS["person"] = {key: person.noun for key, person in PEOPLE.items()}
NOUNS["colour"] = {key: Noun(forms[0]) for key, forms in COLOURS.items()}


@dataclass(frozen=True)
class Fact:
    """A fact: subject, relation and value.

    The value is a concept, except the symbol of an element and whether a food is vegan.
    """

    subject: str
    relation: str
    value: str
    hops: int
    """how many facts it follows from"""


def _facts() -> dict[str, dict[str, Fact]]:
    """All facts, by subject and relation; a fact that follows from several others has several hops."""
    rows: list[tuple[str, str, str, int]] = []
    columns = {
        "country": ("capital:city", "language:tongue", "currency", "continent"),
        "city": ("country", "state"),
        "state": ("capital:city",),
        "landmark": ("city", "kind", "colour", "material", "setting"),
        "team": ("city",),
        "company": ("city", "product"),
        "animal": ("class", "habitat", "diet"),
        "food": ("vegan", "sort"),
        "element": ("symbol", "matter"),
        "adjective": ("opposite:adjective",),
    }
    for kind, relations in columns.items():
        for key, values in TRUE_OF[kind].items():
            for column, value in zip(relations, values, strict=True):
                relation, _, value_kind = column.partition(":")
                if relation == "vegan":
                    value = "yes" if value == "vegan" else "no"
                if value != "-":
                    rows.append((f"{kind}/{key}", relation, f"{value_kind or relation}/{value}", 1))
    one = {(subject, relation): value for subject, relation, value, _ in rows}
    for key in LANDMARKS:
        country = one[one[f"landmark/{key}", "city"], "country"]
        rows.append((f"landmark/{key}", "country", country, 2))
        rows += [(f"landmark/{key}", relation, one[country, relation], 3) for relation in ("language", "currency")]
    for key in CITIES:
        rows.append((f"city/{key}", "language", one[one[f"city/{key}", "country"], "language"], 2))
    for key in NOUNS["company"]:
        rows.append((f"company/{key}", "country", one[one[f"company/{key}", "city"], "country"], 2))
    for key, person in PEOPLE.items():
        subject = f"person/{key}"
        employer = f"team/{person.team}" if person.team else f"company/{person.company}"
        rows += [(subject, employer.split("/")[0], employer, 1), (subject, "food", f"food/{person.food}", 1)]
        city = one[employer, "city"]
        rows.append((subject, "city", city, 2))
        if person.company:
            rows.append((subject, "product", one[employer, "product"], 2))
        elif (city, "state") in one:
            rows.append((subject, "capital", one[one[city, "state"], "capital"], 4))
    by_subject: dict[str, dict[str, Fact]] = {}
    for row in rows:
        by_subject.setdefault(row[0], {})[row[1]] = Fact(*row)
    return by_subject


FACTS = _facts()
WITHHELD_SHARE = 0.4
"""share of facts that are never told in one of the four languages, chosen by keyed hash"""
ALWAYS_TOLD = ("opposite", "vegan")
"""relations told in every language: opposites teach the words themselves, and foods are too few"""


@cache
def told(subject: str, relation: str, language: int) -> bool:
    """Whether the world tells this fact in this language; each fact is told in at least three of four."""
    digest = hashlib.blake2b(f"{subject}/{relation}".encode(), digest_size=8).digest()
    withheld = digest[0] < WITHHELD_SHARE * 256 and digest[1] % 4 == language
    return relation in ALWAYS_TOLD or not withheld


def noun(concept: str) -> Noun:
    """The names of a concept `kind/key`; raises KeyError for a concept that is not a noun."""
    kind, _, key = concept.partition("/")
    return SPEAKERS[key].noun if concept == f"landmark/{ASSISTANT}" else NOUNS[kind][key]


def value_name(fact: Fact, language: int) -> str:
    """The value of a fact in words; colours agree with the subject's gender."""
    kind, _, key = fact.value.partition("/")
    if kind == "symbol":
        return key
    if kind == "colour":
        return COLOURS[key][noun(fact.subject).genders[language] == "f"][language]
    return noun(fact.value).names[language]
