"""sonde concepts"""

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries, table
from sonde.settings import Count


def concepts(
    index: Annotated[Path, Parameter()],
    /,
    *,
    text: Path,
    label: str = "label",
    field: str = "text",
    n: Count | None = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Show how well single features tell labelled texts apart, beside single neurons and linear probes.

    Example: sonde concepts index --text reviews.jsonl --label sentiment

    Parameters
    ----------
    index: Path
        A folder written by sonde index.
    text: Path
        A .jsonl file, or its .gz, of texts with labels.
    label: str
        The field that holds the label.
    field: str
        The field that holds the text.
    n: int
        Use so many texts; all by default.
    device: str
        auto, cpu, cuda, cuda:N or mps.
    json: bool
        Print one JSON object.
    """
    from sonde.activations.corpus import Corpus

    texts, labels = ([row.text for row in itertools.islice(Corpus(text, name), n)] for name in (field, label))
    quiet_libraries()
    from sonde.analysis.concepts import concepts
    from sonde.features.reader import Reader

    told = concepts(Reader(index, device=device), texts, labels)
    if json:
        print_json([dataclasses.asdict(dataclasses.replace(one, feature=one.feature.number)) for one in told])  # type: ignore[arg-type]
        return
    rows = [["label", "texts", "feature", "AUC", "neuron", "AUC", "probe", "all features", "fires mostly at"]]
    for one in told:
        rows.append(
            [
                one.label,
                f"{one.n_texts:,}",
                str(one.feature.number),
                f"{one.feature_auc:.3f}",
                str(one.neuron),
                f"{one.neuron_auc:.3f}",
            ]
            + [f"{one.probe_auc:.3f}", f"{one.features_auc:.3f}", ", ".join(one.feature.usual_tokens(3))]
        )
    print(table(rows, right=(1, 2, 3, 4, 5, 6, 7)))
    for what, values in (
        ("a single feature", [one.feature_auc for one in told]),
        ("a single neuron", [one.neuron_auc for one in told]),
    ):
        print(f"{what} reaches 0.9 for {sum(value >= 0.9 for value in values)} of {len(told)} concepts")
