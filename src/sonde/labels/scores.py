"""Tests of labels: what a judge, told the label alone, can say of contexts that the label was not made from.

A question that the judge could not answer in the shape asked for counts as answered wrongly, and is counted beside.

Sources: detection, fuzzing, intruder, embedding: Paulo et al. 2024 (arXiv 2410.13928). Simulation: Bills et al. 2023, "Language models can
explain neurons in language models". Rubric: Templeton et al. 2024, "Scaling Monosemanticity", assessing interpretability. Sort: Lindsey et
al., "Interpretability evals for dictionary learning", August 2024 update.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonde.labels.evidence import Evidence, shown, strong_places
from sonde.labels.judges import Judge

AT_ONCE = 5
"""contexts in a question; more tell the judge about each other (Paulo et al., appendix)"""
SIMULATED, AROUND = 4, 12
"""examples that are simulated, as many quiet contexts, and the tokens shown on each side of the strongest"""
TRIALS = 5
GRADES = 4

Embed = Callable[[Sequence[str]], np.ndarray]
"""texts to vectors [text, width] of length one"""


@dataclass(frozen=True)
class Asked:
    """What a score is made from."""

    judge: Judge | None
    label: str
    evidence: Evidence
    other: Evidence | None
    """another feature's, for tests that compare two"""
    embed: Embed | None
    rng: np.random.Generator


@dataclass(frozen=True)
class Found:
    """A score: its value, and how it came about."""

    value: float | None
    """None where there is nothing to test on"""
    details: dict[str, Any]


@dataclass(frozen=True)
class Test:
    """One way to test labels."""

    run: Callable[[Asked], Found]
    chance: float
    """what guessing gives"""
    what: str
    needs_label: bool = True
    needs_judge: bool = True


def detection(asked: Asked) -> Found:
    """Which contexts hold the feature? Balanced accuracy; half of the others are near misses."""
    right = [(shown(example), True) for example in asked.evidence.tested]
    wrong = [*asked.evidence.near, *asked.evidence.quiet]
    n_near = min(len(asked.evidence.near), len(right) // 2)
    wrong = [*asked.evidence.near[:n_near], *asked.evidence.quiet][: len(right)]
    return _yes_or_no(
        asked,
        right + [(shown(example), False) for example in wrong],
        "Some of these contexts are ones in which the feature is active, and some are not.",
        "Which are?",
    )


def fuzzing(asked: Asked) -> Found:
    """Are the marked tokens those on which the feature fires? Balanced accuracy; half are marked at random."""
    items = []
    for number, example in enumerate(asked.evidence.tested):
        places = strong_places(example)
        if number % 2:
            others = [place for place, (text, _) in enumerate(example.pieces) if text.strip() and place not in places]
            if len(others) < len(places):
                continue
            places = asked.rng.choice(others, len(places), replace=False).tolist()
        items.append((shown(example, places), number % 2 == 0))
    return _yes_or_no(
        asked,
        items,
        "In each of these contexts some tokens are marked << >>. In some they are those on which the feature is active, in the others they were chosen at random.",
        "In which are the right ones marked?",
    )


def simulation(asked: Asked) -> Found:
    """How strongly does it fire on each token? Pearson's correlation over the tokens of all contexts together; 0 of a constant."""
    true, said, failed = [], [], 0
    examples = [*asked.evidence.tested[:SIMULATED], *asked.evidence.quiet[:SIMULATED]]
    for example in examples:
        pieces = example.pieces[max(0, example.peak - AROUND) : example.peak + AROUND + 1]
        tokens = "\n".join(f"{number}. {text!r}" for number, (text, _) in enumerate(pieces, 1))
        question = (
            f"A feature of a language model is described as: {asked.label}\n\nHow active is it on each of these tokens of a text, from 0 (not at all) to 10? "
            f'On most tokens a feature is 0.\n\n{tokens}\n\nAnswer with a JSON object: {{"activations": [a number for each of the {len(pieces)} tokens]}}'
        )

        def read(reply: Any, n: int = len(pieces)) -> list[float]:
            values = [float(value) for value in reply["activations"]]
            if len(values) != n or not np.isfinite(values).all():
                raise ValueError("not one number for each token")
            return values

        assert asked.judge is not None
        values = asked.judge.ask(question, read)
        failed += values is None
        true += [value for _, value in pieces]
        said += values or [0.0] * len(pieces)
    if len(true) == 0:
        return Found(None, {"questions": 0, "failed": 0})
    varies = np.std(true) > 0 and np.std(said) > 0
    value = float(np.corrcoef(true, said)[0, 1]) if varies else 0.0
    return Found(value, {"questions": len(examples), "failed": failed, "tokens": len(true)})


def intruder(asked: Asked) -> Found:
    """Which of four contexts does not belong? No label is told, so this tests the feature itself. Share of right answers."""
    tested, quiet = asked.evidence.tested, asked.evidence.quiet
    if len(tested) < 3 or not quiet:
        return Found(None, {"questions": 0, "failed": 0})
    right = failed = 0
    for trial in range(TRIALS):
        three = [tested[place] for place in asked.rng.choice(len(tested), 3, replace=False)]
        place = int(asked.rng.integers(4))
        four = three[:place] + [quiet[trial % len(quiet)]] + three[place:]
        question = (
            "Three of these four contexts share something that the fourth has not.\n\n"
            + _numbered([shown(example) for example in four])
            + '\n\nAnswer with a JSON object: {"odd": the number of the one that does not belong}'
        )
        answer = _ask_number(asked, question, "odd", 4)
        failed += answer is None
        right += answer == place + 1
    return Found(right / TRIALS, {"questions": TRIALS, "failed": failed})


def embedding(asked: Asked) -> Found:
    """How well the likeness of label and context tells contexts with the feature from others: area under the ROC curve."""
    right, wrong = asked.evidence.tested, asked.evidence.quiet
    if not right or not wrong or asked.embed is None:
        return Found(None, {"contexts": 0})
    vectors = asked.embed([asked.label, *(shown(example) for example in [*right, *wrong])])
    like = vectors[1:] @ vectors[0]
    pairs = like[: len(right), None] - like[None, len(right) :]
    return Found(float((pairs > 0).mean() + 0.5 * (pairs == 0).mean()), {"contexts": len(like)})


def rubric(asked: Asked) -> Found:
    """How well the label says what is marked, from 0 (not at all) to 3 (exactly): the mean grade."""
    tested = asked.evidence.tested
    items = [shown(example, strong_places(example)) for example in tested]
    most = max((example.value for example in tested), default=1.0)
    shares = [example.value / most for example in tested]
    random_marks = [
        shown(example, [int(asked.rng.integers(len(example.pieces)))]) for example in asked.evidence.quiet[: len(items)]
    ]
    grades, failed = _grades(asked, items)
    control, failed_control = _grades(asked, random_marks)
    if not grades:
        return Found(None, {"questions": 0, "failed": 0})
    by_interval = [[0] * GRADES for _ in range(4)]
    for share, grade in zip(shares, grades, strict=True):
        by_interval[min(3, int(share * 4))][grade] += 1
    details = {"histogram": by_interval, "random marks": float(np.mean(control)) if control else None}
    return Found(float(np.mean(grades)), {"questions": len(items), "failed": failed + failed_control} | details)


def sort(asked: Asked) -> Found:
    """Shown contexts of two features, to which does another belong? No label is told. Share of right answers."""
    if asked.other is None or min(len(asked.evidence.tested), len(asked.other.tested)) < 4:
        return Found(None, {"questions": 0, "failed": 0})
    right = failed = 0
    for _ in range(TRIALS):
        pair = [asked.evidence, asked.other]
        flip = int(asked.rng.integers(2))
        first, second = pair[::-1] if flip else pair
        of_first = int(asked.rng.integers(2)) == 0
        groups = [list(asked.rng.permutation(len(evidence.tested))) for evidence in (first, second)]
        said = [
            [shown(e.tested[place], strong_places(e.tested[place])) for place in group[:3]]
            for e, group in zip((first, second), groups, strict=True)
        ]
        chosen, group = (first, groups[0]) if of_first else (second, groups[1])
        held = chosen.tested[group[3]]
        question = (
            f"Contexts of feature 1:\n{_numbered(said[0])}\n\nContexts of feature 2:\n{_numbered(said[1])}\n\n"
            f"Another context, of one of the two:\n{shown(held, strong_places(held))}\n\n"
            'Answer with a JSON object: {"feature": 1 or 2}'
        )
        answer = _ask_number(asked, question, "feature", 2)
        failed += answer is None
        right += answer == (1 if of_first else 2)
    return Found(right / TRIALS, {"questions": TRIALS, "failed": failed})


TESTS = {
    "detection": Test(detection, 0.5, "which contexts it fires in, told the label: balanced accuracy"),
    "fuzzing": Test(fuzzing, 0.5, "whether the right tokens are marked, told the label: balanced accuracy"),
    "simulation": Test(simulation, 0.0, "how strongly it fires on each token, told the label: Pearson's r"),
    "rubric": Test(rubric, 0.0, "how well the label fits what is marked, 0 to 3"),
    "embedding": Test(embedding, 0.5, "likeness of label and context: area under the ROC curve", needs_judge=False),
    "intruder": Test(intruder, 0.25, "the context that does not belong, no label told", needs_label=False),
    "sort": Test(sort, 0.5, "to which of two features a context belongs, no label told", needs_label=False),
}


def _yes_or_no(asked: Asked, items: list[tuple[str, bool]], told: str, question: str) -> Found:
    """Ask about a few contexts at a time; balanced accuracy of all."""
    if not {True, False} <= {truth for _, truth in items}:
        return Found(None, {"questions": 0, "failed": 0})
    items = [items[place] for place in asked.rng.permutation(len(items))]
    hits: dict[bool, list[bool]] = {True: [], False: []}
    failed = n_questions = 0
    for first in range(0, len(items), AT_ONCE):
        some = items[first : first + AT_ONCE]
        text = (
            f"A feature of a language model is described as: {asked.label}\n\n{told}\n\n{_numbered([text for text, _ in some])}\n\n"
            f'{question} Answer with a JSON object: {{"numbers": [the numbers of those contexts, or nothing]}}'
        )

        def read(reply: Any, n: int = len(some)) -> set[int]:
            numbers = {int(number) for number in reply["numbers"]}
            if not numbers <= set(range(1, n + 1)):
                raise ValueError("a number that was not asked about")
            return numbers

        assert asked.judge is not None
        numbers = asked.judge.ask(text, read)
        n_questions += 1
        failed += numbers is None
        for number, (_, truth) in enumerate(some, 1):
            hits[truth].append(numbers is not None and (number in numbers) == truth)
    value = (float(np.mean(hits[True])) + float(np.mean(hits[False]))) / 2
    return Found(value, {"questions": n_questions, "failed": failed, "contexts": len(items)})


def _grades(asked: Asked, items: list[str]) -> tuple[list[int], int]:
    """A grade for each context, 0 where the judge gave none, and how many questions failed."""
    grades, failed = [], 0
    for first in range(0, len(items), AT_ONCE):
        some = items[first : first + AT_ONCE]
        question = (
            f"A feature of a language model is described as: {asked.label}\n\nIn these contexts the tokens on which it is active are marked << >>. How well does the description fit? "
            "0: it has nothing to do with the context. 1: with the context, but not with what is marked, or only vaguely. 2: loosely with what is marked, or with what stands beside it. "
            f"3: it says exactly what is marked.\n\n{_numbered(some)}\n\n"
            f'Answer with a JSON object: {{"grades": [a grade for each of the {len(some)} contexts]}}'
        )

        def read(reply: Any, n: int = len(some)) -> list[int]:
            found = [int(grade) for grade in reply["grades"]]
            if len(found) != n or not all(0 <= grade < GRADES for grade in found):
                raise ValueError("not one grade from 0 to 3 for each context")
            return found

        assert asked.judge is not None
        found = asked.judge.ask(question, read)
        failed += found is None
        grades += found or [0] * len(some)
    return grades, failed


def _ask_number(asked: Asked, question: str, name: str, most: int) -> int | None:
    def read(reply: Any) -> int:
        number = int(reply[name])
        if not 1 <= number <= most:
            raise ValueError("a number that was not asked about")
        return number

    assert asked.judge is not None
    return asked.judge.ask(question, read)


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
