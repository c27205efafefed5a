"""Hooks: the one way in which a model is read and edited.

`attach` puts a plain forward hook on a site's module. The function that it is given sees the site's value as
[batch, position, width] ([batch, position, head, width of a head] for heads), whatever the module's own
arguments or outputs look like.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sonde.models.sites import Site

Act = Callable[[Tensor], Tensor | None]
"""sees a site's value; returns what takes its place, or None to leave it alone"""


@contextlib.contextmanager
def attached(site: Site, act: Act) -> Iterator[None]:
    """Have `act` called with what passes a site inside the block."""
    handles = attach(site, act)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def attach(site: Site, act: Act) -> list[RemovableHandle]:
    """Have `act` called with what passes a site until the handles are removed."""
    handles = []
    leading: list[int] = []
    if site.frame is not None:

        def note_shape(_: nn.Module, arguments: tuple, keywords: dict) -> None:
            leading[:] = _input(arguments, keywords)[0].shape[:2]

        handles.append(site.frame.register_forward_pre_hook(note_shape, with_kwargs=True))

    def change(x: Tensor) -> Tensor:
        shaped = x if site.n_heads is None else x.unflatten(-1, (site.n_heads, -1))
        shaped = shaped.unflatten(0, leading) if leading else shaped
        changed = act(shaped)
        if changed is None or changed is shaped:
            return x
        # The block keeps the stream's own tensor for its skip connection: write where it is kept.
        return x.copy_(changed.reshape(x.shape)) if site.place.in_place else changed.reshape(x.shape)

    if site.place.side == "output":

        def after(_: nn.Module, __: tuple, output: Any) -> Any:
            return _with_main(output, change)

        return [*handles, site.module.register_forward_hook(after)]

    def before(_: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        x, put_back = _input(arguments, keywords)
        return put_back(change(x))

    before.in_place = site.place.in_place  # type: ignore[attr-defined]
    handles.append(site.module.register_forward_pre_hook(before, with_kwargs=True))
    if site.place.in_place:
        _stream_first(site.module)
    return handles


def _stream_first(module: nn.Module) -> None:
    """Order hooks at one input: those on the stream itself come before those on what the module alone reads."""
    hooks = module._forward_pre_hooks
    for key, hook in list(hooks.items()):
        if getattr(hook, "in_place", None) is False:
            hooks[key] = hooks.pop(key)


def _with_main(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change a module's output: the tensor itself, the logits of a whole model, or the first of several."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, dict):  # as transformers' ModelOutput is
        name = "logits" if "logits" in output else next(iter(output))
        output[name] = change(output[name])
        return output
    return (change(output[0]), *output[1:])


def _input(arguments: tuple, keywords: dict) -> tuple[Tensor, Callable[[Tensor], tuple[tuple, dict]]]:
    """A module's main input, and how to put another in its place."""
    if arguments:
        return arguments[0], lambda x: ((x, *arguments[1:]), keywords)
    name = "hidden_states" if "hidden_states" in keywords else next(iter(keywords))
    return keywords[name], lambda x: (arguments, keywords | {name: x})
