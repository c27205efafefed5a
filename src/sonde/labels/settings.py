"""Settings of `label`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sonde.settings import Count, check

SCORES = ("detection", "fuzzing", "simulation", "rubric", "embedding", "intruder", "sort")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """Which features are labelled, how labels are tested, and what that may cost."""

    judge: str | None = None
    """openai:MODEL or anthropic:MODEL; by default the embedded explainer, which needs no model and no key"""
    base_url: str | None = None
    """where the judge is, for a server of your own that speaks OpenAI's protocol or Anthropic's"""
    features: tuple[int, ...] = ()
    """features to label; all that fire by default, those that fire most first"""
    n: Count | None = None
    """label so many features"""
    score: tuple[str, ...] = ()
    """how labels are tested: detection, fuzzing, simulation, rubric, embedding, intruder or sort; may be repeated; with
    a judge detection and fuzzing by default"""
    keep: bool = False
    """keep existing labels, whoever gave them, and test those"""
    no_controls: bool = False
    """leave out the test of another feature's label on the same contexts, which should score as chance does; halves the
    cost of tests"""
    random_directions: int = 0
    """also explain and test so many random directions, which stand for nothing; loads the model"""
    embedder: str | None = None
    """an encoder's folder or name, for the embedding score"""
    budget_usd: float | None = None
    """stop before more than this is spent; needs --prices"""
    budget_tokens: Count | None = None
    """stop before more tokens than this are used, of questions and answers together"""
    prices: Path | None = None
    """a JSON file: {model: {"input": USD a million tokens, "output": USD a million tokens}}"""
    answer_tokens: Count = Count(800)
    """longest answer of the judge, with what it thinks before it; models that think first may need thousands"""
    at_once: int = 8
    """questions that are asked at the same time"""
    seed: int = 0
    """decides what is drawn at random"""

    def __post_init__(self) -> None:
        for score in self.score:
            check(score in SCORES, "score", score, f"one of {', '.join(SCORES)}")
        check(self.n is None or self.n > 0, "n", self.n, "above 0")
        check(self.random_directions >= 0, "random_directions", self.random_directions, "at least 0")
        check(self.answer_tokens > 0, "answer_tokens", self.answer_tokens, "above 0")
        check(self.at_once > 0, "at_once", self.at_once, "above 0")
        check(self.budget_usd is None or self.budget_usd > 0, "budget_usd", self.budget_usd, "above 0")
        check(self.budget_tokens is None or self.budget_tokens > 0, "budget_tokens", self.budget_tokens, "above 0")
        wanting = self.budget_usd is not None and self.prices is None
        check(not wanting, "budget_usd", self.budget_usd, "given together with prices, which say what a token costs")
        check(
            "embedding" not in self.score or self.embedder is not None,
            "score",
            "embedding",
            "given together with embedder",
        )


class LabelKeywords(TypedDict, total=False):
    """The fields of `LabelSettings` as keywords; written by tools/keywords.py."""

    judge: str | None
    base_url: str | None
    features: Sequence[int]
    n: int | str | None
    score: str | Sequence[str]
    keep: bool
    no_controls: bool
    random_directions: int
    embedder: str | None
    budget_usd: float | None
    budget_tokens: int | str | None
    prices: str | Path | None
    answer_tokens: int | str
    at_once: int
    seed: int
