"""What a training run will do: a pure function of the activations and the settings."""

import math
from dataclasses import dataclass

from sonde.activations.live import Live
from sonde.activations.lockstep import Lockstep
from sonde.activations.store import Activations
from sonde.errors import ActivationError, SettingsError
from sonde.settings import check
from sonde.training.settings import REVIVED, TrainSettings

Source = Activations | Live | Lockstep
"""what rows come from"""
LR_AT_128_WIDE = 4e-3  # with 2,048 features; measured: docs/log.md, 2026-11-21
LR_MOST = 1e-2
SPARSITY = {"l1": 5.0, "gated": 3.0, "jumprelu l0": 1e-3}
"""l1: source: Scaling Monosemanticity; the others measured on the world: docs/log.md, 2026-11-21"""
TANH_SPARSITY_PER_DIMENSION = 6e-4  # jumprelu with tanh; so a feature costs the same FVU at any width; measured: same
WARM_UP_SHARE = {"l1": 0.05, "gated": 0.05, "jumprelu tanh": 1.0, "jumprelu l0": 0.1}
"""share of steps over which the penalty grows from zero. Sources: Conerly et al., April 2024 update (l1) and January 2025
(jumprelu tanh); Rajamanoharan et al. 2024 (jumprelu l0: 10,000 steps of about 100,000)"""


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    steps: int
    batch_size: int
    lr: float
    warm_up: int
    decay: int
    """steps over which the rate falls to zero at the end"""
    k: int
    sparsity: float
    sparsity_warm_up: int
    """steps over which the penalty grows from zero"""
    aux_k: int
    dead_after: int
    centred: bool
    """whether the mean is taken from inputs"""
    unit_norm: bool
    """whether decoder rows are kept at length one"""
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scale: dict[str, float]
    """of each site: inputs are (x - mean) * scale or x * scale, with mean squared norm = width"""

    def lr_at(self, step: int) -> float:
        return self.lr * min(1.0, (step + 1) / self.warm_up, (self.steps - step) / self.decay)

    def sparsity_at(self, step: int) -> float:
        return self.sparsity * min(1.0, step / max(1, self.sparsity_warm_up))


def sites_of(store: Source, settings: TrainSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is read and what is written: what the settings say, and else all that is chosen in the store."""
    if settings.writes and not settings.site:
        raise SettingsError(
            "writes is given without site; a transcoder needs both, the site that it reads and what it writes"
        )
    reads = settings.site or tuple(block.site for block in store.blocks)
    return reads, settings.writes or reads


def make_plan(store: Source, settings: TrainSettings) -> Plan:
    """Fill in what the settings leave open. The store's rows hold what is read and what is written, and nothing else.

    Raises ActivationError where all rows are alike, SettingsError where there are fewer rows than a batch has.
    """
    tokens = settings.tokens or store.n_rows
    usual = min(4096, max(512, 1 << round(math.log2(max(1, tokens / 1000)))))
    batch_size = settings.batch_size or min(usual, store.n_rows)
    check(batch_size <= store.n_rows, "batch_size", batch_size, f"at most the number of rows ({store.n_rows:,})")
    reads, writes = sites_of(store, settings)
    kind = f"jumprelu {settings.penalty}" if settings.kind == "jumprelu" else settings.kind
    centred = kind != "l1"
    scale = {}
    for block, mean in zip(store.blocks, store.mean.split([block.width for block in store.blocks]), strict=True):
        variance = block.mean_squared_norm - mean.square().sum().item()
        if not variance > 1e-12 * block.mean_squared_norm:
            raise ActivationError(
                f"all rows at {block.site} are alike (variance {variance:.3g}), so there is nothing to learn; choose another site"
            )
        scale[block.site] = math.sqrt(block.width / max(variance if centred else block.mean_squared_norm, 1e-30))
    widths = {block.site: block.width for block in store.blocks}
    d_in, d_out = (sum(widths[site] for site in sites) for sites in (reads, writes))
    steps = max(1, tokens // batch_size)
    usual_sparsity = SPARSITY.get(kind, TANH_SPARSITY_PER_DIMENSION * d_out if "tanh" in kind else 0.0)
    norms = settings.decoder_norms or ("free" if kind in ("l1", "jumprelu tanh") else "unit")
    return Plan(
        steps=steps,
        batch_size=batch_size,
        lr=settings.lr or min(LR_MOST, LR_AT_128_WIDE * math.sqrt(128 / d_in * 2048 / settings.n_features)),
        warm_up=max(1, min(1000, steps // 20)),
        decay=max(1, steps // 5),
        k=settings.k or min(32, settings.n_features),
        sparsity=usual_sparsity if settings.sparsity is None else settings.sparsity,
        sparsity_warm_up=round(WARM_UP_SHARE.get(kind, 0.0) * steps),
        aux_k=(d_out // 2 if settings.kind in REVIVED else 0) if settings.aux_k is None else settings.aux_k,
        dead_after=settings.dead_after or min(10_000_000, max(batch_size, tokens // 10)),
        centred=centred,
        unit_norm=norms == "unit",
        reads=reads,
        writes=writes,
        scale=scale,
    )
