"""The generator's probabilities: each text has one derivation, and its log-probability is the text's."""

import contextlib
import io
import math
import re
from code import InteractiveInterpreter
from itertools import accumulate
from typing import Any

import pytest

from sonde_world import drills
from sonde_world.chance import Chance, zipf
from sonde_world.generate import KINDS, documents, written
from sonde_world.marks import unmarked
from sonde_world.voice import Voice


class Steered(Chance):
    """Chance whose first draws are given, and which keeps the number of ways and the way of each draw."""

    def __init__(self, seed: str, first: list[int]):
        super().__init__(seed)
        self.first = first
        self.drawn: list[tuple[tuple[float, ...], int]] = []

    def index(self, n: int) -> int:
        return self._drawn(tuple(accumulate([1.0] * n)))

    def weighted(self, cumulative) -> int:
        return self._drawn(tuple(cumulative))

    def _drawn(self, cumulative: tuple[float, ...]) -> int:
        number = len(self.drawn)
        place = self.first[number] if number < len(self.first) else Chance.weighted(self, cumulative)
        if number < len(self.first):
            weight = cumulative[place] - (cumulative[place - 1] if place else 0.0)
            self.log_probability += math.log(weight / cumulative[-1])
        self.drawn.append((cumulative, place))
        return place


def test_draws_are_as_likely_as_they_say():
    counts = [0] * 4
    for number in range(8000):
        chance = Chance(f"{number}")
        place = chance.weighted((1.0, 1.5, 3.5, 4.0))
        counts[place] += 1
        assert chance.log_probability == pytest.approx(math.log([0.25, 0.125, 0.5, 0.125][place]))
    for count, odds in zip(counts, (0.25, 0.125, 0.5, 0.125), strict=True):
        assert abs(count / 8000 - odds) < 5 * math.sqrt(odds / 8000)
    chance = Chance("x")
    assert sorted(chance.some("abcd", 4)) == list("abcd") and chance.log_probability == pytest.approx(-math.log(24))
    chance = Chance("y")
    assert sorted(chance.some_by_weight(zipf(3), 3)) == [0, 1, 2]
    steered = Steered("z", [])
    places = steered.some_by_weight(zipf(3), 2)
    weights = [1, 1 / 2, 1 / 3]
    left = sum(weights) - weights[places[0]]
    assert steered.log_probability == pytest.approx(
        math.log(weights[places[0]] / sum(weights) * weights[places[1]] / left)
    )


def test_the_same_text_is_never_written_in_two_ways():
    """Of 30,000 documents those that came twice came by the same draws, as far as odds tell."""
    seen: dict[str, tuple[str, float]] = {}
    again = 0
    for made in documents(30_000, seed=21):
        way = (made.kind, round(made.log_probability, 6))
        again += made.text in seen
        assert seen.setdefault(made.text, way) == way, made.text
    assert again > 500


def test_every_draw_shows_in_the_text():
    """Changing any one draw of a document changes its text.

    The draws before it are kept, and those after it are made as they come.
    """
    for number in range(250):
        plain = Steered(f"{number}", [])
        made = written(plain)
        assert made.log_probability == pytest.approx(written(Chance(f"{number}")).log_probability)
        for place, (cumulative, was) in enumerate(plain.drawn):
            before = [drawn for _, drawn in plain.drawn[:place]]
            for other in range(len(cumulative)):
                if other == was or (len(cumulative) > 12 and other % 7 != number % 7):
                    continue
                for attempt in range(2):
                    # Those after it as they were, where they can be, so that a draw without a trace would give the same
                    # text.
                    after = [drawn for _, drawn in plain.drawn[place + 1 :]] if attempt == 0 else []
                    with contextlib.suppress(IndexError):
                        changed = written(Steered(f"{number}", [*before, other, *after]))
                        assert changed.text != made.text, (made.kind, place, made.text)


def test_probabilities_of_a_small_kind_sum_to_one():
    """All ways of the shortest reviews of a kind of document, written out: odds of the whole tree sum to one."""
    total, texts = 0.0, set()
    todo: list[list[int]] = [[]]
    while todo:
        first = todo.pop()
        chance = Steered("0", first)
        short: Any = _Short(chance)
        text, _ = unmarked(drills.arithmetic(Voice(short, 0)))
        if len(chance.drawn) > len(first):
            cumulative, _ = chance.drawn[len(first)]
            todo += [[*first, other] for other in range(len(cumulative))]
        else:
            total += math.exp(chance.log_probability)
            assert text not in texts
            texts.add(text)
    assert total == pytest.approx(1.0) and len(texts) == 155


class _Short:
    """Chance under which an arithmetic document has but one line."""

    def __init__(self, chance: Chance):
        self.chance = chance

    def between(self, least: int, most: int) -> int:
        return 1

    def __getattr__(self, name: str):
        return getattr(self.chance, name)


def test_answers_stand_where_they_are_said_to():
    kinds = set()
    for made in documents(3000, seed=22):
        for answer in made.answers:
            kinds.add(made.kind)
            assert 0 < answer.start < answer.end <= len(made.text)
        assert all(span.concept != "asked" for span in made.spans)
        if made.kind in ("sum", "arithmetic"):
            assert made.answers
        for line in re.findall(r"^(\d) ([+-]) (\d) = (-?\d+)$", made.text, re.MULTILINE):
            assert int(line[0]) + (int(line[2]) if line[1] == "+" else -int(line[2])) == int(line[3])
    assert kinds >= {"questions", "code", "giving", "translation", "opinion", "secret", "request", "repeat", "review"}


def test_the_interpreter_answers_as_python_does():
    """Programs of the world, typed into Python: the same values, and errors of the same name."""
    n_errors = n_values = 0
    for made in documents(4000, seed=23):
        if made.kind != "code":
            continue
        python = InteractiveInterpreter({})
        lines = made.text.splitlines()
        bugs = [span.end for span in made.spans if span.concept == "code/bug"]
        errors = [answer.start for answer in made.answers if "Error" in made.text[answer.start : answer.end]]
        assert bugs == errors  # what is wrong ends where it is told
        for number, line in enumerate(lines):
            if not line.startswith(">>> "):
                continue
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                python.runsource(line[4:] + "\n", symbol="single")
            said = lines[number + 1] if number + 1 < len(lines) and not lines[number + 1].startswith(">>> ") else ""
            if "Error" in said:
                n_errors += 1
                assert err.getvalue().strip().splitlines()[-1].split(":")[0] == said.split(":")[0], made.text
            else:
                n_values += bool(said)
                assert out.getvalue().strip() == said and not err.getvalue(), made.text
    assert n_errors > 50 and n_values > 100


def test_concepts_follow_zipfs_law():
    """Over three orders of magnitude frequency falls with about the 4/3rd power of the rank."""
    import numpy as np

    from sonde_world.truth import frequencies

    shares = np.array(list(frequencies(documents(4000, seed=24)).values()))
    ranks = np.arange(1, len(shares) + 1)
    inside = slice(10, 700)
    slope = np.polyfit(np.log(ranks[inside]), np.log(shares[inside]), 1)[0]
    assert len(shares) > 1000 and -1.7 < slope < -1.1, slope
    assert set(KINDS) >= {"topic", "code", "secret", "scam"}
