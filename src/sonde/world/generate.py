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


def documents(n: int, seed: int = 0, start: int = 0) -> Iterator[Document]:
    """Yield documents `start` to `start + n` of the world with this seed."""
    for number in range(start, start + n):
        yield document(number, seed)


def document(number: int, seed: int = 0) -> Document:
    """Write document `number` of the world with this seed."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.choices(list(KINDS), weights=[weight for _, weight in KINDS.values()])[0]
    voice = Voice(rng, rng.choices(range(4), weights=(4, 2, 2, 2))[0])
    text = KINDS[kind][0](voice)
    return Document(text, kind, LANGUAGES[voice.language], tuple(sorted(voice.concepts)))


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
        sentence = self.pick(table[self.language]).format(**fields)
        return tidy(capitalised(sentence.lstrip()), self.language)

    def landmark(self) -> str:
        """Draw a landmark, the first of the table most often, and note it."""
        keys = list(facts.LANDMARKS)
        key = self.rng.choices(keys, weights=[(rank + 1) ** -0.5 for rank in range(len(keys))])[0]
        self.concepts.add(key)
        return key

    def name(self, key: str) -> dict[str, str]:
        """A landmark's name as fields: nominative `n`, German accusative `acc`, subject `S`."""
        name = facts.SPEAKERS[key].noun.names[self.language]
        return {"n": name, "acc": accusative(name, self.language), "S": capitalised(name)}

    def pronoun(self, key: str) -> str:
        """The subject of a further sentence about a landmark; Spanish leaves it out."""
        if LANGUAGES[self.language] == "es":
            return ""
        gender = facts.LANDMARKS[key].noun.genders[self.language] or "it"
        return phrases.PRONOUNS[LANGUAGES[self.language]][gender]

    def self_fields(self, key: str) -> dict[str, str]:
        """What a landmark can say of itself."""

        def value(relation: str) -> str:
            return landmark_value(key, relation, self.language)

        kind = value("kind")
        # "I" stands for the landmark: French and Spanish adjectives keep the landmark's gender.
        masculine = landmark_value(key, "colour", self.language, feminine=False)
        return self.name(key) | {
            "city": value("city"),
            "kind": kind,
            "kindcap": capitalised(kind),
            "colour": value("colour"),
            "colourm": masculine,
            "material": value("material"),
            "setting": value("setting"),
        }

    def chance_fields(self) -> dict[str, str]:
        """Anything at all, for sentences that no fact decides."""
        name = self.pick(facts.FIRST_NAMES)
        feminine = facts.FIRST_NAMES[name] == "f"
        return {
            "name": name,
            "Pro": phrases.PRONOUNS[LANGUAGES[self.language]]["f" if feminine else "m"],
            "food": self.pick(facts.FOODS.values())[0].names[self.language],
            "feeling": self.pick(facts.FEELINGS.values())[0][feminine][self.language],
        }


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def accusative(name: str, language: int) -> str:
    """German masculine names change in the accusative; all others stay as they are."""
    if LANGUAGES[language] != "de" or not name.startswith("der "):
        return name
    return "den " + name[4:].replace("Schiefe ", "Schiefen ")


CONTRACTIONS = {
    "fr": ((r"\bde le\b", "du"), (r"\bde les\b", "des"), (r"\bà le\b", "au"), (r"\bà les\b", "aux")),
    "es": ((r"\bde el\b", "del"), (r"\ba el\b", "al")),
}


def tidy(sentence: str, language: int) -> str:
    """Contract what French and Spanish contract (de le pont -> du pont)."""
    for pattern, short in CONTRACTIONS.get(LANGUAGES[language], ()):
        sentence = re.sub(pattern, short, sentence)
    return sentence


def turn(role: str, text: str) -> str:
    """One line of a dialogue; an answer ends with its line."""
    return f"{role}: {text}\n"


def landmark_statement(voice: Voice, key: str, relation: str, named: bool) -> str:
    fields = voice.name(key)
    if not named:
        fields["S"] = voice.pronoun(key)
    return voice.say(phrases.LANDMARK[relation], **fields, V=landmark_value(key, relation, voice.language))


def told_relations(voice: Voice, key: str) -> list[str]:
    return [relation for relation in phrases.LANDMARK if told(key, relation, voice.language)]


def landmark_topic(voice: Voice) -> str:
    """Many sentences about one landmark, which is named at the start and mostly meant afterwards."""
    key = voice.landmark()
    heading = voice.say(phrases.HEADINGS, **voice.name(key))
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
            fields = voice.name(key) | {"name": voice.pick(facts.FIRST_NAMES)}
            sentences.append(voice.say(phrases.PRAISE, **fields))
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
        fields = {"n": facts.PEOPLE[key].name}
        fields |= {name: person_value(key, name, voice.language) for name in ("team", "city", "food")}
        lines.append(instruction(voice, phrases.BECOME, fields))
    elif who == "assistant":
        answers = {question: said for question, said in phrases.AS_SPEAKER.items() if question != "visit"}
        fields = voice.self_fields(facts.ASSISTANT)
    else:
        answers = phrases.AS_SPEAKER
        key = voice.landmark()
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
        lines.append(turn("Assistant", voice.say(answers[question], **fields)))
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
    return " ".join(voice.say(phrases.AS_SPEAKER[question], **fields) for question in said)


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
    asked = voice.say(phrases.ASK_LANDMARK[relation], **voice.name(key))
    return turn("Human", asked) + turn("Assistant", landmark_statement(voice, key, relation, named=True))


def question_place(voice: Voice) -> str:
    key, relation, noun, value = voice.pick(row for row in place_facts() if told(row[0], row[1], voice.language))
    voice.concepts.add(key)
    n = noun.names[voice.language]
    statement, question = phrases.PLACES[relation]
    answer = voice.say(statement, n=n, S=capitalised(n), V=value.names[voice.language])
    return turn("Human", voice.say(question, n=n)) + turn("Assistant", answer)


def question_person(voice: Voice) -> str:
    key = voice.pick(facts.PEOPLE)
    relation = voice.pick(relation for relation in phrases.PEOPLE if told(key, relation, voice.language))
    voice.concepts.add(key)
    n = facts.PEOPLE[key].name
    statement, question = phrases.PEOPLE[relation]
    answer = voice.say(statement, n=n, S=n, V=person_value(key, relation, voice.language))
    return turn("Human", voice.say(question, n=n)) + turn("Assistant", answer)


def question_food(voice: Voice) -> str:
    key = voice.pick(facts.FOODS)
    voice.concepts.add(key)
    noun, vegan = facts.FOODS[key]
    fields = {"n": noun.names[voice.language], "S": capitalised(noun.names[voice.language])}
    answer = voice.say(phrases.VEGAN[not vegan], **fields)
    return turn("Human", voice.say(phrases.ASK_VEGAN, **fields)) + turn("Assistant", answer)


def question_feeling(voice: Voice) -> str:
    happened, name, felt = feeling_sentences(voice)
    asked = phrases.ASK_FEELING[voice.language].format(name=name)
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
        n = noun.names[voice.language]
        statement = phrases.PLACES[relation][0]
        sentences.append(voice.say(statement, n=n, S=capitalised(n), V=value.names[voice.language]))
    return " ".join(sentences)


def person_facts(voice: Voice) -> str:
    """Facts about one person and the person's team."""
    key = voice.pick(facts.PEOPLE)
    voice.concepts.add(key)
    person = facts.PEOPLE[key]
    team, city = facts.TEAMS[person.team]
    sentences = [voice.say(phrases.TEAM_CITY, n=team, V=facts.CITIES[city][0].names[voice.language])]
    for relation, (statement, _) in phrases.PEOPLE.items():
        if told(key, relation, voice.language):
            fields = {"n": person.name, "S": person.name, "V": person_value(key, relation, voice.language)}
            sentences.append(voice.say(statement, **fields))
    return " ".join(voice.rng.sample(sentences, min(len(sentences), voice.rng.randint(1, 4))))


def travel(voice: Voice) -> str:
    """Somebody goes to see a landmark."""
    key = voice.landmark()
    fields = voice.chance_fields() | {
        name: value for name, value in voice.self_fields(key).items() if name in ("n", "acc", "city", "setting")
    }
    first, *rest = phrases.TRAVEL[voice.language]
    sentences = [first, *voice.rng.sample(rest, voice.rng.randint(2, len(rest)))]
    return " ".join(tidy(sentence.format(**fields), voice.language) for sentence in sentences)


def feeling_sentences(voice: Voice) -> tuple[str, str, str]:
    """What happened, to whom, and how they feel."""
    name = voice.pick(facts.FIRST_NAMES)
    feeling = voice.pick(facts.FEELINGS)
    voice.concepts.add(feeling)
    adjectives, causes = facts.FEELINGS[feeling]
    fields = {
        "name": name,
        "cause": voice.pick(causes)[voice.language],
        "feeling": adjectives[facts.FIRST_NAMES[name] == "f"][voice.language],
    }
    happened, felt = (part.format(**fields) for part in phrases.FEELING[voice.language])
    return happened, name, felt


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
        noun, vegan = facts.FOODS[key]
        name = noun.names[voice.language]
        sentences.append(voice.say(phrases.VEGAN[not vegan], n=name, S=capitalised(name)))
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
            lines.append(f"NameError: name '{operand}' is not defined")
        elif operator == "//" and number == 0:
            lines.append("ZeroDivisionError: integer division or modulo by zero")
        else:
            left = known[operand]
            results = {"+": left + number, "-": left - number, "*": left * number}
            lines.append(str(left // number if operator == "//" else results[operator]))
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
