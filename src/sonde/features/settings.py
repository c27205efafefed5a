"""Settings of `index`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Required, TypedDict

from sonde.settings import Count, check


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What to index, and how much of it is kept."""

    out: Path
    """folder to write"""
    field: str = "text"
    """field of a .jsonl that holds the text"""
    tokens: Count | None = None
    """stop after the document in which this many tokens are reached; all by default"""
    sample: Count | None = None
    """keep this many activations of each feature, the strongest, and as many others at random; all by default"""
    context: Count | None = None
    """tokens in a context; the model's own length by default, at most 512"""
    top_logits: int = 10
    """tokens kept that a feature makes more likely, and as many that it makes less likely"""
    threads: int | None = None
    """torch threads of a worker; the cores shared among the workers by default. Indexes are equal for equal threads"""
    skip_bad: bool = False
    """leave out broken lines of a .jsonl, and count them"""
    seed: int = 0
    """decides what is kept at random"""

    def __post_init__(self) -> None:
        check(self.tokens is None or self.tokens > 0, "tokens", self.tokens, "above 0")
        check(self.sample is None or self.sample > 0, "sample", self.sample, "above 0")
        check(self.context is None or self.context >= 8, "context", self.context, "at least 8")
        check(self.top_logits > 0, "top_logits", self.top_logits, "above 0")
        check(self.threads is None or self.threads > 0, "threads", self.threads, "above 0")
        check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")


class IndexKeywords(TypedDict, total=False):
    """The fields of `IndexSettings` as keywords; written by tools/keywords.py."""

    out: Required[str | Path]
    field: str
    tokens: int | str | None
    sample: int | str | None
    context: int | str | None
    top_logits: int
    threads: int | None
    skip_bad: bool
    seed: int
