"""Passes that begin at a layer: what the layers before it gave in one pass is given again in the others.

A pass that changes nothing before layer N computes in layers 0 to N - 1 what was computed without the change. `Prefix`
keeps what each layer's module gave, before hooks on it, so that hooks, edits and readers at what a skipped layer gives
still see it.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from sonde.models.model import Model
from sonde.models.sites import layers_of

_LAYER_SITE = re.compile(r"layers\.(\d+)\.(\w+)")


class Prefix:
    """What each layer of a model gave in the last pass inside `recorded`; raises SiteError for an unknown family."""

    def __init__(self, model: Model) -> None:
        self._layers = layers_of(model.network)
        self._outputs: dict[int, Any] = {}

    @property
    def n_layers(self) -> int:
        return len(self._layers)

    def first_layer(self, site: str) -> int:
        """The first layer that has to run again where something is changed at a site; `n_layers` for none."""
        if match := _LAYER_SITE.fullmatch(site):
            return int(match[1]) + (match[2] == "residual")
        return self.n_layers if site in ("final", "logits") else 0

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep what the layers give inside the block, of one row."""

        def run(number: int, forward: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
            self._outputs[number] = output = forward(*arguments, **keywords)
            return _with_main(output, Tensor.clone)  # what is kept is not written into

        with contextlib.ExitStack() as stack:
            for number, layer in enumerate(self._layers):
                stack.enter_context(_forward(layer, partial(run, number, layer.forward)))
            yield

    @contextlib.contextmanager
    def restarted(self, layer: int, n_rows: int) -> Iterator[None]:
        """Have passes of `n_rows` copies of the row begin at a layer, inside the block."""

        def give(number: int, *_: Any, **__: Any) -> Any:
            return _with_main(self._outputs[number], lambda x: x.detach().expand(n_rows, *x.shape[1:]).clone())

        with contextlib.ExitStack() as stack:
            for number in range(layer):
                stack.enter_context(_forward(self._layers[number], partial(give, number)))
            yield


@contextlib.contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Call `forward` in place of a module's own, inside the block; hooks on the module stay."""
    before = module.__dict__.get("forward")  # of a module that something else has wrapped already
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _with_main(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A layer's output with its stream changed; a layer gives a tensor, or a tuple that begins with it."""
    return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])
