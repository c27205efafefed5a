"""A replacement: a transcoder for each layer of a model, which together stand in for its MLPs.

On disk it is a folder with a dictionary for each layer, `layers.0` to `layers.N`, beside a manifest. Each is an
ordinary dictionary, which `index`, `label`, `measure` and the page take.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.artifacts import Draft, new_artifact
from sonde.calls import public
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import WEIGHTS, load_dictionary
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import ArtifactMismatchError
from sonde.facts import ModelRef
from sonde.manifests import MANIFEST, Artifact, parent_entry, read_manifest
from sonde.models.massive import is_massive
from sonde.models.model import Model
from sonde.progress import Reporter
from sonde.remote import local_path
from sonde.settings import check, from_mapping, to_mapping
from sonde.training.settings import TrainKeywords, TrainSettings
from sonde.training.train import Log, Rows, train_layers

FORMAT = "replacement"


@dataclass(frozen=True)
class Replacement(Drawn):
    """Transcoders of all layers of a model.

    Raises ArtifactMismatchError unless there is one of each layer, which reads layers.N.mlp_in and writes layers.N.mlp.
    """

    layers: tuple[Dictionary, ...]
    """the transcoder of each layer, the first layer's first"""
    artifact: Artifact[Path] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(_by_layer(self.layers)))

    @property
    def described(self) -> str:
        """What messages call it."""
        return f"the replacement {self.artifact.folder}" if self.artifact else "the replacement"

    @property
    def model(self) -> ModelRef | None:
        """The model whose MLPs it replaces, as far as it is known."""
        return self.layers[0].info.model

    def __repr__(self) -> str:
        sizes = sorted({dictionary.n_features for dictionary in self.layers})
        return f"Replacement({len(self.layers)} layers of {' or '.join(f'{n:,}' for n in sizes)} features)"

    def draw(self) -> list[Block]:
        """A line for each layer."""
        rows = []
        for number, dictionary in enumerate(self.layers):
            quality = dictionary.info.quality
            numbers = [f"{quality.fvu:.4f}", f"{quality.l0:.1f}", f"{quality.dead:.1%}"] if quality else ["-"] * 3
            rows.append([str(number), dictionary.kind, f"{dictionary.n_features:,}", *numbers])
        header = ("layer", "kind", "features", "FVU", "L0", "dead")
        title = f"replacement of {len(self.layers)} MLPs; FVU, L0 and dead features on training rows"
        return [Line(title, strong=True), Grid(rows, header, right=(0, 2, 3, 4, 5))]

    def check_fits(self, model: Model) -> None:
        """Raise ArtifactMismatchError unless it has a transcoder, of the right width, for each layer of the model."""
        n_layers = sum(site.endswith(".mlp_in") for site in model.sites())
        if n_layers != len(self.layers):
            raise ArtifactMismatchError(
                f"{self.described} has transcoders of {len(self.layers)} layers, but {model.name} has {n_layers}; "
                "give a replacement of this model"
            )
        widths = model.widths([site for dictionary in self.layers for site in (*dictionary.reads, *dictionary.writes)])
        for dictionary in self.layers:
            for site, width in (dictionary.reads | dictionary.writes).items():
                if widths[site] != width:
                    raise ArtifactMismatchError(
                        f"{self.described} has vectors of width {width} at {site}, but {model.name} of {widths[site]}; "
                        "give a replacement of this model"
                    )

    def edits(self, mask: Bool[Tensor, "batch position"], layers: Sequence[int] | None = None) -> list[Any]:
        """Edits under which the MLPs of some layers, or of all, give what their transcoders make of what they read.

        Args:
            mask: the tokens on which they do.
        """
        chosen = range(len(self.layers)) if layers is None else layers
        return [edit for number in chosen for edit in _swap(self.layers[number], mask)]


def ordinary(
    dictionary: Dictionary, x: Float[Tensor, "*rows d_in"], y: Float[Tensor, "*rows d_out"]
) -> Bool[Tensor, "*rows"]:
    """Which tokens a transcoder speaks of: those whose vectors are not massive at either of its sites."""
    [reads], [writes] = dictionary.reads, dictionary.writes
    limits = {site: limit for site, limit in dictionary.info.norm_limits.items() if site in (reads, writes)}
    values = {reads: x.flatten(0, -2), writes: y.flatten(0, -2)}
    massive = is_massive({site: values[site] for site in limits}, limits) if limits else None
    return torch.ones(x.shape[:-1], dtype=torch.bool) if massive is None else ~massive.view(x.shape[:-1])


@dataclass(frozen=True, eq=False)
class _Keep:
    """Keeps what passes a site, and changes nothing."""

    site: str
    kept: dict[str, Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        self.kept[self.site] = x
        return x


@dataclass(frozen=True, eq=False)
class _Put:
    """Puts a transcoder's reconstruction, from what was kept at the site that it reads, in place of an MLP's output."""

    site: str
    reads: str
    kept: dict[str, Tensor]
    dictionary: Dictionary
    mask: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        x = self.kept.pop(self.reads).to(self.dictionary.W_enc)
        changed = self.dictionary.reconstruct(x).to(y)
        here = self.mask & ordinary(self.dictionary, x, y.to(x)).to(y.device)
        return torch.where(here[..., None], changed, y)


def _swap(dictionary: Dictionary, mask: Tensor) -> list[Any]:
    [reads], [writes], kept = dictionary.reads, dictionary.writes, {}
    return [_Keep(reads, kept), _Put(writes, reads, kept, dictionary, mask)]


def _by_layer(dictionaries: Sequence[Dictionary]) -> list[Dictionary]:
    """Transcoders in the order of their layers; raises ArtifactMismatchError where one is missing, double or other."""
    found: dict[int, Dictionary] = {}
    for dictionary in dictionaries:
        reads, writes = list(dictionary.reads), list(dictionary.writes)
        layer = _layer_of(reads, writes)
        if layer is None:
            raise ArtifactMismatchError(
                f"{dictionary.described} reads {', '.join(reads)} and writes {', '.join(writes)}; a replacement takes "
                "transcoders that read layers.N.mlp_in and write layers.N.mlp"
            )
        if layer in found:
            raise ArtifactMismatchError(f"there are two transcoders of layer {layer}; give one of each layer")
        found[layer] = dictionary
    missing = [layer for layer in range(max(found, default=0) + 1) if layer not in found]
    if missing:
        raise ArtifactMismatchError(
            f"there is no transcoder of layer {', '.join(map(str, missing))}; a replacement needs one of each layer"
        )
    return [found[layer] for layer in range(len(found))]


def _layer_of(reads: Sequence[str], writes: Sequence[str]) -> int | None:
    """The layer of a transcoder that reads layers.N.mlp_in and writes layers.N.mlp; None for another."""
    if len(reads) != 1 or len(writes) != 1:
        return None
    number = reads[0].removeprefix("layers.").removesuffix(".mlp_in")
    if not number.isdigit() or (reads[0], writes[0]) != (f"layers.{number}.mlp_in", f"layers.{number}.mlp"):
        return None
    return int(number)


# ---------------------------------------------------------------- on disk


@public()
def load_replacement(folder: str | Path, device: str = "auto") -> Replacement:
    """Load a replacement from its folder.

    Args:
        folder: what `train_replacement` or `replacement` wrote.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises ArtifactError where it is missing, foreign, unfinished or altered.
    """
    path = local_path(folder)
    manifest = read_manifest(path, FORMAT)
    layers = [load_dictionary(path / name, device) for name in manifest.facts["layers"]]
    return Replacement(tuple(layers), Artifact(path, manifest))


def as_replacement(given: "Replacement | str | Path", device: str = "auto") -> Replacement:
    """A replacement, or the one in a folder."""
    return given if isinstance(given, Replacement) else load_replacement(given, device)


@public()
def join_transcoders(transcoders: Sequence[str | Path], out: str | Path) -> Replacement:
    """Make a replacement of transcoders that were trained one by one, whose folders are copied into it.

    Args:
        transcoders: folders of dictionaries, one for each layer, in any order.
        out: folder to write.

    Raises ArtifactMismatchError where there is not one of each layer, or they are of several models.
    """
    paths = [local_path(folder) for folder in transcoders]
    ordered = Replacement(tuple(load_dictionary(path, "cpu") for path in paths))
    parts = [known.artifact for known in ordered.layers if known.artifact is not None]
    models = {part.info.model.id: part.info.model.name for part in ordered.layers if part.info.model is not None}
    if len(models) > 1:
        raise ArtifactMismatchError(f"the transcoders are of several models: {', '.join(models.values())}")
    parents = {f"layers.{n}": parent_entry(*part) for n, part in enumerate(parts)}
    with new_artifact(local_path(out), format=FORMAT, settings={}, parents=parents, model=ordered.model) as draft:
        if not draft.finished:
            for number, part in enumerate(parts):
                shutil.copytree(part.folder, draft.folder / f"layers.{number}", dirs_exist_ok=True)
            _finish(draft, len(parts), ordered.model)
    return load_replacement(out, "cpu")


@public(TrainSettings)
def train_replacement(
    activations: Rows,
    *,
    device: str = "auto",
    memory: int | str | None = None,
    log: Log | None = None,
    reporter: Reporter | None = None,
    **settings: Unpack[TrainKeywords],
) -> Replacement:
    """Train a transcoder for each layer, all on one reading of the activations; run again, it goes on.

    Args:
        activations: as for `train`; rows of layers.N.mlp_in and layers.N.mlp of all layers.
        device, memory, log, reporter: as for `train`.
        settings: as for `train`, without `site` and `writes`; `out` is the folder of the replacement.
    """
    for name in ("site", "writes"):
        check(not settings.get(name), name, settings.get(name), "left out: a replacement reads and writes every MLP")
    chosen = from_mapping(TrainSettings, dict(settings))
    path, known = chosen.out, to_mapping(chosen)
    recorded = {name: value for name, value in known.items() if name not in ("out", "site", "writes")}
    with new_artifact(path, format=FORMAT, settings=recorded, parents={}) as draft:
        if not draft.finished:
            shared: dict[str, Any] = {"device": device, "memory": memory, "log": log, "reporter": reporter}
            trained = train_layers(activations, out=path, **shared, **recorded)
            _finish(draft, len(trained), trained[0].info.model)
    return load_replacement(path, device)


def _finish(draft: Draft[Path], n_layers: int, model: ModelRef | None) -> None:
    names = [f"layers.{number}" for number in range(n_layers)]
    files = [f"{name}/{file}" for name in names for file in (MANIFEST, WEIGHTS)]
    draft.finish(files, {"layers": names} | ({"model": model.to_json()} if model else {}))
