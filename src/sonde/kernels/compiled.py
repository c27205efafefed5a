"""The compiled kernels of a CPU: found, compiled at first use, kept, and called on tensors.

`compiled.c` is plain C. It is compiled for the processor at hand by the compiler that is there (CC, cc, gcc or clang), kept
in the user's cache under a name made of source, compiler and flags, and called through ctypes, which lets go of the interpreter,
so Python threads share the work: as many as torch uses. Without a compiler everything runs on torch's operators.

SONDE_KERNELS=avx512, avx2 or plain asks for one variant, none for torch's operators.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sonde.errors import SettingsError, nearest

VARIANTS = {
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mprefer-vector-width=512",
    "avx2": "-mavx2",
    "plain": "",
}
FLAGS = "-O3 -std=gnu11 -fPIC -shared -ffp-contract=off -fno-math-errno -Wno-psabi"
NEEDS = {"avx512": ("__AVX512VNNI__", "__AVX512BW__"), "avx2": ("__AVX2__",), "plain": ()}
"""what a compiler defines for a processor that can run a variant"""
WIDEST = 16_384
"""of a row, in floats; as in compiled.c"""
LANES = 16
DOUBT = 2.0
"""how much further a guess may be off that was not computed again than the worst that was"""
LARGE, MOST_LARGE = 4.0, 16
"""dimensions so many times larger than the median, and at most so many, are multiplied as floats"""
MORE = 16
"""proposed on each row beyond the k that are wanted, at first"""


@functools.cache
def kernels() -> "Kernels | None":
    """The kernels of this machine, or None; `why_none` says why."""
    return _find()[0]


def why_none() -> str:
    """Why there are no compiled kernels, in one clause."""
    return _find()[1]


@functools.cache
def _find() -> "tuple[Kernels | None, str]":
    wanted = os.environ.get("SONDE_KERNELS", "auto")
    if wanted not in ("auto", "none", *VARIANTS):
        choices = ["auto", "none", *VARIANTS]
        raise SettingsError(
            f"SONDE_KERNELS is {wanted!r}{nearest(wanted, choices) or ', but must be one of ' + ', '.join(choices)}"
        )
    if wanted == "none":
        return None, "SONDE_KERNELS is none"
    compiler = next(
        (found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (found := _which(name))), None
    )
    if compiler is None:
        return None, "there is no C compiler (cc, gcc or clang)"
    try:
        variant = wanted if wanted != "auto" else _best_variant(compiler)
        return Kernels(variant, _compile(compiler, variant)), ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler[0]} compiled no kernels ({_first_line(error)})"


def _which(command: str) -> list[str] | None:
    words = shlex.split(command)
    found = shutil.which(words[0])
    return [found, *words[1:]] if found else None


def _first_line(error: Exception) -> str:
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return (text or str(error)).strip().splitlines()[0]


def _best_variant(compiler: list[str]) -> str:
    """The best variant that this processor can run, as the compiler sees it."""
    native = subprocess.run(
        [*compiler, "-march=native", "-dM", "-E", "-"], input="", capture_output=True, text=True, check=False
    ).stdout
    return next(name for name, macros in NEEDS.items() if all(macro in native for macro in macros))


def _source() -> bytes:
    return files("sonde.kernels").joinpath("compiled.c").read_bytes()


def _compile(compiler: list[str], variant: str) -> Path:
    """The shared library of a variant, compiled unless that was done before."""
    source = _source()
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    command = [*compiler, *FLAGS.split(), *VARIANTS[variant].split()]
    name = hashlib.sha256(b"\0".join([source, version, " ".join(command).encode()])).hexdigest()[:24]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonde" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
            raise PermissionError(f"{folder} can be written by others")
        place = folder
    except OSError:  # a home that cannot be written: compile for this process alone
        place = Path(tempfile.mkdtemp(prefix="sonde-kernels-"))
    library = place / f"{variant}-{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=place) as scratch:
            made, text = Path(scratch) / "kernels.so", Path(scratch) / "compiled.c"
            text.write_bytes(source)
            subprocess.run([*command, str(text), "-o", str(made), "-lm"], capture_output=True, text=True, check=True)
            made.replace(library)
    return library


class _Rows(ctypes.Structure):
    """`rows_gradient` of compiled.c."""

    _fields_ = (
        ("width", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("starts", "order", "row", "weight", "source", "dense", "dense_at", "own")
        ),
        ("unit", ctypes.c_int32),
    )


class Active(NamedTuple):
    """What is active on rows: pairs of a row and a feature, row after row, and by feature in a row."""

    value: Tensor
    """[pair] float32"""
    row: Tensor
    """[pair] int32"""
    feature: Tensor
    """[pair] int32"""
    starts: Tensor
    """[row + 1] int64, where each row's pairs begin, and their number"""


class RowGradient(NamedTuple):
    """A gradient of weights [n_features, width] that is never laid out, but gathered row by row where it is used.

    Row f is the sum over the feature's pairs of weight * source[row], and own[f] times the weights' own row, and
    dense[dense_at[f]], or nothing where that is negative.
    """

    starts: Tensor
    """[n_features + 1] int64, where each feature's pairs begin in `order`"""
    order: Tensor
    """[pair] int32, the pairs by feature"""
    row: Tensor
    """[pair] int32"""
    weight: Tensor
    """[pair] float32"""
    source: Tensor
    """[row, width] float32"""
    unit: bool
    """whether rows of the weights are kept at length one; then what points along them is left out"""
    dense: Tensor | None = None
    """[some, width] float32"""
    dense_at: Tensor | None = None
    """[n_features] int32"""
    own: Tensor | None = None
    """[n_features] float32"""

    def most(self, W: Tensor, feature: Tensor, lengths: Tensor) -> float:
        """A bound on the squared length of the gradient of W, from the feature of each pair and the length of each source row."""
        bound = torch.zeros(len(W)).index_add_(0, feature, self.weight.abs() * lengths[self.row])
        if self.own is not None:
            bound += self.own.abs() * W.norm(dim=1)
        if self.dense is not None and self.dense_at is not None:
            bound[self.dense_at >= 0] += self.dense.norm(dim=1)
        return bound.square().sum().item()

    def struct(self) -> _Rows:
        given = (self.starts, self.order, self.row, self.weight, self.source, self.dense, self.dense_at, self.own)
        return _Rows(
            self.source.shape[1], *(None if tensor is None else tensor.data_ptr() for tensor in given), self.unit
        )


class Kernels:
    """One variant of the kernels, loaded. Tensors are float32 on the CPU and contiguous, `width` a multiple of 16."""

    def __init__(self, variant: str, path: Path) -> None:
        self.variant, library = variant, ctypes.CDLL(str(path))
        self._functions: dict[str, Any] = {}
        for result, name, given in _PROTOTYPE.findall(_source().decode()):
            function = self._functions[name] = getattr(library, name)
            function.restype = _c_type(result)
            function.argtypes = [_c_type(one) for one in given.split(",") if one != "void"]
        self.panel: int = self.call("panel_features")

    def decode(self, y: Tensor, base: Tensor, W_dec: Tensor, active: Active) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of y [row, width] less base ([width], or a row each) and what is active: the error [row, width].

        Returns it with its squared length [row] float64, and for each pair its product with the feature's row of W_dec.
        """
        error, product = torch.empty_like(y), torch.empty_like(active.value)
        squares, stride = torch.empty(len(y), dtype=torch.float64), y.shape[1] if base.dim() == 2 else 0
        given = (y, base, stride, W_dec, y.shape[1], active.starts, active.feature, active.value)
        self.share("decode", len(y), *given, error, squares, product)
        return error, squares, product

    def by_feature(self, active: Active, n_features: int) -> tuple[Tensor, Tensor]:
        """The pairs by feature: where each feature's begin [n_features + 1], and their order [pair]."""
        n_pairs = len(active.feature)
        starts, order = torch.empty(n_features + 1, dtype=torch.int64), torch.empty(n_pairs, dtype=torch.int32)
        self.call("group", n_features, n_pairs, active.feature, starts, order)
        return starts, order

    def products(self, x: Tensor, W: Tensor, bias: Tensor, active: Active) -> Tensor:
        """x row . W row + bias for each pair [pair], feature by feature, so that each row of W is fetched once."""
        products = torch.empty_like(active.value)
        by_feature = self.by_feature(active, len(W))
        self.share("products", len(W), *by_feature, active.row, x, W, bias, W.shape[1], products)
        return products

    def gradient_square(self, gradient: RowGradient, W: Tensor) -> float:
        """The squared length of a gradient of W."""
        squares = torch.empty(len(W), dtype=torch.float64)
        self.share("gradient_squares", len(W), gradient.struct(), W, squares)
        return squares.sum().item()

    def update(
        self,
        gradient: RowGradient,
        W: Tensor,
        moments: tuple[Tensor, Tensor],
        *,
        scale: float,
        lr: float,
        betas: tuple[float, float],
        epsilon: float,
        step: int,
        packed: "Packed | None" = None,
    ) -> None:
        """One step of Adam on W [n_features, width], the `step`-th from one, with the gradient times `scale`."""
        numbers = (scale, lr, *betas, epsilon, 1 - betas[0] ** step, 1 - betas[1] ** step)
        pack = (packed.factor, packed.weights, packed.scale) if packed is not None else (None, None, None)
        self.share("update", len(W), gradient.struct(), W, *moments, *numbers, *pack)

    def call(self, name: str, *given: Any) -> Any:
        """Call a function of compiled.c."""
        return self._functions[name](*map(_plain, given))

    def share(self, name: str, n: int, *given: Any, at_once: int = 256) -> list[Any]:
        """Call a function for rows 0 to n, cut up among as many threads as torch has; returns what each part returned."""
        function, plain = self._functions[name], [_plain(one) for one in given]
        parts = [(first, min(first + at_once, n)) for first in range(0, n, at_once)]
        threads = torch.get_num_threads()
        if threads == 1 or len(parts) < 2:
            return [function(*part, *plain) for part in parts]
        return list(_pool(threads).map(lambda part: function(*part, *plain), parts))


class Packed:
    """An encoder in eight bits, which proposes what may be active; what is proposed is computed in float32.

    Args:
        W_enc: [n_features, d_in] float32.
        rms: [d_in] root mean square of each dimension of what it will read, so that the eight bits are shared out evenly.
    """

    def __init__(self, found: Kernels, W_enc: Tensor, b_enc: Tensor, rms: Tensor) -> None:
        self.kernels, self.W_enc, self.b_enc = found, W_enc.detach(), b_enc.detach()
        n, width = W_enc.shape
        padded = -(-n // found.panel) * found.panel
        usual = max(rms.median().item(), 1e-30)
        self.large = (rms > LARGE * usual).nonzero().flatten()[:MOST_LARGE]
        self.factor = rms.float().clamp_min(1e-3 * usual)
        self.inverse = 1 / self.factor
        self.factor[self.large], self.inverse[self.large] = 0.0, 0.0
        self.large_W = torch.zeros(len(self.large), padded)
        self.weights = torch.full((padded * width,), 128, dtype=torch.uint8)
        self.scale, self.bias = torch.zeros(padded), torch.full((padded,), -torch.inf)
        self.n_full = 0
        """rows that were computed in full, out of doubt"""
        # Guessed from what went before; they change how long an answer takes, and never the answer.
        self.more, self.slack, self.last_floor, self.capacity = MORE, 0.0, 0.0, 128
        self.repack()

    def repack(self) -> None:
        """Take over all weights; `Kernels.update` takes over those that it changes."""
        given = (self.W_enc, self.factor, self.W_enc.shape[1], self.weights, self.scale)
        self.kernels.share("pack_rows", len(self.W_enc), *given)

    def topk(self, x: Tensor, k: int) -> Active:
        """The k largest pre-activations of each row of x [row, d_in] that are above zero; of equal ones, the lower features.

        Rows on which one of them may not have been proposed are computed in full.
        """
        (n, width), n_rows = self.W_enc.shape, len(x)
        wanted = min(n, k + self.more)
        found = self._propose(x, wanted + max(wanted, 4 * self.kernels.panel), wanted=wanted)
        assert found is not None
        (guess, _, feature, starts), floor = found
        exact = self.kernels.products(x, self.W_enc, self.b_enc, found[0])
        count, doubtful = torch.empty(n_rows, dtype=torch.int32), torch.empty(n_rows, dtype=torch.uint8)
        self.kernels.share("choose", n_rows, k, DOUBT, starts, guess, exact, feature, floor, count, doubtful)
        if wanted < n:
            rows = doubtful.nonzero().flatten()
            room, places = torch.empty(len(rows), 2 * k), torch.empty(len(rows), 2 * k, dtype=torch.int32)
            given = (rows, x, self.W_enc, self.b_enc, width, n, k, room, places, starts, exact, feature, count)
            self.kernels.share("choose_of_all", len(rows), *given, at_once=16)
            self.n_full += len(rows)
            if len(rows) * 1000 > n_rows:  # costs more than proposing more
                self.more = min(8 * MORE, 2 * self.more)
        return self._compact(starts[:-1], count, exact, feature)

    def above(self, x: Tensor, floor: Tensor) -> Active | None:
        """All pre-activations of x [row, d_in] above a floor ([n_features], or one for all).

        None where some row has more than an eighth of all features above.
        """
        while True:
            floors = torch.full_like(self.scale, torch.inf)
            floors[: len(self.b_enc)] = floor - self.slack
            proposed = self._propose(x, self.capacity + self.kernels.panel, floors=floors)
            if proposed is None:
                if self.capacity * 8 >= len(self.scale):
                    return None
                self.capacity *= 2
                continue
            found, _ = proposed
            exact = self.kernels.products(x, self.W_enc, self.b_enc, found)
            off = DOUBT * (exact - found.value).abs().max().item() if len(exact) else 0.0
            if off <= self.slack:
                return chosen(
                    found._replace(value=exact), exact > (floor[found.feature.long()] if floor.dim() else floor)
                )
            self.slack = 1.25 * off  # what was not proposed may have been guessed too low by as much

    def batch_topk(self, x: Tensor, k: int) -> Active | None:
        """The k * rows largest pre-activations of a batch that are above zero; None where `above` finds too many, or too few are."""
        wanted = k * len(x)
        for floor in self._floors(x, k):
            found = self.above(x, torch.tensor(floor)) if floor > 0 else None
            if found is not None and len(found.value) >= wanted:
                least = found.value.kthvalue(len(found.value) - wanted + 1).values
                self.last_floor = least.item()
                kept, [ties] = found.value > least, (found.value == least).nonzero(as_tuple=True)
                kept[ties[: wanted - int(kept.sum())]] = True
                return chosen(found, kept)
        return None

    def _floors(self, x: Tensor, k: int) -> Iterator[float]:
        """Floors that somewhat more than k pre-activations of a row may exceed: from the last batch, or from some rows."""
        yield 0.97 * self.last_floor
        yield 0.9 * self.last_floor
        pre = torch.addmm(self.b_enc, x[:: max(1, len(x) // 64)], self.W_enc.T)
        yield pre.flatten().topk(min(pre.numel(), int(1.5 * k * len(pre)) + 1), sorted=False).values.amin().item()

    def _propose(
        self, x: Tensor, capacity: int, *, floors: Tensor | None = None, wanted: int = 0
    ) -> tuple[Active, Tensor] | None:
        """Guesses above `floors` [n_features], or the `wanted` largest of each row, and the largest [row] that may be left out.

        None where a row has more than `capacity` above the floors.
        """
        n, n_features = len(x), len(self.b_enc)
        self.bias[:n_features], self.large_W[:, :n_features] = self.b_enc, self.W_enc[:, self.large].T
        value, feature = torch.empty(n, capacity), torch.empty(n, capacity, dtype=torch.int32)
        count, floor = torch.empty(n, dtype=torch.int32), torch.empty(n)
        given = (x, self.inverse, x.shape[1], self.weights, self.scale, self.bias, len(self.scale))
        given = (*given, len(self.large), self.large, self.large_W, floors, wanted)
        at_once = min(384, max(48, -(-n // (48 * torch.get_num_threads())) * 12))  # whole strips, as in compiled.c
        overflowed = self.kernels.share("propose", n, *given, capacity, value, feature, count, floor, at_once=at_once)
        if min(overflowed) < 0:
            raise MemoryError
        if any(overflowed):
            return None
        return self._compact(torch.arange(0, n * capacity, capacity), count, value, feature), floor

    def _compact(self, from_: Tensor, count: Tensor, value: Tensor, feature: Tensor) -> Active:
        """The first `count` pairs of each row, which begin at `from_` [row]."""
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
        n_pairs = int(starts[-1])
        row = torch.arange(len(count), dtype=torch.int32).repeat_interleave(count, output_size=n_pairs)
        found = Active(torch.empty(n_pairs), row, torch.empty(n_pairs, dtype=torch.int32), starts)
        self.kernels.share("compact", len(count), from_, starts, value, feature, found.value, found.feature)
        return found


def chosen(active: Active, which: Tensor) -> Active:
    """The pairs for which `which` [pair] is true."""
    before = torch.cat([torch.zeros(1, dtype=torch.int64), which.cumsum(0)])
    return Active(active.value[which], active.row[which], active.feature[which], before[active.starts])


# ---------------------------------------------------------------- calling C

_PROTOTYPE = re.compile(r"^(void|int64_t) (\w+)\(([^)]*)\) \{", re.MULTILINE)


def _c_type(declared: str) -> Any:
    """The type of a result or of an argument, as it is declared in C."""
    if "*" in declared:
        return ctypes.c_void_p
    return {"void": None, "int64_t": ctypes.c_int64, "float": ctypes.c_float}[declared.split()[0]]


def _plain(one: Any) -> Any:
    if isinstance(one, Tensor):
        assert one.is_contiguous() and one.device.type == "cpu"
        return one.data_ptr()
    return ctypes.addressof(one) if isinstance(one, ctypes.Structure) else one


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sonde-kernels")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
