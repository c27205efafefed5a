"""The sites of a model, or its modules, as a table: what `sonde sites` lists."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, shorten
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.models.sites import module_tree


class Sites(list[dict[str, Any]], Drawn):
    """The places of a model, each as `Model.describe_sites` has it, or the model's modules: module, type and count."""

    def __init__(self, rows: Iterable[dict[str, Any]], model: Model) -> None:
        super().__init__(rows)
        config: Any = model.network.config
        self.model_name, self.model_type = model.name, str(config.model_type)

    def __repr__(self) -> str:
        names = ", ".join(str(next(iter(row.values()))) for row in self)
        return f"Sites({len(self)} of {self.model_type}: {shorten(names, 80)})"

    def draw(self) -> list[Block]:
        """A table with a line for each."""
        header = list(self[0]) if self else []
        right = tuple(column for column, name in enumerate(header) if name == "count")
        return [Grid([[_shown(value) for value in row.values()] for row in self], header, right)]


@public()
def sites(model: Model | str | Path, *, tree: bool = False, device: str = "auto", dtype: str = "auto") -> Sites:
    """The places of a model that can be read and edited, with the shape and the number format of their values.

    Args:
        model: a model or what `load_model` takes.
        tree: list the modules instead, any of which is a site as module:dotted.path; N stands for each number.
        device, dtype: as for `load_model`; of a model that is loaded here.

    Raises SiteError where the model's family is not known; `tree` lists what there is.
    """
    loaded = model if isinstance(model, Model) else load_model(model, device=device, dtype=dtype)
    if not tree:
        return Sites(loaded.describe_sites(), loaded)
    columns = ("module", "type", "count")
    return Sites((dict(zip(columns, row, strict=True)) for row in module_tree(loaded.network)), loaded)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join("position" if size is None else str(size) for size in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
