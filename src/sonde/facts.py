"""Facts that several kinds of artifact state, as typed values.

A manifest is plain JSON. Each kind of artifact has a frozen dataclass that is read from its facts and written to them:
`ActivationsFacts` (activations/store.py), `DictionaryInfo` (dictionaries/info.py) and `IndexFacts`
(features/folder.py).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sonde.errors import ArtifactDamagedError

Facts = TypeVar("Facts")
_ORDER = ("path", "field", "skip_bad", "held_out", "seed", "context", "pack")
_LIVE_ORDER = ("field", "skip_bad", "held_out", "pack", "path", "seed", "context")


@dataclass(frozen=True)
class ModelRef:
    """A model, by name and content."""

    name: str
    """folder or hub name to load it from; empty where it is not known"""
    id: str
    """content id"""

    @property
    def short_name(self) -> str:
        """The hub name, or the last part of a folder's path."""
        path = Path(self.name or "an unknown model")
        return path.name or str(path.absolute().name) if path.is_absolute() or not path.name else str(path)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "id": self.id}


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """The text that rows are from, and which of its documents were kept out of training."""

    path: str | None = None
    """None where rows are not from a text"""
    field: str = "text"
    """of a row of a .jsonl file"""
    skip_bad: bool = False
    """whether bad lines were left out"""
    held_out: float = 0.0
    """share of the documents that training never sees; `is_held_out` says which"""
    seed: int = 0
    context: int | None = None
    """longest context in tokens"""
    pack: bool = False
    """whether contexts hold several documents"""
    live: bool = False
    """whether rows came straight from the model, without a store on disk"""

    def to_json(self) -> dict[str, Any]:
        """As manifests have it; those of live runs have another order of keys, which has to stay."""
        return {name: getattr(self, name) for name in (_LIVE_ORDER if self.live else _ORDER)}


def read_facts(cls: type[Facts], values: Mapping[str, Any], where: object, **known: Any) -> Facts:
    """Make a dataclass of facts from a manifest's values. Names that the class does not have are ignored.

    Args:
        where: the artifact, for the error.
        known: fields that are given rather than read.

    Raises ArtifactDamagedError where a fact is missing.
    """
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    try:
        return cls(**{name: values[name] for name in fields if name in values} | known)
    except TypeError as error:
        raise ArtifactDamagedError(f"the manifest of {where} lacks facts ({error}); make the artifact again") from error
