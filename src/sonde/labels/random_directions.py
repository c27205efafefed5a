"""A control: random directions in the place of features, explained and tested as features are.

Each fires as often as the index's median feature, on some of its own texts. A test that they pass says nothing about
features.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups
from sonde.activations.corpus import Document
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.reading import Reading
from sonde.features.build import index as make_index
from sonde.features.index import Index
from sonde.features.reader import Reader
from sonde.features.stream import stream

TOKENS = 50_000
MEASURED = 10_000
"""tokens by which thresholds are set"""


@torch.no_grad()
def random_directions(index: Index, n: int, seed: int, folder: Path) -> Index:
    """Index n random directions over some documents of another index, in a folder of their own."""
    reader = Reader(index)
    texts = _texts(index, seed)
    d_in, d_out, info = reader.dictionary.d_in, reader.dictionary.d_out, reader.dictionary.info
    generator = torch.Generator().manual_seed(seed)
    dictionary = L1(n, d_in, d_out)
    for weights, width in ((dictionary.W_enc, d_in), (dictionary.W_dec, d_out)):
        weights.copy_(torch.nn.functional.normalize(torch.randn(n, width, generator=generator), dim=1))
    counts = index.statistics["count"]
    share = float(np.median(counts[counts > 0]) / index.n_tokens)
    along = _projections(reader, texts, dictionary.W_enc)
    # A little below, so that where many tokens are alike (as at the embedding) those at the threshold fire.
    dictionary.b_enc.copy_(1e-3 * along.std(dim=0) - along.quantile(1 - share, dim=0))
    dictionary.at(info.reads, info.writes)
    dictionary.info = replace(dictionary.info, model=info.model, other_models=info.other_models)
    return make_index(reader.model, dictionary.to(reader.model.device).eval(), texts, out=folder)


def _texts(index: Index, seed: int) -> list[Document]:
    """Documents of an index in random order, with about `TOKENS` tokens together."""
    texts, n_tokens = [], 0
    for number in np.random.default_rng(seed).permutation(index.facts.documents).tolist():
        _, spans = index.document(number)
        if len(spans):
            texts.append(index.source(number))
            n_tokens += len(spans)
        if n_tokens >= TOKENS:
            break
    return texts


def _projections(reader: Reader, texts: list[Document], rows: torch.Tensor) -> torch.Tensor:
    """Projections of the first tokens of some texts on each direction [token, direction]."""
    cutter, parts, n = Cutter(reader.model), [], 0
    for read in stream(Reading(reader.dictionary, reader.model), groups(cutter.tokenize(texts), cutter)):
        parts.append(read.x.float().cpu() @ rows.T)
        n += read.n_rows
        if n >= MEASURED:
            break
    return torch.cat(parts)
