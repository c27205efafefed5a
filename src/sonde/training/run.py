"""One dictionary in training: its weights, its steps, its checkpoints, and what is saved in the end.

A step: loss, clip, Adam, decoder rows back to length one (where they are kept so), note what fired. At the end
scaling and norms are folded in, so that the dictionary acts on raw activations, and it is read once more over training
rows for each feature's mean and maximum.
"""

import functools
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors.torch import load, save
from torch import Tensor

from sonde.activations.live import Live
from sonde.artifacts import Draft
from sonde.dictionaries.dictionary import DENSITY_EDGES
from sonde.dictionaries.info import Provenance, Quality
from sonde.dictionaries.load import save_weights
from sonde.errors import ActivationError, StorageError
from sonde.manifests import write_bytes
from sonde.progress import Reporter
from sonde.tensor_files import read_header
from sonde.training.losses import LossSettings, StepLoss
from sonde.training.plan import Plan, Source
from sonde.training.settings import TrainSettings
from sonde.training.sides import Sides
from sonde.training.start import make_dictionary, restart_features
from sonde.training.steps import AutogradStep, FusedStep, make_fused_step

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
METRICS_EVERY = 20
DENSITY_MEMORY = 0.99
"""how much of the running density of features a step keeps"""
SUMMARY_ROWS, SUMMARY_SHARE, SUMMARY_LEAST = 1 << 18, 5, 1 << 14
"""training rows that are read in the end: the first number, but of a short run one in five, and the last at least"""
EXPLODED_FVU = 1e3
"""training stops where the squared error exceeds the variance this many times; at the start it may be tenfold"""


class Run:
    """A dictionary in training, at some step.

    Args:
        draft: the artifact to be written; training resumes from the checkpoint of an earlier run in it.
    """

    def __init__(
        self,
        store: Source,
        settings: TrainSettings,
        plan: Plan,
        draft: Draft[Path],
        device: torch.device,
    ) -> None:
        self.store, self.settings, self.plan, self.draft = store, settings, plan, draft
        self.recipe = recipe = settings.recipe
        self.sides = Sides.of(store, plan, device)
        self.sample = functools.partial(self.sides.sample, store)
        self.dictionary = make_dictionary(store, settings, plan).to(device)
        self.optimiser = torch.optim.Adam(
            self.dictionary.parameters(),
            lr=plan.lr,
            betas=(recipe.defaults.beta1, 0.999),
            fused=device.type in ("cpu", "cuda"),
        )
        self.step_number = 0
        n = settings.n_features
        self.rows_since_fired = torch.zeros(n, dtype=torch.int64, device=device)
        """[n_features] rows since each feature last fired"""
        self.density = torch.zeros(n, device=device)
        """[n_features] running share of rows on which each feature fires"""
        self.saved_at = time.monotonic()
        if draft.resumed:
            self._resume(draft.folder / CHECKPOINT)
        clip, n_sites = settings.clip, len(self.sides.writes)
        self.by_autograd = AutogradStep(recipe, self.dictionary, self.optimiser, clip=clip)
        self.fused = make_fused_step(recipe, self.dictionary, self.optimiser, self.sample, clip=clip, n_sites=n_sites)
        self.metrics = _open_metrics(draft.folder / METRICS, self.step_number)

    def close(self) -> None:
        """Close the metrics file, finished or not."""
        self.metrics.close()

    def step(self, rows: Tensor) -> dict[str, Any]:
        """One step on raw rows [batch_size, width]; returns the batch's numbers."""
        plan = self.plan
        x, y = self.sides(rows)
        step, result = self._loss(x, y)
        loss, fvu = result.loss.item(), result.squared_error.item() / self.sides.variance
        if not (math.isfinite(loss) and fvu < EXPLODED_FVU):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"training has come apart (FVU {fvu:,.0f})"
            raise ActivationError(
                f"{what} at step {self.step_number}{self._documents()}; "
                f"lower the learning rate ({plan.lr:.2g} now) with --lr"
            )
        lr = plan.lr_at(self.step_number)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        step.apply()
        self.rows_since_fired += len(x)
        self.rows_since_fired[result.counts > 0] = 0
        self.density.lerp_(result.counts / len(x), 1.0 if self.step_number == 0 else 1 - DENSITY_MEMORY)
        self.step_number += 1
        every = self.settings.resample_every
        if every and self.step_number % every == 0 and self.step_number <= plan.steps // 2:
            self._resample(x, result.error)
        numbers = {
            "loss": loss,
            "fvu": fvu,
            "l0": result.l0.item(),
            "dead": self._dead().float().mean().item(),
            "gamma": _gamma(y, result),
            "lr": lr,
        }
        if self.step_number % METRICS_EVERY == 0 or self.step_number == plan.steps:
            edges = torch.tensor(DENSITY_EDGES, device=self.density.device)
            counts = torch.bincount(torch.bucketize(self.density, edges), minlength=len(edges) + 1)
            self.metrics.write(json.dumps({"step": self.step_number} | numbers | {"densities": counts.tolist()}) + "\n")
        return numbers

    def _loss(self, x: Tensor, y: Tensor) -> tuple[AutogradStep | FusedStep, StepLoss]:
        """The loss of these rows, and the step that takes its gradient: the fused one, unless too much is active."""
        settings = LossSettings(
            variance=self.sides.variance,
            widths=tuple(self.sides.writes.values()) if len(self.sides.writes) > 1 else (),
            sparsity=self.plan.sparsity_at(self.step_number),
            dead=self._dead() if self.plan.aux_k else None,
            aux_k=self.plan.aux_k,
        )
        if self.fused is not None:
            few = self.density.sum() < self.fused.recipe.sparse_below * self.settings.n_features
            result = self.fused.loss(x, y, settings) if few else None
            if result is not None:
                return self.fused, result
            self.fused.stale = True
        return self.by_autograd, self.by_autograd.loss(x, y, settings)

    def _dead(self) -> Tensor:
        """[n_features] which features have not fired for a long time."""
        return self.rows_since_fired >= self.plan.dead_after

    def _resample(self, x: Tensor, error: Tensor) -> None:
        """Restart dead features from badly reconstructed rows."""
        dead = self._dead()
        if not dead.any():
            return
        seed = self.settings.seed * 1_000_003 + self.step_number
        restart_features(self.dictionary, self.optimiser, dead, x, error, alike=self.sides.alike, seed=seed)
        self.rows_since_fired[dead] = 0
        if self.fused is not None:
            self.fused.stale = True

    def save_checkpoint(self, reporter: Reporter) -> None:
        """Write everything that the rest of the run depends on; where the disk is full, say so and go on."""
        tensors = {"rows_since_fired": self.rows_since_fired, "density": self.density}
        for name, parameter in self.dictionary.named_parameters():
            moments = self.optimiser.state[parameter]
            tensors |= {
                f"{name}/value": parameter.detach(),
                f"{name}/m": moments["exp_avg"],
                f"{name}/v": moments["exp_avg_sq"],
            }
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            self.metrics.flush()
            write_bytes(self.draft.folder / CHECKPOINT, save(contiguous, metadata={"step": str(self.step_number)}))
        except (StorageError, OSError) as error:
            reporter.say(f"no checkpoint at step {self.step_number}: {error}; training goes on")
        self.saved_at = time.monotonic()

    def _resume(self, path: Path) -> None:
        """Go on from the last checkpoint, where there is one."""
        if not path.exists():
            return
        self.step_number = int(read_header(path).metadata["step"])
        tensors = load(path.read_bytes())
        self.rows_since_fired.copy_(tensors["rows_since_fired"])
        self.density.copy_(tensors["density"])
        for name, parameter in self.dictionary.named_parameters():
            with torch.no_grad():
                parameter.copy_(tensors[f"{name}/value"])
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(self.step_number)),
                "exp_avg": tensors[f"{name}/m"].to(parameter.device),
                "exp_avg_sq": tensors[f"{name}/v"].to(parameter.device),
            }

    @torch.no_grad()
    def finish(self, reporter: Reporter) -> None:
        """Fold scaling and norms in, read the dictionary over training rows, and save it."""
        self.metrics.flush()
        dictionary = self.dictionary
        self.recipe.finish(dictionary, self.sample)
        dictionary.fold(self.sides.inputs, self.sides.outputs)
        quality = self._summarise(reporter)
        name = save_weights(dictionary, self.draft.folder)
        (self.draft.folder / CHECKPOINT).unlink(missing_ok=True)
        first, *others = self.store.models
        own = self.sides.reads | self.sides.writes
        dictionary.info = replace(
            dictionary.info,
            reads=self.sides.reads,
            writes=self.sides.writes,
            norm_limits={site: limit for site, limit in self.store.norm_limits.items() if site in own},
            model=first,
            other_models=tuple(others),
            text=self.store.text_facts,
            quality=quality,
            provenance=Provenance(steps=self.plan.steps, batch_size=self.plan.batch_size, lr=self.plan.lr),
        )
        self.draft.finish([name, METRICS], dictionary.info.to_facts())

    def _summarise(self, reporter: Reporter) -> Quality:
        """Set each feature's mean and maximum, and return the quality, over training rows."""
        dictionary, widths = self.dictionary, list(self.sides.writes.values())
        device = dictionary.W_enc.device
        total = torch.zeros(dictionary.n_features, dtype=torch.float64, device=device)
        error, spread = torch.zeros(2, dictionary.d_out, dtype=torch.float64, device=device)
        n_active, n_rows = 0, 0
        _, mean = self.sides.raw(self.store.mean.to(device)[None])
        dictionary.max_activation.zero_()
        for batch in self.store.sample(summary_rows(self.plan)):
            x, y = self.sides.raw(batch.to(device, torch.float32))
            _, feature, value = dictionary.active(x)
            total.index_add_(0, feature, value.double())
            dictionary.max_activation.scatter_reduce_(0, feature, value, "amax")
            error += (y - dictionary.reconstruct(x)).double().square().sum(dim=0)
            spread += (y.double() - mean).square().sum(dim=0)
            n_active += len(value)
            n_rows += len(x)
        dictionary.output_mean.copy_(mean[0])
        dictionary.mean_activation.copy_(total / n_rows)
        by_site = [
            (of_error.sum() / of_data.sum()).item()
            for of_error, of_data in zip(error.split(widths), spread.split(widths), strict=True)
        ]
        quality = Quality(
            rows=n_rows,
            fvu=sum(by_site) / len(by_site),
            l0=n_active / n_rows,
            dead=float((dictionary.max_activation == 0).float().mean()),
            fvu_by_site=dict(zip(self.sides.writes, by_site, strict=True)) if len(by_site) > 1 else {},
        )
        reporter.say(
            f"on {n_rows:,} training rows: FVU {quality.fvu:.4f}, L0 {quality.l0:.1f}, dead {quality.dead:.1%}"
        )
        return quality

    def _documents(self) -> str:
        """The documents that the rows of this step are from, where they are known, as the end of a message."""
        if isinstance(self.store, Live):
            return ""
        rows = next(self.store.batches(self.plan.batch_size, self.step_number * self.plan.batch_size))
        documents = sorted(set(rows.document.tolist()))
        more = f" and {len(documents) - 5:,} more" if len(documents) > 5 else ""
        return f", on rows of documents {', '.join(map(str, documents[:5]))}{more}"


def summary_rows(plan: Plan) -> int:
    """How many training rows a dictionary is read over in the end, so that this costs little beside the training."""
    return min(SUMMARY_ROWS, max(SUMMARY_LEAST, plan.steps * plan.batch_size // SUMMARY_SHARE))


def _gamma(y: Tensor, result: StepLoss) -> float:
    """|y_hat|^2 / (y_hat . y), summed over rows: one where nothing is shrunk; zero where y_hat is."""
    y_y, y_error = y.flatten().dot(y.flatten()).item(), y.flatten().dot(result.error.flatten()).item()
    squared_error = result.squared_error.item() * len(y)
    product = y_y - y_error
    return (y_y - 2 * y_error + squared_error) / product if product else 0.0


def _open_metrics(path: Path, step: int) -> TextIO:
    """Open the metrics file, without what an earlier run wrote after `step`."""
    kept = []
    if path.exists() and step:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:  # the line that a killed run was writing
                break
    path.write_text("".join(kept), encoding="utf-8")
    return path.open("a", encoding="utf-8")
