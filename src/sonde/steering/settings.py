"""Settings of answers and of written text: how their tokens are chosen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict

from sonde.settings import Count, check

MOST_TEMPERATURE, MOST_PENALTY = 2.0, 2.0
"""as in OpenAI's protocol"""


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """How the tokens of an answer are chosen. By default as the model's generation settings say, and repeatably."""

    temperature: float | None = None
    """0 takes the likeliest token; by default as the model's generation settings say, and 0 where they do not sample"""
    top_p: float | None = None
    """sample from the likeliest tokens that have this share of the probability; by default as the model's settings"""
    seed: int = 0
    """decides what is sampled, so that the same call gives the same answer"""
    frequency_penalty: float = 0.0
    """taken from a token's logit for each time that the answer has it already; above 0 it repeats itself less"""
    presence_penalty: float = 0.0
    """taken from a token's logit once where the answer has it already"""

    def __post_init__(self) -> None:
        temperature, top_p = self.temperature, self.top_p
        bound = f"at least 0 and at most {MOST_TEMPERATURE:g}"
        check(temperature is None or 0 <= temperature <= MOST_TEMPERATURE, "temperature", temperature, bound)
        check(top_p is None or 0 < top_p <= 1, "top_p", top_p, "above 0 and at most 1")
        check(-(2**63) <= self.seed < 2**63, "seed", self.seed, "at least -2**63 and below 2**63")
        for name in ("frequency_penalty", "presence_penalty"):
            value = getattr(self, name)
            check(-MOST_PENALTY <= value <= MOST_PENALTY, name, value, f"at least {-MOST_PENALTY:g} and at most 2")


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """What the model writes, and how."""

    out: Path
    """.jsonl file to write: a line for each answer, with its text in the form in which the model read it"""
    tokens: Count | None = None
    """stop after the batch in which this many tokens are written; by default each prompt is answered `repeat` times"""
    repeat: int = 1
    """answers to each prompt"""
    max_new_tokens: int = 200
    """longest answer"""
    temperature: float = 1.0
    """of sampling; 0 takes the likeliest token"""
    top_p: float = 1.0
    """sample from the likeliest tokens that have this share of the probability"""
    plain: bool = False
    """continue prompts as plain text; by default each is a user's question, in the model's chat template"""
    batch: int = 32
    """answers that are written at the same time"""
    field: str = "text"
    """field of a .jsonl that holds the prompt"""
    seed: int = 0
    """decides the answers"""

    def __post_init__(self) -> None:
        check(self.out.suffix == ".jsonl", "out", self.out, "a .jsonl file")
        check(self.tokens is None or self.tokens > 0, "tokens", self.tokens, "above 0")
        for name in ("repeat", "max_new_tokens", "batch"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        check(self.temperature >= 0, "temperature", self.temperature, "at least 0")
        check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")


class AnswerKeywords(TypedDict, total=False):
    """The fields of `AnswerSettings` as keywords; written by tools/keywords.py."""

    temperature: float | None
    top_p: float | None
    seed: int
    frequency_penalty: float
    presence_penalty: float


class GenerateKeywords(TypedDict, total=False):
    """The fields of `GenerateSettings` as keywords; written by tools/keywords.py."""

    out: Required[str | Path]
    tokens: int | str | None
    repeat: int
    max_new_tokens: int
    temperature: float
    top_p: float
    plain: bool
    batch: int
    field: str
    seed: int
