"""Answers that get their tokens together: their caches side by side, padded on the left."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sonde.steering.row import Row

GAP = 64
"""columns of padding that all rows share before they are cut off"""


class Group:
    """Answers that get their tokens together.

    Args:
        cache: of the prompt of the first.
        mask: [row, position] where the cache holds a token of the row.
    """

    def __init__(self, row: Row, cache: Any, mask: Bool[Tensor, "row position"]) -> None:
        self.rows, self.cache, self.mask = [row], cache, mask

    @property
    def may_join(self) -> bool:
        return can_be_padded(self.cache)

    def join(self, other: "Group") -> None:
        """Put another group's caches beneath; the shorter are padded on the left."""
        n = max(self.mask.shape[1], other.mask.shape[1])
        for own, new in zip(self.cache.layers, other.cache.layers, strict=True):
            own.keys = torch.cat([_padded(own.keys, n), _padded(new.keys, n)])
            own.values = torch.cat([_padded(own.values, n), _padded(new.values, n)])
        self.mask = torch.cat([_padded(self.mask, n, -1), _padded(other.mask, n, -1)])
        self.rows += other.rows

    def keep(self, kept: list[int]) -> None:
        """Drop all other rows, and positions at which no kept row has a token."""
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in kept]
        if self.rows and self.may_join:
            chosen = torch.tensor(kept, device=self.mask.device)
            self.mask = self.mask[chosen]
            empty = int(self.mask.any(dim=0).int().argmax())
            empty = empty if empty >= GAP else 0
            self.mask = self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[chosen, :, empty:], layer.values[chosen, :, empty:]

    def inputs(self, takes_positions: bool) -> dict[str, Int[Tensor, "answer position"]]:
        """The inputs of the next step, in which each row's last token is read."""
        device = self.mask.device
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.rows), 1)], dim=1)
        inputs = {"input_ids": torch.tensor([[row.token] for row in self.rows], device=device)}
        inputs["attention_mask"] = self.mask.long()
        if takes_positions:
            inputs["position_ids"] = torch.tensor([[row.length] for row in self.rows], device=device)
        return inputs


def shares_batches(config: Any) -> bool:
    """Whether answers of a model of this configuration get their tokens together; if not, they take turns."""
    return can_be_padded(DynamicCache(config=config.get_text_config()))


def can_be_padded(cache: Any) -> bool:
    """Whether a cache holds every token, so that rows of different lengths may lie in one."""
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def _padded(x: Tensor, n: int, dim: int = -2) -> Tensor:
    """Zeros before x along a dimension, so that it has n."""
    missing = n - x.shape[dim]
    if missing == 0:
        return x
    shape = list(x.shape)
    shape[dim] = missing
    return torch.cat([x.new_zeros(shape), x], dim=dim)
