"""sonde train"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sonde.activations.settings import LiveSettings
from sonde.cli.common import ModelOptions, load_model, print_json, quiet_libraries, reporter
from sonde.display import print_blocks, table
from sonde.errors import UsageError, nearest
from sonde.settings import Bytes, to_mapping
from sonde.training.settings import TrainSettings

MEASURED_TOKENS, MEASURED_S = 20_000, 60.0
"""held-out tokens on which a dictionary is measured when it is trained, and the time; `sonde measure` takes them all"""


def train(
    settings: Annotated[TrainSettings, Parameter(name="*")],
    *,
    activations: list[Path] | None = None,
    live: bool = False,
    model: Annotated[str | None, Parameter(group="With --live")] = None,
    text: Annotated[Path | None, Parameter(group="With --live")] = None,
    live_settings: Annotated[LiveSettings, Parameter(name="*", group="With --live")] = LiveSettings(),
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    sweep: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    replacement: Literal["per-layer"] | None = None,
    memory: Bytes | None = None,
    wandb: str | None = None,
    measured: Annotated[bool, Parameter(name="--measure", negative="--no-measure")] = True,
    json: bool = False,
) -> None:
    """Train a dictionary of features on harvested activations, or live on a model that reads a text.

    Example: sonde train --activations acts --kind topk --n-features 4096 --k 32 --out dict

    Live: sonde train --live --model world --site layers.3.residual --text corpus.jsonl --tokens 1M --n-features 4096
    --out dict

    Transcoder: sonde train --activations acts --site layers.2.mlp_in --writes layers.2.mlp --n-features 4096 --out dict

    All MLPs: sonde train --activations acts --replacement per-layer --n-features 2048 --out R

    Sweep: sonde train --activations acts --n-features 1024 --sweep n_features=1024,4096 k=16,32 --out sweep

    Parameters
    ----------
    activations: Path
        A folder written by sonde harvest, or its URL on an object store (s3://, gs://, az://). May be repeated: a
        crosscoder of several models, whose stores hold the same text; their sites are then named 1:layers.3.residual,
        2:layers.3.residual.
    live: bool
        Take rows straight from a model, mixed in a pool, with nothing on the disk; needs --model, --text, --site and
        --tokens.
    model: str
        A model folder, a hub name, or world, the model in the package.
    text: Path
        A .txt or .jsonl file, its .gz, or a folder of them.
    sweep: list[str]
        Settings and their values, as setting=value,value: a dictionary for each combination, all on one reading of the
        rows, each in a folder in --out, and a table of them at the end.
    replacement: str
        Train a transcoder for every layer, each of its own layer's MLP (per-layer), all on one reading of the rows,
        which hold layers.N.mlp_in and layers.N.mlp of every layer. --out is then a folder of them, a replacement,
        which sonde trace takes and sonde replacement measures.
    memory: int
        Bytes for the rows of activations that are read and read ahead, such as 2GB; 1GiB by default.
    wandb: str
        Log each step's numbers to this project of Weights & Biases; needs the package wandb.
    measured: bool
        Measure each dictionary, as it was saved, on documents that were held out of training: on 20,000 tokens, or
        fewer in a minute. sonde measure takes them all.
    json: bool
        Print one JSON object.
    """
    needed = {"model": model, "text": text, "site": settings.site, "tokens": settings.tokens}
    _check_flags(activations, live, needed, to_mapping(live_settings))
    from sonde.training.train import sweep as train_sweep
    from sonde.training.train import train

    source: Any = activations
    if replacement is not None:
        if live or sweep:
            raise UsageError("--replacement takes its rows from --activations, and no --sweep")
        shared = {"device": options.device, "memory": memory, "reporter": reporter()}
        _train_replacement(source, to_mapping(settings), shared, json)
        return
    if live:
        from sonde.activations.live import Live

        sites = tuple(dict.fromkeys(settings.site + settings.writes))
        reader = load_model(str(model), options)
        source = Live(reader, Path(str(text)), site=sites, seed=settings.seed, **to_mapping(live_settings))
    plain = to_mapping(settings)
    shared: dict[str, Any] = {"device": options.device, "memory": memory, "reporter": reporter()}
    if wandb is not None:
        shared["log"] = _start_wandb(wandb, plain)
    if sweep:
        out = plain.pop("out")
        dictionaries = train_sweep(source, out=out, over=_parse_sweep(sweep), **shared, **plain)
    else:
        dictionaries = [train(source, **shared, **plain)]
    qualities = _measure_each(dictionaries, options.device) if measured else [None] * len(dictionaries)
    if json:
        results = [_to_json(*pair) for pair in zip(dictionaries, qualities, strict=True)]
        print_json(results if sweep else results[0])
    elif sweep:
        print(_sweep_table(dictionaries, qualities))
    else:
        _print_one(dictionaries[0], qualities[0])


def _train_replacement(activations: list[Path], settings: dict[str, Any], shared: dict[str, Any], json: bool) -> None:
    """Train transcoders of all layers, and print a line for each."""
    from sonde.circuits.replacement import train_replacement

    if len(activations) > 1:
        raise UsageError("--replacement takes one --activations, with the inputs and outputs of every MLP")
    out = settings.pop("out")
    chosen = {name: value for name, value in settings.items() if value not in (None, [])}
    trained = train_replacement(activations[0], out=out, **shared, **chosen)
    if json:
        print_json({"folder": str(out), "layers": [one.info.to_facts() for one in trained.layers]})
    else:
        print_blocks(trained.draw())


def _check_flags(activations: Any, live: bool, needed: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise UsageError where --live lacks a flag that it needs, or flags that go with it are there without it."""
    if live:
        for name, value in needed.items():
            if not value:
                raise UsageError(f"--live needs --{name} too; sonde train --help has an example")
        if activations is not None:
            raise UsageError("--live takes its rows from a model; leave --activations out")
        return
    if activations is None:
        raise UsageError("train needs --activations, a folder written by sonde harvest, or --live")
    for name, value in {"model": needed["model"], "text": needed["text"], **settings}.items():
        if value != getattr(LiveSettings, name, None):
            raise UsageError(f"--{name.replace('_', '-')} goes with --live only; sonde harvest decides it otherwise")


def _measure_each(dictionaries: list[Any], device: str) -> list[Any]:
    """Each dictionary's quality on some held-out text."""
    each = f"each of {len(dictionaries)} dictionaries" if len(dictionaries) > 1 else "the dictionary"
    reporter().say(
        f"measuring {each} on held-out text: {MEASURED_TOKENS:,} tokens, or fewer in {MEASURED_S:.0f} s "
        "(--no-measure leaves it out, sonde measure takes all)"
    )
    quiet_libraries()
    return [_measure(dictionary, device) for dictionary in dictionaries]


def _measure(dictionary: Any, device: str) -> Any:
    """The dictionary's quality on held-out text; None where it cannot be measured here, and a line that says why."""
    from sonde.analysis.measure import measure
    from sonde.errors import SondeError

    shown = reporter()
    try:
        return measure(dictionary, tokens=MEASURED_TOKENS, seconds=MEASURED_S, device=device, reporter=shown)
    except SondeError as error:
        shown.say(f"{dictionary.artifact.folder} is saved, but not measured on held-out text: {error}")
        return None


def _start_wandb(project: str, settings: dict[str, Any]) -> Any:
    """Start a run of Weights & Biases; returns the function that logs a step's numbers."""
    try:
        import wandb
    except ImportError as error:
        raise UsageError("--wandb needs the package wandb: pip install 'sonde[wandb]', or leave --wandb out") from error
    wandb.init(project=project, config=settings)
    return wandb.log


def _parse_sweep(sweep: list[str]) -> dict[str, list[Any]]:
    """The values of each setting that a sweep goes over, from setting=value,value."""
    types = {field.name: str(field.type) for field in dataclasses.fields(TrainSettings)}
    over: dict[str, list[Any]] = {}
    for part in sweep:
        name, equals, values = part.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in types:
            raise UsageError(f"--sweep takes setting=value,value, not {part!r}{nearest(name, types)}")
        over[name] = [float(value) if "float" in types[name] else value for value in values.split(",")]
    return over


def _to_json(dictionary: Any, quality: Any) -> dict[str, Any]:
    folder, manifest = dictionary.artifact
    facts = {"folder": str(folder), "id": manifest.id} | manifest.facts
    return facts | ({"held_out": quality.to_json()} if quality else {})


def _print_one(dictionary: Any, quality: Any) -> None:
    info, folder = dictionary.info, dictionary.artifact.folder
    print(f"{folder}: {info.n_features:,} features of kind {info.kind} at {info.site}", flush=True)
    if quality:
        print(f"On {quality.documents:,} documents that were held out of training:")
        print_blocks(quality.draw())


def _sweep_table(dictionaries: list[Any], qualities: list[Any]) -> str:
    """A table of dictionaries, in which those are starred that no other beats in both L0 and FVU."""
    where = "on held-out text" if all(qualities) else "on training rows"
    numbers = [
        (quality if all(qualities) else dictionary.info.quality).to_json()
        for dictionary, quality in zip(dictionaries, qualities, strict=True)
    ]
    rows = [["", "dictionary", "kind", "features", "L0", "FVU", "dead"]]
    for dictionary, own in zip(dictionaries, numbers, strict=True):
        beaten = any(other["l0"] <= own["l0"] and other["fvu"] <= own["fvu"] and other is not own for other in numbers)
        cells = [f"{own['l0']:.1f}", f"{own['fvu']:.4f}", f"{own['dead']:.1%}"]
        name, n = dictionary.artifact.folder.name, f"{dictionary.n_features:,}"
        rows.append(["" if beaten else "*", name, dictionary.kind, n, *cells])
    return table(rows, right=(3, 4, 5, 6)) + f"\n* no other has both fewer active features and a lower FVU ({where})"
