"""Settings of `harvest`, and of reading a model live."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Required, TypedDict

from sonde.remote import Place, RemotePath
from sonde.settings import Bytes, Count, check

StoreFormat = Literal["bfloat16", "float32", "float16", "int8"]
MASSIVE = 10.0
"""a row is massive whose norm is above this many times the median; dictionary_learning has the same number"""


@dataclass(frozen=True, kw_only=True)
class HarvestSettings:
    """What to harvest, and how it is kept."""

    site: tuple[str, ...]
    """the place to read, such as layers.3.residual; may be repeated, for several in lockstep; `sonde sites` lists
    them"""
    out: Place
    """folder to write, or a URL on an object store (s3://, gs://, az://)"""
    field: str = "text"
    """field of a .jsonl that holds the text"""
    tokens: Count | None = None
    """stop after the document in which this many tokens are reached; all by default"""
    held_out: float = 0.02
    """share of documents kept from training, for `measure`"""
    context: Count | None = None
    """tokens in a context; the model's own length by default, at most 512"""
    pack: bool = False
    """fill contexts with document after document, which see each other; by default a context is of one document"""
    store: StoreFormat = "bfloat16"
    """number format of the vectors on disk; int8 has a scale for each row"""
    special: bool = False
    """keep the rows of special tokens too"""
    drop_first: int = 0
    """leave out this many rows at the start of each context, where attention sinks are"""
    massive: float = MASSIVE
    """leave out rows whose norm is above this many times the median (massive activations); 0 keeps them"""
    memory: Bytes | None = None
    """bytes for the rows that a worker holds, such as 200MB, besides the model; decides the size of a task, of which
    the default needs about 400MB at most"""
    threads: int | None = None
    """torch threads of a task; the cores shared among the workers by default. Bytes are equal for equal threads"""
    skip_bad: bool = False
    """leave out broken lines of a .jsonl, and count them"""
    seed: int = 0
    """decides the shuffle and the held-out documents"""

    def __post_init__(self) -> None:
        check(0 < len(self.site) == len(set(self.site)), "site", self.site, "one or more, none of them twice")
        check(self.memory is None or self.memory >= 10**6, "memory", self.memory, "at least 1MB")
        check(self.threads is None or self.threads > 0, "threads", self.threads, "above 0")
        check(self.drop_first >= 0, "drop_first", self.drop_first, "at least 0")
        check(self.massive == 0 or self.massive > 1, "massive", self.massive, "0, or above 1")
        check(self.tokens is None or self.tokens > 0, "tokens", self.tokens, "above 0")
        check(0 <= self.held_out < 1, "held_out", self.held_out, "at least 0 and below 1")
        check(self.context is None or self.context >= 8, "context", self.context, "at least 8")
        check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """What a live run reads, and how it is mixed."""

    pool: Count = Count(1 << 18)
    """rows that are mixed with each other; they stay in memory"""
    context: Count | None = None
    """tokens in a context; the model's own length by default, at most 512"""
    pack: bool = False
    """fill contexts with document after document, which see each other; by default a context is of one document"""
    held_out: float = 0.02
    """share of documents kept from training, for `measure`"""
    store: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    """number format of the pool"""
    field: str = "text"
    """field of a .jsonl that holds the text"""
    special: bool = False
    """keep the rows of special tokens too"""
    drop_first: int = 0
    """leave out this many rows at the start of each context, where attention sinks are"""
    massive: float = MASSIVE
    """leave out rows whose norm is above this many times the median (massive activations); 0 keeps them"""
    skip_bad: bool = False
    """leave out broken lines of a .jsonl"""

    def __post_init__(self) -> None:
        check(self.pool > 0, "pool", self.pool, "above 0")
        check(0 <= self.held_out < 1, "held_out", self.held_out, "at least 0 and below 1")
        check(self.drop_first >= 0, "drop_first", self.drop_first, "at least 0")
        check(self.massive == 0 or self.massive > 1, "massive", self.massive, "0, or above 1")
        check(self.context is None or self.context >= 8, "context", self.context, "at least 8")


class HarvestKeywords(TypedDict, total=False):
    """The fields of `HarvestSettings` as keywords; written by tools/keywords.py."""

    out: Required[str | Path | RemotePath]
    field: str
    tokens: int | str | None
    held_out: float
    context: int | str | None
    pack: bool
    store: Literal["bfloat16", "float32", "float16", "int8"]
    special: bool
    drop_first: int
    massive: float
    memory: int | str | None
    threads: int | None
    skip_bad: bool
    seed: int


class LiveKeywords(TypedDict, total=False):
    """The fields of `LiveSettings` as keywords; written by tools/keywords.py."""

    pool: int | str
    context: int | str | None
    pack: bool
    held_out: float
    store: Literal["bfloat16", "float32", "float16"]
    field: str
    special: bool
    drop_first: int
    massive: float
    skip_bad: bool
