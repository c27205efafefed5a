"""Presets: edits under a name, kept beside an index in a file that can be read, changed and sent on."""

import contextlib
import fcntl
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import ArtifactDamagedError, EditError, UsageError, nearest
from sonde.features.index import Index, as_index
from sonde.manifests import storage_errors, write_json
from sonde.steering.apply import make_edits
from sonde.steering.edits import Edit, EditLike, as_list, read_edit

PRESETS = "presets.json"
MAX_NAME = 40
"""longest name of a preset, in characters"""


class Presets(dict[str, list[Edit]], Drawn):
    """The presets of an index: name -> its edits."""

    def __repr__(self) -> str:
        return f"Presets({', '.join(self) or 'none'})"

    def draw(self) -> list[Block]:
        """A line for each."""
        rows = [[name, "  ".join(map(str, edits))] for name, edits in self.items()]
        return [Grid(rows) if rows else Line("no presets; a name and an edit, such as feature:311=2max, make one")]


@public()
def preset(
    index: Index | str | Path, name: str = "", edit: EditLike | Sequence[EditLike] = (), *, remove: bool = False
) -> Presets:
    """Keep edits under a name, which `sonde.serve` then offers as a model of its own; returns all presets.

    Args:
        index: an index or its folder.
        name: name of the preset; without it, nothing is changed.
        edit: one or several, such as feature:311=10max. Vector files must lie in the index's folder.
        remove: remove the preset of this name.

    Raises:
        EditError: a name that cannot be one, no edits, edits that contradict each other, or no preset to remove.
        FeatureError: an edit of a feature that the index does not have.
        UsageError: `remove` without a name, or with edits.
    """
    found, edits = as_index(index), as_list(edit)
    if (remove or edits) and not name or (remove and edits):
        raise UsageError("give the name of a preset: with edits to keep them, or with remove and no edits")
    if remove:
        remove_preset(found.folder, name)
    elif name:
        make_edits(edits, found, confined=True)  # raises where they contradict each other, or name no feature
        save_preset(found.folder, name, edits)
    return Presets(load_presets(found.folder))


def load_presets(folder: Path) -> dict[str, list[Edit]]:
    """The presets of an index by name, none without a file; raises ArtifactDamagedError where it cannot be read."""
    path = folder / PRESETS
    if not path.exists():
        return {}
    try:
        presets = json.loads(path.read_text(encoding="utf-8"))
        return {name: [read_edit(edit) for edit in edits] for name, edits in presets.items()}
    except (ValueError, TypeError, AttributeError, RecursionError, EditError) as error:
        raise ArtifactDamagedError(
            f"{path} cannot be read as presets ({error}); correct it, or move it away"
        ) from error


def save_preset(folder: Path, name: str, edits: EditLike | Sequence[EditLike]) -> None:
    """Keep edits under a name, replacing any preset of that name; raises EditError for a wrong name, or no edits."""
    check_name(name)
    if not edits:
        raise EditError(f"the preset {name} has no edits; give one with --edit feature:N=Vmax")
    own = [read_edit(edit) for edit in as_list(edits)]
    with _alone(folder):
        _write(folder, load_presets(folder) | {name: own})


def check_name(name: str) -> None:
    """Raise EditError where a preset cannot be named so.

    Names are of letters of any script with their marks, digits and hyphens; there are no two ways to write one, so
    letters are small and composed (NFC).
    """
    kinds = ["-" if letter == "-" else unicodedata.category(letter)[0] for letter in name]
    is_one = 0 < len(name) <= MAX_NAME and kinds[0] in "LN" and set(kinds) <= set("LMN-")
    if not is_one or unicodedata.normalize("NFC", name.lower()) != name:
        raise EditError(
            f"a preset cannot be named {name!r}; "
            f"use small letters of any script, digits and hyphens, {MAX_NAME} at most"
        )


def remove_preset(folder: Path, name: str) -> None:
    """Remove a preset; raises EditError where there is none of this name."""
    with _alone(folder):
        presets = load_presets(folder)
        if name not in presets:
            raise EditError(f"there is no preset {name!r}{nearest(name, presets)}")
        del presets[name]
        _write(folder, presets)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other thread or process changes the presets of a folder, so that none of them is lost."""
    with storage_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(folder: Path, presets: dict[str, list[Edit]]) -> None:
    write_json(folder / PRESETS, {name: [edit.to_json() for edit in edits] for name, edits in sorted(presets.items())})
