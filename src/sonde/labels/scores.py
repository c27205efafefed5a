"""Scores of labels: what a judge who is told only the label can say about contexts that it was not made from.

A question that the judge does not answer in the requested form counts as answered wrongly, and as failed.

Sources: detection, fuzzing, intruder, embedding: Paulo et al. 2024 (arXiv 2410.13928). Simulation: Bills et al. 2023,
"Language models can explain neurons in language models". Rubric: Templeton et al. 2024, "Scaling Monosemanticity",
assessing interpretability. Sort: Lindsey et al., "Interpretability evals for dictionary learning", August 2024 update.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sonde.analysis.auc import auc
from sonde.features.examples import Example
from sonde.labels.evidence import Evidence, shown, strong_places
from sonde.labels.judges import Judge

AT_ONCE = 5
"""contexts in a question; more tell the judge about each other (Paulo et al., appendix)"""
SIMULATED, AROUND = 4, 12
"""examples that are simulated, as many silent contexts, and the tokens shown on each side of the strongest"""
TRIALS = 5
GRADES = 4

Answer = TypeVar("Answer")
Embed = Callable[[Sequence[str]], np.ndarray]
"""texts to vectors [text, width] of length one"""


@dataclass(frozen=True)
class Trial:
    """A label to be scored, and what it is scored with."""

    judge: Judge | None
    label: str
    evidence: Evidence
    other: Evidence | None
    """another feature's, for scores that compare two"""
    embed: Embed | None
    rng: np.random.Generator

    @property
    def silent(self) -> tuple[Example, ...]:
        return self.evidence.silent

    @property
    def tested(self) -> tuple[Example, ...]:
        return self.evidence.tested

    def ask(self, question: str, read: Callable[[Any], Answer]) -> Answer | None:
        """The judge's answer as `read` makes it from JSON; None where it cannot be read."""
        assert self.judge is not None, "this score needs a judge"
        return self.judge.ask(question, read)

    def ask_number(self, question: str, name: str, largest: int) -> int | None:
        """The judge's answer to a question with a number from 1."""

        def read(reply: Any) -> int:
            number = int(reply[name])
            if not 1 <= number <= largest:
                raise ValueError("a number that was not asked about")
            return number

        return self.ask(question, read)


@dataclass(frozen=True)
class Result:
    """The value of a score, and how it came about."""

    value: float | None
    """None where there is nothing to test on"""
    details: dict[str, Any]


NOTHING = Result(None, {"questions": 0, "failed": 0})


def detection(trial: Trial) -> Result:
    """Which contexts hold the feature? Balanced accuracy; of those that do not, up to half are near misses."""
    near = trial.evidence.near[: len(trial.tested) // 2]
    without = [*near, *trial.silent][: len(trial.tested)]
    return _balanced_accuracy(
        trial,
        [(shown(example), True) for example in trial.tested] + [(shown(example), False) for example in without],
        "Some of these contexts are ones in which the feature is active, and some are not.",
        "Which are?",
    )


def fuzzing(trial: Trial) -> Result:
    """Are the marked tokens those on which it fires? Balanced accuracy; in half of the contexts others are marked."""
    items = []
    for number, example in enumerate(trial.tested):
        places = strong_places(example)
        if number % 2:
            others = [place for place, (text, _) in enumerate(example.pieces) if text.strip() and place not in places]
            if len(others) < len(places):
                continue
            places = trial.rng.choice(others, len(places), replace=False).tolist()
        items.append((shown(example, places), number % 2 == 0))
    return _balanced_accuracy(
        trial,
        items,
        "In each of these contexts some tokens are marked << >>. In some they are those on which the feature is "
        "active, in the others they were chosen at random.",
        "In which are the right ones marked?",
    )


def _balanced_accuracy(trial: Trial, items: list[tuple[str, bool]], task: str, question: str) -> Result:
    """Ask which of some (context, truth) are true, a few at a time; the mean share of right answers over both kinds."""
    if not {True, False} <= {truth for _, truth in items}:
        return NOTHING
    items = [items[place] for place in trial.rng.permutation(len(items))]
    right: dict[bool, list[bool]] = {True: [], False: []}
    chunks = _chunks(items)
    failed = 0
    for some in chunks:
        text = (
            f"A feature of a language model is described as: {trial.label}\n\n{task}\n\n"
            f"{_numbered([context for context, _ in some])}\n\n"
            f'{question} Answer with a JSON object: {{"numbers": [the numbers of those contexts, or nothing]}}'
        )

        def read(reply: Any, n: int = len(some)) -> set[int]:
            numbers = {int(number) for number in reply["numbers"]}
            if not numbers <= set(range(1, n + 1)):
                raise ValueError("a number that was not asked about")
            return numbers

        numbers = trial.ask(text, read)
        failed += numbers is None
        for number, (_, truth) in enumerate(some, 1):
            right[truth].append(numbers is not None and (number in numbers) == truth)
    value = (float(np.mean(right[True])) + float(np.mean(right[False]))) / 2
    return Result(value, {"questions": len(chunks), "failed": failed, "contexts": len(items)})


def simulation(trial: Trial) -> Result:
    """How strongly does it fire on each token? Pearson's r over the tokens of all contexts; 0 if either is constant."""
    actual, simulated, failed = [], [], 0
    examples = [*trial.tested[:SIMULATED], *trial.silent[:SIMULATED]]
    for example in examples:
        pieces = example.pieces[max(0, example.peak - AROUND) : example.peak + AROUND + 1]
        values = _simulate(trial, [text for text, _ in pieces])
        failed += values is None
        actual += [value for _, value in pieces]
        simulated += values or [0.0] * len(pieces)
    if not actual:
        return NOTHING
    varies = np.std(actual) > 0 and np.std(simulated) > 0
    value = float(np.corrcoef(actual, simulated)[0, 1]) if varies else 0.0
    return Result(value, {"questions": len(examples), "failed": failed, "tokens": len(actual)})


def _simulate(trial: Trial, tokens: list[str]) -> list[float] | None:
    """What the judge takes the activation on each token to be."""
    listed = _numbered([repr(token) for token in tokens])
    question = (
        f"A feature of a language model is described as: {trial.label}\n\n"
        "How active is it on each of these tokens of a text, from 0 (not at all) to 10? "
        f"On most tokens a feature is 0.\n\n{listed}\n\n"
        f'Answer with a JSON object: {{"activations": [a number for each of the {len(tokens)} tokens]}}'
    )

    def read(reply: Any) -> list[float]:
        values = [float(value) for value in reply["activations"]]
        if len(values) != len(tokens) or not np.isfinite(values).all():
            raise ValueError("not one number for each token")
        return values

    return trial.ask(question, read)


def intruder(trial: Trial) -> Result:
    """Which of four contexts does not belong? Without the label, so it tests the feature. Share of right answers."""
    if len(trial.tested) < 3 or not trial.silent:
        return NOTHING
    right = failed = 0
    for number in range(TRIALS):
        three = [trial.tested[place] for place in trial.rng.choice(len(trial.tested), 3, replace=False)]
        place = int(trial.rng.integers(4))
        four = three[:place] + [trial.silent[number % len(trial.silent)]] + three[place:]
        question = (
            "Three of these four contexts share something that the fourth has not.\n\n"
            + _numbered([shown(example) for example in four])
            + '\n\nAnswer with a JSON object: {"odd": the number of the one that does not belong}'
        )
        answer = trial.ask_number(question, "odd", 4)
        failed += answer is None
        right += answer == place + 1
    return Result(right / TRIALS, {"questions": TRIALS, "failed": failed})


def embedding(trial: Trial) -> Result:
    """How well the cosine of label and context detects contexts with the feature: area under the ROC curve."""
    if not trial.tested or not trial.silent or trial.embed is None:
        return Result(None, {"contexts": 0})
    contexts = [shown(example) for example in [*trial.tested, *trial.silent]]
    vectors = trial.embed([trial.label, *contexts])
    cosine = vectors[1:] @ vectors[0]
    n_tested = len(trial.tested)
    return Result(auc(cosine[:n_tested], cosine[n_tested:]), {"contexts": len(contexts)})


def rubric(trial: Trial) -> Result:
    """How well the label says what is marked, from 0 (not at all) to 3 (exactly): the mean grade."""
    items = [shown(example, strong_places(example)) for example in trial.tested]
    random_marks = [
        shown(example, [int(trial.rng.integers(len(example.pieces)))]) for example in trial.silent[: len(items)]
    ]
    grades, failed = _grades(trial, items)
    control, failed_control = _grades(trial, random_marks)
    if not grades:
        return NOTHING
    maximum = max(example.value for example in trial.tested)
    by_interval = [[0] * GRADES for _ in range(4)]
    for example, grade in zip(trial.tested, grades, strict=True):
        by_interval[min(3, int(example.value / maximum * 4))][grade] += 1
    details = {"histogram": by_interval, "random marks": float(np.mean(control)) if control else None}
    return Result(float(np.mean(grades)), {"questions": len(items), "failed": failed + failed_control} | details)


def _grades(trial: Trial, items: list[str]) -> tuple[list[int], int]:
    """A grade for each context, 0 where the judge gave none, and how many questions failed."""
    grades, failed = [], 0
    for some in _chunks(items):
        question = (
            f"A feature of a language model is described as: {trial.label}\n\n"
            "In these contexts the tokens on which it is active are marked << >>. How well does the description fit? "
            "0: it has nothing to do with the context. 1: with the context, but not with what is marked, or only "
            "vaguely. 2: loosely with what is marked, or with what stands beside it. "
            f"3: it says exactly what is marked.\n\n{_numbered(some)}\n\n"
            f'Answer with a JSON object: {{"grades": [a grade for each of the {len(some)} contexts]}}'
        )

        def read(reply: Any, n: int = len(some)) -> list[int]:
            values = [int(grade) for grade in reply["grades"]]
            if len(values) != n or not all(0 <= grade < GRADES for grade in values):
                raise ValueError("not one grade from 0 to 3 for each context")
            return values

        values = trial.ask(question, read)
        failed += values is None
        grades += values or [0] * len(some)
    return grades, failed


def sort(trial: Trial) -> Result:
    """Shown contexts of two features, to which does another belong? Without labels. Share of right answers."""
    if trial.other is None or min(len(trial.tested), len(trial.other.tested)) < 4:
        return NOTHING
    right = failed = 0
    for _ in range(TRIALS):
        features = [trial.tested, trial.other.tested]
        if int(trial.rng.integers(2)):
            features.reverse()
        answer = int(trial.rng.integers(2))
        orders = [list(trial.rng.permutation(len(tested))) for tested in features]
        marked = [
            [shown(tested[place], strong_places(tested[place])) for place in order[:4]]
            for tested, order in zip(features, orders, strict=True)
        ]
        question = (
            f"Contexts of feature 1:\n{_numbered(marked[0][:3])}\n\n"
            f"Contexts of feature 2:\n{_numbered(marked[1][:3])}\n\n"
            f"Another context, of one of the two:\n{marked[answer][3]}\n\n"
            'Answer with a JSON object: {"feature": 1 or 2}'
        )
        number = trial.ask_number(question, "feature", 2)
        failed += number is None
        right += number == answer + 1
    return Result(right / TRIALS, {"questions": TRIALS, "failed": failed})


def _chunks(items: list[Any]) -> list[list[Any]]:
    return [items[first : first + AT_ONCE] for first in range(0, len(items), AT_ONCE)]


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


@dataclass(frozen=True)
class Method:
    """One way to score labels."""

    run: Callable[[Trial], Result]
    chance: float
    """the value that guessing gives"""
    needs_label: bool = True
    needs_judge: bool = True


METHODS = {
    "detection": Method(detection, 0.5),
    "fuzzing": Method(fuzzing, 0.5),
    "simulation": Method(simulation, 0.0),
    "rubric": Method(rubric, 0.0),
    "embedding": Method(embedding, 0.5, needs_judge=False),
    "intruder": Method(intruder, 0.25, needs_label=False),
    "sort": Method(sort, 0.5, needs_label=False),
}
