"""Dictionaries on disk: `dictionary.safetensors` beside a manifest that says how to read it."""

from pathlib import Path
from typing import Literal

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sonde.artifacts import new_artifact
from sonde.calls import public
from sonde.devices import choose_device
from sonde.dictionaries.batchtopk import BatchTopK, Matryoshka
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.gated import Gated
from sonde.dictionaries.info import DictionaryInfo
from sonde.dictionaries.installed import FORMAT, built_in_dictionary
from sonde.dictionaries.jumprelu import JumpReLU
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.topk import TopK
from sonde.errors import ArtifactDamagedError, ArtifactForeignError, OutputOccupiedError, nearest
from sonde.manifests import VERSIONS, Artifact, Manifest, library_versions, read_manifest, write_bytes
from sonde.remote import local_path
from sonde.tensor_files import SCALE

KINDS: dict[str, type[Dictionary]] = {kind.kind: kind for kind in (TopK, BatchTopK, Matryoshka, L1, JumpReLU, Gated)}
"""all kinds that can be loaded; registering a recipe adds one"""
WEIGHTS = "dictionary.safetensors"
WeightFormat = Literal["float32", "int8"]


@public()
def load_dictionary(folder: str | Path, device: str = "auto") -> Dictionary:
    """Load a dictionary from its folder, or the one of a known model that is installed with sonde, as "smollm2".

    Args:
        folder: what `train` or `save_dictionary` wrote.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises ArtifactError where the folder is missing, foreign, unfinished, truncated or altered.
    """
    path = built_in_dictionary(folder) or local_path(folder)
    artifact = Artifact(path, read_manifest(path, FORMAT))
    info = DictionaryInfo.of(artifact)
    if info.kind not in KINDS:
        raise ArtifactForeignError(
            f"{path} holds a dictionary of kind {info.kind!r}, but known are {', '.join(KINDS)}; import the module "
            f"that registers its recipe first (sonde.training.recipes.register){nearest(info.kind, KINDS)}"
        )
    dictionary = KINDS[info.kind](info.n_features, info.d_in, info.d_out, **info.kind_settings)
    try:
        dictionary.load_state_dict(_as_floats(load_file(path / WEIGHTS)))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ArtifactDamagedError(f"{path / WEIGHTS} cannot be read ({reason}); train the dictionary again") from error
    dictionary.info, dictionary.artifact = info, artifact
    dictionary.requires_grad_(False)
    return dictionary.to(choose_device(device)).eval()


@public()
def save_dictionary(dictionary: Dictionary, folder: str | Path, store: WeightFormat = "float32") -> Artifact[Path]:
    """Write a dictionary that was made in memory as an artifact, which `load_dictionary` loads.

    Args:
        store: number format of the weights on disk; int8 has a scale for each row, and takes a quarter of the room.

    Raises OutputOccupiedError where the folder holds something else.
    """
    path = local_path(folder)
    with new_artifact(path, format=FORMAT, settings={}, parents={}) as draft:
        if not draft.finished:
            draft.finish([save_weights(dictionary, draft.folder, store)], dictionary.info.to_facts())
    assert draft.finished is not None
    if draft.finished.id != content_id(dictionary, store):
        raise OutputOccupiedError(f"{path} already holds another dictionary; give a new folder")
    return Artifact(path, draft.finished)


def content_id(dictionary: Dictionary, store: WeightFormat = "float32") -> str:
    """The content id of what `save_dictionary` writes."""
    weights = _weights(dictionary, store)
    files = {WEIGHTS: {"bytes": len(weights), "xxh3": xxhash.xxh3_128_hexdigest(weights)}}
    facts = dictionary.info.to_facts()
    return Manifest(FORMAT, VERSIONS[FORMAT], {}, {}, facts, files, library_versions()).id


def save_weights(dictionary: Dictionary, folder: Path, store: WeightFormat = "float32") -> str:
    """Write the weights into an artifact that is being made; returns the file's name."""
    write_bytes(folder / WEIGHTS, _weights(dictionary, store))
    return WEIGHTS


def _weights(dictionary: Dictionary, store: WeightFormat) -> bytes:
    tensors = {name: value.detach().cpu().contiguous() for name, value in dictionary.state_dict().items()}
    return save(_as_bytes(tensors) if store == "int8" else tensors)


def _as_bytes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with each matrix as int8 and a float32 scale for each row, so that row = int8 row * scale."""
    packed = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            packed[name] = tensor
            continue
        scale = tensor.abs().amax(dim=1).clamp_min(1e-30) / 127
        packed |= {name: (tensor / scale[:, None]).round().to(torch.int8), name + SCALE: scale}
    return packed


def _as_floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `_as_bytes` packed, as float32; other tensors as they are."""
    whole = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    scales = {name.removesuffix(SCALE): tensor for name, tensor in tensors.items() if name.endswith(SCALE)}
    return whole | {name: whole[name].float() * scale[:, None] for name, scale in scales.items()}
