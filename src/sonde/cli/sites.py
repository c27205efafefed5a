"""sonde sites"""

from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, load_model, print_json
from sonde.display import table


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
    loaded = load_model(model, options)
    if tree:
        from sonde.models.sites import module_tree

        modules = module_tree(loaded.network)
        if json:
            rows = [dict(zip(("module", "type", "count"), module, strict=True)) for module in modules]
            print_json({"model": model, "type": loaded.network.config.model_type, "modules": rows})
        else:
            cells = [[path, kind, str(count)] for path, kind, count in modules]
            print(table([["module", "type", "count"], *cells], right=(2,)))
        return
    rows = [site | {"shape": list(site["shape"])} for site in loaded.describe_sites()]
    if json:
        print_json({"model": model, "type": loaded.network.config.model_type, "sites": rows})
        return
    cells = [
        [
            row["site"],
            " x ".join("position" if n is None else str(n) for n in row["shape"]),
            row["dtype"],
            "yes" if row["editable"] else "no",
            row["place"],
        ]
        for row in rows
    ]
    print(table([["site", "shape", "dtype", "editable", "place"], *cells]))
