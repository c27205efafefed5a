"""Massive activations: the few rows whose vectors are many times as long as others.

In many models the first token of a context, and now and then a delimiter, has a vector a hundred times as long as
the others (attention sinks; Sun et al. 2024, "Massive Activations in Large Language Models", arXiv 2402.17762). A
handful of such rows is most of a store's variance, so that input scaling, statistics and the fraction of variance
unexplained speak of them alone. A row is massive where its norm is above a multiple of the median norm at its site,
which a first read of the text fixes. dictionary_learning filters rows by the same rule, with the same multiple.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, Context, batches, make_batch
from sonde.models.model import Model

PILOT_TOKENS = 2048
"""tokens that are read to find the median norm"""


def norm_limits(
    model: Model, sites: Sequence[str], contexts: Iterable[Context], multiple: float, *, special: bool = False
) -> dict[str, float]:
    """The norm above which a row is massive at each site: a multiple of the median over the first contexts.

    Args:
        multiple: 0 for no limits, which gives an empty dict.
    """
    if not multiple:
        return {}
    first, n_tokens = [], 0
    for context in contexts:
        first.append(context)
        n_tokens += context.n_text
        if n_tokens >= PILOT_TOKENS:
            break
    norms: dict[str, list[Tensor]] = {site: [] for site in sites}
    for some in batches(first, BATCH_TOKENS):
        batch = make_batch(model, some, special)
        for site, value in model.read(batch.tokens, sites).items():
            norms[site].append(value.flatten(2)[batch.text_mask.to(value.device)].float().norm(dim=1).cpu())
    limits = {site: norm_limit(torch.cat([torch.empty(0), *parts]), multiple) for site, parts in norms.items()}
    return {site: limit for site, limit in limits.items() if limit is not None}


def norm_limit(norms: Float[Tensor, " row"], multiple: float) -> float | None:
    """A multiple of the median of the norms that are known; None where none is, or half of the rows are nothing."""
    return multiple * float(norms.median()) or None if len(norms) else None
