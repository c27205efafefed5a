"""sonde sites"""

from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries
from sonde.display import print_blocks


def sites(
    *,
    model: str,
    tree: bool = False,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """List the places of a model that can be read and edited.

    Example: sonde sites --model world

    Parameters
    ----------
    model: str
        A model folder, a hub name, or world, the model in the package.
    tree: bool
        List the modules instead, for module:dotted.path; N stands for each number.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.models.listing import sites

    found = sites(model, tree=tree, device=options.device, dtype=options.dtype)
    if json:
        print_json({"model": model, "type": found.model_type, "modules" if tree else "sites": list(found)})
    else:
        print_blocks(found.draw())
