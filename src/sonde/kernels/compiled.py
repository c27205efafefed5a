"""The compiled CPU kernels: compiled at first use, cached, and called on tensors.

`compiled.c` is plain C. It is compiled for this machine's processor by the first compiler found (CC, cc, gcc or clang)
and cached in the user's cache folder, under a hash of source, compiler and flags. It is called through ctypes, which
releases the interpreter lock, so that Python threads share the work: as many as torch uses. Without a compiler
everything runs on torch's operators.

SONDE_KERNELS=avx512, avx2 or plain selects a variant, none torch's operators, triton `gpu.py` on a GPU.
"""

import ctypes
import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonde.caches import cache_folder
from sonde.errors import SettingsError, StorageError, nearest
from sonde.kernels.active import Active, Adam, Bias, PerPair, PerRow, RowGradient, Rows, Weights

VARIANTS = {
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512",
    "avx2": "-mavx2",
    "plain": "",
}
FLAGS = "-O3 -std=gnu11 -fPIC -shared -ffp-contract=off -fno-math-errno -Wno-psabi"
NEEDS = {"avx512": ("__AVX512VNNI__", "__AVX512BW__"), "avx2": ("__AVX2__",), "plain": ()}
"""macros that a compiler defines for a processor that can run a variant"""


@functools.cache
def kernels() -> "CompiledKernels | None":
    """The kernels of this machine, or None; `why_none` says why."""
    return _find()[0]


def why_none() -> str:
    """Why there are no compiled kernels, in one clause."""
    return _find()[1]


def wanted() -> str:
    """The value of SONDE_KERNELS, by default auto; raises SettingsError for an unknown one."""
    choice, choices = os.environ.get("SONDE_KERNELS", "auto"), ["auto", "none", "triton", *VARIANTS]
    if choice not in choices:
        hint = nearest(choice, choices) or ", but must be one of " + ", ".join(choices)
        raise SettingsError(f"SONDE_KERNELS is {choice!r}{hint}")
    return choice


@functools.cache
def _find() -> "tuple[CompiledKernels | None, str]":
    variant = wanted()
    if variant == "none":
        return None, "SONDE_KERNELS is none"
    names = (os.environ.get("CC"), "cc", "gcc", "clang")
    compiler = next((command for name in names if name and (command := _which(name))), None)
    if compiler is None:
        return None, "there is no C compiler (cc, gcc or clang)"
    try:
        variant = variant if variant in VARIANTS else _best_variant(compiler)
        return CompiledKernels(variant, _compile(compiler, variant)), ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler[0]} compiled no kernels ({_first_line(error)})"


def _which(command: str) -> list[str] | None:
    """A command with the path of its program; None where there is no such program."""
    program, *arguments = shlex.split(command)
    path = shutil.which(program)
    return [path, *arguments] if path else None


def _first_line(error: Exception) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (text or str(error)).strip().splitlines()[0]


def _best_variant(compiler: list[str]) -> str:
    """The best variant that this processor can run, by what the compiler says of it."""
    native = subprocess.run(
        [*compiler, "-march=native", "-dM", "-E", "-"], input="", capture_output=True, text=True, check=False
    ).stdout
    return next(name for name, macros in NEEDS.items() if all(macro in native for macro in macros))


def _source() -> bytes:
    return files("sonde.kernels").joinpath("compiled.c").read_bytes()


def _cache() -> Path | None:
    """The folder of compiled kernels; None where there is no home, or a folder that others, or nobody, may write."""
    try:
        folder = cache_folder("kernels")
        found = folder.stat()
    except (OSError, StorageError):
        return None
    return folder if found.st_uid == os.getuid() and not found.st_mode & 0o022 else None


def _compile(compiler: list[str], variant: str) -> Path:
    """The path of a variant's shared library, which is compiled unless it is in the cache."""
    source = _source()
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    command = [*compiler, *FLAGS.split(), *VARIANTS[variant].split()]
    name = hashlib.sha256(b"\0".join([source, version, " ".join(command).encode()])).hexdigest()[:24]
    folder, file = _cache(), f"{variant}-{name}.so"
    if folder is None or not ((folder / file).exists() or os.access(folder, os.W_OK)):
        folder = Path(tempfile.mkdtemp(prefix="sonde-kernels-"))  # for this process alone
    library = folder / file
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            output, text = Path(scratch) / "kernels.so", Path(scratch) / "compiled.c"
            text.write_bytes(source)
            subprocess.run([*command, str(text), "-o", str(output), "-lm"], capture_output=True, text=True, check=True)
            output.replace(library)
    return library


class _Rows(ctypes.Structure):
    """The struct `rows_gradient` of compiled.c."""

    _fields_ = (
        ("width", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("starts", "order", "row", "weight", "source", "dense", "dense_at", "own")
        ),
        ("unit", ctypes.c_int32),
    )


class CompiledKernels:
    """One variant of the kernels, loaded. Tensors are float32 on the CPU and contiguous, `width` a multiple of 16."""

    def __init__(self, variant: str, path: Path) -> None:
        self.variant, library = variant, ctypes.CDLL(str(path))
        self._functions: dict[str, Any] = {}
        for result, name, parameters in _PROTOTYPE.findall(_source().decode()):
            function = self._functions[name] = getattr(library, name)
            function.restype = _c_type(result)
            function.argtypes = [_c_type(parameter) for parameter in parameters.split(",") if parameter != "void"]
        self.panel: int = self.call("panel_features")

    def decode(
        self, y: Rows, base: Float[Tensor, "... width"], W_dec: Weights, active: Active
    ) -> tuple[Rows, PerRow, PerPair]:
        """The reconstruction error, its squared norm in float64, and its product with each pair's row of W_dec.

        The error is y - base - the decoded pairs, where base is [width] or has a row for each of y's.
        """
        error, product = torch.empty_like(y), torch.empty_like(active.value)
        squares, stride = torch.empty(len(y), dtype=torch.float64), y.shape[1] if base.dim() == 2 else 0
        inputs = (y, base, stride, W_dec, y.shape[1], active.starts, active.feature, active.value)
        self.share("decode", len(y), *inputs, error, squares, product)
        return error, squares, product

    def by_feature(self, active: Active, n_features: int) -> tuple[Int[Tensor, " start"], Int[Tensor, " pair"]]:
        """The pairs grouped by feature: where each feature's pairs begin, and their order."""
        n_pairs = len(active.feature)
        starts, order = torch.empty(n_features + 1, dtype=torch.int64), torch.empty(n_pairs, dtype=torch.int32)
        self.call("group", n_features, n_pairs, active.feature, starts, order)
        return starts, order

    def products(self, x: Rows, W: Weights, bias: Bias, active: Active) -> PerPair:
        """For each pair, its row of x times its feature's row of W, plus the bias.

        Computed feature by feature, so that each row of W is fetched once.
        """
        products = torch.empty_like(active.value)
        by_feature = self.by_feature(active, len(W))
        self.share("products", len(W), *by_feature, active.row, x, W, bias, W.shape[1], products)
        return products

    def gradient_square(self, gradient: RowGradient, W: Weights) -> float:
        """The squared norm of a gradient of W."""
        squares = torch.empty(len(W), dtype=torch.float64)
        self.share("gradient_squares", len(W), _struct(gradient), W, squares)
        return squares.sum().item()

    def update(
        self,
        gradient: RowGradient,
        W: Weights,
        moments: tuple[Weights, Weights],
        adam: Adam,
        packed: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        """Take one step of Adam on W, and pack the new weights into `packed` (factor, weights, scale)."""
        corrections = (1 - adam.beta1**adam.step, 1 - adam.beta2**adam.step)
        numbers = (adam.scale, adam.lr, adam.beta1, adam.beta2, adam.epsilon, *corrections)
        self.share("update", len(W), _struct(gradient), W, *moments, *numbers, *(packed or (None, None, None)))

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a function of compiled.c."""
        return self._functions[name](*map(_plain, arguments))

    def share(self, name: str, n: int, *arguments: Any, at_once: int = 256) -> list[Any]:
        """The results of a function called on rows 0 to n in ranges of `at_once`, shared among torch's threads."""
        function, plain = self._functions[name], [_plain(argument) for argument in arguments]
        parts = [(first, min(first + at_once, n)) for first in range(0, n, at_once)]
        threads = torch.get_num_threads()
        if threads == 1 or len(parts) < 2:
            return [function(*part, *plain) for part in parts]
        return list(_pool(threads).map(lambda part: function(*part, *plain), parts))


# ---------------------------------------------------------------- calling C

_PROTOTYPE = re.compile(r"^(void|int64_t) (\w+)\(([^)]*)\) \{", re.MULTILINE)


def _c_type(declared: str) -> Any:
    """The ctypes type of a result or parameter, from its declaration in C."""
    if "*" in declared:
        return ctypes.c_void_p
    return {"void": None, "int64_t": ctypes.c_int64, "float": ctypes.c_float}[declared.split()[0]]


def _struct(gradient: RowGradient) -> _Rows:
    names = ("starts", "order", "row", "weight", "source", "dense", "dense_at", "own")
    parts = [getattr(gradient, name) for name in names]
    pointers = (None if part is None else _plain(part) for part in parts)
    return _Rows(gradient.source.shape[1], *pointers, gradient.unit)


def _plain(argument: Any) -> Any:
    """An argument as C takes it: tensors and structures as addresses."""
    if isinstance(argument, Tensor):
        assert argument.is_contiguous() and argument.device.type == "cpu"
        return argument.data_ptr()
    return ctypes.addressof(argument) if isinstance(argument, ctypes.Structure) else argument


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sonde-kernels")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
