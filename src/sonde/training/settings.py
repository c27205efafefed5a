"""Settings of `train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sonde.settings import check


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What to train, and how. The defaults are meant to work untouched."""

    kind: Literal["topk", "l1"] = "topk"
    """kind of dictionary"""
    n_features: int
    """number of features"""
    out: Path
    """folder to write"""
    site: str | None = None
    """which site's vectors to train on, where the activations hold several"""
    k: int | None = None
    """topk: features active on each token; 32 by default"""
    l1: float | None = None
    """l1: weight of the sparsity penalty; 5 by default (Scaling Monosemanticity)"""
    tokens: int | None = None
    """rows to train on; all rows once by default, and more than one pass where there are fewer"""
    batch_size: int | None = None
    """rows in a step; by default 512 to 4096, so that a short run still has about a thousand steps"""
    lr: float | None = None
    """peak learning rate; by default from a law in the number of features"""
    aux_k: int | None = None
    """topk: dead features revived on each token (AuxK); half the width by default, 0 for none"""
    dead_after: int | None = None
    """rows without firing after which a feature counts as dead; by default a tenth of the run, at most 10M"""
    checkpoint_every_s: float = 60.0
    """seconds between checkpoints, from which a killed run goes on"""
    seed: int = 0
    """decides the start of the weights"""

    def __post_init__(self) -> None:
        check(self.n_features > 0, "n_features", self.n_features, "above 0")
        check(
            self.k is None or 0 < self.k <= self.n_features,
            "k",
            self.k,
            f"above 0 and at most n_features ({self.n_features})",
        )
        check(self.k is None or self.kind == "topk", "k", self.k, "left out unless kind is topk")
        check(self.l1 is None or self.kind == "l1", "l1", self.l1, "left out unless kind is l1")
        check(self.l1 is None or self.l1 >= 0, "l1", self.l1, "at least 0")
        check(self.tokens is None or self.tokens > 0, "tokens", self.tokens, "above 0")
        check(self.batch_size is None or self.batch_size > 0, "batch_size", self.batch_size, "above 0")
        check(self.lr is None or self.lr > 0, "lr", self.lr, "above 0")
        check(self.aux_k is None or self.aux_k >= 0, "aux_k", self.aux_k, "at least 0")
