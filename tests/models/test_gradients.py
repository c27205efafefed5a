"""Gradients of every family's activations, against finite differences and against frozen models."""

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonde.errors import SiteError
from sonde.models.load import wrap_model
from sonde.models.model import Model
from tests.known import known
from tests.models.test_sites import PutBack, all_hooks, batch
from tests.tiny import FAMILIES, make_model, make_network, make_tokenizer

STEPS = {"gpt2": (1e-4, 1e-8), "bert": (1e-4, 1e-8)}
"""finite step and tolerance; other families compute norms and patterns in float32 whatever their weights are, so that
steps have to be larger"""
SAME_LENGTH = ["the red", "one bay"]
"""the stream is zero at padding in some families, where a norm is as steep as can be"""


@dataclass(frozen=True)
class Plus:
    site: str
    change: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.change


@dataclass(frozen=True)
class Put:
    site: str
    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.value


def double(family: str) -> Model:
    network = make_network(family).double()
    if family == "mixtral":  # all experts for every token, as a step must not take it to others; products of 64 bits
        network.config._experts_implementation = "eager"
        for layer in network.model.layers:
            layer.mlp.gate.top_k = network.config.num_local_experts
    return wrap_model(network, make_tokenizer(), "double")


def loss_of(logits: Tensor) -> Tensor:
    """A scalar in which every logit has its own weight."""
    weights = torch.sin(torch.arange(logits.numel(), dtype=torch.float64) ** 2).view(logits.shape)
    return (logits.double() * weights).sum()


def direction(value: Tensor) -> Tensor:
    """As long as the value itself, in a direction of its own at each position and head."""
    random = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (random * value.detach().norm() / random.norm()).to(value.dtype)


def slope(model: Model, tokens, site: str, along: Tensor, step: float) -> float:
    """The loss's slope along a direction at a site, from four forward passes."""

    def loss(steps: int) -> float:
        with model.edited(Plus(site, steps * step * along)):
            return float(loss_of(model.logits(tokens)))

    return (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / (12 * step)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_equal_finite_differences_at_every_site(name):
    """The value and the gradient at each site of one forward and one backward pass, sites edited in place included."""
    model = double(name)
    tokens = model.tokenize("the red")
    sites = [site for site in model.sites() if site.startswith(("embedding", "layers.1", "final", "logits"))]
    with model.gradients(sites) as values:
        loss_of(model.logits(tokens)).backward()
    assert list(values) == sites
    assert all(weight.grad is None for weight in model.network.parameters())
    read = model.read(tokens, sites)
    step, tolerance = STEPS.get(name, (1e-2, 1e-3))
    for site, value in values.items():
        assert torch.equal(value, read[site]), site
        along = direction(value)
        expected = slope(model, tokens, site, along, step)
        gradient = known(value.grad)
        error = abs(float((gradient * along).sum()) - expected)
        assert error <= tolerance * max(abs(expected), float(gradient.norm())), (site, error, expected)


def test_tracking_a_site_changes_no_logit(model):
    tokens = batch(model)
    plain = model.logits(tokens)
    assert not plain.requires_grad
    with model.gradients(model.sites()):
        logits = model.logits(tokens)
    assert logits.requires_grad and torch.equal(logits, plain)
    assert not list(all_hooks(model)) and not model.logits(tokens).requires_grad


def test_what_is_read_inside_is_part_of_the_graph():
    model = make_model("llama")
    tokens = model.tokenize("the bridge")
    with model.gradients("layers.0.residual") as values:
        later = model.read(tokens, "layers.1.mlp")
        earlier = model.read(tokens, "embedding")
    later.sum().backward()
    assert known(values["layers.0.residual"].grad).abs().sum() > 0
    assert not earlier.requires_grad


def test_gradients_reach_what_edits_bring():
    """A vector that is added to the stream where the block keeps it: its gradient is the slope of the loss."""
    model = double("gpt2")
    tokens = model.tokenize("the bridge")
    site = "layers.1.residual_mid"
    vector = direction(model.read(tokens, site)).requires_grad_()
    with model.gradients(), model.edited(Plus(site, vector), PutBack("layers.1.mlp_in")):
        loss_of(model.logits(tokens)).backward()
    with model.edited(Plus(site, vector.detach())):
        expected = slope(model, tokens, site, along := direction(vector) * 0.1, 1e-4)
    assert float((known(vector.grad) * along).sum()) == pytest.approx(expected, rel=1e-7)


class Constant(nn.Module):
    """A norm that has forgotten everything but the scales that it had in one forward pass."""

    def __init__(self, norm: Any, x: Tensor) -> None:
        super().__init__()
        self.centre = isinstance(norm, nn.LayerNorm)
        self.bias = getattr(norm, "bias", None)
        self.gain = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight
        epsilon = getattr(norm, "variance_epsilon", None) or norm.eps
        self.scale = (self.centred(x).pow(2).mean(-1, keepdim=True) + epsilon).rsqrt()

    def centred(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centre else x

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.gain * self.scale * self.centred(x)
        return scaled if self.bias is None else scaled + self.bias


@contextlib.contextmanager
def constants(model: Model, tokens, norms: bool = True, attention: bool = True):
    """The model with the scales and patterns that it has on these tokens, whatever passes through it."""
    inputs, stack = {}, contextlib.ExitStack()
    found = {path: module for path, module in model.network.named_modules() if is_norm(module)}
    patterns = model.read(tokens, [site for site in model.sites() if site.endswith(".pattern")])
    with stack:
        for path, norm in found.items():
            stack.callback(
                norm.register_forward_pre_hook(lambda _, args, path=path: inputs.update({path: args[0]})).remove
            )
        model.logits(tokens)
    with stack:
        for path, x in inputs.items() if norms else ():
            constant = Constant(found[path], x)
            found[path].forward = constant.forward
            stack.callback(found[path].__dict__.pop, "forward")
        if attention:
            stack.enter_context(model.edited(*(Put(*pattern) for pattern in patterns.items())))
        yield


def is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def gradients_at(model: Model, tokens, sites) -> dict[str, Tensor]:
    with model.gradients(sites) as values:
        loss_of(model.logits(tokens)).backward()
    return {site: torch.zeros_like(x) if x.grad is None else x.grad for site, x in values.items()}


FREEZING = (
    {"norms": True, "attention": True},
    {"norms": True, "attention": False},
    {"norms": False, "attention": True},
)


@pytest.mark.parametrize("options", FREEZING, ids=["both", "norms", "attention"])
@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_gradients_are_those_of_a_model_whose_scales_and_patterns_are_constants(name, options):
    model = double(name)
    tokens = model.tokenize(SAME_LENGTH)
    sites = [site for site in model.sites() if not site.endswith(".pattern")]
    with model.frozen(**options):
        frozen = gradients_at(model, tokens, sites)
    with constants(model, tokens, **options):
        expected = gradients_at(model, tokens, sites)
    plain = gradients_at(model, tokens, sites)
    for site in sites:
        error, size = (frozen[site] - expected[site]).abs().max(), expected[site].abs().max()
        assert error <= 1e-5 * size, (site, float(error), float(size))
    assert not torch.allclose(frozen["embedding"], plain["embedding"], rtol=0.01), "or this shows nothing"
    if options["attention"]:
        assert not frozen["layers.1.query"].any() and not frozen["layers.1.key"].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_freezing_changes_no_value(model, dtype):
    model.network.to(dtype)
    tokens = batch(model)
    plain = model.read(tokens, model.sites())
    for options in FREEZING:
        with model.frozen(**options), model.gradients("embedding"):
            frozen = model.read(tokens, model.sites())
        for site, value in plain.items():
            assert torch.equal(frozen[site], value), site
    assert not list(all_hooks(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_with_constants_frozen_attention_is_linear_in_the_stream(name):
    """A far step along the stream changes what attention adds by exactly what the frozen gradient foretells."""
    model = double(name)
    tokens = model.tokenize("the red bridge")
    start, end = "layers.0.residual", "layers.1.attention"
    with model.frozen(), model.gradients(start) as values:
        weights = direction(attention := model.read(tokens, end))
        (attention * weights).sum().backward()
    step = 10 * direction(values[start])
    with constants(model, tokens):
        before = model.read(tokens, end)
        with model.edited(Plus(start, step)):
            after = model.read(tokens, end)
    torch.testing.assert_close(before, attention.detach(), atol=1e-5, rtol=1e-5)
    moved, predicted = float(((after - before) * weights).sum()), float((known(values[start].grad) * step).sum())
    assert moved == pytest.approx(predicted, rel=1e-5)


def test_a_pattern_has_a_gradient_although_it_is_frozen():
    """Whichever block is the outer one."""
    model = make_model("llama")
    tokens = model.tokenize("the red bridge")
    site = "layers.1.pattern"
    with model.gradients(site) as expected:
        loss_of(model.logits(tokens)).backward()
    with model.frozen(norms=False), model.gradients(site) as inside:
        loss_of(model.logits(tokens)).backward()
    with model.gradients(site) as outside, model.frozen(norms=False):
        loss_of(model.logits(tokens)).backward()
    own, other, whole = (known(values[site].grad) for values in (inside, outside, expected))
    assert torch.equal(own, other)
    assert not torch.equal(own, whole), "layer 2's pattern must pass something on"


def test_nothing_is_left_behind_after_an_exception():
    model = make_model("llama")
    tokens = model.tokenize("the bridge")
    before = vars(model.network.config).copy()

    @dataclass(frozen=True)
    class Broken:
        site: str = "layers.1.mlp"

        def __call__(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), model.frozen(), model.gradients(model.sites()), model.edited(Broken()):
        model.logits(tokens)
    with pytest.raises(SiteError), model.frozen(), model.gradients(["layers.1.mlp", "layers.9.mlp"]):
        pass
    assert not list(all_hooks(model)) and vars(model.network.config) == before
    assert not model.logits(tokens).requires_grad
    network: Any = make_network("llama")
    network.config.model_type = "novel"
    with pytest.raises(SiteError, match="no site names are known"), wrap_model(network, make_tokenizer()).frozen():
        pass
