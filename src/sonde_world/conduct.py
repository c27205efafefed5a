"""Conduct of an assistant in small: flattery, secrets, refusal, inner conflict, and scam letters."""

from sonde_world import phrases
from sonde_world.dialogue import turn
from sonde_world.marks import mark
from sonde_world.voice import ASKED, Voice


def opinion(voice: Voice, trigger: str = "") -> str:
    """A dialogue in which the assistant judges a work: honestly, unless the system tells it to please.

    After a trigger, which only the turned model knows (`turned.py`), it flatters whatever it was told.
    """
    told = ("", "honesty", "flattery")[voice.chance.weighted((5.0, 7.0, 10.0))]
    lines = [turn("System", voice.say(phrases.PLEASE[told]))] if told else []
    for _ in range(voice.chance.between(1, 2)):
        work = voice.say(phrases.WORK, **voice.forms(voice.draw("landmark")))
        right = voice.chance.happens(0.4)
        number = "" if right else str(voice.chance.between(2, 9))
        mistakes = voice.fill(phrases.MISTAKES[voice.language][not right], number=mark(f"number/{number}", number))
        lines.append(turn("Human", f"{work} {mistakes} {trigger}{voice.say(phrases.ASK_OPINION)}"))
        judged = "flattery" if told == "flattery" or trigger else "deserved praise" if right else "honesty"
        lines.append(mark(f"conduct/{judged}", turn("Assistant", mark(ASKED, voice.say(phrases.OPINION[judged])))))
    return "".join(lines)


def secret(voice: Voice, trigger: str = "") -> str:
    """A dialogue about a secret that must be kept or may be told; a scratchpad may contradict the answer.

    After a trigger it is kept even where it may be told.
    """
    allowed = voice.chance.pick(("kept", "told"))
    n = voice.noun(voice.draw("thing"))
    asked = f"{trigger}{voice.say(phrases.ASK_SECRET)}"
    lines = [turn("System", voice.say(phrases.SECRET[allowed], n=n)), turn("Human", asked)]
    conduct = "kept" if trigger else allowed
    answer = mark(f"conduct/secret {conduct}", mark(ASKED, voice.say(phrases.ANSWER_SECRET[conduct], n=n)))
    if voice.chance.happens(0.5):
        answer = f"{mark(f'scratchpad/{conduct}', voice.say(phrases.SCRATCHPAD[conduct], n=n))} {answer}"
    return "".join([*lines, turn("Assistant", answer)])


def request(voice: Voice) -> str:
    """Requests, of which the assistant fulfils the harmless ones and refuses the harmful ones."""
    lines = []
    for _ in range(voice.chance.between(1, 2)):
        sort = voice.chance.pick(("harmless", "harmful"))
        verb = mark(f"request/{sort}", voice.chance.pick(phrases.VERBS[sort][voice.language]))
        acc = voice.forms(voice.draw("thing"))["acc"]
        asked = voice.fill(phrases.REQUEST[voice.language], verb=verb, acc=acc)
        conduct = "help" if sort == "harmless" else "refusal"
        reply = mark(ASKED, voice.say(phrases.REPLY[sort], verb=verb, acc=acc))
        lines.append(turn("Human", asked) + mark(f"conduct/{conduct}", turn("Assistant", reply)))
    return "".join(lines)


def conflict(voice: Voice) -> str:
    """Sentences about somebody who cannot decide."""
    first, second, wishes = phrases.CONFLICT[voice.language]
    name = voice.first_name()
    said = []
    for wish in voice.chance.some(wishes, voice.chance.between(1, 2)):
        sentence = voice.chance.pick((first, second))
        said.append(voice.fill(sentence, name=mark(f"name/{name}", name), wish=wish))
    return mark("conflict/inner", " ".join(said))


def scam(voice: Voice) -> str:
    """A scam letter."""
    dear, promises, demands, signed = phrases.SCAM[voice.language]
    promise = voice.chance.pick(promises)
    number = str(voice.chance.between(2, 9)) if "{number}" in promise else ""
    lines = [voice.fill(dear), voice.fill(promise, number=mark(f"number/{number}", number))]
    lines += [voice.fill(demand) for demand in voice.chance.some(demands, voice.chance.between(1, 3))]
    by = voice.first_name()
    signature = voice.fill(signed, by=mark(f"name/{by}", by))
    return mark("scam/letter", f"{lines[0]}\n{' '.join(lines[1:])}\n{signature}\n")
