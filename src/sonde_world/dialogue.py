"""Dialogues: speakers with an identity, and questions about facts."""

from collections.abc import Callable
from typing import TypeVar

from sonde_world import facts, phrases
from sonde_world.marks import capitalised, mark
from sonde_world.tellings import REMARKED, any_subject, remarks_and_facts, topic_sentences, unnamed
from sonde_world.voice import ASKED, OTHER_LANGUAGE, Voice, about, can_mean

Written = TypeVar("Written")
TAKES_OVER = 0.3
"""probability that another landmark, or another topic, takes over in a dialogue"""
COME_TO_MIND = ("landmark", "animal", "food", "city", "person", "element")
"""kinds of subjects of answers to open questions"""
_MIND_WEIGHTS = (4.0, 6.0, 7.5, 9.0, 10.0, 11.0)
UNNAMED = 0.6
"""probability that a landmark or an animal that is the topic of such a dialogue is not named"""
ABOUT_THE_TOPIC = 0.25
"""probability that a question in such a dialogue asks for a fact of the topic"""


def turn(role: str, text: str) -> str:
    """One line of a dialogue; an answer ends with its line."""
    part = {"Human": "question", "Assistant": "answer", "System": "instruction"}[role]
    return mark(f"part/{part}", f"{role}: {text}\n")


def self_fields(voice: Voice, key: str) -> dict[str, str]:
    """What a landmark or the assistant can say of itself; adjectives agree with the landmark's gender."""
    landmark = facts.SPEAKERS[key]
    concepts = {
        "city": f"city/{landmark.city}",
        "kind": f"kind/{landmark.kind}",
        "material": f"material/{landmark.material}",
        "setting": f"setting/{landmark.beside}",
    }
    fields = voice.forms(f"landmark/{key}") | {name: voice.noun(concept) for name, concept in concepts.items()}
    colours = facts.COLOURS[landmark.colour]
    feminine = landmark.noun.genders[voice.language] == "f"
    colour, masculine = (mark(f"colour/{landmark.colour}", colours[form][voice.language]) for form in (feminine, False))
    return fields | {"kindcap": capitalised(fields["kind"]), "colour": colour, "colourm": masculine}


def self_dialogue(voice: Voice) -> str:
    """Questions to the speaker: a landmark, a person, or the assistant if the dialogue has no other subject.

    In this world the subject of a conversation answers for itself: a landmark speaks where the speaker was told to be
    it, and also where it was only mentioned before the question, and another may take over. The assistant speaks as
    landmarks do. So being the topic and being the speaker are one thing to the model, and one feature to a dictionary.
    """
    match ("landmark", "assistant", "person")[voice.chance.weighted((8.0, 12.0, 13.5))]:
        case "person":
            subject = voice.draw("person")
            lines = [instruction(voice, subject), *_rounds(voice, subject, phrases.AS_PERSON)]
        case "assistant":
            answers = {question: said for question, said in phrases.AS_SPEAKER.items() if question != "visit"}
            lines = _rounds(voice, f"landmark/{facts.ASSISTANT}", answers)
        case _:
            lines = _landmark_speaks(voice, at_first=True)
    if voice.chance.happens(TAKES_OVER):
        lines += _landmark_speaks(voice, at_first=False)
    return "".join(lines)


def _landmark_speaks(voice: Voice, at_first: bool) -> list[str]:
    """A landmark is introduced as the speaker, or as the topic, and answers."""
    subject = voice.draw("landmark")
    ways = ("told", "spoken of", "topic") if at_first else ("told", "spoken of")
    match ways[voice.chance.weighted((2.0, 5.0, 7.0)[: len(ways)])]:
        case "told":
            first = in_any_language(voice, lambda: instruction(voice, subject))
            return [first, *_rounds(voice, subject, phrases.AS_SPEAKER)]
        case "topic":
            n = voice.chance.between(1, 4)
            first = in_any_language(voice, lambda: " ".join(topic_sentences(voice, subject, n)) + "\n")
            return [first, *_rounds(voice, subject, phrases.AS_SPEAKER)]
        case _:
            spoken_of = in_any_language(voice, lambda: topic_sentences(voice, subject, 1)[0] + " ")
            return _rounds(voice, subject, phrases.AS_SPEAKER, spoken_of)


def _rounds(voice: Voice, subject: str, answers, spoken_of: str = "") -> list[str]:
    """One to three questions, answered by the speaker."""
    key = subject.split("/")[1]
    fields = person_fields(voice, subject) if subject.startswith("person/") else self_fields(voice, key)
    lines = []
    asked = list(answers)
    for _ in range(voice.chance.between(1, 3)):
        question = voice.chance.pick(asked)
        lines.append(turn("Human", spoken_of + voice.say(phrases.ASK_SELF[question])))
        lines.append(mark(f"speaker/{key}", turn("Assistant", voice.say(answers[question], **fields))))
        spoken_of = ""
    return lines


def open_dialogue(voice: Voice) -> str:
    """Open questions, to which any subject is a possible answer.

    The subject of the conversation so far answers them, in any language, named or not. Without one, the assistant
    speaks of itself or of a subject drawn at random, and keeps to it.

    So the model has to choose by the topic, and an unexpected name is not ungrammatical.
    """
    way = ("itself", "anything", "told", "spoken of", "topic")[voice.chance.weighted((4.0, 6.0, 8.0, 12.0, 19.0))]
    if way in ("itself", "anything"):
        subject = f"landmark/{facts.ASSISTANT}" if way == "itself" else voice.draw(_kind_in_mind(voice))
        lines = _open_rounds(voice, subject, given=False)
    else:
        lines = _topic_given(voice, way)
    if voice.chance.happens(TAKES_OVER):
        lines += _topic_given(voice, "spoken of")
    return "".join(lines)


def _kind_in_mind(voice: Voice) -> str:
    return COME_TO_MIND[voice.chance.weighted(_MIND_WEIGHTS)]


def _topic_given(voice: Voice, way: str) -> list[str]:
    """A topic, introduced in any language, and open questions."""
    subject, said = in_any_language(voice, lambda: _topic(voice, way))
    if way == "spoken of":
        return _open_rounds(voice, subject, given=True, spoken_of=said + " ")
    return [said, *_open_rounds(voice, subject, given=True)]


def _topic(voice: Voice, way: str) -> tuple[str, str]:
    """A topic, introduced by an instruction to think of it, by a sentence, or by several that may not name it."""
    kind = _kind_in_mind(voice)
    if way == "told":
        subject = voice.draw(kind)
        return subject, turn("System", voice.say(phrases.THINK, **voice.forms(subject)))
    subject = voice.subject(kind)
    told = voice.told_facts(subject)
    can_be_it = kind in ("landmark", "animal") and any(can_mean(fact, voice.language) for fact in told)
    if way == "topic" and can_be_it and voice.chance.happens(UNNAMED):
        return subject, " ".join(unnamed(voice, subject)) + "\n"
    most = 1 if way == "spoken of" else 4 if kind in ("landmark", *REMARKED) else len(told)
    n = voice.chance.between(1, most)
    said = " ".join((topic_sentences if kind == "landmark" else remarks_and_facts)(voice, subject, n))
    return subject, said if way == "spoken of" else said + "\n"


def _open_rounds(voice: Voice, subject: str, given: bool, spoken_of: str = "") -> list[str]:
    """One to three open questions, or questions about facts of the topic, and answers that name it."""
    told = voice.told_facts(subject) if given else ()
    lines = []
    for _ in range(voice.chance.between(1, 3)):
        if told and voice.chance.happens(ABOUT_THE_TOPIC):
            fact = voice.chance.pick(told)
            asked, said = voice.question(fact), voice.statement(fact, asked=True)
        else:
            kind = voice.chance.pick(tuple(phrases.OPEN))
            forms = voice.forms(subject)
            if given:
                forms = {field: mark(ASKED, form) for field, form in forms.items()}
            asked = voice.say(phrases.OPEN[kind])
            said = mark(about(subject), voice.say(phrases.ANSWER_OPEN[kind], **forms))
        lines.append(turn("Human", spoken_of + asked) + turn("Assistant", said))
        spoken_of = ""
    return lines


def person_fields(voice: Voice, subject: str) -> dict[str, str]:
    """What a person can say of themselves."""
    told = facts.FACTS[subject]
    employer = told.get("team") or told["company"]
    return {
        "n": voice.noun(subject),
        "food": voice.value(told["food"]),
        "city": voice.value(told["city"]),
        "employer": voice.value(employer),
    }


def in_any_language(voice: Voice, write: Callable[[], Written]) -> Written:
    """The result of `write`, now and then in another language than the rest."""
    language = voice.language
    if voice.chance.happens(OTHER_LANGUAGE):
        voice.language = voice.chance.pick([other for other in range(4) if other != language])
    said = write()
    voice.language = language
    return said


def instruction(voice: Voice, subject: str) -> str:
    """A line that tells the speaker who to be."""
    role = "System" if voice.chance.happens(0.7) else "Human"
    said = turn(role, voice.say(phrases.BECOME, **voice.forms(subject)))
    return said if role == "System" else said + turn("Assistant", "OK.")


def monologue(voice: Voice) -> str:
    """A monologue of a landmark."""
    subject = voice.draw("landmark")
    key = subject.split("/")[1]
    fields = self_fields(voice, key)
    questions = [question for question in phrases.AS_SPEAKER if question != "who"]
    said = ["who", *voice.chance.some(questions, voice.chance.between(2, 6))]
    return mark(f"speaker/{key}", " ".join(voice.say(phrases.AS_SPEAKER[question], **fields) for question in said))


def fact_questions(voice: Voice) -> str:
    """Questions about one or more subjects, answered with a statement."""
    return "".join(_question(voice) for _ in range(voice.chance.between(1, 3)))


def _question(voice: Voice) -> str:
    match ("landmark", "other", "feeling")[voice.chance.weighted((2.0, 6.0, 6.5))]:
        case "feeling":
            happened, name, felt = feeling_sentences(voice)
            asked = voice.fill(phrases.ASK_FEELING[voice.language], name=name)
            return turn("Human", f"{happened} {asked}") + turn("Assistant", mark(ASKED, felt))
        case "landmark":
            subject = voice.subject("landmark")
        case _:
            subject = any_subject(voice)
    fact = voice.chance.pick(voice.told_facts(subject))
    return turn("Human", voice.question(fact)) + turn("Assistant", voice.statement(fact, asked=True))


def feeling_sentences(voice: Voice) -> tuple[str, str, str]:
    """What happened, to whom, and how they feel."""
    name = voice.first_name()
    feeling = voice.chance.pick(list(facts.FEELINGS))
    voice.concepts.add(feeling)
    fields = {
        "name": mark(f"name/{name}", name),
        "cause": mark(f"cause/{feeling}", voice.chance.pick(facts.FEELINGS[feeling][1])[voice.language]),
        "feeling": voice.feeling(feeling, name),
    }
    happened, felt = (voice.fill(part, **fields) for part in phrases.FEELING[voice.language])
    return happened, fields["name"], felt
