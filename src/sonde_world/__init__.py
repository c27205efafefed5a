"""The built-in world: text whose facts are known, and a small model trained on it."""

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {"ask": "asking", "exam": "exam", "write": "writing"}

__all__ = [*_WHERE]

if TYPE_CHECKING:
    from sonde_world.asking import ask as ask
    from sonde_world.exam import exam as exam
    from sonde_world.writing import write as write


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'sonde_world' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sonde_world.{_WHERE[name]}"), name)
