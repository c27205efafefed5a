"""sonde replacement"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.display import print_blocks


def replacement(
    transcoders: list[Path],
    /,
    *,
    out: Path | None = None,
    model: str | None = None,
    text: Path | None = None,
    tokens: int | str = 10_000,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Measure a replacement of a model's MLPs by transcoders, which may first be made of single ones.

    Example: sonde replacement R

    Make one: sonde replacement layer0 layer1 layer2 --out R

    Each layer is replaced alone, and all at once: how often the model's first choice stays, how far its predictions
    move, and its loss.

    Parameters
    ----------
    transcoders: list[Path]
        A replacement's folder; or those of transcoders that read layers.N.mlp_in and write layers.N.mlp, one for each
        layer in any order.
    out: Path
        Folder of the replacement that is made of them.
    model: str
        By default the model that they were trained on.
    text: Path
        By default the held-out documents of the text that they were trained on.
    tokens: int
        Stop after the document in which this many tokens are reached.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.circuits.fidelity import replacement as measured

    given = transcoders[0] if len(transcoders) == 1 and out is None else transcoders
    shared = {"device": options.device, "dtype": options.dtype, "reporter": reporter()}
    found = measured(given, out=out, model=model, text=text, tokens=tokens, **shared)
    print_json(found.to_json()) if json else print_blocks(found.draw())
