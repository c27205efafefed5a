"""Train dictionaries on harvested activations, or live on a model.

1. Fix the plan: steps, batch size, learning rate and input scaling, all functions of the activations and the settings.
2. Start the weights, or take up the last checkpoint.
3. Step through the shuffled stream; a sweep trains all its dictionaries from one reading of it.
4. Save weights, metrics and manifest.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonde.activations.live import Live
from sonde.activations.lockstep import Lockstep
from sonde.activations.store import Activations, load_activations
from sonde.artifacts import new_artifact
from sonde.devices import choose_device, ensure_memory, to_device
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import FORMAT, load_dictionary
from sonde.errors import SettingsError
from sonde.kernels import compiled
from sonde.manifests import parent_entry
from sonde.progress import Reporter, Silent
from sonde.remote import Place
from sonde.settings import check, from_mapping, to_mapping
from sonde.training.plan import Plan, Source, make_plan
from sonde.training.run import Run
from sonde.training.settings import RESAMPLED, WITH_K, WITH_PENALTY, TrainSettings

Log = Callable[[dict[str, Any]], None]
Given = Activations | Live | str | Place | Sequence[Activations | str | Place]
"""what may be trained on"""


def train(
    activations: Given,
    *,
    device: str = "auto",
    memory: int | None = None,
    log: Log | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Dictionary:
    """Train a dictionary and save it; the same command, run again, goes on where it stopped.

    Args:
        activations: a store, its folder or URL, or a `Live` model and text; or several stores of the same text
            by several models, for a crosscoder.
        device: auto, cpu, cuda, cuda:N or mps.
        memory: bytes for the rows of a store that are read and read ahead; 1 GiB by default. It changes no result.
        log: called with each step's numbers, such as `wandb.log`.
        reporter: told of progress.
        settings: the fields of `TrainSettings`; `n_features` and `out` are needed.

    Returns:
        The dictionary as it was saved, acting on raw activations.

    Raises:
        ActivationError (the loss is not finite, or rows are all alike), CapacityError, SettingsError, ArtifactError,
        StorageError.
    """
    chosen = from_mapping(TrainSettings, _as_lists(settings))
    _train_all(activations, [chosen], device, memory, log, reporter or Silent())
    return load_dictionary(chosen.out, device)


def sweep(
    activations: Given,
    *,
    out: str | Path,
    over: Mapping[str, Sequence[Any]],
    device: str = "auto",
    memory: int | None = None,
    log: Log | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> list[Dictionary]:
    """Train a dictionary for each combination of some settings, all from one reading of the activations.

    Args:
        out: folder of the dictionaries; each has a folder of its own in it, named by its settings.
        over: setting -> its values, such as {"n_features": [1024, 4096], "k": [16, 32]}. A setting that a kind does not
            have is left out for it.
        activations, device, memory, log, reporter, settings: as for `train`; what decides the batches (tokens,
            batch_size, site) is the same for all.

    Returns:
        The dictionaries, as they were saved, in the order of the combinations.
    """
    runs = sweep_settings(out, over, _as_lists(settings))
    _train_all(activations, runs, device, memory, log, reporter or Silent())
    return [load_dictionary(chosen.out, device) for chosen in runs]


def sweep_settings(out: str | Path, over: Mapping[str, Sequence[Any]], settings: dict[str, Any]) -> list[TrainSettings]:
    """The settings of each dictionary of a sweep; raises SettingsError where a combination is wrong."""
    for name in ("tokens", "batch_size", "site", "writes", "out", "checkpoint_every_s"):
        if name in over:
            raise SettingsError(f"a sweep cannot go over {name}: all its dictionaries are trained on the same batches")
    runs: dict[str, TrainSettings] = {}
    for values in itertools.product(*over.values()):
        varied = dict(zip(over, values, strict=True))
        kind = varied.get("kind", settings.get("kind", "topk"))
        given = _for_kind(kind, settings | varied)
        name = "-".join(f"{key}={value}" for key, value in varied.items() if key in given)
        runs[name] = from_mapping(TrainSettings, given | {"out": str(Path(out) / name)})
    return list(runs.values())


def _as_lists(settings: dict[str, Any]) -> dict[str, Any]:
    """Sites may be given one alone."""
    return {
        name: (value,) if name in ("site", "writes") and isinstance(value, str) else value
        for name, value in settings.items()
    }


def _for_kind(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a kind does not have, so that a sweep can go over kinds."""
    wanted = {
        "k": kind in WITH_K,
        "sparsity": kind in WITH_PENALTY,
        "penalty": kind == "jumprelu",
        "bandwidth": kind == "jumprelu",
        "multi_k": kind == "topk",
        "prefixes": kind == "matryoshka",
        "resample_every": kind in RESAMPLED,
    }
    return {name: value for name, value in values.items() if wanted.get(name, True)}


def _train_all(
    activations: Given,
    chosen: list[TrainSettings],
    device: str,
    memory: int | None,
    log: Log | None,
    reporter: Reporter,
) -> None:
    first, target = chosen[0], choose_device(device)
    store, described, parents = _open(activations, first, memory)
    with contextlib.ExitStack() as stack:
        drafts = []
        for settings in chosen:
            recipe = to_mapping(settings) | described
            draft = stack.enter_context(new_artifact(settings.out, format=FORMAT, settings=recipe, parents=parents))
            if draft.finished:
                reporter.say(f"{settings.out} is finished: {settings.n_features:,} features")
            else:
                drafts.append((settings, make_plan(store, settings), draft))
        if not drafts:
            return
        _ensure_memory([(settings, plan) for settings, plan, _ in drafts], store, target)
        if target.type == "cpu" and compiled.kernels() is None:
            reporter.say(
                f"training runs on torch's operators, about half as fast as compiled kernels: {compiled.why_none()}"
            )
        runs = [
            stack.enter_context(contextlib.closing(Run(store, settings, plan, draft, target)))
            for settings, plan, draft in drafts
        ]
        _step_through(store, runs, target, log, reporter)
        for run in runs:
            run.finish(reporter)


def _open(
    activations: Given,
    settings: TrainSettings,
    memory: int | None,
) -> tuple[Source, dict[str, Any], dict[str, Any]]:
    """The rows to train on, with what is read and written side by side; what a manifest says of them, and parents."""
    wanted = tuple(dict.fromkeys(settings.site + settings.writes))
    if isinstance(activations, Live):
        check(settings.tokens is not None, "tokens", settings.tokens, "given where rows come live from a model")
        check(
            set(wanted) in (set(), set(activations.sites)),
            "site",
            ", ".join(wanted),
            f"what is read ({', '.join(activations.sites)})",
        )
        return activations, activations.to_json(), {}
    given = activations if isinstance(activations, Sequence) and not isinstance(activations, str) else [activations]
    stores = [one if isinstance(one, Activations) else load_activations(one) for one in given]
    stores = [replace(store, memory=(memory or store.memory) // len(stores)) for store in stores]
    roles = ["activations", *(f"activations_{number}" for number in range(2, len(stores) + 1))]
    parents = {role: parent_entry(store.folder, store.manifest) for role, store in zip(roles, stores, strict=True)}
    if len(stores) == 1:
        return stores[0].at(*wanted), {}, parents
    return Lockstep(tuple(stores)).at(*wanted), {}, parents


def _ensure_memory(planned: list[tuple[TrainSettings, Plan]], store: Source, device: torch.device) -> None:
    """Refuse what does not fit: weights, gradients and moments of all, and the largest dense activations, thrice."""
    sizes = [settings.n_features for settings, _ in planned]
    plan, widths = planned[0][1], {block.site: block.width for block in store.blocks}
    width = sum(widths[site] for site in (*plan.reads, *plan.writes))  # of encoder and decoder together
    needed = 4 * (4 * sum(sizes) * width + 3 * plan.batch_size * max(sizes))
    what = f"training {', '.join(f'{n:,}' for n in sizes)} features"
    ensure_memory(needed, what, "a smaller --n-features or --batch-size needs less", device)


def _step_through(store: Source, runs: list[Run], device: torch.device, log: Log | None, reporter: Reporter) -> None:
    plan: Plan = runs[0].plan
    first = min(run.step_number for run in runs)
    batches: Iterator[Tensor] = store.stream(plan.batch_size, start=first * plan.batch_size)
    rows = plan.steps * plan.batch_size
    with reporter.start("train", rows, "tokens", done=first * plan.batch_size) as progress:
        for step in range(first, plan.steps):
            batch, numbers = to_device(next(batches), device), {}
            for run in runs:
                if run.step_number > step:  # it had come further when the run before this one was stopped
                    continue
                numbers = run.step(batch)
                if log is not None:
                    prefix = f"{run.settings.out.name}/" if len(runs) > 1 else ""
                    log({f"{prefix}{name}": value for name, value in numbers.items()} | {"step": run.step_number})
                if time.monotonic() - run.saved_at > run.settings.checkpoint_every_s:
                    run.save_checkpoint(reporter)
            note = f"FVU {numbers['fvu']:.3f}  L0 {numbers['l0']:.1f}  dead {numbers['dead']:.1%}" if numbers else ""
            progress.advance(plan.batch_size, note)
