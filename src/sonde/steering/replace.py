"""Edits that write values at a site: one dimension of it, or all of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.errors import EditError
from sonde.models.where import Where, where_of
from sonde.steering.edits import Edit, Op

Rows = tuple[int, ...] | None
"""rows of a batch on which an edit acts, from zero; None for all"""


@dataclass(frozen=True, eq=False)
class NeuronEdit:
    """Sets, adds to, scales or ablates one dimension of a site, such as a neuron of an MLP.

    Args:
        site: where it acts.
        dimension: from zero; heads lie side by side.
        op: "clamp", "add", "scale" or "ablate".
        value: in raw activation; of "scale" the factor.
        where: as of any edit.
        rows: of a batch, from zero; all by default.

    Raises EditError for another op or where, or a value that is not finite.
    """

    site: str
    dimension: int
    op: Op
    value: float = 0.0
    where: Where = "all"
    rows: Rows = None

    def __post_init__(self) -> None:
        edit = Edit(self.op, neuron=f"{self.site}/{self.dimension}", value=self.value, where=self.where)
        object.__setattr__(self, "op", edit.op)
        object.__setattr__(self, "value", edit.value)

    def __call__(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Write one dimension of x [..., width]; raises EditError where x has no such dimension."""
        changed = side_by_side(x).clone()
        if self.dimension >= changed.shape[-1]:
            raise EditError(
                f"{self.site} has no dimension {self.dimension}: it has dimensions 0 to {changed.shape[-1] - 1}"
            )
        neuron = changed[..., self.dimension]
        if self.op == "add":
            neuron += self.value
        elif self.op == "scale":
            neuron *= self.value
        else:
            neuron[...] = self.value
        return changed.reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Replace:
    """Puts another value in the place of what passes a site: a patch from another run, a reconstruction, zero, a mean.

    Args:
        site: where it acts.
        value: one vector [width] for every token; or a value of each token of the prompt, [batch or 1, position, ...]
            as `model.read` gives it; or, with a mask, [token, width] of those tokens alone, in their order.
        mask: [batch or 1, position] tokens of the prompt that are replaced; all by default.
        where: as of any edit. Values and masks by position are of the prompt, so that "all" is then "prompt".
        rows: of a batch, from zero; all by default.

    Raises:
        EditError: a value or a mask by position for the answer.
    """

    site: str
    value: Tensor
    mask: Bool[Tensor, "batch position"] | None = None
    where: Where = "all"
    rows: Rows = None

    def __post_init__(self) -> None:
        where_of(self)
        if self.mask is None and self.value.ndim == 2:
            shape = list(self.value.shape)
            raise EditError(
                f"a value {shape} of {self.site} has no axis of a batch; give {[1, *shape]}, or a mask of its tokens"
            )
        if self.mask is not None or self.value.ndim > 1:
            if self.where == "answer":
                raise EditError(f"a value of {self.site} by position is of the prompt; for the answer give one vector")
            object.__setattr__(self, "where", "prompt")

    def __call__(self, x: Float[Tensor, "batch position ..."]) -> Float[Tensor, "batch position ..."]:
        """x [batch, position, ...] with the value in place; raises EditError where their shapes do not fit."""
        try:
            return self._replaced(side_by_side(x), side_by_side(self.value.to(x))).reshape(x.shape)
        except (RuntimeError, IndexError) as error:
            shapes = {"value": self.value, "mask": self.mask, "site": x}
            listed = ", ".join(f"{name} {list(part.shape)}" for name, part in shapes.items() if part is not None)
            raise EditError(f"a value of {self.site} does not fit: {listed}") from error

    def _replaced(self, x: Tensor, value: Tensor) -> Tensor:
        replaced = x.clone()
        if self.mask is None and value.ndim == 1:
            replaced[:] = value
            return replaced
        mask = torch.ones(value.shape[:2], dtype=torch.bool) if self.mask is None else self.mask
        prompt = replaced[:, : mask.shape[1]]  # the answer's tokens, if there are any, come after it
        mask = mask.to(x.device).expand(prompt.shape[:2])
        prompt[mask] = value.expand(prompt.shape)[mask] if value.ndim == 3 else value
        return replaced


def side_by_side(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x with its heads [batch, position, head, width of a head] concatenated, as dictionaries read them."""
    return x.flatten(2) if x.ndim == 4 else x
