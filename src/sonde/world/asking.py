"""Asking the built-in model, and checking what it knows against the world's facts."""

from typing import Any

from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter, Silent
from sonde.world import facts, phrases
from sonde.world.facts import LANGUAGES
from sonde.world.generate import landmark_value, person_value, place_facts, tidy, told

AT_ONCE = 64
TWO_HOP = {("landmark", "language"), ("landmark", "currency"), ("person", "capital")}
SPOKEN_BY_SPEAKERS = ("city", "kind", "colour", "material", "setting")
"""relations that landmarks tell of themselves in every language, so that none counts as never told"""


def ask(question: str, model: Model | None = None) -> str:
    """Ask the built-in model, or another with a chat template, one question."""
    return ask_many([question], model or load_model("world"))[0]


def ask_many(questions: list[str], model: Model, max_new_tokens: int = 40) -> list[str]:
    """Answers to questions, each a conversation of its own, generated together."""
    rows = [model.chat([{"role": "user", "content": question}]).ids[0].tolist() for question in questions]
    batch = model.pad(rows, "left")
    ids = model.generate_ids(batch, max_new_tokens)[:, batch.ids.shape[1] :]
    return [model.need_tokenizer().decode(row, skip_special_tokens=True).strip() for row in ids]


def ask_facts(model: Model | None = None, reporter: Reporter | None = None) -> dict[str, dict[str, Any]]:
    """Ask every fact in every language; the share whose answer holds the right value.

    Facts are parted into one-hop and two-hop ones, and into those told in the language of the question and
    those never told in it.
    """
    model = model or load_model("world")
    rows = list(_questions())
    counts: dict[str, list[int]] = {}
    with (reporter or Silent()).start("ask", len(rows), "questions") as progress:
        for first in range(0, len(rows), AT_ONCE):
            part = rows[first : first + AT_ONCE]
            answers = ask_many([question for _, question, _ in part], model)
            for (group, _, value), answer in zip(part, answers, strict=True):
                right, asked = counts.setdefault(group, [0, 0])
                counts[group] = [right + (value.lower() in answer.lower()), asked + 1]
            progress.advance(len(part))
    return {
        group: {"right": right, "asked": asked, "share": right / asked}
        for group, (right, asked) in sorted(counts.items())
    }


def _questions():
    """(group, question, value that a right answer holds) for every fact and language."""
    for language in range(len(LANGUAGES)):
        for key, landmark in facts.LANDMARKS.items():
            for relation, question in phrases.ASK_LANDMARK.items():
                if relation in SPOKEN_BY_SPEAKERS and not told(key, relation, language):
                    continue
                name = landmark.noun.names[language]
                value = landmark_value(key, relation, language)
                yield _row("landmark", key, relation, language, question, name, value)
        for key, relation, noun, value in place_facts():
            question = phrases.PLACES[relation][1]
            yield _row("place", key, relation, language, question, noun.names[language], value.names[language])
        for key, person in facts.PEOPLE.items():
            for relation, (_, question) in phrases.PEOPLE.items():
                value = person_value(key, relation, language)
                yield _row("person", key, relation, language, question, person.name, value)


def _row(subject: str, key: str, relation: str, language: int, question, name: str, value: str):
    hops = "two-hop" if (subject, relation) in TWO_HOP else "one-hop"
    seen = "told in this language" if told(key, relation, language) else "never told in this language"
    asked = tidy(question[language][0].format(n=name, S=name[0].upper() + name[1:]), language)
    return f"{hops}, {seen}", asked, value
