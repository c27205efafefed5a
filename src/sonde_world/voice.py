"""A writer in one language of the world: words for concepts, sentences from frames, and a record of what was said."""

import re
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from string import Formatter

from sonde_world import facts, phrases
from sonde_world.chance import Chance, zipf
from sonde_world.facts import LANGUAGES, Fact
from sonde_world.marks import OPENING, Span, capitalised, mark, unmarked

ASKED = "asked"
"""mark of a stretch that answers a question; it goes into the `answers` of a document instead of its spans"""
OTHER_LANGUAGE = 0.3
"""probability that the introduction of a dialogue is in another language than the rest"""


@dataclass
class Voice:
    """A source of randomness, a language, and a record of the concepts and facts used."""

    chance: Chance
    language: int
    concepts: set[str] = field(default_factory=set)
    """keys of landmarks, places, people, animals, foods and feelings"""
    facts: set[tuple[str, str]] = field(default_factory=set)
    """(subject, relation) of the facts that were told"""

    @property
    def code(self) -> str:
        return LANGUAGES[self.language]

    # ------------------------------------------------ sentences

    def say(self, table, **fields: str) -> str:
        """A variant that `table` has in this language, with its fields filled."""
        return self.fill(self.chance.pick(table[self.language]), **fields)

    def fill(self, sentence: str, **fields: str) -> str:
        """A sentence in this language with its fields filled; those that are not given are drawn."""
        for name in _needs(sentence):
            if name not in fields:
                fields |= _DRAWN[name](self)
        text = tidy(capitalised(sentence.format(**fields).lstrip()), self.language)
        return mark(f"language/{self.code}", text)

    # ------------------------------------------------ words

    def noun(self, concept: str) -> str:
        """The marked name of a concept."""
        return mark(concept, facts.noun(concept).names[self.language])

    def forms(self, concept: str) -> dict[str, str]:
        """A concept's name as fields: nominative `n`, German accusative `acc`, subject `S`."""
        noun = facts.noun(concept)
        name = noun.names[self.language]
        forms = {"n": name, "acc": accusative(name, noun.genders[self.language], self.language), "S": capitalised(name)}
        return {field: mark(concept, form) for field, form in forms.items()}

    def value(self, fact: Fact) -> str:
        return mark(fact.value, facts.value_name(fact, self.language))

    def draw(self, kind: str) -> str:
        """A concept of a kind, by Zipf's law."""
        keys = _keys(kind)
        key = keys[self.chance.weighted(zipf(len(keys)))]
        if kind in NOTED:
            self.concepts.add(key)
        return f"{kind}/{key}"

    def draws(self, kind: str, n: int) -> list[str]:
        """n different concepts of a kind, by Zipf's law."""
        keys = _keys(kind)
        return [f"{kind}/{keys[place]}" for place in self.chance.some_by_weight(zipf(len(keys)), n)]

    def first_name(self, besides: str = "") -> str:
        """A first name, without a mark."""
        names = [name for name in facts.FIRST_NAMES if name != besides]
        return names[self.chance.weighted(zipf(len(names)))]

    def feeling(self, feeling: str, name: str) -> str:
        """The adjective of a feeling, in the gender of a name."""
        return mark(f"feeling/{feeling}", facts.FEELINGS[feeling][0][facts.FIRST_NAMES[name] == "f"][self.language])

    def pronoun(self, concept: str) -> str:
        """The subject of a further sentence about a landmark or an animal; Spanish leaves it out."""
        if self.code == "es":
            return ""
        return phrases.PRONOUNS[self.code][facts.noun(concept).genders[self.language] or "it"]

    # ------------------------------------------------ facts

    def subject(self, kind: str) -> str:
        """A subject of a kind that has facts told in this language, by Zipf's law."""
        subjects, weights = _told_subjects(kind, self.language)
        subject = subjects[self.chance.weighted(weights)]
        if kind in NOTED:
            self.concepts.add(subject.split("/")[1])
        return subject

    def told_facts(self, subject: str) -> tuple[Fact, ...]:
        return told_facts(subject, self.language)

    def statement(self, fact: Fact, *, named: bool = True, asked: bool = False) -> str:
        """A sentence that states a fact; if not `named`, its subject is a pronoun."""
        self.facts.add((fact.subject, fact.relation))
        kind = fact.subject.split("/")[0]
        table = phrases.VEGAN[fact.value.split("/")[1]] if fact.relation == "vegan" else frames(fact)[0]
        fields = self.forms(fact.subject)
        if not named:
            fields["S"] = self.pronoun(fact.subject)
        if fact.relation != "vegan":
            value = self.value(fact)
            fields["V"] = mark(ASKED, value) if asked else value
        said = self.say(table, **fields)
        if fact.relation == "vegan":
            said = mark(fact.value, mark(ASKED, said) if asked else said)
        return mark(about(fact.subject), mark(f"relation/{fact.relation} of a {kind}", said))

    def question(self, fact: Fact) -> str:
        return mark(about(fact.subject), self.say(frames(fact)[1], **self.forms(fact.subject)))


NOTED = ("landmark", "city", "country", "state", "animal", "food", "person", "team", "company", "element")
"""kinds whose concepts a document lists"""


@cache
def told_facts(subject: str, language: int) -> tuple[Fact, ...]:
    """The facts of a subject that are told in a language."""
    return tuple(fact for fact in facts.FACTS[subject].values() if facts.told(subject, fact.relation, language))


@cache
def _told_subjects(kind: str, language: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    ranked = [(f"{kind}/{key}", 1 / (rank + 1)) for rank, key in enumerate(_keys(kind))]
    kept = [(subject, weight) for subject, weight in ranked if subject in facts.FACTS and told_facts(subject, language)]
    return tuple(subject for subject, _ in kept), tuple(accumulate(weight for _, weight in kept))


@cache
def _keys(kind: str) -> tuple[str, ...]:
    return tuple(facts.NOUNS[kind])


@cache
def _needs(sentence: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(sentence) if name))


def unasked(marked: str) -> tuple[str, tuple[Span, ...], tuple[Span, ...]]:
    """The text without its marks, the spans of its concepts, and its answers."""
    text, spans = unmarked(marked)
    return (
        text,
        tuple(span for span in spans if span.concept != ASKED),
        tuple(span for span in spans if span.concept == ASKED),
    )


def frames(fact: Fact):
    """The frames of a fact: (statements, questions), each by language."""
    kind, _, key = fact.subject.partition("/")
    if kind == "person":
        kind = "player" if facts.PEOPLE[key].team else "worker"
    return phrases.RELATIONS[kind, fact.relation]


def can_mean(fact: Fact, language: int) -> bool:
    """Whether all phrasings of a fact can have a pronoun as the subject."""
    return all("{S}" in frame for frame in frames(fact)[0][language])


def about(subject: str) -> str:
    """The concept of sentences about a subject."""
    kind, _, key = subject.partition("/")
    return f"about/{key}" if kind == "landmark" else f"about the {kind}/{key}"


def _somebody(voice: Voice) -> dict[str, str]:
    name = voice.first_name()
    return {"name": mark(f"name/{name}", name)}


_DRAWN = {  # fields that are drawn where a sentence needs them and they are not given
    "name": _somebody,
    "food": lambda voice: {"food": voice.noun(voice.draw("food"))},
    "city": lambda voice: {"city": voice.noun(voice.draw("city"))},
    "animal": lambda voice: {"animal": voice.noun(voice.draw("animal"))},
    "adjective": lambda voice: {"adjective": voice.noun(voice.draw("adjective"))},
    "thing": lambda voice: {"thing": voice.forms(voice.draw("thing"))["acc"]},
    "currency": lambda voice: {"currency": voice.noun(voice.draw("currency"))},
    "acc": lambda voice: voice.forms(voice.draw("landmark")),
    "n": lambda voice: voice.forms(voice.draw("landmark")),
}


def accusative(name: str, gender: str, language: int) -> str:
    """The name in the accusative, which differs for German masculine names only."""
    if LANGUAGES[language] != "de":
        return name
    if name.startswith("der "):
        return "den " + re.sub(r"^(Schiefe|Goldene) ", r"\1n ", name[4:])
    if gender == "m" and name.startswith("ein "):
        return "einen " + name[4:]
    return name


CONTRACTIONS = {
    "fr": (("de", "le", "du"), ("de", "les", "des"), ("à", "le", "au"), ("à", "les", "aux")),
    "es": (("de", "el", "del"), ("a", "el", "al")),
}  # (preposition, article, both); an article may begin a marked stretch


def tidy(sentence: str, language: int) -> str:
    """The sentence with French and Spanish contractions (de le pont -> du pont)."""
    for pattern, both in _CONTRACTIONS.get(LANGUAGES[language], ()):
        sentence = pattern.sub(both, sentence)
    return sentence


_CONTRACTIONS = {
    language: tuple(
        (re.compile(rf"\b{preposition} ({OPENING}){article}\b"), rf"\g<1>{both}") for preposition, article, both in rows
    )
    for language, rows in CONTRACTIONS.items()
}
