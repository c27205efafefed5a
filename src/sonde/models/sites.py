"""Sites: names of places in a model that can be read and edited.

embedding              what enters the first layer
layers.N.residual      the stream after layer N
layers.N.residual_mid  the stream after layer N's attention
layers.N.attention     what layer N's attention adds to the stream
layers.N.mlp           what layer N's MLP adds to the stream
layers.N.mlp_in        what layer N's MLP reads, after its norm
layers.N.heads         each head's output before the output projection
layers.N.neurons       layer N's MLP hidden activations
final                  the stream after the last norm
logits                 what the language-model head says
module:dotted.path     the output of any module, in a model of any family
"""

import re
from dataclasses import dataclass

from torch import nn

from sonde.errors import SiteError, nearest
from sonde.models.families import FAMILIES, LAYER_SITES, MODEL_SITES, Family, Place, Side

_LAYER_SITE = re.compile(r"layers\.(\d+)\.(\w+)")


@dataclass(frozen=True)
class Site:
    """A place that has been found in a model."""

    name: str
    module: nn.Module
    side: Side
    n_heads: int | None = None
    """for sites that are split by head: the last axis becomes (n_heads, width of a head)"""
    in_place: bool = False


def find_site(model: nn.Module, name: str) -> Site:
    """Find the site of this name in a transformers model.

    Raises SiteError, with the nearest name or the reason, where the model has no such site.
    """
    if name.startswith("module:"):
        return Site(name, _find_module(model, name.removeprefix("module:")), "output")
    model_type = model.config.model_type  # type: ignore[union-attr]
    family = FAMILIES.get(model_type)
    if family is None:
        raise SiteError(
            f"no site names are known for models of type {model_type!r}; name the module instead, as in module:{_example_path(model)}"
        )
    layers = _layers(model, family)
    match = _LAYER_SITE.fullmatch(name)
    if match and match[2] in family.layer:
        number = int(match[1])
        if number >= len(layers):
            raise SiteError(f"site {name!r}: the model has layers 0 to {len(layers) - 1}")
        place = family.layer[match[2]]
        return _site(name, layers[number], place, model)
    if match and match[2] in family.absent:
        raise SiteError(f"site {name!r}: {family.absent[match[2]]}")
    if name in family.trunk:
        return _site(name, trunk_of(model), family.trunk[name], model)
    if name in family.absent:
        raise SiteError(f"site {name!r}: {family.absent[name]}")
    if name == "logits":
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is None:
            raise SiteError("site 'logits': the model was published without a language-model head")
        return Site("logits", head, "output")
    raise SiteError(f"the model has no site {name!r}{nearest(name, site_names(model))}; `sonde sites` lists them")


def site_names(model: nn.Module) -> list[str]:
    """All named sites of a model, in the order of the forward pass."""
    family = FAMILIES.get(model.config.model_type)  # type: ignore[union-attr]
    if family is None:
        return []
    names = [name for name in MODEL_SITES[:1] if name in family.trunk]
    order = ("heads", "attention", "residual_mid", "mlp_in", "neurons", "mlp", "residual")
    assert sorted(order) == sorted(LAYER_SITES)
    for number in range(len(_layers(model, family))):
        names += [f"layers.{number}.{site}" for site in order if site in family.layer]
    if "final" in family.trunk:
        names.append("final")
    if model.get_output_embeddings() is not None:  # type: ignore[operator]
        names.append("logits")
    return names


def trunk_of(model: nn.Module) -> nn.Module:
    """The model without its head."""
    return model.base_model  # type: ignore[return-value]


def _layers(model: nn.Module, family: Family) -> nn.ModuleList:
    layers = trunk_of(model).get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    return layers


def _site(name: str, start: nn.Module, place: Place, model: nn.Module) -> Site:
    n_heads = model.config.num_attention_heads if place.split_heads else None  # type: ignore[union-attr]
    return Site(name, start.get_submodule(place.path), place.side, n_heads, place.in_place)


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
