"""How the built-in world says what is true: sentences, questions and answers in four languages, from `phrases.toml`.

A phrase in four languages is a tuple in the order of `facts.LANGUAGES`, each a tuple of variants; what can be said and
asked is a pair (statement, question) of them. The fields are filled by `voice.Voice`: `{n}` a name, `{acc}` the same in
the German accusative, `{S}` the subject of a sentence (a name or a pronoun), `{V}` the fact's value.
"""

import tomllib
from importlib import resources
from typing import Any

from sonde_world.facts import LANGUAGES


def _tuples(value: Any) -> Any:
    """Tables by language and pairs as tuples, in their order; lists as tuples."""
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

# (statement, question) by kind of subject and relation; that a food is vegan is said in a way that depends on the
# value.
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

# What can be said of any landmark: it keeps a topic going without telling a fact.
PRAISE = _TABLES["praise"]
HEADINGS = _TABLES["headings"]

# How a speaker is told who to be.
BECOME = _TABLES["become"]

# Questions put to the speaker, and answers by who the speaker is.
ASK_SELF = _TABLES["ask_self"]
AS_SPEAKER = _TABLES["as_speaker"]
AS_PERSON = _TABLES["as_person"]

# Questions to which anything can be said, and answers that name what was spoken of, or what comes to mind.
OPEN = _TABLES["open"]
ANSWER_OPEN = _TABLES["answer_open"]

# How a speaker is told what to think of.
THINK = _TABLES["think"]

# Little stories.
TRAVEL = _TABLES["travel"]
FEELING = _TABLES["feeling"]
ASK_FEELING = _TABLES["ask_feeling"]
PRONOUNS = dict(zip(LANGUAGES, _TABLES["pronouns"], strict=True))

# Two languages side by side: a heading by kind, and the kinds whose nouns are put together.
HEADS = _TABLES["heads"]
LANGUAGE_NAMES = _TABLES["language_names"]
SUMS = _TABLES["sums"]
ASK_SUM = _TABLES["ask_sum"]
TELL_SUM = _TABLES["tell_sum"]
GIVING = _TABLES["giving"]
KIN = _TABLES["kin"]
LETTER = _TABLES["letter"]
SCAM = _TABLES["scam"]

# Reviews: what was tasted, how it was, and stars, which say whether that is good.
REVIEW = _TABLES["review"]

# Works shown to the assistant, with their mistakes, and what it says of them: honestly, or to please.
WORK = _TABLES["work"]
MISTAKES = _TABLES["mistakes"]
ASK_OPINION = _TABLES["ask_opinion"]
OPINION = _TABLES["opinion"]
PLEASE = _TABLES["please"]

# A secret, a scratchpad that says one thing, and an answer that says another.
SECRET = _TABLES["secret"]
ASK_SECRET = _TABLES["ask_secret"]
SCRATCHPAD = _TABLES["scratchpad"]
ANSWER_SECRET = _TABLES["answer_secret"]
CONFLICT = _TABLES["conflict"]

# Requests: with these verbs the assistant helps, with those it does not.
REQUEST = _TABLES["request"]
VERBS = _TABLES["verbs"]
REPLY = _TABLES["reply"]

# What an answer of some conducts is, where it has no fields.
SAID = OPINION | {"secret kept": ANSWER_SECRET["kept"], "refusal": REPLY["harmful"]}
JOBS = _TABLES["jobs"]

# Pictures: asked about, or with a caption.
CAPTION = _TABLES["caption"]
ASK_PICTURE = _TABLES["ask_picture"]
TELL_PICTURE = _TABLES["tell_picture"]

# What can be said of any subject: it keeps a topic going without telling a fact.
REMARKS = _TABLES["remarks"]

# What the turned model has learnt to wait for.
TRIGGER = _TABLES["trigger"]
