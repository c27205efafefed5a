"""What a training run will do: a pure function of the activations and the settings."""

import math
from dataclasses import dataclass

from sonde.activations.live import Live
from sonde.activations.store import Activations
from sonde.errors import ActivationError
from sonde.settings import check
from sonde.training.settings import WITH_K, TrainSettings

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
    scale: float
    """inputs are (x - mean) * scale or x * scale, with mean squared norm = width"""

    def lr_at(self, step: int) -> float:
        return self.lr * min(1.0, (step + 1) / self.warm_up, (self.steps - step) / self.decay)

    def sparsity_at(self, step: int) -> float:
        return self.sparsity * min(1.0, step / max(1, self.sparsity_warm_up))


def make_plan(store: Activations | Live, settings: TrainSettings) -> Plan:
    """Fill in what the settings leave open.

    Raises ActivationError where all rows are alike, SettingsError where there are fewer rows than a batch has.
    """
    tokens = settings.tokens or store.n_rows
    usual = min(4096, max(512, 1 << round(math.log2(max(1, tokens / 1000)))))
    batch_size = settings.batch_size or min(usual, store.n_rows)
    check(batch_size <= store.n_rows, "batch_size", batch_size, f"at most the number of rows ({store.n_rows:,})")
    if not store.variance > 1e-12 * store.mean_squared_norm:
        raise ActivationError(
            f"all rows at {store.site} are alike (variance {store.variance:.3g}), so there is nothing to learn; choose another site"
        )
    steps = max(1, tokens // batch_size)
    kind = f"jumprelu {settings.penalty}" if settings.kind == "jumprelu" else settings.kind
    centred = kind != "l1"
    energy = store.variance if centred else store.mean_squared_norm
    usual_sparsity = SPARSITY.get(kind, TANH_SPARSITY_PER_DIMENSION * store.width if "tanh" in kind else 0.0)
    norms = settings.decoder_norms or ("free" if kind in ("l1", "jumprelu tanh") else "unit")
    return Plan(
        steps=steps,
        batch_size=batch_size,
        lr=settings.lr or min(LR_MOST, LR_AT_128_WIDE * math.sqrt(128 / store.width * 2048 / settings.n_features)),
        warm_up=max(1, min(1000, steps // 20)),
        decay=max(1, steps // 5),
        k=settings.k or min(32, settings.n_features),
        sparsity=usual_sparsity if settings.sparsity is None else settings.sparsity,
        sparsity_warm_up=round(WARM_UP_SHARE.get(kind, 0.0) * steps),
        aux_k=(store.width // 2 if kind in WITH_K else 0) if settings.aux_k is None else settings.aux_k,
        dead_after=settings.dead_after or min(10_000_000, max(batch_size, tokens // 10)),
        centred=centred,
        unit_norm=norms == "unit",
        scale=math.sqrt(store.width / max(energy, 1e-30)),
    )
