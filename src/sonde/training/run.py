"""One dictionary in training: its weights, its steps, its checkpoints, and what is saved in the end.

A step: loss, clip, Adam, decoder rows back to length one (where they are kept so), note what fired. At the end
scaling and norms are folded in, so that the dictionary acts on raw activations, and it is read once more over training
rows for its threshold (batchtopk, matryoshka) and each feature's mean and maximum.
"""

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
from sonde.dictionaries.batchtopk import BatchTopK
from sonde.dictionaries.dictionary import DENSITY_EDGES, Dictionary
from sonde.dictionaries.info import Provenance, Quality
from sonde.dictionaries.jumprelu import JumpReLU
from sonde.dictionaries.load import KINDS, save_weights
from sonde.errors import ActivationError, StorageError
from sonde.manifests import write_bytes
from sonde.progress import Reporter
from sonde.tensor_files import read_header
from sonde.training.losses import BANDWIDTH, LossSettings, StepLoss
from sonde.training.penalties import FEATURES_AT_ONCE
from sonde.training.plan import Plan, Source
from sonde.training.settings import WITH_K, TrainSettings
from sonde.training.sides import Sides
from sonde.training.steps import BY_FLOOR, SPARSE_BELOW, AutogradStep, FusedStep

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
METRICS_EVERY = 20
DENSITY_MEMORY = 0.99
"""how much of the running density of features a step keeps"""
SUMMARY_ROWS = 1 << 18
ENCODER_START = 0.5  # of the decoder rows' length, where there is a k; measured: docs/log.md, 2026-11-21
L1_DECODER_START = 0.1  # source: Conerly et al., April 2024 update: decoder rows start at length 0.1 or less
TANH_THRESHOLD_START = 0.1  # source: Conerly et al., January 2025 update
L0_THRESHOLD_START = 0.1  # for inputs of mean squared norm one; measured: docs/log.md, 2026-11-21. The paper has 0.001.
FIRES_AT_START = 10_000  # source: same: features active on a row at the start; here at most a tenth of them
MOST_AT_START = 0.1
START_ROWS, RIDGE = 1 << 14, 1e-3
EXPLODED_FVU = 1e3
"""training is stopped where squared errors exceed the variance as often; at the start they may exceed it tenfold"""
RESAMPLED_ENCODER = 0.2  # of the living features' mean length; source: Bricken et al. 2023, appendix


class Run:
    """A dictionary in training, at some step.

    Args:
        draft: the artifact that it is to be; an earlier run's checkpoint in it is taken up.
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
        self.sides = Sides.of(store, plan, device)
        self.dictionary = start(store, settings, plan).to(device)
        first_beta = 0.0 if settings.penalty == "l0" else 0.9  # source: Rajamanoharan et al. 2024 (arXiv 2407.14435)
        self.optimiser = torch.optim.Adam(
            self.dictionary.parameters(),
            lr=plan.lr,
            betas=(first_beta, 0.999),
            fused=device.type in ("cpu", "cuda"),
        )
        self.step_number = 0
        n = settings.n_features
        self.quiet_rows = torch.zeros(n, dtype=torch.int64, device=device)
        """[n_features] rows since each feature last fired"""
        self.density = torch.zeros(n, device=device)
        """[n_features] running share of rows on which each feature fires"""
        self.saved_at = time.monotonic()
        if draft.resumed:
            self._take_up(draft.folder / CHECKPOINT)
        how = {"unit_norm": plan.unit_norm, "clip": settings.clip}
        self.by_autograd = AutogradStep(self.dictionary, self.optimiser, **how)
        self.fused = None
        if FusedStep.takes(self.dictionary, self._loss_settings(), device):
            rms = self.sides(next(iter(store.sample(4096))))[0].square().mean(dim=0).sqrt()
            self.fused = FusedStep(self.dictionary, self.optimiser, rms, **how)
        self.metrics = _open_metrics(draft.folder / METRICS, self.step_number)

    def close(self) -> None:
        """Let go of the metrics file, finished or not."""
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
                f"{what} at step {self.step_number}{self._documents()}; lower the learning rate ({plan.lr:.2g} now) with --lr"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = plan.lr_at(self.step_number)
        step.apply()
        self.quiet_rows += len(x)
        self.quiet_rows[result.counts > 0] = 0
        self.density.lerp_(result.counts / len(x), 1.0 if self.step_number == 0 else 1 - DENSITY_MEMORY)
        self.step_number += 1
        every = self.settings.resample_every
        if every and self.step_number % every == 0 and self.step_number <= plan.steps // 2:
            self._resample(x, result.error)
        whole, left = y.flatten().dot(y.flatten()).item(), y.flatten().dot(result.error.flatten()).item()
        error = result.squared_error.item() * len(x)
        numbers = {
            "loss": loss,
            "fvu": fvu,
            "l0": result.l0.item(),
            "dead": (self.quiet_rows >= plan.dead_after).float().mean().item(),
            "gamma": (whole - 2 * left + error) / (whole - left),  # |y_hat|^2 / (y_hat . y)
            "lr": plan.lr_at(self.step_number - 1),
        }
        if self.step_number % METRICS_EVERY == 0 or self.step_number == plan.steps:
            edges = torch.tensor(DENSITY_EDGES, device=self.density.device)
            counts = torch.bincount(torch.bucketize(self.density, edges), minlength=len(edges) + 1)
            self.metrics.write(json.dumps({"step": self.step_number} | numbers | {"densities": counts.tolist()}) + "\n")
        return numbers

    def _loss(self, x: Tensor, y: Tensor) -> tuple[AutogradStep | FusedStep, StepLoss]:
        """The loss of these rows, and the step that it belongs to: by what is active, unless that is too much."""
        settings = self._loss_settings()
        if self.fused is not None:
            few = self.step_number == 0 or self.density.sum() < SPARSE_BELOW * self.settings.n_features
            result = self.fused.loss(x, y, settings) if few or self.settings.kind not in BY_FLOOR else None
            if result is not None:
                return self.fused, result
            self.fused.stale = True
        return self.by_autograd, self.by_autograd.loss(x, y, settings)

    def _loss_settings(self) -> LossSettings:
        chosen = self.settings
        return LossSettings(
            variance=self.sides.variance,
            widths=tuple(self.sides.writes.values()) if len(self.sides.writes) > 1 else (),
            sparsity=self.plan.sparsity_at(self.step_number),
            penalty=chosen.penalty,
            bandwidth=chosen.bandwidth or BANDWIDTH[chosen.penalty],
            multi_k=chosen.multi_k,
            dead=self.quiet_rows >= self.plan.dead_after if self.plan.aux_k else None,
            aux_k=self.plan.aux_k,
        )

    def save_checkpoint(self, reporter: Reporter) -> None:
        """Write all that the rest of the run depends on; a disk that is full is said, and no reason to stop."""
        tensors = {"quiet_rows": self.quiet_rows, "density": self.density}
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

    def finish(self, reporter: Reporter) -> None:
        """Fold scaling and norms in, read the dictionary over training rows, and save it."""
        self.metrics.flush()
        dictionary = self.dictionary
        if isinstance(dictionary, BatchTopK):
            self._set_threshold(dictionary)
        dictionary.fold(self.sides.inputs, self.sides.outputs)
        quality = self._summarise(reporter)
        name = save_weights(dictionary, self.draft.folder)
        (self.draft.folder / CHECKPOINT).unlink(missing_ok=True)
        first, *others = self.store.models
        dictionary.info = replace(
            dictionary.info,
            reads=self.sides.reads,
            writes=self.sides.writes,
            model=first,
            other_models=tuple(others),
            text=self.store.text_facts,
            quality=quality,
            provenance=Provenance(steps=self.plan.steps, batch_size=self.plan.batch_size, lr=self.plan.lr),
        )
        self.draft.finish([name, METRICS], dictionary.info.to_facts())

    def _take_up(self, path: Path) -> None:
        """Go on from the last checkpoint, where there is one."""
        if not path.exists():
            return
        self.step_number = int(read_header(path).metadata["step"])
        tensors = load(path.read_bytes())
        self.quiet_rows.copy_(tensors["quiet_rows"])
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
    def _resample(self, x: Tensor, error: Tensor) -> None:
        """Restart dead features from rows, chosen by squared error (Bricken et al. 2023, "Towards Monosemanticity")."""
        [dead] = (self.quiet_rows >= self.plan.dead_after).nonzero(as_tuple=True)
        if not len(dead):
            return
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step_number)
        chances = error.square().sum(dim=1).double().square().cpu()
        chosen = torch.multinomial(chances, len(dead), replacement=len(dead) > len(x), generator=generator)
        chosen = chosen.to(x.device)
        direction = torch.nn.functional.normalize(error[chosen], dim=1)
        reading = direction if self.sides.alike else torch.nn.functional.normalize(x[chosen], dim=1)
        dictionary, alive = self.dictionary, torch.ones_like(self.quiet_rows, dtype=torch.bool)
        alive[dead] = False
        encoder, decoder = (
            W[alive].norm(dim=1).mean() if alive.any() else 1.0 for W in (dictionary.W_enc, dictionary.W_dec)
        )
        dictionary.W_enc[dead] = reading * encoder * RESAMPLED_ENCODER
        dictionary.W_dec[dead] = direction * decoder
        dictionary.b_enc[dead] = 0.0
        for parameter in (dictionary.W_enc, dictionary.W_dec, dictionary.b_enc):
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimiser.state[parameter][moment][dead] = 0.0
        self.quiet_rows[dead] = 0
        if self.fused is not None:
            self.fused.stale = True

    @torch.no_grad()
    def _set_threshold(self, dictionary: BatchTopK) -> None:
        """Set the threshold that k activations of an average training row exceed."""
        largest, n_rows = [], 0
        for batch in self.store.sample(SUMMARY_ROWS >> 2):
            x, _ = self.sides(batch.to(dictionary.W_enc.device))
            pre = torch.addmm(dictionary.b_enc, x, dictionary.W_enc.T).relu().flatten()
            largest.append(pre.topk(min(len(pre), 2 * dictionary.k * len(x)), sorted=False).values)
            n_rows += len(x)
        values = torch.cat(largest)
        wanted = min(len(values), dictionary.k * n_rows)
        dictionary.threshold.fill_(values.kthvalue(len(values) - wanted + 1).values.item())

    @torch.no_grad()
    def _summarise(self, reporter: Reporter) -> Quality:
        """Each feature's mean and maximum, and the quality, over training rows, as the dictionary will be saved."""
        dictionary, widths = self.dictionary, list(self.sides.writes.values())
        device = dictionary.W_enc.device
        total = torch.zeros(dictionary.n_features, dtype=torch.float64, device=device)
        error, spread = torch.zeros(2, dictionary.d_out, dtype=torch.float64, device=device)
        n_active, seen = 0, 0
        _, mean = self.sides.raw(self.store.mean.to(device)[None])
        dictionary.max_activation.zero_()
        for batch in self.store.sample(SUMMARY_ROWS):
            x, y = self.sides.raw(batch.to(device, torch.float32))
            _, feature, value = dictionary.active(x)
            total.index_add_(0, feature, value.double())
            dictionary.max_activation.scatter_reduce_(0, feature, value, "amax")
            error += (y - dictionary.reconstruct(x)).double().square().sum(dim=0)
            spread += (y.double() - mean).square().sum(dim=0)
            n_active += len(value)
            seen += len(x)
        dictionary.output_mean.copy_(mean[0])
        dictionary.mean_activation.copy_(total / seen)
        dead = float((dictionary.max_activation == 0).float().mean())
        by_site = [
            (left.sum() / whole.sum()).item()
            for left, whole in zip(error.split(widths), spread.split(widths), strict=True)
        ]
        quality = Quality(
            rows=seen,
            fvu=sum(by_site) / len(by_site),
            l0=n_active / seen,
            dead=dead,
            fvu_by_site=dict(zip(self.sides.writes, by_site, strict=True)) if len(by_site) > 1 else {},
        )
        reporter.say(f"on {seen:,} training rows: FVU {quality.fvu:.4f}, L0 {quality.l0:.1f}, dead {dead:.1%}")
        return quality

    def _documents(self) -> str:
        """Which documents the rows of this step are from, where that is known."""
        if isinstance(self.store, Live):
            return ""
        rows = next(self.store.batches(self.plan.batch_size, self.step_number * self.plan.batch_size))
        documents = sorted(set(rows.document.tolist()))
        named = ", ".join(map(str, documents[:5])) + (f" and {len(documents) - 5:,} more" if len(documents) > 5 else "")
        return f", on rows of documents {named}"


def start(store: Source, settings: TrainSettings, plan: Plan) -> Dictionary:
    """A dictionary before its first step: decoder rows, the encoder as their transpose, biases zero.

    Where other sites are written than read, rows of the encoder are random directions, and those of the decoder what
    a linear regression makes of them; where they are the same, that is the transpose.

    The January 2025 recipe (jumprelu with tanh) has an encoder of width / n_features of that, and biases with which each
    feature fires on an equal share of rows.
    """
    sides = Sides.of(store, plan)
    n, width = settings.n_features, len(sides.inputs.mean)
    generator = torch.Generator().manual_seed(settings.seed)
    given: dict[str, Any] = {"k": plan.k} if settings.kind in WITH_K else {}
    if settings.prefixes is not None:
        given["prefixes"] = settings.prefixes
    dictionary = KINDS[settings.kind](n, width, len(sides.outputs.mean), skip=settings.skip, **given)
    directions = torch.randn(n, width, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    if settings.init == "data":
        rows = torch.cat([sides(batch.cpu())[0] for batch in store.sample(max(n, 4096))])
        rows = rows[torch.arange(n) % len(rows)]
        directions = torch.nn.functional.normalize(torch.nn.functional.normalize(rows, dim=1) + directions, dim=1)
    written = directions if sides.alike else _regressed(directions, sides, store)
    tanh = settings.kind == "jumprelu" and settings.penalty == "tanh"
    decoder, encoder = 1.0, ENCODER_START
    if settings.kind in ("l1", "gated"):
        decoder, encoder = (L1_DECODER_START, 1.0) if not plan.unit_norm else (1.0, 1.0)
    elif tanh:
        decoder, encoder = (1.0 if plan.unit_norm else 3**-0.5), min(1.0, width / n)
    elif settings.kind == "jumprelu":
        encoder = 1.0
    with torch.no_grad():
        dictionary.W_dec.copy_(written * decoder)
        dictionary.W_enc.copy_(directions * decoder * encoder)
        if isinstance(dictionary, JumpReLU):
            threshold = TANH_THRESHOLD_START if tanh else L0_THRESHOLD_START * math.sqrt(width)
            dictionary.log_threshold.fill_(math.log(threshold))
        if tanh:
            x, _ = sides(next(iter(store.sample(4096))).cpu())
            highest = max(1, round((1 - min(MOST_AT_START, FIRES_AT_START / n)) * len(x)))
            parts = [(x @ rows.T).kthvalue(highest, dim=0).values for rows in dictionary.W_enc.split(FEATURES_AT_ONCE)]
            dictionary.b_enc.copy_(TANH_THRESHOLD_START - torch.cat(parts))
    return dictionary


def _regressed(directions: Tensor, sides: Sides, store: Source) -> Tensor:
    """Where ridge regression of y on x sends directions [n_features, d_in], at length one [n_features, d_out]."""
    d_in, d_out = directions.shape[1], len(sides.outputs.mean)
    squares, products = torch.zeros(d_in, d_in, dtype=torch.float64), torch.zeros(d_in, d_out, dtype=torch.float64)
    for batch in store.sample(START_ROWS):
        x, y = (side.double() for side in sides(batch.cpu()))
        squares += x.T @ x
        products += x.T @ y
    ridge = RIDGE * squares.diagonal().mean() * torch.eye(d_in, dtype=torch.float64)
    sent = directions @ torch.linalg.solve(squares + ridge, products).float()
    return torch.nn.functional.normalize(sent, dim=1)


def _open_metrics(path: Path, step: int) -> TextIO:
    """Open the metrics file, cut back to what was known at `step`."""
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
