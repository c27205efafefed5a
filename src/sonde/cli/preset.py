"""sonde preset"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json
from sonde.errors import UsageError


def preset(
    index: Annotated[Path, Parameter()],
    name: Annotated[str, Parameter()] = "",
    /,
    *,
    edit: tuple[str, ...] = (),
    remove: bool = False,
    json: bool = False,
) -> None:
    """Keep edits under a name, which sonde serve then offers as a model of its own; or list the presets.

    Example: sonde preset index golden-gate --edit "feature:311=10max"

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    name: str
        Name of the preset.
    edit: tuple[str, ...]
        An edit, such as feature:311=10max; may be repeated. Vector files must lie in the index's folder.
    remove: bool
        Remove the preset.
    json: bool
        Print one JSON object.
    """
    from sonde.features.index import load_index
    from sonde.steering.apply import make_edits
    from sonde.steering.presets import load_presets, remove_preset, save_preset

    found = load_index(index)
    if remove and (edit or not name):
        raise UsageError("--remove takes the name of a preset, and no edits")
    if remove:
        remove_preset(found.folder, name)
    elif name:
        make_edits(edit, found, confined=True)  # raises where they contradict each other, or name no feature
        save_preset(found.folder, name, edit)
    presets = load_presets(found.folder)
    if json:
        print_json({name: [edit.to_json() for edit in edits] for name, edits in presets.items()})
        return
    for name, edits in presets.items():
        print(f"{name}  {'  '.join(map(str, edits))}")
    if not presets:
        print(f"{index} has no presets; sonde preset {index} NAME --edit feature:N=Vmax makes one")
