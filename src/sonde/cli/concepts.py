"""sonde concepts"""

import itertools
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import print_json, quiet_libraries
from sonde.display import table
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
    from sonde.features.reader import Reader
    from sonde.probes.concepts import concepts

    scores = concepts(Reader(index, device=device), texts, labels)
    if json:
        print_json([vars(each) | {"feature": each.feature.number} for each in scores])
        return
    rows = [["label", "texts", "feature", "AUC", "neuron", "AUC", "probe", "all features", "fires mostly at"]]
    for each in scores:
        rows.append(
            [
                each.label,
                f"{each.n_texts:,}",
                str(each.feature.number),
                f"{each.feature_auc:.3f}",
                str(each.neuron),
                f"{each.neuron_auc:.3f}",
            ]
            + [f"{each.probe_auc:.3f}", f"{each.features_auc:.3f}", ", ".join(each.feature.usual_tokens(3))]
        )
    print(table(rows, right=(1, 2, 3, 4, 5, 6, 7)))
    for what, values in (
        ("a single feature", [each.feature_auc for each in scores]),
        ("a single neuron", [each.neuron_auc for each in scores]),
    ):
        print(f"{what} reaches 0.9 for {sum(value >= 0.9 for value in values)} of {len(scores)} concepts")
