"""sonde measure"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, load_model, print_json, reporter, table


def measure(
    *,
    dictionary: Path,
    model: str | None = None,
    text: Path | None = None,
    tokens: int | None = None,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),  # noqa: B008
    json: bool = False,
) -> None:
    """Measure a dictionary on documents that it never saw.

    Example: sonde measure --dictionary dict

    Parameters
    ----------
    dictionary: Path
        A folder written by sonde train.
    model: str
        The model to measure with; by default the one that the dictionary was trained on.
    text: Path
        Text to measure on; by default the documents that were held out of training.
    tokens: int
        Stop after the document in which this many tokens are reached.
    json: bool
        Print one JSON object.
    """
    from sonde.analysis.measure import measure
    from sonde.dictionaries.load import load_dictionary

    loaded = load_dictionary(dictionary, options.device)
    reader = load_model(model or loaded.facts["model"]["name"], options)
    found = measure(loaded, model=reader, text=text, tokens=tokens, reporter=reporter())
    if json:
        print_json(found.to_json())
        return
    rows = [
        ["FVU", f"{found.fvu:.4f}", "share of variance left unexplained"],
        ["FVU, uncentred", f"{found.fvu_uncentred:.4f}", "share of mean squared length left unexplained"],
        ["gamma", f"{found.gamma:.4f}", "1 where reconstructions are not shortened"],
        ["cosine", f"{found.cosine:.4f}", "of tokens and their reconstructions, mean"],
        ["L0", f"{found.l0:.1f}", "features active on a token"],
        ["dead", f"{found.dead:.2%}", "features that fire on none of these tokens"],
        ["tokens", f"{found.tokens:,}", f"in {found.documents:,} documents"],
    ]
    if found.loss is None:
        rows.append(["loss", "-", "not measured: the model predicts no next token"])
    for name, value in found.loss_recovered.items():
        if value is not None:
            rows.append([f"loss recovered ({name})", f"{value:.4f}", f"against {name} ablation"])
    if found.kl is not None:
        rows.append(
            ["KL", f"{found.kl:.4f}", "nats a token, from the model's predictions with the reconstruction in place"]
        )
    print(table(rows, right=(1,)))
