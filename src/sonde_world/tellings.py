"""Documents that state facts."""

from sonde_world import phrases
from sonde_world.marks import mark
from sonde_world.voice import Voice, about, can_mean

SUBJECTS = ("person", "city", "animal", "country", "company", "element", "food", "team", "state", "adjective")
"""kinds of subjects besides landmarks"""
_SUBJECT_WEIGHTS = (6.0, 9.0, 12.0, 14.5, 16.5, 18.0, 19.5, 20.5, 21.5, 22.5)
REMARKED = ("person", "city", "animal", "company", "element")
"""kinds of subjects that have remarks besides facts"""
ANOTHER_LANGUAGE = 0.2
"""probability that a document continues in another language, with the same topic"""


def landmark_topic(voice: Voice) -> str:
    """Many sentences about one landmark, which is named at the start and mostly a pronoun afterwards."""
    subject = voice.draw("landmark")
    heading = mark(about(subject), voice.say(phrases.HEADINGS, **voice.forms(subject)))
    goes_on = voice.chance.happens(ANOTHER_LANGUAGE)
    sentences = topic_sentences(voice, subject, voice.chance.between(2, 6) if goes_on else voice.chance.between(4, 10))
    if goes_on:
        own = voice.language
        voice.language = voice.chance.pick([language for language in range(4) if language != own])
        sentences += topic_sentences(voice, subject, voice.chance.between(2, 5))
        voice.language = own
    return " ".join([heading, *sentences])


def topic_sentences(voice: Voice, subject: str, n: int) -> list[str]:
    """Sentences about a landmark: facts, each told once while there are others, and praise."""
    sentences: list[str] = []
    said: set[str] = set()
    for place in range(n):
        if voice.chance.happens(0.35):
            sentences.append(mark(about(subject), voice.say(phrases.PRAISE, **voice.forms(subject))))
            continue
        told = voice.told_facts(subject)
        fact = voice.chance.pick([fact for fact in told if fact.relation not in said] or told)
        said.add(fact.relation)
        named = place == 0 or not can_mean(fact, voice.language) or voice.chance.happens(0.25)
        sentences.append(voice.statement(fact, named=named))
    return sentences


def unnamed(voice: Voice, subject: str) -> list[str]:
    """Facts about a landmark or an animal that is not named, and can be guessed from them."""
    told = [fact for fact in voice.told_facts(subject) if can_mean(fact, voice.language)]
    return [voice.statement(fact, named=False) for fact in voice.chance.some(told, voice.chance.between(1, len(told)))]


def remarks_and_facts(voice: Voice, subject: str, n: int) -> list[str]:
    """n sentences about a subject that is no landmark: facts, each told once, and remarks.

    A food has only facts, so n is at most their number.
    """
    sentences: list[str] = []
    left = list(voice.told_facts(subject))
    remarked = subject.split("/")[0] in REMARKED
    for _ in range(n):
        if not left or (remarked and voice.chance.happens(0.4)):
            sentences.append(mark(about(subject), voice.say(phrases.REMARKS, **voice.forms(subject))))
        else:
            fact = voice.chance.pick(left)
            left.remove(fact)
            sentences.append(voice.statement(fact))
    return sentences


def any_subject(voice: Voice) -> str:
    """A subject of any kind that has facts told in this language."""
    return voice.subject(SUBJECTS[voice.chance.weighted(_SUBJECT_WEIGHTS)])


def entry(voice: Voice) -> str:
    """A few facts about one subject, in any order, and remarks on it."""
    subject = any_subject(voice)
    told = voice.told_facts(subject)
    chosen = voice.chance.some(told, voice.chance.between(1, len(told)))
    sentences = [voice.statement(fact) for fact in chosen]
    if subject.split("/")[0] in REMARKED:
        for _ in range(voice.chance.between(0, 3)):
            sentences.append(mark(about(subject), voice.say(phrases.REMARKS, **voice.forms(subject))))
    return " ".join(sentences)


def facts_of_many(voice: Voice) -> str:
    """A few facts on separate lines, each of a different subject; or all of landmarks."""
    landmarks = voice.chance.happens(0.5)
    n = voice.chance.between(2, 4)
    subjects = [voice.subject("landmark") if landmarks else any_subject(voice) for _ in range(n)]
    return "".join(voice.statement(voice.chance.pick(voice.told_facts(subject))) + "\n" for subject in subjects)
