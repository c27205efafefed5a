"""Settings of `generate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict

from sonde.settings import Count, check


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
