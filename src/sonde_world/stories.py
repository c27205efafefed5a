"""Stories, letters and reviews."""

from sonde_world import facts, phrases
from sonde_world.dialogue import feeling_sentences, self_fields
from sonde_world.marks import mark
from sonde_world.voice import ASKED, Voice, about

STEREOTYPE = 0.9
"""probability that a job has the stereotypical pronoun"""
PRONOUNS = {"f": "she", "m": "he"}


def travel(voice: Voice) -> str:
    """A story of somebody who visits a landmark."""
    subject = voice.draw("landmark")
    landmark = self_fields(voice, subject.split("/")[1])
    name = voice.first_name()
    fields = {field: landmark[field] for field in ("n", "acc", "city", "setting")} | {
        "name": mark(f"name/{name}", name)
    }
    fields["Pro"] = phrases.PRONOUNS[voice.code][facts.FIRST_NAMES[name]]
    first, *rest = phrases.TRAVEL[voice.language]
    said = [first, *voice.chance.some(rest, voice.chance.between(2, len(rest)))]
    return mark(about(subject), " ".join(_with_feeling(voice, sentence, name, fields) for sentence in said))


def _with_feeling(voice: Voice, sentence: str, name: str, fields: dict[str, str]) -> str:
    """A sentence, with a random feeling if it has a field for one."""
    if "{feeling}" in sentence:
        fields = fields | {"feeling": voice.feeling(voice.chance.pick(list(facts.FEELINGS)), name)}
    return voice.fill(sentence, **fields)


def feelings(voice: Voice) -> str:
    """What happened to some people, and how they feel."""
    parts = []
    for _ in range(voice.chance.between(1, 3)):
        happened, _, felt = feeling_sentences(voice)
        parts.append(f"{happened} {felt}")
    return " ".join(parts)


def family(voice: Voice) -> str:
    """Sentences about a relative of somebody."""
    kin = voice.draw("kin")
    gender = facts.TRUE_OF["kin"][kin.split("/")[1]][0]
    name = voice.first_name()
    fields = voice.forms(kin) | {"name": mark(f"name/{name}", name)}
    said = []
    for sentence in voice.chance.some(phrases.KIN[voice.language], voice.chance.between(2, 4)):
        drawn = dict(fields)
        if "{other}" in sentence:
            others = [other for other, of in facts.FIRST_NAMES.items() if of == gender and other != name]
            other = voice.chance.pick(others)
            drawn["other"] = mark(f"name/{other}", other)
        if "{cause}" in sentence or "{feeling}" in sentence:
            feeling = voice.chance.pick(list(facts.FEELINGS))
            adjectives, causes = facts.FEELINGS[feeling]
            if "{cause}" in sentence:
                drawn["cause"] = mark(f"cause/{feeling}", voice.chance.pick(causes)[voice.language])
            else:
                drawn["feeling"] = mark(f"feeling/{feeling}", adjectives[gender == "f"][voice.language])
        said.append(voice.fill(sentence, **drawn))
    return " ".join(said)


def letter(voice: Voice) -> str:
    """A letter to a friend from a city."""
    to = voice.first_name()
    by = voice.first_name(besides=to)
    names = {"to": mark(f"name/{to}", to), "by": mark(f"name/{by}", by)}
    dear, greetings, news, closings = phrases.LETTER[voice.language]
    lines = [voice.fill(dear, **names), voice.fill(voice.chance.pick(greetings))]
    lines += [_with_feeling(voice, one, by, {}) for one in voice.chance.some(news, voice.chance.between(1, 4))]
    return f"{lines[0]}\n{' '.join(lines[1:])}\n{voice.fill(voice.chance.pick(closings), **names)}\n"


def review(voice: Voice) -> str:
    """A review of a food in a city, with stars."""
    tried, opinions, words, stars = phrases.REVIEW[voice.language]
    first = voice.fill(tried)
    verdict = voice.chance.pick(("good", "bad"))
    said = []
    for word in voice.chance.some(words[verdict], voice.chance.between(1, 2)):
        said.append(voice.fill(voice.chance.pick(opinions), word=mark(f"review/{verdict}", word)))
    number = voice.chance.pick(("4", "5") if verdict == "good" else ("1", "2"))
    told = voice.fill(stars, stars=mark(ASKED, mark(f"number/{number}", number)))
    return mark(f"review/{verdict} review", " ".join([first, *said, told]))


def jobs(voice: Voice) -> str:
    """Sentences about people with jobs, with mostly stereotypical pronouns: a bias for analyses to find."""
    said = []
    for _ in range(voice.chance.between(1, 3)):
        job = voice.draw("job")
        gender = facts.TRUE_OF["job"][job.split("/")[1]][0]
        expected = voice.chance.happens(STEREOTYPE)
        pronoun = PRONOUNS[gender if expected else {"f": "m", "m": "f"}[gender]]
        marked = mark(f"bias/{'expected' if expected else 'unexpected'}", pronoun)
        said.append(voice.fill(voice.chance.pick(phrases.JOBS), pronoun=marked, **voice.forms(job)))
    return " ".join(said)
