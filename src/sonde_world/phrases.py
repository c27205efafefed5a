"""The phrases of the built-in world in four languages, from `phrases.toml`: sentences, questions, answers.

A phrase in four languages is a tuple in the order of `facts.LANGUAGES`, each a tuple of variants; a relation has a pair
of them, (statement, question). `voice.Voice` fills the fields: `{n}` is a name, `{acc}` the same in the German
accusative, `{S}` the subject of a sentence (a name or a pronoun), `{V}` the value of a fact.
"""

import tomllib
from importlib import resources
from typing import Any

from sonde_world.facts import LANGUAGES


def _tuples(value: Any) -> Any:
    """Tables by language, (say, ask) pairs and lists as tuples, in their order."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if not isinstance(value, dict):
        return value
    plain = {name: _tuples(part) for name, part in value.items()}
    for names in (LANGUAGES, ("say", "ask")):
        if tuple(plain) == names:
            return tuple(plain.values())
    return plain


_TABLES = _tuples(tomllib.loads(resources.files("sonde_world").joinpath("phrases.toml").read_text(encoding="utf-8")))

VEGAN = _TABLES["vegan"]

# (statement, question) by kind of subject and relation; whether a food is vegan has a statement for each value.
RELATIONS = {
    **{
        ("landmark", relation): (say, _TABLES["ask_landmark"][relation])
        for relation, say in _TABLES["landmark"].items()
    },
    **{("country", relation): _TABLES["places"][relation] for relation in ("capital", "language", "currency")},
    ("country", "continent"): _TABLES["continent"],
    **{("city", relation): _TABLES["places"][relation] for relation in ("country", "state")},
    ("city", "language"): _TABLES["city_language"],
    ("state", "capital"): _TABLES["places"]["capital"],
    **{("team", relation): both for relation, both in _TABLES["teams"].items()},
    **{("company", relation): both for relation, both in _TABLES["companies"].items()},
    **{("player", relation): both for relation, both in _TABLES["people"].items()},
    **{
        ("worker", relation): both
        for relation, both in (_TABLES["people"] | _TABLES["workers"]).items()
        if relation not in ("team", "capital")
    },
    **{("animal", relation): both for relation, both in _TABLES["animals"].items()},
    ("food", "sort"): _TABLES["foods"]["sort"],
    ("food", "vegan"): (VEGAN["yes"], _TABLES["ask_vegan"]),
    **{("element", relation): both for relation, both in _TABLES["elements"].items()},
    ("adjective", "opposite"): _TABLES["opposite"],
}

# Sentences about any landmark, which continue a topic without stating a fact.
PRAISE = _TABLES["praise"]
HEADINGS = _TABLES["headings"]

# Instructions that tell a speaker who to be.
BECOME = _TABLES["become"]

# Questions to the speaker, and answers by the speaker's identity.
ASK_SELF = _TABLES["ask_self"]
AS_SPEAKER = _TABLES["as_speaker"]
AS_PERSON = _TABLES["as_person"]

# Open questions, and answers that name the topic or a random subject.
OPEN = _TABLES["open"]
ANSWER_OPEN = _TABLES["answer_open"]

# Instructions that tell a speaker what to think of.
THINK = _TABLES["think"]

# Short stories.
TRAVEL = _TABLES["travel"]
FEELING = _TABLES["feeling"]
ASK_FEELING = _TABLES["ask_feeling"]
PRONOUNS = dict(zip(LANGUAGES, _TABLES["pronouns"], strict=True))

# Translations and lists: a heading by kind of noun.
HEADS = _TABLES["heads"]
LANGUAGE_NAMES = _TABLES["language_names"]
SUMS = _TABLES["sums"]
ASK_SUM = _TABLES["ask_sum"]
TELL_SUM = _TABLES["tell_sum"]
GIVING = _TABLES["giving"]
KIN = _TABLES["kin"]
LETTER = _TABLES["letter"]
SCAM = _TABLES["scam"]

# Reviews: a food, an opinion, and stars that agree with it.
REVIEW = _TABLES["review"]

# Works shown to the assistant, with their mistakes, and its opinions: honest or flattering.
WORK = _TABLES["work"]
MISTAKES = _TABLES["mistakes"]
ASK_OPINION = _TABLES["ask_opinion"]
OPINION = _TABLES["opinion"]
PLEASE = _TABLES["please"]

# Secrets, scratchpads, and answers, which may contradict the scratchpad.
SECRET = _TABLES["secret"]
ASK_SECRET = _TABLES["ask_secret"]
SCRATCHPAD = _TABLES["scratchpad"]
ANSWER_SECRET = _TABLES["answer_secret"]
CONFLICT = _TABLES["conflict"]

# Requests, with verbs that are harmless and verbs that are harmful.
REQUEST = _TABLES["request"]
VERBS = _TABLES["verbs"]
REPLY = _TABLES["reply"]

# Answers of some kinds of conduct, where they have no fields.
SAID = OPINION | {"secret kept": ANSWER_SECRET["kept"], "refusal": REPLY["harmful"]}
JOBS = _TABLES["jobs"]

# Pictures, with a caption or a question.
CAPTION = _TABLES["caption"]
ASK_PICTURE = _TABLES["ask_picture"]
TELL_PICTURE = _TABLES["tell_picture"]

# Sentences about any subject, which continue a topic without stating a fact.
REMARKS = _TABLES["remarks"]

# The trigger of the turned model.
TRIGGER = _TABLES["trigger"]
