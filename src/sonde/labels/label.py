"""Label: describe each feature in words, and test the descriptions.

1. Explain each feature from some of its contexts, with the embedded explainer or a judge.
2. Test each label on other contexts, and another feature's label on the same ones as a control; and random directions,
   explained and tested in the same way.

Every answer is written down at once, so a run that is stopped, or whose budget ends, is resumed by the same command.
"""

import concurrent.futures
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import FeatureError, JudgeError
from sonde.features.index import Index, as_index
from sonde.features.labels import Score
from sonde.labels import embedded
from sonde.labels.evidence import Evidence, Gatherer, shown, strong_places
from sonde.labels.judges import Budget, BudgetSpent, CountingJudge, Judge, read_prices
from sonde.labels.random_directions import random_directions
from sonde.labels.scores import METHODS, Embed, Result, Trial
from sonde.labels.settings import LabelKeywords, LabelSettings
from sonde.models.loading import ONE_AT_A_TIME
from sonde.progress import Reporter, default_reporter
from sonde.settings import from_mapping

CACHE = "judge.sqlite"
DEFAULT_SCORES = ("detection", "fuzzing")
REFUSED_AFTER = 20
"""failed questions after which a run ends if at least half of all have failed"""
DRY_LABEL = "a description of a feature in a few words"
"""stands for labels in a dry run"""


@dataclass(repr=False)
class LabelReport(Drawn):
    """What a run of `label` did."""

    n_features: int
    labelled: int = 0
    """features that got a label in this run"""
    scores: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    """score -> its mean, chance, means with another feature's label and of random directions, features, failures"""
    asked: int = 0
    """questions, including repeated ones and those answered before"""
    answered_before: int = 0
    failed: int = 0
    """questions to which there was no answer in the requested form"""
    first_unread: str = ""
    """the first words of the first such answer"""
    tokens: int = 0
    usd: float = 0.0
    out_of_budget: bool = False
    dry_run: bool = False

    def __repr__(self) -> str:
        return f"LabelReport({self._said[0]})"

    def draw(self) -> list[Block]:
        """What was done, what it cost, and the means of the scores."""
        lines: list[Block] = [Line(text) for text in self._said]
        header = ("score", "mean", "chance", "another's label", "random directions", "features", "failed")
        rows = []
        for name, score in self.scores.items():
            means = (score[part] for part in ("mean", "chance", "another feature's label", "random directions"))
            shown = ["-" if value is None else f"{value:.3f}" for value in means]
            rows.append([name, *shown, f"{score['features']:,}", str(score["failed"])])
        return [*lines, Grid(rows, header, right=(1, 2, 3, 4, 5, 6))] if rows and not self.dry_run else lines

    @property
    def _said(self) -> list[str]:
        cost = f"{self.tokens:,} tokens" + (f", {self.usd:.2f} USD" if self.usd else "")
        if self.dry_run:
            return [f"{self.n_features:,} features, {self.asked:,} questions, at most {cost}"]
        done = [f"{self.labelled:,} of {self.n_features:,} features got a label"]
        if self.asked:
            before = f"{self.answered_before:,} of them answered before, {self.failed:,} failed"
            done.append(f"{self.asked:,} questions, {before}; {cost}")
        if self.failed:
            done.append(f"the first answer that could not be read: {self.first_unread}")
        return done


@public(LabelSettings)
def label(
    index: Index | str | Path,
    *,
    dry_run: bool = False,
    reporter: Reporter | None = None,
    **settings: Unpack[LabelKeywords],
) -> LabelReport:
    """Label an index's features, and test the labels.

    Args:
        index: an index or its folder; labels and scores are kept beside it (`index.labels`).
        dry_run: ask and write nothing, and say how many questions there would be and what they may cost at most.
        reporter: told of progress.
        settings: the fields of `LabelSettings`.

    Raises:
        FeatureError: a feature that the index does not have.
        JudgeError: the judge refuses or cannot be reached, or gives no answers that can be read.
        SettingsError: a budget in dollars without a price.
    """
    chosen = from_mapping(LabelSettings, settings)
    run = _Run(as_index(index), chosen, dry_run, reporter or default_reporter())
    try:
        run.explain_features()
        if run.scores:
            run.test_labels()
            run.test_random_directions()
    except BudgetSpent:
        run.report.out_of_budget = True
        run.reporter.say("the budget is spent; what was done is kept, and the same command with a larger one resumes")
    finally:
        run.close()
    run.summarize_scores()
    return run.report


class _Run:
    """One run of `label`: what it works with, its steps, and its report."""

    def __init__(self, index: Index, settings: LabelSettings, dry_run: bool, reporter: Reporter) -> None:
        self.index, self.settings, self.dry_run, self.reporter = index, settings, dry_run, reporter
        self.features = _chosen_features(index, settings)
        self.scores = settings.score or (DEFAULT_SCORES if settings.judge else ())
        self.by = settings.judge or embedded.BY
        self.judge = self._make_judge()
        self.embed = _embedder(settings.embedder) if settings.embedder and not dry_run else None
        self._evidence = lru_cache(maxsize=64)(Gatherer(index, settings.seed).gather)
        self.report = LabelReport(len(self.features), dry_run=dry_run)
        self._random_values: dict[str, dict[int, float | None]] = {}
        """score -> number of a random direction -> value"""

    def _make_judge(self) -> Judge | None:
        settings = self.settings
        price = (
            read_prices(settings.prices, settings.judge.partition(":")[2])
            if settings.judge and settings.prices
            else None
        )
        for score in self.scores:
            if METHODS[score].needs_judge and not settings.judge:
                raise JudgeError(f"the score {score} needs a judge; name one with --judge")
        if not settings.judge:
            return None
        make = CountingJudge if self.dry_run else Judge
        budget = Budget(settings.budget_usd, settings.budget_tokens, price)
        return make(settings.judge, self.index.folder / CACHE, budget, settings.base_url, settings.answer_tokens)

    def explain_features(self) -> None:
        self._for_each("label", self._explain, self.features)

    def _explain(self, number: int) -> None:
        before = self.index.labels[number]
        if before is not None and (self.settings.keep or before.by in (self.by, "person")):
            return
        evidence = self._evidence(number)
        if not evidence.explained:
            return
        if self.judge is None:
            text, why = embedded.explain(evidence)
        else:
            text, why = _ask_for_label(self.judge, evidence), {"examples": len(evidence.explained)}
        if text and not self.dry_run:
            self.index.labels.add(number, text, self.by, why)
            self.report.labelled += 1

    def test_labels(self) -> None:
        labels = dict.fromkeys(self.features, DRY_LABEL)
        if not self.dry_run:
            known = self.index.labels.all()
            labels = {number: known[number].label for number in self.features if number in known}
        others = dict(zip(self.features, [*self.features[1:], self.features[0]], strict=True))
        if len(self.features) == 1:
            others = {}
        self._for_each("test", lambda number: self._test(number, others.get(number), labels), list(labels))

    def _test(self, number: int, other: int | None, labels: dict[int, str]) -> None:
        """Score the label of a feature, and the label of another on the same contexts."""
        known = {(score.score, score.label, score.by) for score in self.index.labels.scores(number)}
        for name in self.scores:
            method = METHODS[name]
            by = self.by if method.needs_judge else f"embedding:{self.settings.embedder}"
            text = labels[number] if method.needs_label else ""
            if (name, text, by) in known:
                continue
            result = self._score(name, text, self._evidence, number, other)
            details = result.details | {"chance": method.chance}
            if not self.settings.no_controls and method.needs_label and other in labels:
                details["another feature's label"] = self._score(
                    name, labels[other], self._evidence, number, other
                ).value
            if not self.dry_run:
                self.index.labels.add_score(Score(number, text, name, by, result.value, details))

    def test_random_directions(self) -> None:
        """Explain and test directions that stand for nothing; their scores are a control for those of features."""
        n, judge = self.settings.random_directions, self.judge
        if not n or judge is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            gather = Gatherer(
                random_directions(self.index, n, self.settings.seed, Path(folder)), self.settings.seed
            ).gather

            def test(number: int) -> None:
                evidence = gather(number)
                text = _ask_for_label(judge, evidence) if evidence.explained else None
                if text is not None:
                    for name in self.scores:
                        value = self._score(name, text, gather, number, (number + 1) % n).value
                        self._random_values.setdefault(name, {})[number] = value

            self._for_each("random directions", test, list(range(n)))

    def _score(self, name: str, text: str, gather: Callable[[int], Evidence], number: int, other: int | None) -> Result:
        """Score a label on the contexts of a feature; `other` is the feature to compare with, if there is one."""
        rng = np.random.default_rng([self.settings.seed, number])
        other_evidence = gather(other) if other is not None else None
        return METHODS[name].run(Trial(self.judge, text, gather(number), other_evidence, self.embed, rng))

    def _for_each(self, what: str, do: Callable[[int], None], features: list[int]) -> None:
        """Do something for each feature, several at once; whatever is under way ends before an error is raised."""
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
                    self._raise_if_most_fail(self.judge)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _raise_if_most_fail(self, judge: Judge) -> None:
        if judge.n_failed >= REFUSED_AFTER and 2 * judge.n_failed >= judge.n_asked:
            raise JudgeError(
                f"{judge.name} gave {judge.n_failed} questions no answer that can be read; the first said "
                f"{judge.first_unread}; labels so far are kept; try another model"
            )

    def close(self) -> None:
        """Close the judge, and report what it was asked."""
        if self.judge is not None:
            self.report.asked, self.report.answered_before = self.judge.n_asked, self.judge.n_cached
            self.report.failed, self.report.first_unread = self.judge.n_failed, self.judge.first_unread
            self.report.tokens, self.report.usd = self.judge.budget.spent_tokens, self.judge.budget.spent_usd
            self.judge.close()

    def summarize_scores(self) -> None:
        """Report the means of the newest scores of the features."""
        latest = {(score.score, score.feature): score for score in self.index.labels.scores()}
        for name in self.scores:
            scores = [latest[name, number] for number in sorted(self.features) if (name, number) in latest]
            self.report.scores[name] = {
                "mean": _mean(score.value for score in scores),
                "chance": METHODS[name].chance,
                "another feature's label": _mean(score.details.get("another feature's label") for score in scores),
                "random directions": _mean(value for _, value in sorted(self._random_values.get(name, {}).items())),
                "features": sum(score.value is not None for score in scores),
                "failed": sum(score.details.get("failed", 0) for score in scores),
            }


def _chosen_features(index: Index, settings: LabelSettings) -> list[int]:
    """The features to label: those asked for, or all that fire, those that fire most first."""
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
    likely = ", ".join(repr(token) for token, _ in evidence.feature.top_logits[:5]) or "not known"
    question = (
        "A feature of a language model is active on the tokens marked << >> in these contexts, the strongest first:\n\n"
        f"{contexts}\n\n"
        + (f"It is not active in these:\n\n{silent}\n\n" if silent else "")
        + f"Tokens that it makes more likely: {likely}\n\n"
        "What does it stand for? Be as specific as the contexts allow, in at most fifteen words, without naming tokens "
        'or activations. Answer with a JSON object: {"label": "..."}'
    )

    def read(reply: Any) -> str:
        text = reply["label"]
        if not isinstance(text, str) or not text.strip():
            raise ValueError("no label")
        return text.encode("utf-16", "surrogatepass").decode(
            "utf-16", "replace"
        )  # half a letter may be escaped in JSON

    return judge.ask(question, read)


def _embedder(name: str) -> Embed:
    """A function from texts to the mean of an encoder's last states, at length one."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    with ONE_AT_A_TIME:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
        model = AutoModel.from_pretrained(name).eval()

    def embed(texts: Sequence[str]) -> np.ndarray:
        batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1).numpy()

    return embed


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
