"""Gradients with respect to activations: values that a backward pass reaches, and norms whose scale is a constant."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def track(values: dict[str, Tensor], name: str, x: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
    """Keep a site's value so that a backward pass fills its `.grad`; starts the graph if nothing did."""
    if not torch.is_grad_enabled():
        return None
    values[name] = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
    values[name].retain_grad()
    return values[name]


def freeze(x: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
    """The same numbers, which a backward pass takes for constants."""
    return x.detach() if torch.is_grad_enabled() else None


def norms_of(model: nn.Module) -> Iterator[nn.Module]:
    """The LayerNorms and RMSNorms of a model."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm"):
            yield module


def freeze_scale(
    norm: nn.Module, arguments: tuple[Tensor, ...], output: Float[Tensor, "... width"]
) -> Float[Tensor, "... width"] | None:
    """A norm's own output, as a forward hook, whose gradient is that of the norm with its scale held constant.

    The scale is 1 / sqrt(mean(x^2) + eps); in a LayerNorm x is centred before, and centring, being linear, is
    not held.
    """
    if not torch.is_grad_enabled():
        return None
    x = arguments[0] if arguments[0].dtype == torch.float64 else arguments[0].float()
    epsilon = _epsilon(norm)
    if isinstance(norm, nn.LayerNorm):
        x, gain = x - x.mean(dim=-1, keepdim=True), norm.weight
    else:  # w, or 1 + w in gemma: what the norm makes of ones says which
        gain = norm.forward(arguments[0].new_ones(x.shape[-1])) * (1 + epsilon) ** 0.5
    scale = torch.rsqrt(x.detach().pow(2).mean(dim=-1, keepdim=True) + epsilon)
    linear = (x * scale if gain is None else x * scale * gain).to(output.dtype)
    return output.detach() + (linear - linear.detach())


def _epsilon(norm: Any) -> float:
    return norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
