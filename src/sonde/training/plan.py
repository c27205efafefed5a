"""What a training run will do: a pure function of the activations and the settings."""

import math
from dataclasses import dataclass

from sonde.activations.live import Live
from sonde.activations.lockstep import Lockstep
from sonde.activations.store import Activations
from sonde.errors import ActivationError, SettingsError
from sonde.settings import check
from sonde.training.settings import TrainSettings

Source = Activations | Live | Lockstep
"""what rows come from"""
LR_AT_128_WIDE = 4e-3  # with 2,048 features; measured: docs/log.md, 2026-11-21
LR_MOST = 1e-2


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    steps: int
    batch_size: int
    lr: float
    warm_up: int
    decay: int
    """steps over which the rate falls to zero at the end"""
    sparsity: float
    """weight of the penalty"""
    sparsity_warm_up: int
    """steps over which the penalty grows from zero"""
    aux_k: int
    dead_after: int
    centred: bool
    """whether the mean is subtracted from inputs"""
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scale: dict[str, float]
    """of each site: inputs are (x - mean) * scale or x * scale, with mean squared norm = width"""

    def lr_at(self, step: int) -> float:
        return self.lr * min(1.0, (step + 1) / self.warm_up, (self.steps - step) / self.decay)

    def sparsity_at(self, step: int) -> float:
        return self.sparsity * min(1.0, step / max(1, self.sparsity_warm_up))


def sites_of(store: Source, settings: TrainSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sites that are read and that are written: as the settings say, and else all that are chosen in the store."""
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
    defaults, n_features = settings.recipe.defaults, settings.n_features
    tokens = settings.tokens or store.n_rows
    usual = min(4096, max(512, 1 << round(math.log2(max(1, tokens / 1000)))))
    batch_size = settings.batch_size or min(usual, store.n_rows)
    check(batch_size <= store.n_rows, "batch_size", batch_size, f"at most the number of rows ({store.n_rows:,})")
    steps = max(1, tokens // batch_size)
    reads, writes = sites_of(store, settings)
    scale = _scale(store, defaults.centred)
    widths = {block.site: block.width for block in store.blocks}
    d_in, d_out = (sum(widths[site] for site in sites) for sites in (reads, writes))
    sparsity = defaults.sparsity + defaults.sparsity_per_dimension * d_out
    return Plan(
        steps=steps,
        batch_size=batch_size,
        lr=settings.lr or min(LR_MOST, LR_AT_128_WIDE * math.sqrt(128 / d_in * 2048 / n_features)),
        warm_up=max(1, min(1000, steps // 20)),
        decay=max(1, steps // 5),
        sparsity=sparsity if settings.sparsity is None else settings.sparsity,
        sparsity_warm_up=round(defaults.sparsity_warm_up * steps),
        aux_k=(d_out // 2 if defaults.revived else 0) if settings.aux_k is None else settings.aux_k,
        dead_after=settings.dead_after or min(10_000_000, max(batch_size, tokens // 10)),
        centred=defaults.centred,
        reads=reads,
        writes=writes,
        scale=scale,
    )


def _scale(store: Source, centred: bool) -> dict[str, float]:
    """site -> by what its vectors are multiplied, so that their mean squared norm equals their width."""
    scale = {}
    for block, mean in zip(store.blocks, store.mean.split([block.width for block in store.blocks]), strict=True):
        variance = block.mean_squared_norm - mean.square().sum().item()
        if not variance > 1e-12 * block.mean_squared_norm:
            raise ActivationError(
                f"all rows at {block.site} are alike (variance {variance:.3g}), so there is nothing to learn; "
                "choose another site"
            )
        scale[block.site] = math.sqrt(block.width / max(variance if centred else block.mean_squared_norm, 1e-30))
    return scale
