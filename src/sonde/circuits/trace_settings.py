"""Settings of `trace`."""

from dataclasses import dataclass
from typing import TypedDict

from sonde.settings import Count, check


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """What is traced, and how much of it is kept."""

    target: str | None = None
    """the token whose logit is traced; by default those that make up 95 % of the probability, at most 10"""
    against: str | None = None
    """a token whose logit is subtracted from the target's"""
    position: int | None = None
    """the token after which the prediction is traced, from zero, or from the end if below zero; the last by default"""
    budget: Count = Count(4096)
    """features that become nodes, those with most influence first; what the others add is in the errors"""
    node_share: float = 0.8
    """share of the influence of the features that a pruned graph keeps"""
    edge_share: float = 0.98
    """share of the edges' scores that a pruned graph keeps"""
    batch_size: Count = Count(64)
    """features that are traced in one backward pass"""

    def __post_init__(self) -> None:
        for name in ("node_share", "edge_share"):
            check(0 < getattr(self, name) <= 1, name, getattr(self, name), "above 0 and at most 1")
        for name in ("budget", "batch_size"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        check(self.against is None or self.target is not None, "against", self.against, "given with target")


class TraceKeywords(TypedDict, total=False):
    """The fields of `TraceSettings` as keywords; written by tools/keywords.py."""

    target: str | None
    against: str | None
    position: int | None
    budget: int | str
    node_share: float
    edge_share: float
    batch_size: int | str
