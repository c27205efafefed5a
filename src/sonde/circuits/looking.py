"""Why a head looked where it did: its score at a query and a key, split into pairs of what was written at both.

A score is a product of a query and a key. With the scales of norms held, both are sums over what the stream holds at
their positions and before: features, errors, tokens and biases. So the score is a sum over pairs of them, and the pairs
sum to it exactly. (Kamath et al. 2025, "Tracing Attention Computation Through Feature Interactions".)

Softmax takes no notice of what all keys share. So by default the key is taken less the mean of the keys that the query
can see, and the pairs then say why this key and not another.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.calls import public
from sonde.circuits.local import Edges, Local, Target
from sonde.circuits.replacement import Replacement, as_replacement
from sonde.circuits.trace import as_tokens, position_of
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import FeatureError, ModelLacksError, SiteError, UsageError
from sonde.models.model import Model, Tokens
from sonde.models.token_text import decode

_PLACE = re.compile(r"(?P<layer>\d+)\.(?P<head>\d+)@(?P<query>-?\d+)(?::(?P<key>-?\d+))?")
BATCH = 32
"""components of a query or a key that are traced in one backward pass"""
PAIRS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Look(Drawn):
    """A head's score at a query and a key, in parts."""

    layer: int
    head: int
    query: int
    key: int
    pattern: float
    """how much the query takes from the key, after the softmax"""
    score: float
    """before the softmax and any cap; less the mean over keys, where that was asked for"""
    contrasted: bool
    tokens: tuple[str, ...]
    names: tuple[str, ...]
    """of what is written: features, errors, tokens, and biases last"""
    of_query: Float[Tensor, "component source"]
    """what each adds to each component of the query"""
    of_key: Float[Tensor, "component source"]
    """likewise of the key, times the scale of the score"""

    @property
    def pairs(self) -> Float[Tensor, "source source"]:
        """What each pair of one at the query (rows) and one at the key (columns) adds to the score."""
        return self.of_query.T @ self.of_key

    @property
    def by_query(self) -> Float[Tensor, " source"]:
        """What each at the query adds, with all at the key."""
        return self.of_query.T @ self.of_key.sum(dim=1)

    @property
    def by_key(self) -> Float[Tensor, " source"]:
        """What each at the key adds, with all at the query."""
        return self.of_key.T @ self.of_query.sum(dim=1)

    def strongest(self, n: int = 10) -> list[tuple[str, str, float]]:
        """The pairs that add or subtract most."""
        best: list[tuple[float, int, int]] = []
        size = self.of_query.shape[1]
        rows = max(1, PAIRS_AT_ONCE // size)
        for first in range(0, size, rows):
            part = self.of_query[:, first : first + rows].T @ self.of_key
            values, places = part.abs().flatten().topk(min(n, part.numel()))
            best += [(float(part.flatten()[place]), first + place // size, place % size) for place in places.tolist()]
        best.sort(key=lambda row: -abs(row[0]))
        return [(self.names[query], self.names[key], value) for value, query, key in best[:n]]

    def to_json(self) -> dict[str, Any]:
        kept = ("layer", "head", "query", "key", "pattern", "score", "contrasted")
        return {name: getattr(self, name) for name in kept} | {"pairs": self.strongest()}

    def __repr__(self) -> str:
        return f"Look(layer {self.layer}, head {self.head}: {self.query} at {self.key}, score {self.score:.3f})"

    def draw(self, n: int = 12) -> list[Block]:
        """The strongest pairs, and what adds most on each side, with all on the other."""
        where = f"layer {self.layer}, head {self.head}: {self.tokens[self.query]!r} ({self.query}) looks at "
        where += f"{self.tokens[self.key]!r} ({self.key}) with {self.pattern:.1%}; score {self.score:+.3f}"
        where += ", less that of other keys" if self.contrasted else ""
        pairs = [[query, key, f"{value:+.3f}"] for query, key, value in self.strongest(n)]
        blocks: list[Block] = [
            Line(where, strong=True),
            Grid(pairs, ("at the query", "at the key", "adds"), right=(2,)),
        ]
        for side, values in (("query", self.by_query), ("key", self.by_key)):
            best = values.abs().topk(min(n, len(values))).indices.tolist()
            rows = [[self.names[place], f"{float(values[place]):+.3f}"] for place in best]
            blocks.append(Grid(rows, (f"at the {side}, with all on the other side", "adds"), right=(1,)))
        return blocks


def read_place(text: str) -> dict[str, int]:
    """The layer, head, query and key of a text such as 4.2@-1 (layer 4, head 2, at the last token) or 4.2@7:3.

    Raises UsageError where it cannot be read.
    """
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"cannot read {text!r}; write LAYER.HEAD@TOKEN, such as 4.2@-1, or 4.2@7:3 for token 3 from 7")
    return {name: int(value) for name, value in match.groupdict().items() if value is not None}


@public()
def look(
    model: Model,
    replacement: Replacement | str | Path,
    prompt: str | Tokens,
    *,
    layer: int,
    head: int,
    query: int = -1,
    key: int | None = None,
    contrasted: bool = True,
) -> Look:
    """Why a head at a token looks at another: its score, split into pairs of what was written at both.

    Args:
        model: a model.
        replacement: a replacement or its folder.
        prompt: a text, or a batch of one.
        layer, head: which head, from zero.
        query: the token that looks, from zero, or from the end if below zero.
        key: the token that it looks at; by default the one that it looks at most.
        contrasted: take the key less the mean of the keys that the query can see.

    Raises:
        SiteError: the model has no such layer or head.
        FeatureError: the query cannot see the key.
        ModelLacksError: the model's attention does not show what it compares.
    """
    loaded, tokens = as_replacement(replacement), as_tokens(model, prompt)
    loaded.check_fits(model)
    pattern = model.read(tokens, f"layers.{layer}.pattern")[0]
    if not 0 <= head < len(pattern):
        raise SiteError(f"layer {layer} has no head {head}; it has heads 0 to {len(pattern) - 1}")
    at = position_of(query, tokens)
    looked = int(pattern[head, at].argmax()) if key is None else position_of(key, tokens)
    seen = (pattern[head, at] > 0).nonzero().flatten().tolist()
    if looked not in seen:
        raise FeatureError(f"head {head} of layer {layer} cannot see token {looked} from token {at}")
    local = Local(model, loaded, tokens, BATCH, compared=[layer])
    if layer not in local.scale:
        raise ModelLacksError(f"the attention of {model.name} does not show the queries and keys that it compares")
    queries, keys = (local.read(f"{side}.{layer}") for side in ("query", "key"))
    of_head = head // (len(queries) // len(keys))  # several heads of queries may share one of keys
    shares = {position: -1 / len(seen) for position in seen} if contrasted else {}
    shares[looked] = shares.get(looked, 0.0) + 1
    of_query = _parts(local, f"query.{layer}", head, {at: 1.0})
    of_key = _parts(local, f"key.{layer}", of_head, shares) * local.scale[layer]
    compared = sum(share * keys[of_head, position].double() for position, share in shares.items())
    return Look(
        layer=layer,
        head=head,
        query=at,
        key=looked,
        pattern=float(pattern[head, at, looked]),
        score=float(queries[head, at].double() @ compared) * local.scale[layer],
        contrasted=contrasted,
        tokens=tuple(decode(model.require_tokenizer(), [one], special=True) for one in tokens.ids[0].tolist()),
        names=tuple(_names(local)),
        of_query=of_query,
        of_key=of_key,
    )


def _parts(local: Local, read: str, head: int, shares: dict[int, float]) -> Float[Tensor, "component source"]:
    """What each source adds to each component of a sum over positions of a head's queries or keys."""
    width = local.read(read).shape[-1]
    one = torch.ones((), dtype=local.read(read).dtype)
    targets = [
        Target(read, tuple(((head, position, component), share * one) for position, share in shares.items()))
        for component in range(width)
    ]
    found = [local.edges(targets[first : first + BATCH]) for first in range(0, width, BATCH)]
    return torch.cat([_side_by_side(edges) for edges in found])


def _side_by_side(edges: Edges) -> Float[Tensor, "target source"]:
    return torch.cat([edges.features, edges.errors.flatten(1), edges.tokens, edges.bias[:, None]], dim=1)


def _names(local: Local) -> Iterator[str]:
    for layer, active in enumerate(local.active):
        for position, feature in zip(active.position.tolist(), active.feature.tolist(), strict=True):
            yield f"layers.{layer} {feature} at {position}"
    for layer in range(local.n_layers):
        for position in range(local.n_positions):
            yield f"error of layer {layer} at {position}"
    for position in range(local.n_positions):
        yield f"token {position}"
    yield "biases"
