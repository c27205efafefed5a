"""Dictionaries on disk: `dictionary.safetensors` beside a manifest that says how to read it."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from sonde.devices import choose_device
from sonde.dictionaries.batchtopk import BatchTopK, Matryoshka
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.gated import Gated
from sonde.dictionaries.jumprelu import JumpReLU
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.topk import TopK
from sonde.errors import ArtifactDamagedError, ArtifactForeignError, nearest
from sonde.manifests import read_manifest, write_bytes

FORMAT = "dictionary"
KINDS: dict[str, type[Dictionary]] = {kind.kind: kind for kind in (TopK, BatchTopK, Matryoshka, L1, JumpReLU, Gated)}
"""all kinds that can be loaded; registering a recipe adds one"""
WEIGHTS = "dictionary.safetensors"


def save_weights(dictionary: Dictionary, folder: Path) -> str:
    """Write the weights into an artifact that is being made; returns the file's name."""
    state = {name: value.detach().cpu().contiguous() for name, value in dictionary.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(state))
    return WEIGHTS


def load_dictionary(folder: str | Path, device: str = "auto") -> Dictionary:
    """Load a dictionary that `train` wrote.

    Raises ArtifactError where the folder is missing, foreign, unfinished, truncated or altered.
    """
    path = Path(folder)
    manifest = read_manifest(path, FORMAT)
    facts = manifest.facts
    if facts["kind"] not in KINDS:
        raise ArtifactForeignError(
            f"{path} holds a dictionary of kind {facts['kind']!r}, but known are {', '.join(KINDS)}; import the module "
            f"that registers its recipe first (sonde.training.recipes.register){nearest(facts['kind'], KINDS)}"
        )
    dictionary = KINDS[facts["kind"]](facts["n_features"], facts["d_in"], facts["d_out"], **facts["kind_settings"])
    try:
        dictionary.load_state_dict(load_file(path / WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ArtifactDamagedError(f"{path / WEIGHTS} cannot be read ({reason}); train the dictionary again") from error
    dictionary.folder, dictionary.manifest = path, manifest
    dictionary.requires_grad_(False)
    return dictionary.to(choose_device(device)).eval()
