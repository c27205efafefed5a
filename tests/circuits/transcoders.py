"""Random and perfect transcoders of tiny models."""

from typing import Any

import torch
from torch import nn

from sonde.circuits.replacement import Replacement
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.topk import TopK
from sonde.models.load import wrap_model
from sonde.models.model import Model
from tests.tiny import make_network, make_tokenizer


def traceable(family: str, dtype: torch.dtype = torch.float32, **options) -> Model:
    """A tiny model whose biases are not zero, so that one left out would show."""
    network: Any = make_network(family, attention="eager", **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
    network = network.to(dtype)
    if dtype == torch.float64:
        compute_in_double(network)
    return wrap_model(network, make_tokenizer(), f"tiny {family}")


def compute_in_double(network: nn.Module) -> None:
    """Have norms and experts compute in float64, which transformers' own do not whatever their weights are."""
    if hasattr(network.config.get_text_config(), "num_local_experts"):  # type: ignore[operator]
        network.config.get_text_config()._experts_implementation = "eager"  # type: ignore[operator]
    for norm in network.modules():
        if type(norm).__name__.endswith("RMSNorm"):
            norm.forward = _double(norm)  # type: ignore[method-assign]


def _double(norm):
    epsilon = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    gain = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight
    return lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * gain


def widths(model: Model) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Of each layer what a transcoder reads and what it writes."""
    layers = range(sum(site.endswith(".mlp_in") for site in model.sites()))
    found = model.widths([f"layers.{n}.{site}" for n in layers for site in ("mlp_in", "mlp")])
    pairs = [(f"layers.{n}.mlp_in", f"layers.{n}.mlp") for n in layers]
    return [({x: found[x]}, {y: found[y]}) for x, y in pairs]


def random_replacement(model: Model, n_features: int = 40, k: int = 5, skip: bool = False) -> Replacement:
    generator = torch.Generator().manual_seed(5)
    layers = []
    for reads, writes in widths(model):
        dictionary = TopK(n_features, *reads.values(), *writes.values(), k=k, skip=skip).at(reads, writes)
        for parameter in dictionary.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
        layers.append(dictionary.requires_grad_(False).to(model.dtype))
    return Replacement(tuple(layers))


def perfect_replacement(model: Model) -> Replacement:
    """Of a GPT-2 with a ReLU: features are its neurons."""
    layers = []
    for (reads, writes), block in zip(widths(model), model.network.transformer.h, strict=True):  # type: ignore[union-attr, arg-type]
        fc, projection = block.mlp.c_fc, block.mlp.c_proj
        dictionary = L1(fc.weight.shape[1], *reads.values(), *writes.values()).at(reads, writes)
        dictionary.W_enc.data, dictionary.b_enc.data = fc.weight.data.T.contiguous(), fc.bias.data
        dictionary.W_dec.data, dictionary.b_dec.data = projection.weight.data, projection.bias.data
        layers.append(dictionary.requires_grad_(False).to(model.dtype))
    return Replacement(tuple(layers))
