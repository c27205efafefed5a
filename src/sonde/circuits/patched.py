"""The edit of a patch: values in place of others, where a mask is true."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Patched:
    """Puts values in the place of what passes a site, where a mask is true; bit for bit.

    Args:
        value: [1 or row, position, ...], as `model.read` gives it.
        mask: of a shape that broadcasts to the value's.
    """

    site: str
    value: Float[Tensor, "..."]
    mask: Bool[Tensor, "..."]

    def __call__(self, x: Float[Tensor, "row position ..."]) -> Float[Tensor, "row position ..."]:
        return torch.where(self.mask.to(x.device), self.value.to(x), x)
