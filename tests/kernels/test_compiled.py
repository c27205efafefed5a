"""Compiled kernels: what they choose is exact where guesses cannot tell, and no compiler is no reason to stop."""

import os
import shutil
import subprocess

import pytest
import torch

import sonde
from sonde.errors import SettingsError
from sonde.kernels import compiled, gpu
from sonde.kernels.active import Active, Adam, RowGradient
from sonde.kernels.compiled import CompiledKernels, kernels
from sonde.kernels.packed import Packed

ROWS, WIDTH, FEATURES, K = 90, 32, 400, 6

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler, so there are no compiled kernels"
)


def problem(outlier: float = 1.0, alike: float | None = None) -> tuple[Packed, torch.Tensor]:
    """Rows with a dimension `outlier` times larger, and an encoder, with rows that differ by `alike` if given."""
    torch.manual_seed(0)
    x, W_enc = torch.randn(ROWS, WIDTH), torch.randn(FEATURES, WIDTH)
    x[:, 3] *= outlier
    if alike is not None:
        W_enc = W_enc[:1] + alike * W_enc
    found = kernels()
    assert found is not None
    return Packed(found, W_enc, 0.1 * torch.randn(FEATURES), x.square().mean(dim=0).sqrt()), x


def laid_out(active, n_features: int = FEATURES) -> torch.Tensor:
    dense = torch.zeros(ROWS, n_features)
    dense[active.row.long(), active.feature.long()] = active.value
    return dense


@needs_compiler
@pytest.mark.parametrize(
    ("outlier", "alike", "least_full", "most_full"),
    [(1.0, None, 0, 10), (1000.0, None, 0, 10), (1.0, 1e-3, 20, ROWS), (1.0, 0.0, 20, ROWS)],
)
def test_the_largest_are_those_of_float64(outlier, alike, least_full, most_full):
    packed, x = problem(outlier, alike)
    found = packed.topk(x, K)
    pre = x.double() @ packed.W_enc.double().T + packed.b_enc.double()
    room = 1e-6 * (x.double().abs() @ packed.W_enc.double().abs().T).amax()
    chosen = laid_out(found).double()
    assert ((chosen - pre).abs()[chosen > 0] < room).all()
    least = torch.where(chosen > 0, chosen, torch.inf).amin(dim=1, keepdim=True)
    few = (chosen > 0).sum(dim=1, keepdim=True) < K
    assert (pre[~(chosen > 0)] < (torch.where(few, 0.0, least) + room).expand_as(pre)[~(chosen > 0)]).all()
    assert least_full <= packed.n_full <= most_full
    assert (found.starts.diff() <= K).all() and all(
        (found.feature[first:last].diff() > 0).all()
        for first, last in zip(found.starts[:-1].tolist(), found.starts[1:].tolist(), strict=True)
    )


@needs_compiler
def test_of_equal_activations_the_lower_features_are_chosen():
    packed, x = problem()
    packed.W_enc[:] = packed.W_enc[7]
    packed.b_enc[:] = 100.0
    packed.repack()
    assert packed.topk(x, K).feature.view(ROWS, K).tolist() == [list(range(K))] * ROWS


@needs_compiler
@pytest.mark.parametrize("floor", [0.0, 8.0])
def test_all_above_a_floor_are_found(floor):
    packed, x = problem(outlier=60.0)
    found = packed.above(x, torch.tensor(floor))
    if floor == 0.0:
        assert found is None  # half of all are above zero, which is no sparse matter
        return
    packed, x = problem()
    found = packed.above(x, torch.full((FEATURES,), floor))
    assert found is not None
    pre = x @ packed.W_enc.T + packed.b_enc
    torch.testing.assert_close(laid_out(found), pre * (pre > floor))


@pytest.mark.parametrize("backend", ["compiled", "triton"])
@pytest.mark.parametrize("unit", [False, True])
def test_a_gradient_has_all_its_parts(backend, unit):
    found = kernels() if backend == "compiled" else gpu.GpuKernels() if gpu.installed() else None
    if found is None:
        pytest.skip("no compiler" if backend == "compiled" else "no Triton")
    torch.manual_seed(0)
    n, n_pairs = 40, 130
    W, source = torch.nn.functional.normalize(torch.randn(n, WIDTH), dim=1), torch.randn(ROWS, WIDTH)
    row, feature = torch.randint(ROWS, (n_pairs,)).sort().values, torch.randint(n, (n_pairs,))
    weight, own, dense = torch.randn(n_pairs), torch.randn(n), torch.randn(3, WIDTH)
    at = torch.full((n,), -1, dtype=torch.int32)
    at[[2, 3, 30]] = torch.arange(3, dtype=torch.int32)
    expected = torch.zeros(n, WIDTH).index_add_(0, feature, weight[:, None] * source[row]) + own[:, None] * W
    expected[[2, 3, 30]] += dense
    if unit:
        expected -= (expected * W).sum(dim=1, keepdim=True) * W
    active = Active(weight, row.int(), feature.int(), torch.searchsorted(row, torch.arange(ROWS + 1)))
    starts, order = found.by_feature(active, n)
    gradient = RowGradient(starts, order, active.row, weight, source, unit, dense, at, own)
    assert found.gradient_square(gradient, W) == pytest.approx(expected.square().sum().item(), rel=1e-5)
    if not unit:
        assert gradient.square_bound(W) >= expected.square().sum()
    m, v = torch.zeros(n, WIDTH), torch.zeros(n, WIDTH)
    found.update(gradient, W.clone(), (m, v), Adam(1e-3, 0.0, 0.0, 1e-8, 1, 0.5))
    torch.testing.assert_close(m, 0.5 * expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(v, 0.25 * expected.square(), rtol=1e-4, atol=1e-5)


@needs_compiler
def test_broken_numbers_harm_nothing():
    packed, x = problem()
    x[3, 5], x[4, 6] = torch.nan, torch.inf
    packed.W_enc[17] = torch.nan
    packed.repack()
    found = packed.topk(x, K)
    fine = torch.arange(ROWS)[(torch.arange(ROWS) != 3) & (torch.arange(ROWS) != 4)]
    assert torch.isfinite(laid_out(found)[fine]).all() and (found.starts.diff()[fine] == K).all()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"SONDE_KERNELS": "none"}, "SONDE_KERNELS is none"),
        ({"PATH": "", "CC": ""}, "there is no C compiler"),
        ({"CC": "false", "SONDE_KERNELS": "plain"}, "false compiled no kernels"),
    ],
)
def test_without_kernels_training_says_so_and_goes_on(environment, reason, walk, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found, why = compiled._find.__wrapped__()
    assert found is None and reason in why

    class Told(sonde.progress.Silent):
        said: list[str] = []

        def say(self, line: str) -> None:
            self.said.append(line)

    monkeypatch.setattr(compiled, "kernels", lambda: None)
    monkeypatch.setattr(compiled, "why_none", lambda: why)
    sonde.train(walk.acts, n_features=16, k=2, tokens=2000, out=tmp_path / "d", device="cpu", reporter=Told())
    assert sum(reason in text for text in Told.said) == 1


def test_an_unknown_variant_is_named(monkeypatch):
    monkeypatch.setenv("SONDE_KERNELS", "avx51")
    with pytest.raises(SettingsError, match="SONDE_KERNELS is 'avx51'; did you mean avx512"):
        compiled._find.__wrapped__()


@needs_compiler
def test_kernels_are_compiled_once_into_a_folder_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = next(found for name in ("cc", "gcc", "clang") if (found := compiled._which(name)))
    library = compiled._compile(compiler, "plain")
    assert library.parent == tmp_path / "sonde" / "kernels" and library.parent.stat().st_mode & 0o077 == 0
    assert os.listdir(library.parent) == [library.name]
    made = library.stat().st_mtime_ns
    assert compiled._compile(compiler, "plain") == library and library.stat().st_mtime_ns == made
    assert compiled._compile(compiler, "avx2") != library
    library.parent.chmod(0o777)  # where others can write, a library could be anyone's
    elsewhere = compiled._compile(compiler, "plain")
    assert tmp_path not in elsewhere.parents and CompiledKernels("plain", elsewhere).panel > 0
    shutil.rmtree(elsewhere.parent)


@needs_compiler
def test_every_variant_compiles_without_a_warning(tmp_path):
    source = tmp_path / "compiled.c"
    source.write_bytes(compiled._source())
    compiler = next(found for name in ("cc", "gcc", "clang") if (found := compiled._which(name)))
    for flags in compiled.VARIANTS.values() if os.uname().machine == "x86_64" else [""]:
        command = [*compiler, *compiled.FLAGS.split(), *flags.split(), "-Wall", "-Wextra", "-Werror", str(source)]
        subprocess.run([*command, "-o", str(tmp_path / "kernels.so"), "-lm"], check=True)
