"""Settings of `index`."""

from dataclasses import dataclass
from pathlib import Path

from sonde.settings import check


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What to index, and how much of it is kept."""

    out: Path
    """folder to write"""
    field: str = "text"
    """field of a .jsonl that holds the text"""
    tokens: int | None = None
    """stop after the document in which this many tokens are reached; all by default"""
    top_logits: int = 10
    """tokens kept that a feature makes more likely, and as many that it makes less likely"""
    skip_bad: bool = False
    """leave out broken lines of a .jsonl, and count them"""

    def __post_init__(self) -> None:
        check(self.tokens is None or self.tokens > 0, "tokens", self.tokens, "above 0")
        check(self.top_logits > 0, "top_logits", self.top_logits, "above 0")
