"""Attention patterns, which transformers computes in a function and not in a module.

Inside `patterns_exposed`, attention modules go on computing what they compute, and the pattern of each passes its
`pattern_point`: a module of ours, on which hooks read and edit it like any other. transformers calls attention by
the name in a model's config and offers to register names; ours stand for "as before, and the pattern as well".

What the model computes is bit-equal as long as nobody changes a pattern. The pattern itself is the one that the
family's eager attention computes from the same queries, keys and mask.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sonde.errors import ModelLacksError

_PREFIX = "sonde_"
_KNOWN = ("eager", "sdpa")
_POINTS: WeakKeyDictionary[nn.Module, nn.Identity] = WeakKeyDictionary()
_COMPARED: WeakKeyDictionary[nn.Module, nn.Identity] = WeakKeyDictionary()


def pattern_point(attention: nn.Module) -> nn.Module:
    """The module that an attention module's pattern [batch, head, query position, key position] passes."""
    return _POINTS.setdefault(attention, nn.Identity())


def query_key_point(attention: nn.Module) -> nn.Module:
    """A module that is shown, inside `patterns_exposed`, what an attention module compares.

    Hooks on it see a tuple: queries and keys [batch, head, position, width of a head], as they are compared (with norms
    and rotary embedding; there may be fewer heads of keys), and the number by which their products are multiplied.
    """
    return _COMPARED.setdefault(attention, nn.Identity())


@contextlib.contextmanager
def patterns_exposed(model: nn.Module, trunk: nn.Module) -> Iterator[None]:
    """Have the attention patterns of a language model pass their points, inside the block.

    Raises ModelLacksError for attention that has no patterns to show, such as flash attention.
    """
    text_config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    found = [text_config, *(getattr(module, "config", None) for module in trunk.modules())]
    configs = list({id(config): config for config in found if config is not None}.values())
    before = [config._attn_implementation for config in configs]
    try:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = _exposing(name)
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _exposing(name: str) -> str:
    """The name under which attention of this name also shows its pattern; registered when it is first asked for."""
    if name.startswith(_PREFIX):
        return name
    if name not in _KNOWN:
        raise ModelLacksError(
            f"attention {name!r} computes no patterns that can be seen; load the model with attention='sdpa' or 'eager'"
        )
    # Imported here: it takes two seconds and 200 MB, and who trains or reads an index loads no model.
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if _PREFIX + name not in ALL_ATTENTION_FUNCTIONS:
        ALL_MASK_ATTENTION_FUNCTIONS.register(_PREFIX + name, ALL_MASK_ATTENTION_FUNCTIONS[name])
        plain = None if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        ALL_ATTENTION_FUNCTIONS.register(_PREFIX + name, partial(_attend, plain))
    return _PREFIX + name


def _attend(
    plain: Callable[..., tuple[Tensor, Tensor | None]] | None,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as it was, but with the pattern passing its point.

    Args:
        plain: the attention as it was; None for the eager one of the module's family.
        query: [batch, head, query position, width of a head]; key and value may have fewer heads.
    """
    eager = _eager_attention(module)
    compared = query_key_point(module)
    if compared._forward_hooks:
        compared((query, key, options.get("scaling") or query.shape[-1] ** -0.5))
    output, pattern = (plain or eager)(module, query, key, value, mask, **options)
    point = pattern_point(module)
    if not point._forward_hooks:
        return output, pattern
    if pattern is None:
        causal = options.get("is_causal", getattr(module, "is_causal", True))
        pattern = eager(module, query, key, value, _added_mask(mask, causal, query, key), **options)[1]
    changed = point(pattern)
    if changed is pattern:
        return output, pattern
    values = value.repeat_interleave(changed.shape[1] // value.shape[1], dim=1)
    mixed = (changed @ values).transpose(1, 2).contiguous()
    if torch.equal(changed, pattern):  # put back, tracked or frozen: the gradient is that of `mixed`, the numbers stay
        mixed = output.detach() + (mixed - mixed.detach())
    return mixed, changed


def _eager_attention(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """The eager attention of a module's family, which lies beside it."""
    if getattr(module, "reorder_and_upcast_attn", False):  # some of gpt2's offspring
        upcast: Any = module._upcast_and_reordered_attn
        return lambda _, query, key, value, mask, **__: upcast(query, key, value, mask)
    return sys.modules[type(module).__module__].eager_attention_forward


def _added_mask(mask: Tensor | None, causal: bool, query: Tensor, key: Tensor) -> Tensor | None:
    """What eager attention adds to its scores, from sdpa's mask: true where a position is seen, or none if causal."""
    n_queries, n_keys = query.shape[2], key.shape[2]
    if mask is None and causal and n_queries > 1:
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device).tril(n_keys - n_queries)
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
