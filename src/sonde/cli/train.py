"""sonde train"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.activations.settings import LiveSettings
from sonde.cli.common import ModelOptions, load_model, print_json, quality_table, quiet_libraries, reporter
from sonde.display import table
from sonde.errors import UsageError, nearest
from sonde.settings import Bytes, to_mapping
from sonde.training.settings import TrainSettings

MEASURED_TOKENS = 1 << 17
"""held-out tokens on which a dictionary is measured when it is trained; `sonde measure` takes them all"""


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
    memory: Bytes | None = None,
    wandb: str | None = None,
    measured: Annotated[bool, Parameter(name="--measure")] = True,
    json: bool = False,
) -> None:
    """Train a dictionary of features on harvested activations, or live on a model that reads a text.

    Example: sonde train --activations acts --kind topk --n-features 4096 --k 32 --out dict

    Live: sonde train --live --model world --site layers.3.residual --text corpus.jsonl --tokens 1M --n-features 4096 --out dict

    Transcoder: sonde train --activations acts --site layers.2.mlp_in --writes layers.2.mlp --n-features 4096 --out dict

    Sweep: sonde train --activations acts --n-features 1024 --sweep n_features=1024,4096 k=16,32 --out sweep

    Parameters
    ----------
    activations: Path
        A folder written by sonde harvest, or its URL on an object store (s3://, gs://, az://). May be repeated: a crosscoder of
        several models, whose stores hold the same text; their sites are then named 1:layers.3.residual, 2:layers.3.residual.
    live: bool
        Take rows straight from a model, mixed in a pool, with nothing on the disk; needs --model, --text, --site and --tokens.
    model: str
        A model folder, a hub name, or world, the model in the package.
    text: Path
        A .txt or .jsonl file, its .gz, or a folder of them.
    sweep: list[str]
        Settings and their values, as setting=value,value: a dictionary for each combination, all from one reading of the rows,
        each in a folder in --out, and a table of them at the end.
    memory: int
        Bytes for the rows of activations that are read and read ahead, such as 2GB; 1GiB by default.
    wandb: str
        Log each step's numbers to this project of Weights & Biases; needs the package wandb.
    measured: bool
        Measure each dictionary, as it was saved, on documents that were held out of training.
    json: bool
        Print one JSON object.
    """
    source: Any = activations
    if live:
        for name, value in (("model", model), ("text", text), ("site", settings.site), ("tokens", settings.tokens)):
            if not value:
                raise UsageError(f"--live needs --{name} too; sonde train --help has an example")
        if activations is not None:
            raise UsageError("--live takes its rows from a model; leave --activations out")
    else:
        if activations is None:
            raise UsageError("train needs --activations, a folder written by sonde harvest, or --live")
        for name, value in {"model": model, "text": text, **to_mapping(live_settings)}.items():
            if value != getattr(LiveSettings, name, None):
                raise UsageError(
                    f"--{name.replace('_', '-')} goes with --live only; sonde harvest decides it otherwise"
                )

    from sonde.training.train import sweep as train_sweep
    from sonde.training.train import train

    if live:
        from sonde.activations.live import Live

        reader = load_model(str(model), options)
        sites = tuple(dict.fromkeys(settings.site + settings.writes))
        source = Live(reader, Path(str(text)), site=sites, seed=settings.seed, **to_mapping(live_settings))
    given: dict[str, Any] = {"device": options.device, "memory": memory, "reporter": reporter()}
    if wandb is not None:
        given["log"] = _wandb(wandb, to_mapping(settings))
    if sweep:
        plain = to_mapping(settings)
        out = plain.pop("out")
        made = train_sweep(source, out=out, over=_values(sweep), **given, **plain)
    else:
        made = [train(source, **given, **to_mapping(settings))]
    quality = [_measure(dictionary, options.device) if measured else None for dictionary in made]
    if json:
        found = []
        for dictionary, own in zip(made, quality, strict=True):
            assert dictionary.artifact is not None
            folder, manifest = dictionary.artifact
            told = {"folder": str(folder), "id": manifest.id} | manifest.facts
            found.append(told | ({"held_out": own.to_json()} if own else {}))
        print_json(found if sweep else found[0])
    elif sweep:
        print(_pareto(made, quality))
    else:
        [dictionary], [own] = made, quality
        info = dictionary.info
        print(f"{settings.out}: {info.n_features:,} features of kind {info.kind} at {info.site}", flush=True)
        if own:
            print(f"On {own.documents:,} documents that were held out of training:")
            print(quality_table(own))


def _measure(dictionary: Any, device: str) -> Any:
    """The dictionary's quality on held-out text; None, and why, where it cannot be known here."""
    from sonde.analysis.measure import measure
    from sonde.errors import SondeError

    told = reporter()
    try:
        quiet_libraries()
        return measure(dictionary, tokens=MEASURED_TOKENS, device=device, reporter=told)
    except SondeError as error:
        told.say(f"{dictionary.artifact.folder} is saved, but not measured on held-out text: {error}")
        return None


def _wandb(project: str, settings: dict[str, Any]) -> Any:
    """Start a run of Weights & Biases; what it returns takes each step's numbers."""
    try:
        import wandb
    except ImportError as error:
        raise UsageError("--wandb needs the package wandb: pip install 'sonde[wandb]', or leave --wandb out") from error
    wandb.init(project=project, config=settings)
    return wandb.log


def _values(sweep: list[str]) -> dict[str, list[Any]]:
    """Settings and values of a sweep, as they were typed."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(TrainSettings)}
    over: dict[str, list[Any]] = {}
    for part in sweep:
        name, equals, values = part.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in kinds:
            raise UsageError(f"--sweep takes setting=value,value, not {part!r}{nearest(name, kinds)}")
        over[name] = [float(value) if "float" in kinds[name] else value for value in values.split(",")]
    return over


def _pareto(made: list[Any], quality: list[Any]) -> str:
    """A table of dictionaries; starred are those that no other beats in both L0 and FVU."""
    where = "on held-out text" if all(quality) else "on training rows"
    found = [own.to_json() for own in quality] if all(quality) else [one.info.quality.to_json() for one in made]
    rows = [["", "dictionary", "kind", "features", "L0", "FVU", "dead"]]
    for dictionary, own in zip(made, found, strict=True):
        beaten = any(other["l0"] <= own["l0"] and other["fvu"] <= own["fvu"] and other is not own for other in found)
        cells = [f"{own['l0']:.1f}", f"{own['fvu']:.4f}", f"{own['dead']:.1%}"]
        name, n = dictionary.artifact.folder.name, f"{dictionary.n_features:,}"
        rows.append(["" if beaten else "*", name, dictionary.kind, n, *cells])
    return table(rows, right=(3, 4, 5, 6)) + f"\n* no other has both fewer active features and a lower FVU ({where})"
