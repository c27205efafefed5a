"""Trace an answer back to the features, tokens and errors that it comes from.

1. Run the prompt once, with the replacement's transcoders beside the MLPs: what fires, and what they leave out.
2. Choose the logits: the one that is asked for, a difference, or those that make up most of the probability.
3. Find the edges of the logits, then those of the features, the most influential first, up to the budget.
4. Put what the remaining features add into the errors of their layer and token; so the edges of each node still sum to
   its pre-activation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.calls import public
from sonde.circuits.graph import Graph, Logit, shares
from sonde.circuits.graph_json import to_json_text
from sonde.circuits.graph_view import to_page
from sonde.circuits.local import Edges, Local
from sonde.circuits.replacement import Replacement, as_replacement
from sonde.circuits.trace_settings import TraceKeywords, TraceSettings
from sonde.devices import ensure_memory
from sonde.errors import TextError
from sonde.manifests import parent_entry
from sonde.models.model import Model, Tokens
from sonde.models.recorded import recorded_model
from sonde.models.token_text import decode
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path
from sonde.settings import from_mapping, to_mapping

PROBABILITY, MOST_LOGITS = 0.95, 10  # source: Ameisen et al. 2025, on the choice of logit nodes
RANK_EVERY = 4
"""backward passes after which the features that are left are ranked anew"""


@public(TraceSettings)
def trace(
    model: Model | str | Path | None,
    replacement: Replacement | str | Path,
    prompt: str | Tokens,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[TraceKeywords],
) -> Graph:
    """The attribution graph of what a model predicts after a prompt.

    Args:
        model: a model or what `load_model` takes; None for the one that the replacement is of.
        replacement: a replacement or its folder.
        prompt: a text, or a batch of one.
        out: folder to write: the graph, its JSON for the page of attribution graphs, and a page of its own.
        device, dtype: as for `load_model`; of what is loaded here.
        reporter: shows progress.

    Raises:
        ArtifactMismatchError: the replacement is of another model.
        TextError: the prompt is longer than the model's context, or a target is not one token.
        CapacityError: the edges do not fit into memory.
    """
    chosen = from_mapping(TraceSettings, dict(settings))
    loaded = as_replacement(replacement, device)
    reporter = reporter or default_reporter()
    reader = recorded_model(loaded.model, model, of=loaded.described, device=device, dtype=dtype, reporter=reporter)
    loaded.check_fits(reader)
    graph = trace_tokens(reader, loaded, as_tokens(reader, prompt), chosen, reporter)
    if out is not None:
        save_graph(graph, local_path(out), chosen, loaded)
    return graph


def save_graph(graph: Graph, folder: Path, settings: TraceSettings, replacement: Replacement) -> None:
    """Write a graph, the JSON of its pruned part, and a page that shows it."""
    pruned = graph.pruned(settings.node_share, settings.edge_share)
    parents = {"replacement": parent_entry(*replacement.artifact)} if replacement.artifact else {}
    recorded = to_mapping(settings) | {"prompt": graph.prompt}
    files = {"graph.json": to_json_text(pruned), "graph.html": to_page(pruned)}
    graph.save(folder, recorded, parents, files)


def as_tokens(model: Model, prompt: str | Tokens) -> Tokens:
    """A prompt as a batch of one; raises TextError where it is empty or there are several."""
    tokens = prompt if isinstance(prompt, Tokens) else model.tokenize(prompt)
    if len(tokens.ids) != 1 or not bool(tokens.mask.all()):
        raise TextError(f"a graph is of one prompt, but the batch has {len(tokens.ids)}; give them one by one")
    if not tokens.mask.sum():
        raise TextError("the prompt is empty; give a text")
    if tokens.pixels is not None:
        raise TextError("the prompt has pictures, which a graph does not speak of; give a text alone")
    return tokens


def trace_tokens(
    model: Model, replacement: Replacement, tokens: Tokens, settings: TraceSettings, reporter: Reporter
) -> Graph:
    """The graph of a batch of one; see `trace`."""
    position = position_of(settings.position, tokens)
    local = Local(model, replacement, tokens, min(settings.batch_size, settings.budget))
    logits, vectors = choose_logits(model, local, position, settings)
    rows = _Rows(local, min(settings.budget, local.n_active), logits)
    rows.add_logits([local.logit_target(vector, position) for vector in vectors])
    with reporter.start("trace", rows.n_wanted, "features") as progress:
        while done := rows.add_features():
            progress.advance(done)
    ids = tokens.ids[0].cpu()
    return rows.graph(
        tokens=tuple(decode(model.require_tokenizer(), [token], special=True) for token in ids.tolist()),
        ids=ids,
        model=model.ref,
        replacement=replacement.artifact.manifest.id if replacement.artifact else "",
        prompt=decode(model.require_tokenizer(), ids.tolist()),
    )


def position_of(position: int | None, tokens: Tokens) -> int:
    """A position of the prompt, from zero or from the end; the last for None. Raises TextError where there is none."""
    n = tokens.ids.shape[1]
    chosen = n - 1 if position is None else position + n * (position < 0)
    if not 0 <= chosen < n:
        raise TextError(f"there is no token {position} in the prompt, which has tokens 0 to {n - 1}")
    return chosen


# ---------------------------------------------------------------- logits


def choose_logits(
    model: Model, local: Local, position: int, settings: TraceSettings
) -> tuple[tuple[Logit, ...], list[Float[Tensor, " vocabulary"]]]:
    """The logits that are traced, and of each the weights by which it is a sum of the vocabulary's logits."""
    scores = local.logits()[position].float()
    chances = _capped(model, scores).softmax(dim=0)
    n = len(scores)
    if settings.target is not None:
        token = token_of(model, settings.target, "target")
        against = None if settings.against is None else token_of(model, settings.against, "against")
        label = settings.target if settings.against is None else f"{settings.target} less {settings.against}"
        chosen = (Logit(label, token, against, float(chances[token]), 1.0),)
    else:
        value, order = chances.sort(descending=True)
        count = min(int((value.cumsum(dim=0) < PROBABILITY).sum()) + 1, MOST_LOGITS)
        total = float(value[:count].sum())
        pairs = zip(order[:count].tolist(), value[:count].tolist(), strict=True)
        tokenizer = model.require_tokenizer()
        chosen = tuple(Logit(decode(tokenizer, [token]), token, None, p, p / total) for token, p in pairs)
    vectors = []
    for logit in chosen:
        vector = local.head.weight.new_full((n,), -1 / n)  # softmax takes no notice of what all logits share
        vector[logit.token] += 1
        if logit.against is not None:
            vector += 1 / n
            vector[logit.against] -= 1
        vectors.append(vector)
    return chosen, vectors


def _capped(model: Model, scores: Tensor) -> Tensor:
    """Logits as the model gives them: gemma2 and others cap what its head gives."""
    cap = getattr(model.network.config.get_text_config(), "final_logit_softcapping", None)  # type: ignore[union-attr, operator]
    return scores if cap is None else cap * torch.tanh(scores / cap)


def token_of(model: Model, text: str, name: str) -> int:
    """The one token of a text; raises TextError where it is several."""
    ids = model.require_tokenizer()(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = [decode(model.require_tokenizer(), [token]) for token in ids]
        raise TextError(f"{name} {text!r} is {len(ids)} tokens ({', '.join(map(repr, pieces))}); give one of them")
    return int(ids[0])


# ---------------------------------------------------------------- edges


@dataclass
class _Rows:
    """The edges of the targets that were traced so far."""

    local: Local
    n_wanted: int
    logits: tuple[Logit, ...]

    def __post_init__(self) -> None:
        local, n = self.local, self.local.n_active
        self.layer = torch.cat([torch.full_like(one.feature, layer) for layer, one in enumerate(local.active)]).cpu()
        self.position = torch.cat([one.position for one in local.active]).cpu()
        self.starts = torch.tensor([0, *(len(one.feature) for one in local.active)]).cumsum(0).tolist()
        n_rows, n_errors = self.n_wanted + len(self.logits), local.n_layers * local.n_positions
        needed = 8 * n_rows * (n + n_errors + local.n_positions)
        ensure_memory(needed, f"a graph of {n_rows:,} by {n:,} features", "a smaller --budget needs less")
        dtype = local.active[0].value.dtype
        self.features = torch.zeros(n_rows, n, dtype=dtype)
        self.errors = torch.zeros(n_rows, local.n_layers, local.n_positions, dtype=dtype)
        self.tokens = torch.zeros(n_rows, local.n_positions, dtype=dtype)
        self.bias = torch.zeros(n_rows, dtype=dtype)
        self.values = torch.zeros(n_rows, dtype=dtype)
        self.order: list[int] = []
        """the active features that have rows, in the order of their rows"""
        self._queue: list[int] = []

    def add_logits(self, targets: Sequence[Any]) -> None:
        """The edges of the logits, in the last rows."""
        for first in range(0, len(targets), self.local.batch_size):
            part = targets[first : first + self.local.batch_size]
            self._set(self.n_wanted + first, self.local.edges(part))
        for number, target in enumerate(targets):
            self.values[self.n_wanted + number] = target.value(self.local.read(target.read))

    def add_features(self) -> int:
        """The edges of the next batch of features; returns how many, 0 where no more have influence or fit."""
        self._queue = self._queue or self._next()
        if not self._queue:
            return 0
        part, self._queue = self._queue[: self.local.batch_size], self._queue[self.local.batch_size :]
        targets, values = [], []
        for index in part:
            layer = int(self.layer[index])
            targets.append(self.local.feature_target(layer, index - self.starts[layer]))
            values.append(self.local.active[layer].pre[index - self.starts[layer]])
        first = len(self.order)
        self._set(first, self.local.edges(targets))
        self.values[first : first + len(part)] = torch.stack(values)
        self.order += part
        return len(part)

    def _next(self) -> list[int]:
        """The most influential of the features that have no row yet; where all fit, those of the next layer below."""
        rank = self._influence()
        rank[self.order] = 0.0
        alive = rank > 0
        if not alive.any():
            return []
        if self.n_wanted == self.local.n_active:
            return (alive & (self.layer == self.layer[alive].max())).nonzero().flatten().tolist()
        count = min(RANK_EVERY * self.local.batch_size, self.n_wanted - len(self.order), int(alive.sum()))
        return sorted(rank.topk(count).indices.tolist())

    def _influence(self) -> Float[Tensor, " active"]:
        """The influence of every active feature through the rows that there are."""
        rows = [*range(len(self.order)), *range(self.n_wanted, len(self.features))]
        n, size = len(self.order), self.features.shape[1]
        sources = [self.features[rows], self.errors[rows].flatten(1), self.tokens[rows]]
        parts = shares(torch.cat(sources, dim=1))
        weights = torch.tensor([logit.weight for logit in self.logits], dtype=parts.dtype)
        total = step = weights @ parts[n:]
        order = torch.tensor(self.order, dtype=torch.long)
        while n:
            step = step[order] @ parts[:n]
            if not step.any():
                break
            total = total + step
        return total[:size].clone()

    def _set(self, first: int, edges: Edges) -> None:
        rows = slice(first, first + len(edges.bias))
        self.features[rows], self.errors[rows] = edges.features, edges.errors
        self.tokens[rows], self.bias[rows] = edges.tokens, edges.bias

    def graph(self, **known: Any) -> Graph:
        """The graph, in which features without rows are part of the errors of their layer and token.

        Where all fit, those add nothing: they are the features from which no way leads to the logits.
        """
        local = self.local
        nodes, places = torch.tensor(self.order, dtype=torch.long).sort()
        rest = torch.ones(local.n_active, dtype=torch.bool)
        rest[nodes] = False
        [rest] = rest.nonzero(as_tuple=True)
        rows = torch.cat([places, torch.arange(self.n_wanted, len(self.features))])
        where = self.layer[rest] * local.n_positions + self.position[rest]
        errors = self.errors[rows].flatten(1)
        errors.index_add_(1, where, self.features[rows][:, rest])
        numbers = torch.cat([one.feature for one in local.active]).cpu()
        activations = torch.cat([one.value for one in local.active])
        return Graph(
            n_layers=local.n_layers,
            features=torch.stack([self.layer, self.position, numbers], dim=1)[nodes].cpu(),
            activations=activations[nodes].cpu(),
            logits=self.logits,
            values=self.values[rows],
            edges=torch.cat([self.features[rows][:, nodes], errors, self.tokens[rows]], dim=1),
            bias=self.bias[rows],
            n_active=local.n_active,
            **known,
        )
