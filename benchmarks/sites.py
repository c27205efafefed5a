"""Families and sites: the largest error of each, on tiny random models in float32.

    python benchmarks/sites.py

Four errors for each family and site, over attention implementations and three texts: what is read against what
transformers gives or the modules compute (`tests/models/test_sites.py` has the same as tests); logits after reading,
and after putting back what was read, against plain ones; reading one text in a left-padded, right-padded or packed
batch against reading it alone. The first three must be zero; the table shows the last, as the largest absolute
difference.
"""

import sys
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.models.test_sites import PutBack
from tests.tiny import FAMILIES, attentions, make_model

from sonde.display import table
from sonde.models.families import LAYER_SITES

TEXTS = ["the red bridge", "x", "a longer text about the bay"]
COLUMNS = ("embedding", *LAYER_SITES, "final", "logits")


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def main() -> None:
    transformers.logging.set_verbosity_error()
    rows = [["family", "reading", "putting back", *COLUMNS]]
    for family in FAMILIES:
        worst = dict.fromkeys(COLUMNS, -1.0)
        reading = putting = 0.0
        for attention in attentions(family):
            model = make_model(family, attention=attention)
            ids = model.tokenizer(TEXTS)["input_ids"]
            right, left, packed = model.pad(ids), model.pad(ids, "left"), model.pack(ids, 48)
            plain, sites = model.logits(right), model.sites()
            reads = [model.read(tokens, sites) for tokens in (right, left, packed)]
            reading = max(reading, largest(reads[0]["logits"], plain), largest(model.logits(right), plain))
            for site in sites:
                with model.edited(PutBack(site)):
                    putting = max(putting, largest(model.logits(right), plain))
            for number, row in enumerate(ids):
                alone = model.read(model.pad([row]), sites)
                for site in sites:
                    own = (
                        reads[0][site][number, : len(row)],
                        reads[1][site][number, -len(row) :],
                        reads[2][site][packed.segments == number + 1],
                    )
                    kind = site.split(".")[-1]
                    worst[kind] = max(worst[kind], *(largest(value, alone[site][0]) for value in own))
        cells = ["-" if error < 0 else f"{error:.0e}" if error else "0" for error in worst.values()]
        rows.append([family, f"{reading:g}", f"{putting:g}", *cells])
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
