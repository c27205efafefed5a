"""Settings of `harvest`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sonde.settings import check

StoreFormat = Literal["bfloat16", "float32", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class HarvestSettings:
    """What to harvest, and how it is kept."""

    site: tuple[str, ...]
    """the place to read, such as layers.3.residual; may be repeated, for several in lockstep; `sonde sites` lists them"""
    out: Path
    """folder to write"""
    field: str = "text"
    """field of a .jsonl that holds the text"""
    tokens: int | None = None
    """stop after the document in which this many tokens are reached; all by default"""
    held_out: float = 0.02
    """share of documents kept from training, for `measure`"""
    context: int | None = None
    """tokens in a context; the model's own length by default, at most 512"""
    store: StoreFormat = "bfloat16"
    """number format of the vectors on disk; int8 has a scale for each row"""
    special: bool = False
    """keep the rows of special tokens too"""
    drop_first: int = 0
    """leave out this many rows at the start of each context, where attention sinks are"""
    threads: int | None = None
    """torch threads of a task; the cores shared among the workers by default. Bytes are equal for equal threads"""
    skip_bad: bool = False
    """leave out broken lines of a .jsonl, and count them"""
    seed: int = 0
    """decides the shuffle and the held-out documents"""

    def __post_init__(self) -> None:
        check(0 < len(self.site) == len(set(self.site)), "site", self.site, "one or more, none of them twice")
        check(self.threads is None or self.threads > 0, "threads", self.threads, "above 0")
        check(self.drop_first >= 0, "drop_first", self.drop_first, "at least 0")
        check(self.tokens is None or self.tokens > 0, "tokens", self.tokens, "above 0")
        check(0 <= self.held_out < 1, "held_out", self.held_out, "at least 0 and below 1")
        check(self.context is None or self.context >= 8, "context", self.context, "at least 8")
        check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")
