"""The built-in world: text whose facts are known, and a small model trained on it."""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["ask", "ask_facts", "write"]

if TYPE_CHECKING:
    from sonde.world.ask import ask as ask
    from sonde.world.ask import ask_facts as ask_facts
    from sonde.world.write import write as write


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sonde.world' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sonde.world.{name.removesuffix('_facts')}"), name)
