"""Train dictionaries on harvested activations, or live on a model.

1. Open the rows: one store, several of the same text, or a model that reads.
2. Make each dictionary's plan: steps, batch size, learning rate and input scaling, from the rows and the settings.
3. Start the weights, or resume from the last checkpoint.
4. Step through the shuffled rows; a sweep trains all its dictionaries on one reading of them.
5. Save weights, metrics and manifest.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from sonde.activations.live import Live
from sonde.activations.lockstep import Lockstep
from sonde.activations.store import Activations, load_activations
from sonde.artifacts import new_artifact
from sonde.calls import public
from sonde.devices import choose_device, ensure_memory, to_device
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import FORMAT, load_dictionary
from sonde.errors import SettingsError
from sonde.kernels import compiled
from sonde.manifests import parent_entry
from sonde.progress import Reporter, default_reporter
from sonde.remote import Place
from sonde.settings import Bytes, check, from_mapping, to_mapping
from sonde.training.plan import Plan, Source, make_plan
from sonde.training.recipes import recipe_class
from sonde.training.run import Run
from sonde.training.settings import OF_SOME_KINDS, TrainKeywords, TrainSettings

Log = Callable[[dict[str, Any]], None]
Rows = Activations | Live | str | Place | Sequence[Activations | str | Place]
"""what dictionaries are trained on"""


@public(TrainSettings)
def train(
    activations: Rows,
    *,
    device: str = "auto",
    memory: int | str | None = None,
    log: Log | None = None,
    reporter: Reporter | None = None,
    **settings: Unpack[TrainKeywords],
) -> Dictionary:
    """Train a dictionary and save it; the same command, run again, goes on where it stopped.

    Args:
        activations: a store, its folder or URL, or a `Live` model and text; or several stores of the same text
            by several models, for a crosscoder.
        device: auto, cpu, cuda, cuda:N or mps.
        memory: bytes for the rows of a store that are read and read ahead, such as "2GB"; 1 GiB by default. It
            changes no result.
        log: called with each step's numbers, such as `wandb.log`.
        reporter: shows progress.
        settings: the fields of `TrainSettings`; `n_features` and `out` are needed.

    Returns:
        The dictionary as it was saved, acting on raw activations.

    Raises:
        ActivationError (the loss is not finite, or all rows are alike), CapacityError, SettingsError, ArtifactError,
        StorageError.
    """
    chosen = from_mapping(TrainSettings, _with_lists_of_sites(dict(settings)))
    _train_all(activations, [chosen], device, memory, log, reporter or default_reporter())
    return load_dictionary(chosen.out, device)


@public(TrainSettings, optional=("n_features",))
def sweep(
    activations: Rows,
    *,
    out: str | Path,
    over: Mapping[str, Sequence[Any]],
    device: str = "auto",
    memory: int | str | None = None,
    log: Log | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> list[Dictionary]:
    """Train a dictionary for each combination of some settings, all on one reading of the activations.

    Args:
        out: folder of the dictionaries; each has a folder of its own in it, named by its settings.
        over: setting -> its values, such as {"n_features": [1024, 4096], "k": [16, 32]}. A setting that a kind does not
            take is left out for it.
        activations, device, memory, log, reporter, settings: as for `train`; what decides the batches (tokens,
            batch_size, site, writes) is the same for all. `log` gets numbers under the names of the dictionaries.

    Returns:
        The dictionaries, in the order of the combinations; each is bit-equal to what `train` makes alone.
    """
    combinations = sweep_settings(out, over, _with_lists_of_sites(settings))
    _train_all(activations, combinations, device, memory, log, reporter or default_reporter())
    return [load_dictionary(chosen.out, device) for chosen in combinations]


def train_layers(
    activations: Rows,
    *,
    out: str | Path,
    device: str = "auto",
    memory: int | str | None = None,
    log: Log | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> list[Dictionary]:
    """Train a transcoder for each layer of a model, all on one reading of the activations.

    Each reads layers.N.mlp_in and writes layers.N.mlp, and is what `train` makes of these sites alone, as long as the
    store's rows have no massive activations, for which a row is left out of all of them.

    Args:
        out: folder of the transcoders; each has a folder layers.N in it.
        activations, device, memory, log, reporter, settings: as for `train`, without `site` and `writes`.

    Raises SettingsError where the activations are not those of MLPs' inputs and outputs.
    """
    opened = load_activations(activations) if isinstance(activations, str | Place) else activations
    sites = opened.sites if isinstance(opened, Activations | Live) else ()
    n = sum(site.endswith(".mlp_in") for site in sites)
    wanted = [(f"layers.{number}.mlp_in", f"layers.{number}.mlp") for number in range(n)]
    missing = [site for pair in wanted for site in pair if site not in sites]
    if missing or not wanted:
        raise SettingsError(
            f"the activations lack {missing[0] if missing else 'layers.0.mlp_in'}, which a replacement of all layers "
            "needs; harvest layers.N.mlp_in and layers.N.mlp of every layer"
        )
    combinations = [
        from_mapping(TrainSettings, settings | {"site": [x], "writes": [y], "out": str(Path(out) / f"layers.{number}")})
        for number, (x, y) in enumerate(wanted)
    ]
    _train_all(opened, combinations, device, memory, log, reporter or default_reporter())
    return [load_dictionary(chosen.out, device) for chosen in combinations]


def sweep_settings(out: str | Path, over: Mapping[str, Sequence[Any]], settings: dict[str, Any]) -> list[TrainSettings]:
    """The settings of each dictionary of a sweep; raises SettingsError where a combination is wrong."""
    for name in ("tokens", "batch_size", "site", "writes", "out", "checkpoint_every_s"):
        if name in over:
            raise SettingsError(f"a sweep cannot go over {name}: all its dictionaries are trained on the same batches")
    by_folder: dict[str, TrainSettings] = {}
    for values in itertools.product(*over.values()):
        varied = dict(zip(over, values, strict=True))
        combination = settings | varied
        takes = recipe_class(combination.get("kind", "topk")).takes()
        taken = {name: combination[name] for name in combination if name not in OF_SOME_KINDS or name in takes}
        folder = "-".join(f"{name}={value}" for name, value in varied.items() if name in taken)
        by_folder[folder] = from_mapping(TrainSettings, taken | {"out": str(Path(out) / folder)})
    return list(by_folder.values())


def _with_lists_of_sites(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, in which a site that stands alone has become a list of one."""
    return {
        name: (value,) if name in ("site", "writes") and isinstance(value, str) else value
        for name, value in settings.items()
    }


def _train_all(
    activations: Rows,
    combinations: list[TrainSettings],
    device: str,
    memory: int | str | None,
    log: Log | None,
    reporter: Reporter,
) -> None:
    target = choose_device(device)
    store, described, parents = _open(activations, combinations, None if memory is None else Bytes(memory))
    with contextlib.ExitStack() as stack:
        unfinished = []
        for settings in combinations:
            recorded = to_mapping(settings) | described
            recipe = {"settings": recorded, "parents": parents, "model": store.models[0]}
            draft = stack.enter_context(new_artifact(settings.out, format=FORMAT, **recipe))
            if draft.finished:
                reporter.say(f"{settings.out} is finished: {settings.n_features:,} features")
            else:
                unfinished.append((settings, make_plan(store, settings), draft))
        if not unfinished:
            return
        for line in [] if isinstance(store, Live) else store.massive_lines():
            reporter.say(line)
        _ensure_memory([(settings, plan) for settings, plan, _ in unfinished], store, target)
        if target.type == "cpu" and compiled.kernels() is None:
            reporter.say(
                f"training runs on torch's operators, about half as fast as compiled kernels: {compiled.why_none()}"
            )
        runs = [
            stack.enter_context(contextlib.closing(Run(store, settings, plan, draft, target)))
            for settings, plan, draft in unfinished
        ]
        _step_through(store, runs, target, log, reporter)
        for run in runs:
            run.finish(reporter)


def _open(
    activations: Rows, combinations: Sequence[TrainSettings], memory: int | None
) -> tuple[Source, dict[str, Any], dict[str, Any]]:
    """The rows of the sites that are read and written, the settings of a live source, and the manifest's parents."""
    sites = tuple(dict.fromkeys(site for settings in combinations for site in settings.site + settings.writes))
    if isinstance(activations, Live):
        tokens = combinations[0].tokens
        check(tokens is not None, "tokens", tokens, "given where rows come live from a model")
        bound = f"what is read ({', '.join(activations.sites)})"
        check(set(sites) in (set(), set(activations.sites)), "site", ", ".join(sites), bound)
        return activations, activations.to_json(), {}
    several = isinstance(activations, Sequence) and not isinstance(activations, str)
    stores = [
        store if isinstance(store, Activations) else load_activations(store)
        for store in (activations if several else [activations])
    ]
    stores = [replace(store, memory=(memory or store.memory) // len(stores)) for store in stores]
    roles = ["activations", *(f"activations_{number}" for number in range(2, len(stores) + 1))]
    parents = {role: parent_entry(store.folder, store.manifest) for role, store in zip(roles, stores, strict=True)}
    source = stores[0] if len(stores) == 1 else Lockstep(tuple(stores))
    return source.at(*sites), {}, parents


def _ensure_memory(planned: list[tuple[TrainSettings, Plan]], store: Source, device: torch.device) -> None:
    """Refuse what does not fit: weights, gradients and moments of all, and the largest dense activations, thrice."""
    sizes = [settings.n_features for settings, _ in planned]
    plan, widths = planned[0][1], {block.site: block.width for block in store.blocks}
    width = sum(widths[site] for site in (*plan.reads, *plan.writes))  # of encoder and decoder together
    needed = 4 * (4 * sum(sizes) * width + 3 * plan.batch_size * max(sizes))
    what = f"training {', '.join(f'{n:,}' for n in sizes)} features"
    ensure_memory(needed, what, "a smaller --n-features or --batch-size needs less", device)


def _step_through(store: Source, runs: list[Run], device: torch.device, log: Log | None, reporter: Reporter) -> None:
    """Give each batch to every run, from the step of the run that is furthest behind."""
    plan: Plan = runs[0].plan
    first = min(run.step_number for run in runs)
    batches: Iterator[Tensor] = store.stream(plan.batch_size, start=first * plan.batch_size)
    rows = plan.steps * plan.batch_size
    with reporter.start("train", rows, "tokens", done=first * plan.batch_size) as progress:
        for step in range(first, plan.steps):
            batch, numbers = to_device(next(batches), device), {}
            for run in runs:
                if run.step_number > step:  # its last checkpoint is of a later step
                    continue
                numbers = run.step(batch)
                if log is not None:
                    prefix = f"{run.settings.out.name}/" if len(runs) > 1 else ""
                    log({f"{prefix}{name}": value for name, value in numbers.items()} | {"step": run.step_number})
                if time.monotonic() - run.saved_at > run.settings.checkpoint_every_s:
                    run.save_checkpoint(reporter)
            note = f"FVU {numbers['fvu']:.3f}  L0 {numbers['l0']:.1f}  dead {numbers['dead']:.1%}" if numbers else ""
            progress.advance(plan.batch_size, note)
