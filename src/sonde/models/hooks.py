"""Hooks: the one way in which a model is read and edited.

`attached` puts a plain forward hook on a site's module. The function that it calls sees the site's value as
[batch, position, width] ([batch, position, head, width of a head] for heads, queries, keys and values, [batch,
head, query position, key position] for patterns), whatever the module's own arguments or outputs look like.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sonde.models.attention import pattern_point, patterns_exposed
from sonde.models.sites import Site, trunk_of

Act = Callable[[Tensor], Tensor | None]
"""sees a site's value; returns what takes its place, or None to leave it alone"""


@contextlib.contextmanager
def attached(site: Site, act: Act, first: bool = False) -> Iterator[None]:
    """Call `act` with what passes a site, inside the block.

    Args:
        first: before whatever is attached there already, instead of after it.
    """
    with contextlib.ExitStack() as stack:
        if site.place.side == "pattern":
            stack.enter_context(patterns_exposed(site.model, trunk_of(site.model)))
        for handle in _hooks(site, act, first):
            stack.callback(handle.remove)
        yield


def _hooks(site: Site, act: Act, first: bool) -> list[RemovableHandle]:
    handles = []
    leading: list[int] = []
    if site.frame is not None:

        def note_shape(_: nn.Module, arguments: tuple, keywords: dict) -> None:
            leading[:] = _input(arguments, keywords)[0].shape[:2]

        handles.append(site.frame.register_forward_pre_hook(note_shape, with_kwargs=True))

    def change(x: Tensor) -> Tensor:
        # Writing into x would spoil what `act` keeps of it for a backward pass.
        kept = x.clone() if site.place.in_place and torch.is_grad_enabled() else x
        shaped = site.view(kept.unflatten(0, leading) if leading else kept)
        changed = act(shaped)
        return x if changed is None or changed is shaped else _put_back(site, x, changed)

    if site.place.side != "input":

        def after(_: nn.Module, __: tuple, output: Any) -> Any:
            return _with_main(output, change)

        module = pattern_point(site.module) if site.place.side == "pattern" else site.module
        return [*handles, module.register_forward_hook(after, prepend=first)]

    def before(_: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        x, put_back = _input(arguments, keywords)
        return put_back(change(x))

    before.in_place = site.place.in_place  # type: ignore[attr-defined]
    handles.append(site.module.register_forward_pre_hook(before, with_kwargs=True, prepend=first))
    if site.place.in_place:
        _stream_first(site.module)
    return handles


def _put_back(site: Site, x: Tensor, changed: Tensor) -> Tensor:
    """What a module takes or gives, with a site's value changed."""
    if site.own_heads is not None:
        whole = x.clone()
        site.view(whole).copy_(changed)
        return whole
    # The block keeps the stream's own tensor for its skip connection: write where it is kept.
    return x.copy_(changed.reshape(x.shape)) if site.place.in_place else changed.reshape(x.shape)


def _stream_first(module: nn.Module) -> None:
    """Order hooks at one input: those on the stream itself come before those on what the module alone reads."""
    hooks = module._forward_pre_hooks
    for key, hook in list(hooks.items()):
        if getattr(hook, "in_place", None) is False:
            hooks[key] = hooks.pop(key)


def _with_main(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with a change to the tensor itself, the logits of a whole model, or the first of several."""
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
