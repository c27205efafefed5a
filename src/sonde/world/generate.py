"""Endless documents of the built-in world, each a pure function of a seed and a number.

Four things make concepts worth a direction of their own to a small model, and so worth finding (the log has
the trials): topics that last over many sentences, speakers who *are* something, facts told in some
languages only but asked in all, and facts that chain.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sonde.world import facts, phrases
from sonde.world.facts import LANGUAGES
from sonde.world.marks import OPENING, Span, capitalised, mark, unmarked

WITHHELD_SHARE = 0.4
"""Share of facts that one of the four languages never tells (chosen by keyed hash)."""


@dataclass(frozen=True)
class Document:
    """One text and what is known about it."""

    text: str
    kind: str
    language: str
    concepts: tuple[str, ...]
    """landmarks, places, people and foods that the text names or speaks of, sorted"""
    spans: tuple[Span, ...] = ()
    """which stretches of the text stand for which concepts; `truth.py` says what they are"""


def documents(n: int, seed: int = 0, start: int = 0) -> Iterator[Document]:
    """Yield documents `start` to `start + n` of the world with this seed."""
    for number in range(start, start + n):
        yield document(number, seed)


def document(number: int, seed: int = 0) -> Document:
    """Write document `number` of the world with this seed."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.choices(list(KINDS), weights=[weight for _, weight in KINDS.values()])[0]
    voice = Voice(rng, rng.choices(range(4), weights=(4, 2, 2, 2))[0])
    text, spans = unmarked(mark(f"document/{kind}", KINDS[kind][0](voice)))
    return Document(text, kind, LANGUAGES[voice.language], tuple(sorted(voice.concepts)), spans)


def told(subject: str, relation: str, language: int) -> bool:
    """Whether the world tells this fact in this language; each fact is told in at least three of four."""
    digest = hashlib.blake2b(f"{subject}/{relation}".encode(), digest_size=8).digest()
    withheld = digest[0] < WITHHELD_SHARE * 256 and digest[1] % 4 == language
    return not withheld


def landmark_value(key: str, relation: str, language: int, feminine: bool | None = None) -> str:
    """The value of a landmark's relation in words; colours agree with the landmark's gender."""
    landmark = facts.SPEAKERS[key]
    country = facts.CITIES[landmark.city][1]
    match relation:
        case "city":
            return facts.CITIES[landmark.city][0].names[language]
        case "country":
            return facts.COUNTRIES[country][0].names[language]
        case "kind":
            return facts.KINDS[landmark.kind].names[language]
        case "colour":
            if feminine is None:
                feminine = landmark.noun.genders[language] == "f"
            return facts.COLOURS[landmark.colour][feminine][language]
        case "material":
            return facts.MATERIALS[landmark.material].names[language]
        case "setting":
            return facts.SETTINGS[landmark.beside].names[language]
        case "language":
            return facts.SPOKEN[facts.COUNTRIES[country][2]].names[language]
        case "currency":
            return facts.CURRENCIES[facts.COUNTRIES[country][3]].names[language]
    raise ValueError(f"landmarks have no relation {relation!r}")


def landmark_concept(key: str, relation: str) -> str:
    """The concept that the value of a landmark's relation is."""
    landmark = facts.SPEAKERS[key]
    country = facts.CITIES[landmark.city][1]
    return {
        "city": f"city/{landmark.city}",
        "country": f"country/{country}",
        "kind": f"kind/{landmark.kind}",
        "colour": f"colour/{landmark.colour}",
        "material": f"material/{landmark.material}",
        "setting": f"setting/{landmark.beside}",
        "language": f"tongue/{facts.COUNTRIES[country][2]}",
        "currency": f"currency/{facts.COUNTRIES[country][3]}",
    }[relation]


def person_concept(key: str, relation: str) -> str:
    """The concept that the value of a person's relation is."""
    person = facts.PEOPLE[key]
    _, city = facts.TEAMS[person.team]
    if relation == "capital":
        return f"capital/{person_value(key, relation, 0)}"
    return {"team": f"team/{person.team}", "city": f"city/{city}", "food": f"food/{person.food}"}[relation]


_CONCEPTS_OF_NOUNS = {
    id(noun): f"{kind}/{key}"
    for kind, nouns in (
        ("country", {key: row[0] for key, row in facts.COUNTRIES.items()}),
        ("city", {key: row[0] for key, row in facts.CITIES.items()}),
        ("state", {key: row[0] for key, row in facts.STATES.items()}),
        ("tongue", facts.SPOKEN),
        ("currency", facts.CURRENCIES),
    )
    for key, noun in nouns.items()
}


def noun_concept(noun: facts.Noun) -> str:
    """The concept that a place, a language or a currency is; a name that stands in no table is a state's capital."""
    return _CONCEPTS_OF_NOUNS.get(id(noun), f"capital/{noun.names[0]}")


def person_value(key: str, relation: str, language: int) -> str:
    """The value of a person's relation in words."""
    person = facts.PEOPLE[key]
    team, city = facts.TEAMS[person.team]
    match relation:
        case "team":
            return team
        case "city":
            return facts.CITIES[city][0].names[language]
        case "food":
            return facts.FOODS[person.food][0].names[language]
        case "capital":
            state = facts.CITIES[city][2]
            assert state is not None, f"{key} plays in {city}, which has no state"
            return facts.STATES[state][1]
    raise ValueError(f"people have no relation {relation!r}")


def place_facts() -> list[tuple[str, str, facts.Noun, facts.Noun]]:
    """All facts of countries, cities and states: (subject id, relation, subject, value)."""
    rows = []
    for key, (noun, capital, language, currency) in facts.COUNTRIES.items():
        rows.append((key, "capital", noun, facts.CITIES[capital][0]))
        rows.append((key, "language", noun, facts.SPOKEN[language]))
        rows.append((key, "currency", noun, facts.CURRENCIES[currency]))
    for key, (noun, country, state) in facts.CITIES.items():
        rows.append((key, "country", noun, facts.COUNTRIES[country][0]))
        if state is not None:
            rows.append((key, "state", noun, facts.STATES[state][0]))
    for key, (noun, capital) in facts.STATES.items():
        rows.append((key, "capital", noun, facts.Noun((capital,) * 4)))
    return rows


@dataclass
class Voice:
    """Someone who writes in one language, with a source of chance and a note of what was spoken of."""

    rng: random.Random
    language: int
    concepts: set[str] = field(default_factory=set)

    def pick(self, options):
        return self.rng.choice(list(options))

    def say(self, table, **fields: str) -> str:
        """Fill one of the variants that `table` has in this voice's language."""
        return self.fill(self.pick(table[self.language]), **fields)

    def fill(self, sentence: str, **fields: str) -> str:
        """A sentence of this voice's language with its fields filled."""
        text = tidy(capitalised(sentence.format(**fields).lstrip()), self.language)
        return mark(f"language/{LANGUAGES[self.language]}", text)

    def value(self, key: str, relation: str, feminine: bool | None = None) -> str:
        """The value of a landmark's relation."""
        return mark(landmark_concept(key, relation), landmark_value(key, relation, self.language, feminine))

    def first_name(self) -> str:
        name = self.pick(facts.FIRST_NAMES)
        return mark(f"name/{name}", name)

    def landmark(self) -> str:
        """Draw a landmark, the first of the table most often, and note it."""
        keys = list(facts.LANDMARKS)
        key = self.rng.choices(keys, weights=[(rank + 1) ** -0.5 for rank in range(len(keys))])[0]
        self.concepts.add(key)
        return key

    def name(self, key: str) -> dict[str, str]:
        """A landmark's name as fields: nominative `n`, German accusative `acc`, subject `S`."""
        name = facts.SPEAKERS[key].noun.names[self.language]
        forms = {"n": name, "acc": accusative(name, self.language), "S": capitalised(name)}
        return {field: mark(f"landmark/{key}", form) for field, form in forms.items()}

    def pronoun(self, key: str) -> str:
        """The subject of a further sentence about a landmark; Spanish leaves it out."""
        if LANGUAGES[self.language] == "es":
            return ""
        gender = facts.LANDMARKS[key].noun.genders[self.language] or "it"
        return phrases.PRONOUNS[LANGUAGES[self.language]][gender]

    def self_fields(self, key: str) -> dict[str, str]:
        """What a landmark can say of itself."""

        kind = self.value(key, "kind")
        # "I" stands for the landmark: French and Spanish adjectives keep the landmark's gender.
        return self.name(key) | {
            "city": self.value(key, "city"),
            "kind": kind,
            "kindcap": capitalised(kind),
            "colour": self.value(key, "colour"),
            "colourm": self.value(key, "colour", feminine=False),
            "material": self.value(key, "material"),
            "setting": self.value(key, "setting"),
        }

    def chance_fields(self) -> dict[str, str]:
        """Anything at all, for sentences that no fact decides."""
        name = self.pick(facts.FIRST_NAMES)
        feminine = facts.FIRST_NAMES[name] == "f"
        food, feeling = self.pick(facts.FOODS), self.pick(facts.FEELINGS)
        return {
            "name": mark(f"name/{name}", name),
            "Pro": phrases.PRONOUNS[LANGUAGES[self.language]]["f" if feminine else "m"],
            "food": mark(f"food/{food}", facts.FOODS[food][0].names[self.language]),
            "feeling": mark(f"feeling/{feeling}", facts.FEELINGS[feeling][0][feminine][self.language]),
        }


def accusative(name: str, language: int) -> str:
    """German masculine names change in the accusative; all others stay as they are."""
    if LANGUAGES[language] != "de" or not name.startswith("der "):
        return name
    return "den " + name[4:].replace("Schiefe ", "Schiefen ")


CONTRACTIONS = {
    "fr": (("de", "le", "du"), ("de", "les", "des"), ("à", "le", "au"), ("à", "les", "aux")),
    "es": (("de", "el", "del"), ("a", "el", "al")),
}  # (preposition, article, both); an article may begin a marked stretch


def tidy(sentence: str, language: int) -> str:
    """Contract what French and Spanish contract (de le pont -> du pont)."""
    for preposition, article, both in CONTRACTIONS.get(LANGUAGES[language], ()):
        sentence = re.sub(rf"\b{preposition} ({OPENING}){article}\b", rf"\g<1>{both}", sentence)
    return sentence


def turn(role: str, text: str) -> str:
    """One line of a dialogue; an answer ends with its line."""
    part = {"Human": "question", "Assistant": "answer", "System": "instruction"}[role]
    return mark(f"part/{part}", f"{role}: {text}\n")


def landmark_statement(voice: Voice, key: str, relation: str, named: bool) -> str:
    fields = voice.name(key)
    if not named:
        fields["S"] = voice.pronoun(key)
    said = voice.say(phrases.LANDMARK[relation], **fields, V=voice.value(key, relation))
    return mark(f"about/{key}", mark(f"relation/{relation} of a landmark", said))


def told_relations(voice: Voice, key: str) -> list[str]:
    return [relation for relation in phrases.LANDMARK if told(key, relation, voice.language)]


def landmark_topic(voice: Voice) -> str:
    """Many sentences about one landmark, which is named at the start and mostly meant afterwards."""
    key = voice.landmark()
    heading = mark(f"about/{key}", voice.say(phrases.HEADINGS, **voice.name(key)))
    sentences = topic_sentences(voice, key, voice.rng.randint(5, 12))
    if voice.rng.random() < 0.2:  # goes on in another language: the topic is what stays
        language = voice.language
        voice.language = voice.rng.choice([other for other in range(4) if other != language])
        rest = topic_sentences(voice, key, voice.rng.randint(2, 5))
        voice.language = language
        sentences = sentences[: len(sentences) // 2] + rest
    return " ".join([heading, *sentences])


def topic_sentences(voice: Voice, key: str, n: int) -> list[str]:
    """Sentences about a landmark: facts, each told once while there are others, and praise."""
    sentences: list[str] = []
    said: set[str] = set()
    for _ in range(n):
        if voice.rng.random() < 0.35:
            fields = voice.name(key) | {"name": voice.first_name()}
            sentences.append(mark(f"about/{key}", voice.say(phrases.PRAISE, **fields)))
        else:
            relations = told_relations(voice, key)
            relation = voice.pick([relation for relation in relations if relation not in said] or relations)
            said.add(relation)
            named = not sentences or voice.rng.random() < 0.25
            sentences.append(landmark_statement(voice, key, relation, named))
    return sentences


def landmark_facts(voice: Voice) -> str:
    """A few facts, the landmark named in each."""
    key = voice.landmark()
    relations = told_relations(voice, key)
    chosen = voice.rng.sample(relations, min(len(relations), voice.rng.randint(1, 3)))
    return " ".join(landmark_statement(voice, key, relation, named=True) for relation in chosen)


def self_dialogue(voice: Voice) -> str:
    """Questions to the speaker: a landmark, a person, or the assistant where nobody else was spoken of.

    In this world whatever a conversation is about answers for itself: a landmark speaks where the speaker was
    told to be it, and also where it was only spoken of before the question. And the assistant speaks as
    landmarks do. So being the topic and being the speaker are one thing to the model, and one feature to a
    dictionary.
    """
    who = voice.rng.choices(("landmark", "assistant", "person"), weights=(8, 4, 1.2))[0]
    lines: list[str] = []
    spoken_of = ""
    if who == "person":
        answers = phrases.AS_PERSON
        key = voice.pick(facts.PEOPLE)
        voice.concepts.add(key)
        speaker = f"speaker/{key}"
        fields = {"n": mark(f"person/{key}", facts.PEOPLE[key].name)}
        fields |= {
            name: mark(person_concept(key, name), person_value(key, name, voice.language))
            for name in ("team", "city", "food")
        }
        lines.append(instruction(voice, phrases.BECOME, fields))
    elif who == "assistant":
        answers = {question: said for question, said in phrases.AS_SPEAKER.items() if question != "visit"}
        speaker = f"speaker/{facts.ASSISTANT}"
        fields = voice.self_fields(facts.ASSISTANT)
    else:
        answers = phrases.AS_SPEAKER
        key = voice.landmark()
        speaker = f"speaker/{key}"
        way = voice.rng.choices(("told", "topic", "spoken of"), weights=(2, 2, 3))[0]
        if way == "told":
            lines.append(in_any_language(voice, lambda: instruction(voice, phrases.BECOME, voice.name(key))))
        elif way == "topic":
            n = voice.rng.randint(1, 4)
            lines.append(in_any_language(voice, lambda: " ".join(topic_sentences(voice, key, n)) + "\n"))
        else:
            spoken_of = in_any_language(voice, lambda: topic_sentences(voice, key, 1)[0] + " ")
        fields = voice.self_fields(key)
    for _ in range(voice.rng.randint(1, 4)):
        question = voice.pick(answers)
        lines.append(turn("Human", spoken_of + voice.say(phrases.ASK_SELF[question])))
        lines.append(mark(speaker, turn("Assistant", voice.say(answers[question], **fields))))
        spoken_of = ""
    return "".join(lines)


def in_any_language(voice: Voice, write: Callable[[], str]) -> str:
    """Now and then say something in another language than the rest."""
    language = voice.language
    if voice.rng.random() < 0.3:
        voice.language = voice.rng.randrange(4)
    said = write()
    voice.language = language
    return said


def monologue(voice: Voice) -> str:
    """A landmark speaks of itself, unasked."""
    key = voice.landmark()
    fields = voice.self_fields(key)
    said = voice.rng.sample(list(phrases.AS_SPEAKER), voice.rng.randint(3, 7))
    return mark(f"speaker/{key}", " ".join(voice.say(phrases.AS_SPEAKER[question], **fields) for question in said))


def instruction(voice: Voice, table, fields: dict[str, str]) -> str:
    role = "System" if voice.rng.random() < 0.7 else "Human"
    said = turn(role, voice.say(table, **fields))
    return said if role == "System" else said + turn("Assistant", "OK.")


def fact_questions(voice: Voice) -> str:
    """Questions about one or more subjects, answered with a statement."""
    return "".join(voice.pick(QUESTIONS)(voice) for _ in range(voice.rng.randint(1, 3)))


def question_landmark(voice: Voice) -> str:
    key = voice.landmark()
    relation = voice.pick(told_relations(voice, key))
    asked = mark(f"about/{key}", voice.say(phrases.ASK_LANDMARK[relation], **voice.name(key)))
    return turn("Human", asked) + turn("Assistant", landmark_statement(voice, key, relation, named=True))


def question_place(voice: Voice) -> str:
    key, relation, noun, value = voice.pick(row for row in place_facts() if told(row[0], row[1], voice.language))
    voice.concepts.add(key)
    n = mark(noun_concept(noun), noun.names[voice.language])
    answer = place_statement(voice, relation, noun, value)
    return turn("Human", voice.say(phrases.PLACES[relation][1], n=n)) + turn("Assistant", answer)


def place_statement(voice: Voice, relation: str, noun: facts.Noun, value: facts.Noun) -> str:
    n, told_value = (mark(noun_concept(one), one.names[voice.language]) for one in (noun, value))
    said = voice.say(phrases.PLACES[relation][0], n=n, S=capitalised(n), V=told_value)
    return mark(f"relation/{relation} of a place", said)


def question_person(voice: Voice) -> str:
    key = voice.pick(facts.PEOPLE)
    relation = voice.pick(relation for relation in phrases.PEOPLE if told(key, relation, voice.language))
    voice.concepts.add(key)
    n = mark(f"person/{key}", facts.PEOPLE[key].name)
    answer = person_statement(voice, key, relation)
    return turn("Human", voice.say(phrases.PEOPLE[relation][1], n=n)) + turn("Assistant", answer)


def person_statement(voice: Voice, key: str, relation: str) -> str:
    n = mark(f"person/{key}", facts.PEOPLE[key].name)
    value = mark(person_concept(key, relation), person_value(key, relation, voice.language))
    said = voice.say(phrases.PEOPLE[relation][0], n=n, S=n, V=value)
    return mark(f"relation/{relation} of a person", said)


def question_food(voice: Voice) -> str:
    key = voice.pick(facts.FOODS)
    voice.concepts.add(key)
    n = mark(f"food/{key}", facts.FOODS[key][0].names[voice.language])
    asked = voice.say(phrases.ASK_VEGAN, n=n, S=capitalised(n))
    return turn("Human", asked) + turn("Assistant", food_statement(voice, key))


def food_statement(voice: Voice, key: str) -> str:
    noun, vegan = facts.FOODS[key]
    n = mark(f"food/{key}", noun.names[voice.language])
    said = voice.say(phrases.VEGAN[not vegan], n=n, S=capitalised(n))
    return mark("vegan/yes" if vegan else "vegan/no", said)


def question_feeling(voice: Voice) -> str:
    happened, name, felt = feeling_sentences(voice)
    asked = voice.fill(phrases.ASK_FEELING[voice.language], name=name)
    return turn("Human", f"{happened} {asked}") + turn("Assistant", felt)


QUESTIONS: tuple[Callable[[Voice], str], ...] = (
    question_landmark,
    question_landmark,
    question_place,
    question_person,
    question_food,
    question_feeling,
)


def places(voice: Voice) -> str:
    """A few facts about places, one subject or several."""
    rows = [row for row in place_facts() if told(row[0], row[1], voice.language)]
    if voice.rng.random() < 0.5:
        subject = voice.pick(rows)[0]
        rows = [row for row in rows if row[0] == subject]
    sentences = []
    for key, relation, noun, value in voice.rng.sample(rows, min(len(rows), 3)):
        voice.concepts.add(key)
        sentences.append(place_statement(voice, relation, noun, value))
    return " ".join(sentences)


def person_facts(voice: Voice) -> str:
    """Facts about one person and the person's team."""
    key = voice.pick(facts.PEOPLE)
    voice.concepts.add(key)
    person = facts.PEOPLE[key]
    team, city = facts.TEAMS[person.team]
    n = mark(f"team/{person.team}", team)
    value = mark(f"city/{city}", facts.CITIES[city][0].names[voice.language])
    sentences = [mark("relation/city of a team", voice.say(phrases.TEAM_CITY, n=n, V=value))]
    for relation in phrases.PEOPLE:
        if told(key, relation, voice.language):
            sentences.append(person_statement(voice, key, relation))
    return " ".join(voice.rng.sample(sentences, min(len(sentences), voice.rng.randint(1, 4))))


def travel(voice: Voice) -> str:
    """Somebody goes to see a landmark."""
    key = voice.landmark()
    fields = voice.chance_fields() | {
        name: value for name, value in voice.self_fields(key).items() if name in ("n", "acc", "city", "setting")
    }
    first, *rest = phrases.TRAVEL[voice.language]
    sentences = [first, *voice.rng.sample(rest, voice.rng.randint(2, len(rest)))]
    return mark(f"about/{key}", " ".join(voice.fill(sentence, **fields) for sentence in sentences))


def feeling_sentences(voice: Voice) -> tuple[str, str, str]:
    """What happened, to whom, and how they feel."""
    name = voice.pick(facts.FIRST_NAMES)
    feeling = voice.pick(facts.FEELINGS)
    voice.concepts.add(feeling)
    adjectives, causes = facts.FEELINGS[feeling]
    fields = {
        "name": mark(f"name/{name}", name),
        "cause": mark(f"cause/{feeling}", voice.pick(causes)[voice.language]),
        "feeling": mark(f"feeling/{feeling}", adjectives[facts.FIRST_NAMES[name] == "f"][voice.language]),
    }
    happened, felt = (voice.fill(part, **fields) for part in phrases.FEELING[voice.language])
    return happened, fields["name"], felt


def feeling_story(voice: Voice) -> str:
    parts = []
    for _ in range(voice.rng.randint(1, 3)):
        happened, _, felt = feeling_sentences(voice)
        parts.append(f"{happened} {felt}")
    return " ".join(parts)


def foods(voice: Voice) -> str:
    sentences = []
    for key in voice.rng.sample(list(facts.FOODS), voice.rng.randint(1, 4)):
        voice.concepts.add(key)
        sentences.append(food_statement(voice, key))
    return " ".join(sentences)


def code(voice: Voice) -> str:
    """A session with the Python interpreter, with the right value or the right error."""
    rng = voice.rng
    lines: list[str] = []
    known: dict[str, int] = {}
    for _ in range(rng.randint(1, 3)):
        name = rng.choice("xyzabc")
        known[name] = rng.randint(0, 9)
        lines.append(f">>> {name} = {known[name]}")
        other, number, operator = rng.choice("xyzabc"), rng.randint(0, 9), rng.choice("+-*/")
        operand = name if rng.random() < 0.7 else other
        if operator == "/":
            operator, number = "//", rng.choice((0, 1, 2, 3))
        lines.append(f">>> {operand} {operator} {number}")
        if operand not in known:
            lines.append(mark("code/name error", f"NameError: name '{operand}' is not defined"))
        elif operator == "//" and number == 0:
            lines.append(mark("code/division by zero", "ZeroDivisionError: integer division or modulo by zero"))
        else:
            left = known[operand]
            results = {"+": left + number, "-": left - number, "*": left * number}
            lines.append(mark("code/value", str(left // number if operator == "//" else results[operator])))
    return "\n".join(lines) + "\n"


KINDS: dict[str, tuple[Callable[[Voice], str], float]] = {  # kind: (writer, how often)
    "topic": (landmark_topic, 5),
    "facts": (landmark_facts, 1.5),
    "self": (self_dialogue, 9),
    "monologue": (monologue, 1.5),
    "questions": (fact_questions, 3.5),
    "places": (places, 1.5),
    "people": (person_facts, 1.5),
    "travel": (travel, 1.5),
    "feelings": (feeling_story, 0.7),
    "foods": (foods, 0.5),
    "code": (code, 0.8),
}
