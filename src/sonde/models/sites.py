"""Sites: names of places in a model that can be read and edited.

embedding              what enters the first layer: tokens, positions, and the patches of pictures
layers.N.residual      the stream after layer N
layers.N.residual_mid  the stream after layer N's attention
layers.N.attention     what layer N's attention adds to the stream
layers.N.mlp           what layer N's MLP adds to the stream
layers.N.mlp_in        what layer N's MLP reads, after its norm
layers.N.query         each head's queries, as projected (layers.N.key and layers.N.value: its keys and values)
layers.N.pattern       layer N's attention pattern: how much each position takes from each, after the softmax
layers.N.heads         each head's output before the output projection
layers.N.neurons       layer N's MLP hidden activations
final                  the stream after the last norm
logits                 the head's scores of the next token
module:dotted.path     the output of any module, in a model of any family
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from sonde.errors import SiteError, nearest
from sonde.models.families import LANGUAGE_MODELS, LAYER_SITES, Family, Place, family_of

_LAYER_SITE = re.compile(r"layers\.(\d+)\.(\w+)")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_TREE_LINES = 40
"""longest module tree in an error message"""


@dataclass(frozen=True)
class Site:
    """A place in a model that can be read and edited."""

    name: str
    module: nn.Module
    place: Place
    model: nn.Module
    """the transformers model that it is a place of"""
    n_heads: int | None = None
    """for sites that are split by head: the last axis becomes (n_heads, width of a head)"""
    own_heads: slice | None = None
    """of those heads, the ones that are this site's, where the module gives queries, keys and values in one"""
    frame: nn.Module | None = None
    """for sites where batch and position are one axis: the module around it, at whose input they are two"""

    @property
    def position_axis(self) -> int:
        """The axis of positions; a pattern, [batch, head, query position, key position], has two."""
        return 2 if self.name.endswith(".pattern") else 1

    def view(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The site's value [batch, position, head, width of a head], as a view of what its module takes or gives."""
        if self.n_heads is None:
            return x
        heads = x.unflatten(-1, (self.n_heads, -1))
        return heads if self.own_heads is None else heads[..., self.own_heads, :]


def find_site(model: nn.Module, name: str) -> Site:
    """Find the site of this name in a transformers model.

    Raises SiteError, with the nearest name or the reason, where the model has no such site.
    """
    if name.startswith("module:"):
        return Site(name, _find_module(model, name.removeprefix("module:")), Place("", "output"), model)
    if name == "logits":
        if not has_head(model):
            raise SiteError("site 'logits': the model was published without a language-model head")
        return Site(name, model, Place("", "output"), model)
    family = _known_family(model, name)
    layers = _layers(model, family)
    match = _LAYER_SITE.fullmatch(name)
    wanted = match[2] if match else name
    if wanted in family.absent:
        raise SiteError(f"site {name!r}: {family.absent[wanted]}")
    if name == "embedding":
        return Site(name, layers[0], Place("", "input"), model)
    if name == "final" and family.final:
        return Site(name, trunk_of(model).get_submodule(family.final), Place("", "output"), model)
    if match and wanted in family.layer:
        number = int(match[1])
        if number >= len(layers):
            raise SiteError(f"site {name!r}: the model has layers 0 to {len(layers) - 1}")
        return _site_of_layer(model, name, layers[number], family.layer[wanted])
    raise SiteError(f"the model has no site {name!r}{nearest(name, site_names(model))}; `sonde sites` lists them")


def site_names(model: nn.Module) -> list[str]:
    """All named sites of a model, in the order of the forward pass; none for an unknown family."""
    family = family_of(model.config)
    if family is None:
        return []
    names = ["embedding"]
    for number in range(len(_layers(model, family))):
        names += [f"layers.{number}.{site}" for site in LAYER_SITES if site in family.layer]
    return names + ["final"] * (family.final is not None) + ["logits"] * has_head(model)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The layers of a model whose family is known; raises SiteError, which says what to do, for others."""
    return _layers(model, _known_family(model, "layers.0.residual"))


def trunk_of(model: nn.Module) -> nn.Module:
    """The language model without its head."""
    trunk: nn.Module = model.base_model  # type: ignore[assignment]
    path = LANGUAGE_MODELS.get(model.config.model_type)  # type: ignore[union-attr, arg-type]
    return trunk.get_submodule(path) if path else trunk


def has_head(model: nn.Module) -> bool:
    return model.get_output_embeddings() is not None  # type: ignore[operator]


def module_tree(model: nn.Module) -> list[tuple[str, str, int]]:
    """(path, type, count) of a model's modules; numbered ones are one: ("layers.N.mlp", "LlamaMLP", 12)."""
    counts = Counter((_NUMBER.sub("N", path), type(module).__name__) for path, module in model.named_modules() if path)
    return [(*module, count) for module, count in counts.items()]


def _known_family(model: nn.Module, name: str) -> Family:
    family = family_of(model.config)
    if family is None:
        model_type = model.config.get_text_config().model_type  # type: ignore[union-attr, operator]
        tree = [f"{path}  {kind}" for path, kind, _ in module_tree(model)]
        shown = tree[:_TREE_LINES] + ["..."] * (len(tree) > _TREE_LINES)
        raise SiteError(
            f"site {name!r}: no site names are known for models of type {model_type!r}; name a module instead, as in "
            f"module:{_example_path(model)}, or add the family (docs/models.md). Its modules:\n  " + "\n  ".join(shown)
        )
    return family


def _layers(model: nn.Module, family: Family) -> nn.ModuleList:
    layers = trunk_of(model).get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    return layers


def _site_of_layer(model: nn.Module, name: str, layer: nn.Module, place: Place) -> Site:
    n_heads, own = _split_heads(model.config.get_text_config(), place)  # type: ignore[union-attr, operator]
    return Site(name, layer.get_submodule(place.path), place, model, n_heads, own, layer if place.rows else None)


def _split_heads(config: Any, place: Place) -> tuple[int | None, slice | None]:
    """Into how many heads the last axis is split, and which of them are this place's; None for all."""
    if place.heads is None:
        return None, None
    n_queries = config.num_attention_heads
    n_keys = getattr(config, "num_key_value_heads", None) or n_queries
    counts = {"query": n_queries, "key": n_keys, "value": n_keys}
    if place.fused is None:
        return counts[place.heads], None
    number = list(counts).index(place.heads)
    if place.fused == "by head":
        return 3 * n_queries, slice(number, None, 3)
    start = sum(list(counts.values())[:number])
    return n_queries + 2 * n_keys, slice(start, start + counts[place.heads])


def _find_module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        paths = [name for name, _ in model.named_modules() if name]
        raise SiteError(
            f"the model has no module {path!r}{nearest(path, paths)}; `sonde sites --tree` lists them"
        ) from None


def _example_path(model: nn.Module) -> str:
    """A module worth reading: the one in the middle of the longest list of modules."""
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        return next(name for name, _ in model.named_modules() if name)
    name, longest = max(lists, key=lambda item: len(item[1]))
    return f"{name}.{len(longest) // 2}"
