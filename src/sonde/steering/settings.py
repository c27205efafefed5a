"""Settings of answers: how their tokens are chosen."""

from dataclasses import dataclass
from typing import TypedDict

from sonde.settings import check

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


class AnswerKeywords(TypedDict, total=False):
    """The fields of `AnswerSettings` as keywords; written by tools/keywords.py."""

    temperature: float | None
    top_p: float | None
    seed: int
    frequency_penalty: float
    presence_penalty: float
