"""A prompt's own pass, and many passes of it with changes, batched and restarted where the first change is."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonde.models.model import Model, SiteEdit, Tokens
from sonde.models.prefix import Prefix

TOKENS_AT_ONCE = 4096
"""of a batch of changed passes, which bounds its memory"""


class Run:
    """A prompt as the model reads it, and passes of it that are changed.

    Args:
        tokens: one prompt, a batch of one.
        sites: whose values are kept.
        track: of these sites, values that a backward pass from what `last` gives fills the gradients of; the graph is
            kept until the run goes.
    """

    def __init__(
        self, model: Model, tokens: Tokens, sites: Sequence[str], track: bool = False, last: str = "logits"
    ) -> None:
        self.model, self.tokens, self.prefix = model, tokens, Prefix(model)
        wanted = list(dict.fromkeys([*sites, last]))
        with self.prefix.recorded(), last_alone(model):
            if track:
                with model.gradients(wanted) as self.values:
                    model.read(tokens, last)
            else:
                self.values: Mapping[str, Tensor] = model.read(tokens, wanted)

    @property
    def n_positions(self) -> int:
        return self.tokens.ids.shape[1]

    @property
    def rows_at_once(self) -> int:
        return max(1, TOKENS_AT_ONCE // self.n_positions)

    def last(self, site: str = "logits") -> Float[Tensor, "1 width"]:
        """The value at a site on the last token."""
        return _wide(self.values[site][:, -1].flatten(1))

    def changed(
        self, edits: Sequence[SiteEdit], n_rows: int, site: str = "logits", layer: int | None = None
    ) -> Float[Tensor, "row width"]:
        """The value at a site on the last token of each of `n_rows` copies of the prompt, under edits.

        Args:
            layer: where the pass begins; by default at the first that an edit changes.
        """
        first = min((self.prefix.first_layer(edit.site) for edit in edits), default=0) if layer is None else layer
        with self.prefix.restarted(first, n_rows), self.model.edited(*edits), last_alone(self.model):
            return _wide(self.model.read(copies(self.tokens, n_rows), site)[:, -1].flatten(1))


def _wide(x: Tensor) -> Tensor:
    """In float32 at least, as differences of bfloat16 logits have no more than a digit or two."""
    return x if x.dtype == torch.float64 else x.float()


def copies(tokens: Tokens, n_rows: int) -> Tokens:
    """A batch of copies of one prompt."""
    pixels = None if tokens.pixels is None else tokens.pixels.repeat(n_rows, *[1] * (tokens.pixels.ndim - 1))
    return Tokens(tokens.ids.expand(n_rows, -1), tokens.mask.expand(n_rows, -1), pixels)


@contextlib.contextmanager
def last_alone(model: Model) -> Iterator[None]:
    """Have the head score the last token alone, inside the block."""
    head: nn.Module | None = model.network.get_output_embeddings()  # type: ignore[operator]
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda _, arguments: (arguments[0][:, -1:], *arguments[1:]))
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True, eq=False)
class Shift:
    """Adds a vector of its own to one token of each of some rows, at a site; heads lie side by side."""

    site: str
    row: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    vector: Float[Tensor, "n width"]

    def __call__(self, x: Float[Tensor, "row position ..."]) -> Float[Tensor, "row position ..."]:
        changed = x.flatten(2).clone()
        changed[self.row, self.position] += self.vector.to(changed)
        return changed.view(x.shape)
