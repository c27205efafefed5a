"""A control: random directions in the place of features, explained and tested as features are.

They fire as often as the index's features do on the median, on some of its own texts. A test that they pass tells nothing of features.
"""

from pathlib import Path

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups, make_batch
from sonde.artifacts import new_artifact
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.load import save_weights
from sonde.dictionaries.reading import Reading
from sonde.features.build import index as make_index
from sonde.features.index import Index
from sonde.features.reader import Reader

TOKENS = 50_000
MEASURED = 10_000
"""tokens by which thresholds are set"""


@torch.no_grad()
def random_directions(index: Index, n: int, seed: int, folder: Path) -> Index:
    """An index of n random directions, in a folder of its own, over some documents of another index."""
    reader = Reader(index)
    rng = np.random.default_rng(seed)
    texts, n_tokens = [], 0
    for number in rng.permutation(index.manifest.facts["documents"]):
        text, spans = index.document(int(number))
        if len(spans):
            texts.append(text)
            n_tokens += len(spans)
        if n_tokens >= TOKENS:
            break
    width = reader.dictionary.d_in
    dictionary = L1(n, width, reader.dictionary.d_out)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(n, width, generator=generator), dim=1)
    counts = index.statistics["count"]
    share = float(np.median(counts[counts > 0]) / index.n_tokens)
    with torch.no_grad():
        dictionary.W_enc.copy_(rows)
        dictionary.W_dec.copy_(
            torch.nn.functional.normalize(torch.randn(dictionary.W_dec.shape, generator=generator), dim=1)
        )
        along = _projections(reader, texts, rows)
        # A little below, so that where many tokens are alike (as at the embedding) those at the threshold fire.
        dictionary.b_enc.copy_(1e-3 * along.std(dim=0) - along.quantile(1 - share, dim=0))
    facts = reader.dictionary.facts | {
        "kind": "l1",
        "kind_settings": {},
        "n_features": n,
        "training_rows": {"l0": share * n, "fvu": 1.0},
    }
    with new_artifact(folder / "dictionary", format="dictionary", settings={}, parents={}) as draft:
        draft.finish([save_weights(dictionary, draft.folder)], facts)
    return make_index(reader.model, folder / "dictionary", texts, out=folder / "index")


def _projections(reader: Reader, texts: list[str], rows: torch.Tensor) -> torch.Tensor:
    """What the first tokens are along each direction [token, direction]."""
    cutter, reading, parts, n = Cutter(reader.model), Reading(reader.dictionary, reader.model), [], 0
    for group in groups(cutter.tokenize(texts), cutter):
        batch = make_batch(reader.model, group)
        x, _ = reading(batch.tokens, batch.text_mask)
        parts.append(x.float().cpu() @ rows.T)
        n += len(x)
        if n >= MEASURED:
            break
    return torch.cat(parts)
