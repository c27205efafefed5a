"""Which vectors are massive: far longer than others at their site (see `sonde.activations.massive`)."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def is_massive(vectors: Mapping[str, Float[Tensor, "row width"]], limits: Mapping[str, float]) -> Bool[Tensor, " row"]:
    """Which rows are longer than the limit at any of the sites that have one."""
    first = next(iter(vectors.values()))
    massive = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    for site, limit in limits.items():
        massive |= (vectors[site].float().norm(dim=1) > limit).to(first.device)
    return massive
