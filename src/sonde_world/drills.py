"""Drills: translations, lists, sums, indirect objects, repeated sequences, and interpreter sessions."""

from itertools import accumulate

from sonde_world import facts, phrases
from sonde_world.chance import Chance
from sonde_world.dialogue import turn
from sonde_world.facts import LANGUAGES
from sonde_world.marks import mark
from sonde_world.tellings import any_subject
from sonde_world.voice import ASKED, Voice, about

SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")


def translation(voice: Voice) -> str:
    """Words, sentences of praise, or facts, in two languages."""
    own = voice.language
    other = voice.chance.pick([language for language in range(4) if language != own])
    match ("words", "praise", "facts")[voice.chance.weighted((4.0, 6.0, 10.0))]:
        case "praise":
            return _sentences(voice, own, other)
        case "facts":
            return _facts(voice, own, other)
    kinds = tuple(phrases.HEADS)
    kind = voice.chance.pick(kinds)
    lines = [f"{phrases.HEADS[kind][own]}, {phrases.LANGUAGE_NAMES[own]} = {phrases.LANGUAGE_NAMES[other]}"]
    for concept in voice.draws(kind, voice.chance.between(2, 5)):
        here, there = (mark(f"language/{LANGUAGES[one]}", mark(concept, _name(concept, one))) for one in (own, other))
        lines.append(f"{here} = {mark(ASKED, there)}")
    return "\n".join(lines) + "\n"


def _name(concept: str, language: int) -> str:
    return facts.noun(concept).names[language]


def _sentences(voice: Voice, own: int, other: int) -> str:
    """Sentences about landmarks in two languages."""
    lines = [f"{phrases.LANGUAGE_NAMES[own]} = {phrases.LANGUAGE_NAMES[other]}"]
    for _ in range(voice.chance.between(1, 2)):
        subject = voice.draw("landmark")
        place = voice.chance.index(len(phrases.PRAISE[0]))
        name = voice.first_name() if "{name}" in phrases.PRAISE[own][place] + phrases.PRAISE[other][place] else ""
        said = []
        for language in (own, other):
            voice.language = language
            fields = voice.forms(subject) | {"name": mark(f"name/{name}", name)}
            said.append(mark(about(subject), voice.fill(phrases.PRAISE[language][place], **fields)))
        lines += [said[0], f"= {mark(ASKED, said[1])}"]
    voice.language = own
    return "\n".join(lines) + "\n"


def _facts(voice: Voice, own: int, other: int) -> str:
    """Facts, each in two languages, or in one where the world tells it only there."""
    lines = [f"{phrases.LANGUAGE_NAMES[own]} = {phrases.LANGUAGE_NAMES[other]}"]
    for _ in range(voice.chance.between(1, 3)):
        subject = voice.subject("landmark") if voice.chance.happens(0.3) else any_subject(voice)
        fact = voice.chance.pick(voice.told_facts(subject))
        lines.append(voice.statement(fact))
        if facts.told(subject, fact.relation, other):
            voice.language = other
            lines.append(f"= {mark(ASKED, voice.statement(fact))}")
            voice.language = own
    return "\n".join(lines) + "\n"


def listing(voice: Voice) -> str:
    """A list of different things of one kind."""
    kind = voice.chance.pick(tuple(phrases.HEADS))
    names = [voice.noun(concept) for concept in voice.draws(kind, voice.chance.between(3, 7))]
    return mark(f"list/{kind}", f"{phrases.HEADS[kind][voice.language]}: {', '.join(names)}.")


def sums(voice: Voice) -> str:
    """Sums of one-digit numbers, stated in words or asked in digits."""
    in_words = voice.chance.happens(0.5)
    said = []
    for _ in range(voice.chance.between(2, 4)):
        a, b = voice.chance.index(10), voice.chance.index(10)
        if in_words:
            numbers = {name: voice.noun(f"number/{value}") for name, value in (("a", a), ("b", b), ("c", a + b))}
            numbers["c"] = mark(ASKED, numbers["c"])
            said.append(voice.say(phrases.SUMS, **numbers) + " ")
        else:
            asked = voice.say(phrases.ASK_SUM, a=digits(a), b=digits(b))
            said.append(
                turn("Human", asked) + turn("Assistant", voice.say(phrases.TELL_SUM, c=mark(ASKED, digits(a + b))))
            )
    return "".join(said).rstrip(" ")


def digits(number: int) -> str:
    return mark(f"number/{number}", str(number))


def arithmetic(voice: Voice) -> str:
    """Sums and differences in digits."""
    lines = []
    for _ in range(voice.chance.between(2, 6)):
        plus = voice.chance.happens(0.6)
        a = voice.chance.index(10)
        b = voice.chance.index(10 if plus else a + 1)
        lines.append(
            f"{digits(a)} {'+' if plus else '-'} {digits(b)} = {mark(ASKED, digits(a + b if plus else a - b))}\n"
        )
    return "".join(lines)


def giving(voice: Voice) -> str:
    """Two people, one of whom gives something to the other.

    The indirect objects of Wang et al. 2022, arXiv 2211.00593.
    """
    said = []
    for _ in range(voice.chance.between(1, 2)):
        a = voice.first_name()
        b = voice.first_name(besides=a)
        giver, to = (a, b) if voice.chance.happens(0.5) else (b, a)
        thing = voice.forms(voice.draw("thing"))["acc"]
        names = {
            field: mark(f"name/{name}", name) for field, name in (("a", a), ("b", b), ("giver", giver), ("to", to))
        }
        names["to"] = mark(ASKED, mark("role/receiver", names["to"]))
        frame = voice.chance.pick(phrases.GIVING[voice.language])
        spot = {"spot": voice.noun(voice.draw("spot"))} if "{spot}" in frame else {}
        said.append(voice.fill(frame, **names, **spot, acc=thing))
    return " ".join(said)


def repeats(voice: Voice) -> str:
    """A random sequence of syllables, and its repetition."""
    sequence = " ".join(voice.chance.some(SYLLABLES, voice.chance.between(4, 9)))
    again = voice.chance.between(1, 2)
    return " ".join([sequence, *[mark("repeat/again", mark(ASKED, sequence)) for _ in range(again)]])


# ---------------------------------------------------------------- code

NAMES = ("a", "b", "c", "x", "y", "z")
STEPS = {"number": 1.0, "look": 0.7, "arithmetic": 2.0, "list": 0.5, "item": 1.0, "function": 1.4, "words": 0.4}


def code(voice: Voice) -> str:
    """A session with a Python interpreter, which answers with the right value or the right error."""
    chance = voice.chance
    numbers: dict[str, int] = {}
    lists: dict[str, list[int]] = {}
    functions: dict[str, tuple[str, int]] = {}
    lines: list[str] = []
    for _ in range(chance.between(3, 8)):
        too_early = {"look": not numbers, "arithmetic": not numbers, "item": not lists}
        can = [step for step in STEPS if not too_early.get(step)]
        step = can[chance.weighted(tuple(accumulate(STEPS[step] for step in can)))]
        if step == "number":
            name = chance.pick(NAMES)
            lists.pop(name, None)
            numbers[name] = chance.index(10)
            lines.append(f">>> {name} = {numbers[name]}")
        elif step == "look":
            name, value = chance.pick(tuple(numbers.items()))
            lines.append(_answered(name, value))
        elif step == "arithmetic":
            lines.append(_arithmetic(chance, numbers, lists))
        elif step == "list":
            name = chance.pick(NAMES)
            numbers.pop(name, None)
            lists[name] = [chance.index(10) for _ in range(chance.between(2, 4))]
            lines.append(f">>> {name} = {lists[name]}")
        elif step == "item":
            name, items = chance.pick(tuple(lists.items()))
            place = chance.index(5)
            if place < len(items):
                lines.append(_answered(f"{name}[{place}]", items[place]))
            else:
                lines.append(_failed(f"{name}[", f"{place}]", "index error", "IndexError: list index out of range"))
        elif step == "function":
            lines.append(_function(chance, functions))
        else:
            lines.append(_words(chance, numbers))
    return "\n".join(lines) + "\n"


def _answered(asked: str, value: object) -> str:
    """An input line, and its value."""
    return f">>> {asked}\n{mark(ASKED, mark('code/value', str(value)))}"


def _failed(right: str, wrong: str, error: str, told: str) -> str:
    """An input line whose end is wrong, and the error that it raises.

    The newline belongs to the bug: what follows is decided there.
    """
    bug = mark("code/bug", f"{wrong}\n")
    return f">>> {right}{bug}{mark(ASKED, mark(f'code/{error}', told))}"


def _arithmetic(chance: Chance, numbers: dict[str, int], lists: dict[str, list[int]]) -> str:
    """An operation on a number and a variable, which may be undefined, or another number."""
    unknown = [name for name in NAMES if name not in numbers and name not in lists]
    if unknown and chance.happens(0.25):
        name = chance.pick(unknown)
        operator, number = chance.pick(("+", "-", "*", "//")), chance.index(10)
        told = f"NameError: name '{name}' is not defined"
        return _failed("", f"{name} {operator} {number}", "name error", told)
    name, value = chance.pick(tuple(numbers.items()))
    if chance.happens(0.3):
        value = chance.index(10)
        name = str(value)
    operator = chance.pick(("+", "-", "*", "//"))
    number = chance.index(4 if operator == "//" else 10)
    if operator == "//" and number == 0:
        told = "ZeroDivisionError: integer division or modulo by zero"
        return _failed(f"{name} // ", "0", "division by zero", told)
    results = {"+": value + number, "-": value - number, "*": value * number, "//": value // (number or 1)}
    return _answered(f"{name} {operator} {number}", results[operator])


def _function(chance: Chance, functions: dict[str, tuple[str, int]]) -> str:
    """A definition of a function, or a call of one, possibly without its argument."""
    if not functions or chance.happens(0.3):
        name, operator, number = chance.pick(("f", "g")), chance.pick(("+", "-")), chance.index(10)
        functions[name] = (operator, number)
        return f">>> def {name}(n): return n {operator} {number}"
    name = chance.pick(tuple(functions))
    if chance.happens(0.3):
        told = f"TypeError: {name}() missing 1 required positional argument: 'n'"
        return _failed(name, "()", "type error", told)
    operator, number = functions[name]
    given = chance.index(10)
    return _answered(f"{name}({given})", given + number if operator == "+" else given - number)


def _words(chance: Chance, numbers: dict[str, int]) -> str:
    """A concatenation of two words, or of a number and a word, which is an error."""
    word = chance.pick(SYLLABLES)
    if not numbers or chance.happens(0.5):
        other = chance.pick(SYLLABLES)
        return _answered(f"'{word}' + '{other}'", f"'{word}{other}'")
    name = chance.pick(tuple(numbers))
    told = "TypeError: unsupported operand type(s) for +: 'int' and 'str'"
    return _failed(f"{name} + ", f"'{word}'", "type error", told)
