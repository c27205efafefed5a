"""sonde preset"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json
from sonde.display import print_blocks


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
    from sonde.steering.presets import preset

    presets = preset(index, name, edit, remove=remove)
    if json:
        print_json({name: [edit.to_json() for edit in edits] for name, edits in presets.items()})
    elif presets:
        print_blocks(presets.draw())
    else:
        print(f"{index} has no presets; sonde preset {index} NAME --edit feature:N=Vmax makes one")
