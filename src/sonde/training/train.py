"""Train a dictionary on harvested activations.

1. Fix the plan: steps, batch size, learning rate and input scaling, all functions of store and settings.
2. Start the weights, or take up the last checkpoint.
3. Step through the shuffled stream: loss, clip, Adam, unit decoder rows (topk), note what fired.
4. Fold the scaling in, so that the dictionary acts on raw activations, and read it once more over training
   rows for each feature's mean and maximum.
5. Save weights, metrics and manifest.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from sonde.activations.store import Activations, load_activations
from sonde.devices import choose_device, ensure_memory
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.load import FORMAT, load_dictionary, save_weights
from sonde.dictionaries.topk import TopK
from sonde.errors import ActivationError
from sonde.manifests import Draft, new_artifact, parent_entry, write_bytes
from sonde.progress import Reporter, Silent
from sonde.settings import check, from_mapping, to_mapping
from sonde.training.losses import step_loss
from sonde.training.settings import TrainSettings

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
CLIP_NORM = 1.0
L1_DECODER_START = 0.1  # source: Conerly et al., April 2024 update: decoder rows start at length 0.1 or less
L1_WARM_UP_SHARE = 0.05  # source: same: the penalty grows from zero over the first 5 % of steps
LR_AT_128_WIDE = 4e-3  # with 2,048 features; measured: docs/log.md, 2026-11-21
LR_MOST = 1e-2
TOPK_ENCODER_START = 0.5  # of the decoder rows' length; measured: docs/log.md, 2026-11-21
SUMMARY_ROWS = 1 << 18


@dataclass(frozen=True)
class Plan:
    """What a run will do; a pure function of the store and the settings."""

    steps: int
    batch_size: int
    lr: float
    warm_up: int
    decay: int
    """steps over which the rate falls to zero at the end"""
    k: int
    l1: float
    aux_k: int
    dead_after: int
    scale: float
    """inputs are (x - mean) * scale (topk) or x * scale (l1), with mean squared norm = width"""

    def lr_at(self, step: int) -> float:
        return self.lr * min(1.0, (step + 1) / self.warm_up, (self.steps - step) / self.decay)


def make_plan(store: Activations, settings: TrainSettings) -> Plan:
    """Fill in what the settings leave open."""
    tokens = settings.tokens or store.n_rows
    batch_size = settings.batch_size or min(4096, max(512, 1 << round(math.log2(max(1, tokens / 1000)))))
    steps = max(1, tokens // batch_size)
    energy = store.variance if settings.kind == "topk" else store.mean_squared_norm
    return Plan(
        steps=steps,
        batch_size=batch_size,
        lr=settings.lr or min(LR_MOST, LR_AT_128_WIDE * math.sqrt(128 / store.width * 2048 / settings.n_features)),
        warm_up=max(1, min(1000, steps // 20)),
        decay=max(1, steps // 5),
        k=settings.k or min(32, settings.n_features),
        l1=5.0 if settings.l1 is None else settings.l1,
        aux_k=store.width // 2 if settings.aux_k is None else settings.aux_k,
        dead_after=settings.dead_after or min(10_000_000, max(batch_size, tokens // 10)),
        scale=math.sqrt(store.width / max(energy, 1e-30)),
    )


@dataclass
class _State:
    """Everything that a checkpoint must hold."""

    dictionary: Dictionary
    optimiser: torch.optim.Adam
    step: int
    quiet_rows: Tensor
    """[n_features] rows since each feature last fired"""


def train(
    activations: Activations | str | Path, *, device: str = "auto", reporter: Reporter | None = None, **settings: Any
) -> Dictionary:
    """Train a dictionary and save it; the same command, run again, goes on where it stopped.

    Args:
        activations: a store, or its folder.
        device: auto, cpu, cuda, cuda:N or mps.
        reporter: told of progress.
        settings: the fields of `TrainSettings`; `n_features` and `out` are needed.

    Returns:
        The dictionary as it was saved, acting on raw activations.

    Raises:
        ActivationError (the loss is not finite), CapacityError, SettingsError, ArtifactError, StorageError.
    """
    chosen = from_mapping(TrainSettings, settings)
    reporter = reporter or Silent()
    store = activations if isinstance(activations, Activations) else load_activations(activations)
    store = store.at(chosen.site)
    target = choose_device(device)
    plan = make_plan(store, chosen)
    check(
        plan.batch_size <= store.n_rows, "batch_size", plan.batch_size, f"at most the number of rows ({store.n_rows:,})"
    )
    needed = 4 * (8 * chosen.n_features * store.width + 3 * plan.batch_size * chosen.n_features)
    ensure_memory(
        needed, f"training {chosen.n_features:,} features", "a smaller --n-features or --batch-size needs less", target
    )

    parents = {"activations": parent_entry(store.folder, store.manifest)}
    with new_artifact(chosen.out, format=FORMAT, settings=to_mapping(chosen), parents=parents) as draft:
        if draft.finished:
            reporter.say(f"{chosen.out} is finished: {draft.finished.facts['n_features']:,} features")
        else:
            _run(store, chosen, plan, draft, target, reporter)
    return load_dictionary(chosen.out, device)


def _run(
    store: Activations, settings: TrainSettings, plan: Plan, draft: Draft, device: torch.device, reporter: Reporter
) -> None:
    mean = (store.mean.float() if settings.kind == "topk" else torch.zeros(store.width)).to(device)
    state = _start(store, settings, plan, device)
    _resume(state, draft)
    variance = store.variance * plan.scale**2
    metrics = _open_metrics(draft.folder / METRICS, state.step)
    saved_at = time.monotonic()
    rows = plan.steps * plan.batch_size
    stream = store.stream(plan.batch_size, start=state.step * plan.batch_size)
    with metrics, reporter.start("train", rows, "tokens", done=state.step * plan.batch_size) as progress:
        while state.step < plan.steps:
            x = (next(stream).to(device, torch.float32) - mean) * plan.scale
            numbers = _step(state, x, plan, variance)
            note = f"FVU {numbers['fvu']:.3f}  L0 {numbers['l0']:.1f}  dead {numbers['dead']:.1%}"
            progress.advance(plan.batch_size, note)
            if state.step % 20 == 0 or state.step == plan.steps:
                metrics.write(json.dumps({"step": state.step} | numbers) + "\n")
            if time.monotonic() - saved_at > settings.checkpoint_every_s:
                metrics.flush()
                _save_checkpoint(state, draft.folder)
                saved_at = time.monotonic()

    dictionary = state.dictionary
    dictionary.fold(mean, plan.scale)
    facts = _summarise(dictionary, store, device, reporter)
    name = save_weights(dictionary, draft.folder)
    (draft.folder / CHECKPOINT).unlink(missing_ok=True)
    draft.finish(
        [name, METRICS],
        {
            "kind": dictionary.kind,
            "kind_settings": dictionary.extra_state(),
            "n_features": dictionary.n_features,
            "d_in": dictionary.d_in,
            "d_out": dictionary.W_dec.shape[1],
            "steps": plan.steps,
            "batch_size": plan.batch_size,
            "lr": plan.lr,
            "training_rows": facts,
            "model": store.manifest.facts["model"],
            "site": store.site,
        },
    )


def _start(store: Activations, settings: TrainSettings, plan: Plan, device: torch.device) -> _State:
    """Random decoder directions, the encoder their transpose (topk: at half the length), biases zero."""
    generator = torch.Generator().manual_seed(settings.seed)
    dictionary: Dictionary
    if settings.kind == "topk":
        dictionary, length, encoder_share = TopK(settings.n_features, store.width, k=plan.k), 1.0, TOPK_ENCODER_START
    else:
        dictionary, length, encoder_share = L1(settings.n_features, store.width), L1_DECODER_START, 1.0
    directions = torch.randn(settings.n_features, store.width, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    with torch.no_grad():
        dictionary.W_enc.copy_(directions * length * encoder_share)
        dictionary.W_dec.copy_(directions * length)
    dictionary.to(device)
    optimiser = torch.optim.Adam(
        dictionary.parameters(), lr=plan.lr, betas=(0.9, 0.999), fused=device.type in ("cpu", "cuda")
    )
    return _State(dictionary, optimiser, 0, torch.zeros(settings.n_features, dtype=torch.int64, device=device))


def _step(state: _State, x: Tensor, plan: Plan, variance: float) -> dict[str, float]:
    """One step of training; returns the batch's numbers."""
    dictionary = state.dictionary
    dead = state.quiet_rows >= plan.dead_after
    warmed = min(1.0, state.step / max(1, L1_WARM_UP_SHARE * plan.steps))
    result = step_loss(dictionary, x, variance, dead, plan.aux_k, plan.l1 * warmed)
    loss = result.loss.item()
    if not math.isfinite(loss):
        raise ActivationError(
            f"the loss is {loss} at step {state.step}; lower the learning rate ({plan.lr:.2g} now) with --lr"
        )
    for group in state.optimiser.param_groups:
        group["lr"] = plan.lr_at(state.step)
    state.optimiser.zero_grad()
    result.loss.backward()
    if isinstance(dictionary, TopK):  # rows keep their length, so what points along them would only mislead Adam
        with torch.no_grad():
            W_dec, gradient = dictionary.W_dec, dictionary.W_dec.grad
            assert gradient is not None
            gradient.sub_((gradient * W_dec).sum(dim=1, keepdim=True) * W_dec)
    torch.nn.utils.clip_grad_norm_(dictionary.parameters(), CLIP_NORM)
    state.optimiser.step()
    if isinstance(dictionary, TopK):
        with torch.no_grad():
            dictionary.W_dec.div_(dictionary.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))
    state.quiet_rows += len(x)
    state.quiet_rows[result.fired] = 0
    state.step += 1
    return {
        "loss": loss,
        "fvu": result.squared_error.item() / variance,
        "l0": result.l0.item(),
        "dead": (state.quiet_rows >= plan.dead_after).float().mean().item(),
        "lr": plan.lr_at(state.step - 1),
    }


def _save_checkpoint(state: _State, folder: Path) -> None:
    tensors = {"quiet_rows": state.quiet_rows}
    for name, parameter in state.dictionary.named_parameters():
        moments = state.optimiser.state[parameter]
        tensors |= {
            f"{name}/value": parameter.detach(),
            f"{name}/m": moments["exp_avg"],
            f"{name}/v": moments["exp_avg_sq"],
        }
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(folder / CHECKPOINT, save(contiguous, metadata={"step": str(state.step)}))


def _resume(state: _State, draft: Draft) -> None:
    """Take up the last checkpoint, where there is one."""
    path = draft.folder / CHECKPOINT
    if not (draft.resumed and path.exists()):
        return
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = load(data)
    state.step = int(header["__metadata__"]["step"])
    state.quiet_rows.copy_(tensors["quiet_rows"])
    for name, parameter in state.dictionary.named_parameters():
        with torch.no_grad():
            parameter.copy_(tensors[f"{name}/value"])
        state.optimiser.state[parameter] = {
            "step": torch.tensor(float(state.step)),
            "exp_avg": tensors[f"{name}/m"].to(parameter.device),
            "exp_avg_sq": tensors[f"{name}/v"].to(parameter.device),
        }


def _open_metrics(path: Path, step: int):
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


@torch.no_grad()
def _summarise(dictionary: Dictionary, store: Activations, device: torch.device, reporter: Reporter) -> dict[str, Any]:
    """Each feature's mean and maximum, and the quality, over training rows, as the dictionary will be saved."""
    n_rows = min(store.n_rows, SUMMARY_ROWS)
    total = torch.zeros(dictionary.n_features, dtype=torch.float64, device=device)
    error, n_active, seen = 0.0, 0, 0
    mean = store.mean.to(device)
    spread = 0.0
    dictionary.max_activation.zero_()
    for batch in store.stream(min(4096, n_rows)):
        x = batch.to(device, torch.float32)
        _, feature, value = dictionary.active(x)
        total.index_add_(0, feature, value.double())
        dictionary.max_activation.scatter_reduce_(0, feature, value, "amax")
        error += float((x - dictionary.reconstruct(x)).double().square().sum())
        spread += float((x.double() - mean).square().sum())
        n_active += len(value)
        seen += len(x)
        if seen >= n_rows:
            break
    dictionary.mean_activation.copy_(total / seen)
    dead = float((dictionary.max_activation == 0).float().mean())
    facts = {"rows": seen, "fvu": error / spread, "l0": n_active / seen, "dead": dead}
    reporter.say(f"on {seen:,} training rows: FVU {facts['fvu']:.4f}, L0 {facts['l0']:.1f}, dead {dead:.1%}")
    return facts
