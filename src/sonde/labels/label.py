"""Label: say of each feature what it is, and test what was said.

1. Explain each feature from some of its contexts, with the embedded explainer or a judge.
2. Test each label on other contexts, and another feature's label on the same ones as a control; and random directions,
   explained and tested in the same way.

All that is known is written at once, so a run that is stopped, or whose budget ends, goes on where it was.
"""

import concurrent.futures
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sonde.errors import FeatureError, JudgeError
from sonde.features.index import Index, load_index
from sonde.features.labels import Score
from sonde.labels import embedded
from sonde.labels.evidence import Evidence, Gatherer, shown, strong_places
from sonde.labels.judges import LETTERS_PER_TOKEN, MOST_ANSWER_TOKENS, Budget, BudgetSpent, Judge, read_prices
from sonde.labels.random_directions import random_directions
from sonde.labels.scores import TESTS, Asked, Embed, Found
from sonde.labels.settings import LabelSettings
from sonde.progress import Reporter, Silent
from sonde.settings import from_mapping

CACHE = "judge.sqlite"
DEFAULT_SCORES = ("detection", "fuzzing")
REFUSED_AFTER = 20
"""questions, all of which failed, after which there is no sense in going on"""


@dataclass
class LabelReport:
    """What a run of `label` did."""

    n_features: int
    labelled: int = 0
    """features that got a label in this run"""
    scores: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    """score -> mean, chance, mean with another feature's label, mean of random directions, features, questions that failed"""
    asked: int = 0
    """questions, repeated ones and those answered before included"""
    answered_before: int = 0
    failed: int = 0
    """questions to which there was no answer of the shape asked for"""
    tokens: int = 0
    usd: float = 0.0
    out_of_budget: bool = False


def label(
    index: Index | str | Path, *, dry_run: bool = False, reporter: Reporter | None = None, **settings: Any
) -> LabelReport:
    """Label an index's features, and test the labels.

    Args:
        index: an index or its folder; labels and scores are kept beside it (`index.labels`).
        dry_run: ask nothing, write nothing, and say how many questions there would be and what they may cost at most.
        reporter: told of progress.
        settings: the fields of `LabelSettings`.

    Raises:
        FeatureError: a feature that the index does not have.
        JudgeError: the judge refuses or cannot be reached, or answers nothing that can be read.
        SettingsError: a budget in dollars and no price.
    """
    chosen = from_mapping(LabelSettings, settings)
    found = index if isinstance(index, Index) else load_index(index)
    return _Run(found, chosen, dry_run, reporter or Silent())()


class _Run:
    def __init__(self, index: Index, settings: LabelSettings, dry_run: bool, reporter: Reporter) -> None:
        self.index, self.settings, self.dry_run, self.reporter = index, settings, dry_run, reporter
        self.features = _chosen_features(index, settings)
        self.another = dict(zip(self.features, [*self.features[1:], self.features[0]], strict=True))
        """feature -> the one whose label is its control"""
        self._evidence = lru_cache(maxsize=64)(Gatherer(index, settings.seed).of)
        self.by = settings.judge or embedded.BY
        self.scores = settings.score or (DEFAULT_SCORES if settings.judge else ())
        price = None
        if settings.judge and settings.prices:
            price = read_prices(settings.prices, settings.judge.partition(":")[2])
        self.budget = Budget(settings.budget_usd, settings.budget_tokens, price)
        needs_judge = any(TESTS[score].needs_judge for score in self.scores)
        if needs_judge and not settings.judge:
            raise JudgeError(
                f"the score {next(s for s in self.scores if TESTS[s].needs_judge)} needs a judge; name one with --judge"
            )
        self.judge: Judge | None = None
        if settings.judge:
            make = _Counting if dry_run else Judge
            self.judge = make(settings.judge, index.folder / CACHE, self.budget, settings.base_url)
        self.embed = _embedder(settings.embedder) if settings.embedder and not dry_run else None
        self.report = LabelReport(len(self.features))
        self.random_values: dict[str, dict[int, float | None]] = {}

    def __call__(self) -> LabelReport:
        try:
            self._each("label", self._explain, self.features)
            known = self.index.labels.all()
            self.labels = {number: known[number] for number in self.features if number in known}
            if self.dry_run:
                self.labels = {number: None for number in self.features}  # type: ignore[misc]
            tested = [number for number in self.features if number in self.labels]
            if self.scores:
                self._each("test", self._test, tested)
                self._test_random_directions()
        except BudgetSpent:
            self.report.out_of_budget = True
            self.reporter.say("the budget is spent; what was done is kept, and the same command with more goes on")
        finally:
            if self.judge is not None:
                self.report.asked, self.report.answered_before = self.judge.n_asked, self.judge.n_cached
                self.report.failed = self.judge.n_failed
                self.judge.close()
        self.report.tokens, self.report.usd = self.budget.spent_tokens, self.budget.spent_usd
        self._sum_up()
        return self.report

    def _each(self, what: str, do: Callable[[int], None], features: list[int]) -> None:
        """Do something for each feature, several at once; what is under way ends before an error is raised."""
        with self.reporter.start(what, len(features), "features") as progress:
            if self.judge is None:
                for number in features:
                    do(number)
                    progress.advance(1)
                return
            pool = concurrent.futures.ThreadPoolExecutor(self.settings.at_once, "sonde-judge")
            try:
                for done in concurrent.futures.as_completed([pool.submit(do, number) for number in features]):
                    done.result()
                    progress.advance(1)
                    self._refuse_if_all_fail()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _refuse_if_all_fail(self) -> None:
        judge = self.judge
        if judge is not None and judge.n_failed >= REFUSED_AFTER and 2 * judge.n_failed >= judge.n_asked:
            raise JudgeError(
                f"{judge.name} answered none of {judge.n_failed} questions in the shape asked for; try another model, or look at what "
                f"it says in {self.index.folder / CACHE}"
            )

    def _explain(self, number: int) -> None:
        before = self.index.labels[number]
        if before is not None and (self.settings.keep or before.by in (self.by, "person")):
            return
        evidence = self._evidence(number)
        if not evidence.explained:
            return
        if self.judge is None:
            said, why = embedded.explain(evidence)
        else:
            said, why = _ask_for_label(self.judge, evidence), {"examples": len(evidence.explained)}
        if said and not self.dry_run:
            self.index.labels.add(number, said, self.by, why)
            self.report.labelled += 1

    def _test(self, number: int) -> None:
        label = self.labels[number]
        text = "a description of a feature in a few words" if label is None else label.label
        known = {(score.score, score.label, score.by) for score in self.index.labels.scores(number)}
        another = self.another[number]
        for name in self.scores:
            test = TESTS[name]
            by = self.by if test.needs_judge else f"embedding:{self.settings.embedder}"
            told = text if test.needs_label else ""
            if (name, told, by) in known:
                continue
            other = self._evidence(another) if another != number else None
            found = self._found(name, number, told, other)
            details = found.details | {"chance": test.chance}
            if not self.settings.no_controls and test.needs_label and another in self.labels and another != number:
                label_of_other = self.labels[another]
                wrong = text if label_of_other is None else label_of_other.label
                details["another feature's label"] = self._found(name, number, wrong, other).value
            if not self.dry_run:
                self.index.labels.add_score(Score(number, told, name, by, found.value, details))

    def _test_random_directions(self) -> None:
        """Explain and test directions that stand for nothing; what they score stands beside what features do."""
        n, judge = self.settings.random_directions, self.judge
        if not n or judge is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            others = random_directions(self.index, n, self.settings.seed, Path(folder))
            gatherer = Gatherer(others, self.settings.seed)

            def test(number: int) -> None:
                evidence = gatherer.of(number)
                said = _ask_for_label(judge, evidence) if evidence.explained else None
                other = gatherer.of((number + 1) % n)
                for name in self.scores:
                    if said is not None:
                        rng = np.random.default_rng([self.settings.seed, number])
                        value = TESTS[name].run(Asked(judge, said, evidence, other, self.embed, rng)).value
                        self.random_values.setdefault(name, {})[number] = value

            self._each("random directions", test, list(range(n)))

    def _found(self, name: str, number: int, text: str, other: Evidence | None) -> Found:
        rng = np.random.default_rng([self.settings.seed, number])
        return TESTS[name].run(Asked(self.judge, text, self._evidence(number), other, self.embed, rng))

    def _sum_up(self) -> None:
        latest: dict[tuple[int, str], Score] = {}
        of_these = set(self.features)
        for score in self.index.labels.scores():
            if score.feature in of_these and score.score in self.scores:
                latest[score.feature, score.score] = score
        for name in self.scores:
            own = [score for (_, kind), score in sorted(latest.items()) if kind == name]
            self.report.scores[name] = {
                "mean": _mean(score.value for score in own),
                "chance": TESTS[name].chance,
                "another feature's label": _mean(score.details.get("another feature's label") for score in own),
                "random directions": _mean(value for _, value in sorted(self.random_values.get(name, {}).items())),
                "features": sum(score.value is not None for score in own),
                "failed": sum(score.details.get("failed", 0) for score in own),
            }


def _chosen_features(index: Index, settings: LabelSettings) -> list[int]:
    """Features to label: those asked for, or all that fire, those that fire most first."""
    for number in settings.features:
        index.feature(number)  # raises FeatureError where there is none
    if settings.features:
        numbers = list(dict.fromkeys(settings.features))
    else:
        counts = index.statistics["count"]
        numbers = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number] > 0]
    if not numbers:
        raise FeatureError(f"no feature of {index.folder} fires, so there is nothing to label")
    return numbers[: settings.n]


def _ask_for_label(judge: Judge, evidence: Evidence) -> str | None:
    contexts = "\n".join(shown(example, strong_places(example)) for example in evidence.explained)
    silent = "\n".join(shown(example) for example in evidence.near[:3])
    question = (
        "A feature of a language model is active on the tokens marked << >> in these contexts, the strongest first:\n\n"
        f"{contexts}\n\n"
        + (f"It is not active in these:\n\n{silent}\n\n" if silent else "")
        + f"Tokens that it makes more likely: {', '.join(repr(token) for token, _ in evidence.feature.top_logits[:5]) or 'not known'}\n\n"
        "What does it stand for? Be as specific as the contexts allow, in at most fifteen words, without naming tokens or activations. "
        'Answer with a JSON object: {"label": "..."}'
    )

    def read(reply: Any) -> str:
        said = reply["label"]
        if not isinstance(said, str) or not said.strip():
            raise ValueError("no label")
        return said

    return judge.ask(question, read)


class _Counting(Judge):
    """Asks nothing, and counts what it would have cost at most."""

    def ask(self, question: str, read: Callable[[Any], Any]) -> None:
        n_in = int(len(question) / LETTERS_PER_TOKEN) + 1
        with self._lock:
            self.n_asked += 1
        with self.budget._lock:
            self.budget.spent_tokens += n_in + MOST_ANSWER_TOKENS
            self.budget.spent_usd += self.budget.cost(n_in, MOST_ANSWER_TOKENS)


def _embedder(name: str) -> Embed:
    """Mean of an encoder's last states, at length one."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(name)
    model = AutoModel.from_pretrained(name).eval()

    def embed(texts) -> np.ndarray:
        batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1).numpy()

    return embed


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
