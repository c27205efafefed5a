"""Settings of `train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sonde.settings import Count, check

Kind = Literal["topk", "batchtopk", "matryoshka", "l1", "jumprelu", "gated"]
WITH_K = ("topk", "batchtopk", "matryoshka")
WITH_PENALTY = ("l1", "jumprelu", "gated")
REVIVED = (*WITH_K, "jumprelu")  # by AuxK, by default; jumprelu measured: docs/log.md, 2026-11-21
RESAMPLED = ("l1", "gated")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What to train, and how. The defaults are meant to work untouched."""

    kind: Kind = "topk"
    """kind of dictionary; any of them is a transcoder with --writes, and a crosscoder with several sites"""
    n_features: Count
    """number of features"""
    out: Path
    """folder to write"""
    site: tuple[str, ...] = ()
    """what to read, where the activations hold several sites; several are read side by side (a crosscoder)"""
    writes: tuple[str, ...] = ()
    """what to reconstruct, where that is not what is read (a transcoder); several make it cross-layer"""
    skip: bool = False
    """transcoders: a linear path past the features"""
    k: Count | None = None
    """topk, batchtopk, matryoshka: features active on a token (batchtopk, matryoshka: on average); 32 by default"""
    sparsity: float | None = None
    """l1, gated, jumprelu: weight of the penalty; by default 5 (Scaling Monosemanticity), 3, and what docs/training.md says"""
    penalty: Literal["tanh", "l0"] = "tanh"
    """jumprelu: tanh of activations (January 2025 recipe), or the number of active features (2024 paper)"""
    bandwidth: float | None = None
    """jumprelu: width of the window around a threshold in which it learns; 2 for tanh, 0.1 for l0"""
    multi_k: bool = False
    """topk: learn to reconstruct with 4 k features too (Multi-TopK)"""
    prefixes: tuple[Count, ...] | None = None
    """matryoshka: features in each nested prefix; a 16th, an 8th, a quarter, a half and all by default"""
    tokens: Count | None = None
    """rows to train on; all rows once by default, and more than one pass where there are fewer"""
    batch_size: Count | None = None
    """rows in a step; by default 512 to 4096, so that a short run still has about a thousand steps"""
    lr: float | None = None
    """peak learning rate; by default from a law in the number of features"""
    clip: float = 1.0
    """longest gradient, in units of a loss that is an FVU; 0 for no clipping"""
    init: Literal["random", "data"] = "random"
    """what decoder rows start as: random directions, or rows of the data less their mean"""
    decoder_norms: Literal["unit", "free"] | None = None
    """whether decoder rows are kept at length one; by default unit, but free for l1 and for jumprelu with tanh"""
    aux_k: Count | None = None
    """dead features revived on each token (AuxK), 0 for none; by default half the width, and none for l1 and gated"""
    resample_every: Count | None = None
    """l1, gated: restart dead features from badly reconstructed rows every so many steps, in the first half of the run"""
    dead_after: Count | None = None
    """rows without firing after which a feature counts as dead; by default a tenth of the run, at most 10M"""
    checkpoint_every_s: float = 60.0
    """seconds between checkpoints, from which a killed run goes on"""
    seed: int = 0
    """decides the start of the weights"""

    def __post_init__(self) -> None:
        kind, n = self.kind, self.n_features
        for name in ("site", "writes"):
            sites = getattr(self, name)
            check(len(sites) == len(set(sites)), name, sites, "without repetition")
        apart = self.writes not in ((), self.site)
        check(not self.skip or apart, "skip", self.skip, "left out unless --writes names other sites than are read")
        check(n > 0, "n_features", n, "above 0")
        norms = self.decoder_norms
        check(
            norms != "free" or kind != "topk",
            "decoder_norms",
            norms,
            "unit for topk, whose largest are chosen by what they add",
        )
        check(self.k is None or 0 < self.k <= n, "k", self.k, f"above 0 and at most n_features ({n})")
        check(self.k is None or kind in WITH_K, "k", self.k, f"left out unless kind is {', '.join(WITH_K)}")
        kinds = ", ".join(WITH_PENALTY)
        check(
            self.sparsity is None or kind in WITH_PENALTY, "sparsity", self.sparsity, f"left out unless kind is {kinds}"
        )
        check(self.sparsity is None or self.sparsity >= 0, "sparsity", self.sparsity, "at least 0")
        check(self.penalty == "tanh" or kind == "jumprelu", "penalty", self.penalty, "left out unless kind is jumprelu")
        check(
            self.bandwidth is None or kind == "jumprelu",
            "bandwidth",
            self.bandwidth,
            "left out unless kind is jumprelu",
        )
        check(self.bandwidth is None or self.bandwidth > 0, "bandwidth", self.bandwidth, "above 0")
        check(not self.multi_k or kind == "topk", "multi_k", self.multi_k, "left out unless kind is topk")
        check(
            self.prefixes is None or kind == "matryoshka",
            "prefixes",
            self.prefixes,
            "left out unless kind is matryoshka",
        )
        if self.prefixes is not None:
            rising = (
                list(self.prefixes) == sorted(set(self.prefixes)) and 0 < self.prefixes[0] and self.prefixes[-1] == n
            )
            check(rising, "prefixes", self.prefixes, f"rising from above 0 to n_features ({n})")
        resampled = self.resample_every is None or kind in RESAMPLED
        check(
            resampled, "resample_every", self.resample_every, "left out unless kind is l1 or gated; AuxK revives others"
        )
        for name in ("tokens", "batch_size", "lr", "resample_every", "dead_after"):
            value = getattr(self, name)
            check(value is None or value > 0, name, value, "above 0")
        check(self.aux_k is None or self.aux_k >= 0, "aux_k", self.aux_k, "at least 0")
        check(self.clip >= 0, "clip", self.clip, "at least 0")
