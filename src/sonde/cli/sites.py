"""sonde sites"""

from sonde.cli.common import ModelOptions, load_model, print_json, table


def sites(*, model: str, tree: bool = False, json: bool = False) -> None:
    """List the places of a model that can be read and edited.

    Example: sonde sites --model world

    Parameters
    ----------
    model: str
        A model folder, a hub name, or world, the model in the package.
    tree: bool
        List all modules instead, for module:dotted.path.
    json: bool
        Print one JSON object.
    """
    loaded = load_model(model, ModelOptions())
    if tree:
        rows = [
            {"module": f"module:{name}", "type": type(module).__name__}
            for name, module in loaded.network.named_modules()
            if name
        ]
    else:
        names = loaded.sites()
        if not names:
            loaded.site("residual")  # says why there are none, and what to do
        values = loaded.read(loaded.pad([[0, 0]]), names)
        rows = [
            {
                "site": name,
                "shape": list(values[name].shape[2:]),
                "dtype": str(values[name].dtype).removeprefix("torch."),
                "editable": True,
            }
            for name in names
        ]
    if json:
        print_json({"model": model, "type": loaded.network.config.model_type, "modules" if tree else "sites": rows})
        return
    header = [list(rows[0])]
    print(table(header + [[_cell(value) for value in row.values()] for row in rows]))


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " x ".join(str(size) for size in value)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
