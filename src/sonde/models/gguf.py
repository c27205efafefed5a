"""GGUF files: converted once into a model folder in the user's cache, which is loaded like any other.

transformers reads the file and gives each quantised weight the float32 value that it stands for. The folder is named
after the file's content, so a file that changes is converted anew, and one that moves is not.
"""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from sonde.caches import cache_folder
from sonde.errors import ModelError, ModelNotFoundError, StorageError
from sonde.manifests import describe_file
from sonde.models.loading import ONE_AT_A_TIME
from sonde.progress import Reporter, default_reporter

MAGIC = b"GGUF"


def convert_gguf(file: Path, reporter: Reporter | None = None) -> Path:
    """The model folder of a GGUF file, in the user's cache; converted where it was not before.

    Raises:
        ModelNotFoundError: not a GGUF file.
        ModelError: transformers cannot read it, or it is cut off.
        StorageError: the cache cannot be written.
    """
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise ModelNotFoundError(f"{file} is not a GGUF file: it does not begin with {MAGIC.decode()}")
    identity = f"gguf-{describe_file(file)['xxh3']}"
    folder = cache_folder("models") / identity
    if not folder.is_dir():
        (reporter or default_reporter()).say(f"converting {file.name}, once, into {folder}")
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="converting-"))
        try:
            _convert(file, scratch)
            _keep(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def gguf_identity(folder: Path) -> str | None:
    """The content id of the GGUF file of which a folder in the cache was made; None of other folders.

    It is the model's id too, whatever version of transformers converted it. A copy elsewhere may have been changed
    since, and has an id of its own content.
    """
    return folder.name if folder.parts[-3:-1] == ("sonde", "models") and folder.name.startswith("gguf-") else None


def _convert(file: Path, folder: Path) -> None:
    source, keywords = str(file.parent), {"gguf_file": file.name, "local_files_only": True}
    try:
        with ONE_AT_A_TIME, _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **keywords)
            network = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **keywords)
            assert tokenizer is not None
            del network.config.quantization_config
            network.hf_quantizer, network.is_quantized = None, False  # its weights are ordinary ones by now
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except ImportError as error:
        raise ModelError(f"reading {file.name} needs gguf and accelerate: pip install gguf accelerate") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be converted into {folder}: {error}") from error
    except Exception as error:  # of any type, by gguf and transformers, on files that are cut off or unknown
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"transformers cannot read {file}: {reason} (is it cut off, or of an architecture that it does not know?)"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and its words on quantisation, which the folder no longer has."""
    logger, bars = logging.getLogger("transformers"), transformers.utils.logging.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _keep(made: Path, folder: Path) -> None:
    """Give the converted folder its name, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise StorageError(f"{folder} cannot be written: {error}") from error
