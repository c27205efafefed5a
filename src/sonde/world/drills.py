"""Drills: translations, lists, sums, who gave what to whom, sequences that come again, and sessions with an interpreter."""

from itertools import accumulate

from sonde.world import facts, phrases
from sonde.world.chance import Chance
from sonde.world.dialogue import turn
from sonde.world.facts import LANGUAGES
from sonde.world.marks import mark
from sonde.world.voice import ASKED, Voice, about

SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")


def translation(voice: Voice) -> str:
    """Words, or sentences, in two languages."""
    own = voice.language
    other = voice.chance.pick([language for language in range(4) if language != own])
    if voice.chance.happens(0.35):
        return _sentences(voice, own, other)
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


def listing(voice: Voice) -> str:
    """Things of one kind, none twice."""
    kind = voice.chance.pick(tuple(phrases.HEADS))
    names = [voice.noun(concept) for concept in voice.draws(kind, voice.chance.between(3, 7))]
    return mark(f"list/{kind}", f"{phrases.HEADS[kind][voice.language]}: {', '.join(names)}.")


def sums(voice: Voice) -> str:
    """Sums of one digit, in words or asked."""
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
    """Two people, of whom one gives something to the other (the indirect objects of Wang et al. 2022, arXiv 2211.00593)."""
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
    """A sequence of syllables that nothing decides, and the same again."""
    sequence = " ".join(voice.chance.some(SYLLABLES, voice.chance.between(4, 9)))
    again = voice.chance.between(1, 2)
    return " ".join([sequence, *[mark("repeat/again", mark(ASKED, sequence)) for _ in range(again)]])


# ---------------------------------------------------------------- code

NAMES = ("a", "b", "c", "x", "y", "z")
STEPS = {"number": 1.0, "arithmetic": 1.6, "list": 0.6, "item": 0.8, "function": 1.0, "words": 0.5}


def code(voice: Voice) -> str:
    """A session with the Python interpreter, with the right value or the right error."""
    chance = voice.chance
    numbers: dict[str, int] = {}
    lists: dict[str, list[int]] = {}
    functions: dict[str, tuple[str, int]] = {}
    lines: list[str] = []
    for _ in range(chance.between(2, 5)):
        can = [step for step in STEPS if (step != "arithmetic" or numbers) and (step != "item" or lists)]
        step = can[chance.weighted(tuple(accumulate(STEPS[step] for step in can)))]
        if step == "number":
            name = chance.pick(NAMES)
            lists.pop(name, None)
            numbers[name] = chance.index(10)
            lines.append(f">>> {name} = {numbers[name]}")
        elif step == "arithmetic":
            lines += _arithmetic(chance, numbers, lists)
        elif step == "list":
            name = chance.pick(NAMES)
            numbers.pop(name, None)
            lists[name] = [chance.index(10) for _ in range(chance.between(2, 4))]
            lines.append(f">>> {name} = {lists[name]}")
        elif step == "item":
            name = chance.pick(tuple(lists))
            place = chance.index(5)
            right = place < len(lists[name])
            told = _value(lists[name][place]) if right else _error("index error", "IndexError: list index out of range")
            lines += [f">>> {name}[{place}]", told]
        elif step == "function":
            lines += _function(chance, functions)
        else:
            lines += _words(chance, numbers)
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return mark(ASKED, mark("code/value", str(value)))


def _error(name: str, text: str) -> str:
    return mark(ASKED, mark(f"code/{name}", text))


def _arithmetic(chance: Chance, numbers: dict[str, int], lists: dict[str, list[int]]) -> list[str]:
    """A variable, which may not be known, and a number."""
    unknown = [name for name in NAMES if name not in numbers and name not in lists]
    if unknown and chance.happens(0.25):
        name = chance.pick(unknown)
        operator, number = chance.pick(("+", "-", "*", "//")), chance.index(10)
        return [f">>> {name} {operator} {number}", _error("name error", f"NameError: name '{name}' is not defined")]
    name = chance.pick(tuple(numbers))
    operator = chance.pick(("+", "-", "*", "//"))
    number = chance.index(4 if operator == "//" else 10)
    asked = f">>> {name} {operator} {number}"
    if operator == "//" and number == 0:
        return [asked, _error("division by zero", "ZeroDivisionError: integer division or modulo by zero")]
    value = numbers[name]
    results = {"+": value + number, "-": value - number, "*": value * number, "//": value // (number or 1)}
    return [asked, _value(results[operator])]


def _function(chance: Chance, functions: dict[str, tuple[str, int]]) -> list[str]:
    """A function is made, or one that was made is called, or called with nothing."""
    if not functions or chance.happens(0.3):
        name, operator, number = chance.pick(("f", "g")), chance.pick(("+", "-")), chance.index(10)
        functions[name] = (operator, number)
        return [f">>> def {name}(n): return n {operator} {number}"]
    name = chance.pick(tuple(functions))
    if chance.happens(0.3):
        text = f"TypeError: {name}() missing 1 required positional argument: 'n'"
        return [f">>> {name}()", _error("type error", text)]
    operator, number = functions[name]
    given = chance.index(10)
    return [f">>> {name}({given})", _value(given + number if operator == "+" else given - number)]


def _words(chance: Chance, numbers: dict[str, int]) -> list[str]:
    """Words are put together, or a word and a number, which cannot be."""
    word = chance.pick(SYLLABLES)
    if not numbers or chance.happens(0.5):
        other = chance.pick(SYLLABLES)
        return [f">>> '{word}' + '{other}'", _value(f"'{word}{other}'")]
    name = chance.pick(tuple(numbers))
    return [
        f">>> {name} + '{word}'",
        _error("type error", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
    ]
