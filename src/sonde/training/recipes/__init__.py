"""The recipes of all kinds of dictionary: how each is trained. One module a kind, and more from outside by `register`.

A module is imported when its kind is first asked for, so that settings can be described without torch.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, dataclass_transform

from sonde.errors import SettingsError, nearest

if TYPE_CHECKING:
    from sonde.training.recipes.recipe import Recipe

R = TypeVar("R", bound="Recipe")
BUILT_IN = ("topk", "batchtopk", "matryoshka", "l1", "jumprelu", "gated")
"""each in the module of its name"""
_registered: dict[str, type["Recipe"]] = {}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def register(recipe: type[R]) -> type[R]:
    """Make a subclass of `Recipe` a frozen dataclass, with which its kind is trained and its dictionaries load.

    Raises SettingsError where the kind is one of sonde's own.
    """
    from sonde.dictionaries.load import KINDS

    kind = recipe.dictionary_class.kind
    if kind in BUILT_IN and not recipe.__module__.startswith(__name__):
        raise SettingsError(f"{recipe.__name__} is of kind {kind!r}, which sonde has; give its dictionary another kind")
    KINDS[kind] = recipe.dictionary_class
    _registered[kind] = dataclass(frozen=True, kw_only=True)(recipe)
    return recipe


def kinds() -> list[str]:
    """The names of all kinds that can be trained, in a fixed order."""
    return list(dict.fromkeys([*BUILT_IN, *_registered]))


def recipe_class(kind: str) -> type["Recipe"]:
    """The recipe of a kind.

    Raises SettingsError where there is none of that name.
    """
    if kind in BUILT_IN:
        importlib.import_module(f"{__name__}.{kind}")
    if kind not in _registered:
        known = ", ".join(kinds())
        raise SettingsError(
            f"kind is {kind!r}, but must be one of {known}, or have a recipe that was registered with "
            f"sonde.training.recipes.register{nearest(kind, kinds())}"
        )
    return _registered[kind]
