"""The compiled step does what the reference does, with the same bits on every variant of the kernels."""

import shutil

import pytest
import torch

from sonde.kernels import compiled
from sonde.training.losses import LossSettings
from sonde.training.recipes import recipe_class
from sonde.training.steps import AutogradStep, FusedStep, make_fused_step
from tests.known import known

WIDTH, FEATURES, K, ROWS = 48, 300, 6, 300

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler, so there are no compiled kernels"
)
CASES = {
    "topk": {"kind": "topk"},
    "topk, revived": {"kind": "topk", "aux_k": 8},
    "topk, clipped": {"kind": "topk", "clip": 0.05},
    "topk, few above zero": {"kind": "topk", "bias": -2.0},
    "transcoder with a skip": {"kind": "topk", "d_out": 32},
    "batchtopk": {"kind": "batchtopk", "aux_k": 8},
    "batchtopk, free norms": {"kind": "batchtopk", "unit_norm": False},
    "matryoshka": {"kind": "matryoshka", "aux_k": 8},
    "l1": {"kind": "l1", "unit_norm": False, "bias": -5.0, "large": 1.0, "clip": 1.0},
    "jumprelu, tanh": {"kind": "jumprelu", "unit_norm": False, "bias": -5.0, "large": 1.0, "aux_k": 8},
    "jumprelu, l0": {"kind": "jumprelu", "penalty": "l0", "bias": -5.0, "large": 1.0, "clip": 1.0},
    "l1, unit norms": {"kind": "l1", "bias": -5.0, "large": 1.0},
}


def best_variants() -> list[str]:
    """The variants that this processor runs."""
    found = compiled.kernels()
    names = list(compiled.VARIANTS)
    return names[names.index(found.variant) :] if found is not None else []


@pytest.fixture(params=["avx512", "avx2", "plain"])
def variant(request, monkeypatch):
    """A variant in the place of the best one."""
    if request.param not in best_variants():
        pytest.skip(f"this processor does not run {request.param}")
    use(request.param, monkeypatch)
    return request.param


def use(name: str, monkeypatch) -> None:
    compiler = compiled._which("cc") or compiled._which("gcc") or compiled._which("clang")
    path = compiled._compile(known(compiler), name)
    found = compiled.CompiledKernels(name, path)
    monkeypatch.setattr(compiled, "kernels", lambda: found)


def train(
    which,
    *,
    alternate=False,
    kind="topk",
    d_out=None,
    aux_k=0,
    clip=0.0,
    unit_norm=True,
    bias=0.0,
    large=60.0,
    penalty="tanh",
    n_steps=4,
):
    """Weights, moments, losses and counts after a few steps on planted rows."""
    torch.manual_seed(0)
    found, options = recipe_class(kind), {"k": K, "penalty": penalty}
    options = {name: value for name, value in options.items() if name in found.takes()}
    recipe = found(n_features=FEATURES, decoder_norms="unit" if unit_norm else "free", **options)
    dictionary = recipe.dictionary_class(FEATURES, WIDTH, d_out, skip=d_out is not None, **recipe.kind_settings())
    for parameter in dictionary.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        dictionary.b_enc.add_(bias)
        dictionary.W_dec.div_(dictionary.W_dec.norm(dim=1, keepdim=True))
    optimiser = torch.optim.Adam(dictionary.parameters(), lr=3e-3, fused=True)
    rows = [torch.randn(ROWS, WIDTH) for _ in range(n_steps)]
    for x in rows:
        x[:, 5] *= large
    settings = LossSettings(
        variance=float(d_out or WIDTH),
        sparsity=3.0,
        dead=torch.arange(FEATURES) % 9 == 0 if aux_k else None,
        aux_k=aux_k,
    )
    by_autograd = step = AutogradStep(recipe, dictionary, optimiser, clip=clip)
    if which is FusedStep:
        step = make_fused_step(recipe, dictionary, optimiser, lambda n: iter([torch.cat(rows)]), clip=clip, n_sites=1)
        assert step is not None
    seen, first = [], step
    for number, x in enumerate(rows):
        if alternate:
            assert isinstance(first, FusedStep)
            step = by_autograd if number % 2 else first
            first.stale = number > 0
        y = x if d_out is None else x[:, :d_out].flip(1).contiguous()
        result = step.loss(x, y, settings)
        assert result is not None
        seen += [result.loss.detach(), result.squared_error.detach(), result.error, result.counts]
        step.apply()
    moments = [
        optimiser.state[parameter][name] for parameter in dictionary.parameters() for name in ("exp_avg", "exp_avg_sq")
    ]
    return [parameter.detach() for parameter in dictionary.parameters()] + seen + moments


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_the_compiled_step_does_what_the_reference_does(name, variant):
    slow, fast = train(AutogradStep, **CASES[name]), train(FusedStep, **CASES[name])
    for one, other in zip(fast, slow, strict=True):
        if one.dtype == torch.int64:
            assert torch.equal(one, other)
        else:
            torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5 * max(1.0, other.abs().max().item()))


@needs_compiler
@pytest.mark.parametrize("name", ["topk", "batchtopk", "l1", "transcoder with a skip"])
def test_the_two_may_take_turns(name):
    slow, turns = train(AutogradStep, **CASES[name]), train(FusedStep, alternate=True, **CASES[name])
    for one, other in zip(turns, slow, strict=True):
        if one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5 * max(1.0, other.abs().max().item()))


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_variants_and_threads_give_the_same_bits(name, monkeypatch):
    found, threads = [], torch.get_num_threads()
    try:
        for n_threads, variant in [(1, None), (2, None), *((1, variant) for variant in best_variants()[1:])]:
            if variant is not None:
                use(variant, monkeypatch)
            torch.set_num_threads(n_threads)
            found.append(train(FusedStep, **CASES[name]))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))
