"""An attribution graph: which features, tokens, errors and biases an answer comes from, and by which way.

Nodes, in this order: active features by (layer, position, feature), errors by (layer, position), tokens by position,
the biases; and the targets of the whole: logits. `edges[t, s]` is what node s adds to target t, which is a feature's
pre-activation or a logit; they sum to it, with the biases.

Influence, pruning and scores are as published (Ameisen et al. 2025, "Circuit Tracing"), on the absolute values of the
edges without the biases' as shares of each target's. Two things differ from the code that came after it: errors and
tokens are never pruned, as the paper says; and completeness is given over nodes that have inputs, beside the figure
over all nodes.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save
from torch import Tensor

from sonde.artifacts import new_artifact
from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line, shorten
from sonde.facts import ModelRef
from sonde.manifests import read_manifest, write_bytes, write_json
from sonde.remote import local_path
from sonde.settings import check

FORMAT, TENSORS = "graph", "graph.safetensors"
NODE_SHARE, EDGE_SHARE = 0.8, 0.98  # source: Ameisen et al. 2025, as in circuit-tracer's defaults


@dataclass(frozen=True)
class Logit:
    """A target of the whole: the logit of a token, or the difference of two, less the mean over the vocabulary."""

    label: str
    token: int
    against: int | None
    """the token whose logit is subtracted; None for a single one"""
    probability: float
    """of the token"""
    weight: float
    """its share of the influence: its probability among the logits of the graph"""

    @property
    def answer(self) -> str:
        """What titles say of it; a difference has no probability."""
        return f"{self.label} {self.probability:.1%}" if self.against is None else self.label


@dataclass(frozen=True, eq=False)
class Graph(Drawn):
    """The attribution graph of one prompt."""

    tokens: tuple[str, ...]
    ids: Int[Tensor, " position"]
    n_layers: int
    features: Int[Tensor, "feature 3"]
    """layer, position and number of each active feature"""
    activations: Float[Tensor, " feature"]
    logits: tuple[Logit, ...]
    values: Float[Tensor, " target"]
    """what the edges sum to: features' pre-activations, then the logits"""
    edges: Float[Tensor, "target source"]
    """targets: features, then logits; sources: features, errors, tokens"""
    bias: Float[Tensor, " target"]
    n_active: int
    """active features on the prompt; those that are no nodes are in the errors"""
    model: ModelRef | None = None
    replacement: str = ""
    """content id"""
    prompt: str = ""

    # ---------------------------------------------------------------- nodes

    @property
    def n_features(self) -> int:
        return len(self.features)

    @property
    def n_positions(self) -> int:
        return len(self.tokens)

    @property
    def n_sources(self) -> int:
        return self.edges.shape[1]

    @property
    def error_slice(self) -> slice:
        """Where errors stand among the sources."""
        return slice(self.n_features, self.n_features + self.n_layers * self.n_positions)

    @property
    def token_slice(self) -> slice:
        return slice(self.error_slice.stop, self.n_sources)

    def place(self, node: int) -> tuple[str, int, int, int]:
        """(kind, layer, position, feature) of a source, kind being "feature", "error" or "token"; -1 for what lacks."""
        if node < self.n_features:
            layer, position, feature = self.features[node].tolist()
            return "feature", layer, position, feature
        if node < self.error_slice.stop:
            layer, position = divmod(node - self.n_features, self.n_positions)
            return "error", layer, position, -1
        return "token", -1, node - self.error_slice.stop, -1

    def node_of(self, layer: int, position: int, feature: int) -> int | None:
        """The number of a feature's node; None where it has none."""
        found = (self.features == torch.tensor([layer, position, feature])).all(dim=1).nonzero()
        return int(found[0]) if len(found) else None

    # ---------------------------------------------------------------- what the edges say

    def gap(self) -> Float[Tensor, " target"]:
        """How far the edges and the biases of each target are from its value."""
        return self.edges.sum(dim=1) + self.bias - self.values

    @cached_property
    def weights(self) -> Float[Tensor, " logit"]:
        return torch.tensor([logit.weight for logit in self.logits], dtype=self.edges.dtype)

    @cached_property
    def influence(self) -> Float[Tensor, " source"]:
        """How much of the logits comes through each node."""
        return influence_of(shares(self.edges), self.n_features, self.weights)

    @property
    def scores(self) -> "Scores":
        """Scores of the whole graph, before pruning."""
        return scores_of(shares(self.edges), self.influence, self.weights, self.error_slice)

    def pruned(self, node_share: float = NODE_SHARE, edge_share: float = EDGE_SHARE) -> "Pruned":
        """The nodes and edges that most of the influence runs through.

        Args:
            node_share: of the influence of features, from 0 to 1; errors and tokens stay in any case.
            edge_share: of the edges' scores that is kept.

        Raises SettingsError for a share out of its bounds.
        """
        for name, value in (("node_share", node_share), ("edge_share", edge_share)):
            check(0 < value <= 1, name, value, "above 0 and at most 1")
        return prune(self, node_share, edge_share)

    @property
    def error_share(self) -> float:
        """The share of the way from tokens and errors to the logits that begins in errors."""
        return 1 - self.scores.replacement

    @property
    def title(self) -> str:
        """What stands above every drawing of it: the answer, and how much of it is unexplained."""
        answers = ", ".join(logit.answer for logit in self.logits[:3])
        return f"{shorten(self.prompt, 80)} -> {answers}; {self.error_share:.0%} of it through errors"

    def to_json(self) -> dict[str, Any]:
        """Its scores, and what it has most of; `graph.json` in a graph's folder has its nodes."""
        return {
            "features": self.n_features,
            "active": self.n_active,
            "scores": self.scores.to_json(),
            "pruned": self.pruned().scores.to_json(),
            "logits": [vars(logit) for logit in self.logits],
            "largest_gap": float((self.gap() / self.values.abs().clamp_min(1e-12)).abs().max()),
        }

    def __repr__(self) -> str:
        return f"Graph({self.title}: {self.n_features:,} features, {self.n_positions} tokens)"

    def draw(self, n: int = 20, node_share: float = NODE_SHARE, edge_share: float = EDGE_SHARE) -> list[Block]:
        """Scores, before and after pruning to these shares, and the features with most influence."""
        kept = self.pruned(node_share, edge_share)
        rows = [["", *Scores.HEADER], ["all nodes", *self.scores.cells()], ["pruned", *kept.scores.cells()]]
        counts = f"{self.n_features:,} of {self.n_active:,} active features, {self.n_sources:,} nodes; pruned to "
        counts += f"{int(kept.nodes[: self.n_features].sum()):,} features and {int(kept.edges.sum()):,} edges"
        best = self.influence[: self.n_features].topk(min(n, self.n_features)).indices.tolist()
        return [
            Line(self.title, strong=True),
            Line(counts),
            Grid(rows[1:], rows[0], right=(1, 2, 3)),
            Grid([self._row(node) for node in best], ("feature", "token", "influence", "activation", "to the answer")),
        ]

    def _row(self, node: int) -> list[str]:
        layer, position, feature = self.features[node].tolist()
        direct = float((self.edges[self.n_features :, node] * self.weights).sum())
        name = f"layers.{layer} {feature}"
        at = f"{position} {self.tokens[position]!r}"
        return [name, at, f"{self.influence[node]:.4f}", f"{self.activations[node]:.3g}", f"{direct:+.3f}"]

    # ---------------------------------------------------------------- on disk

    def save(self, folder: Path, settings: dict[str, Any], parents: dict[str, Any], files: dict[str, str]) -> None:
        """Write it as an artifact, with further text files beside it."""
        tensors = {"ids": self.ids, "features": self.features, "activations": self.activations}
        tensors |= {"values": self.values, "edges": self.edges, "bias": self.bias}
        facts = {
            "n_layers": self.n_layers,
            "n_active": self.n_active,
            "nodes": self.n_sources,
            "scores": self.scores.to_json(),
            "replacement": self.replacement,
        } | ({"model": self.model.to_json()} if self.model else {})
        described = {"prompt": self.prompt, "tokens": list(self.tokens), "logits": [vars(one) for one in self.logits]}
        with new_artifact(folder, format=FORMAT, settings=settings, parents=parents, model=self.model) as draft:
            if draft.finished:
                return
            write_bytes(folder / TENSORS, save({name: value.contiguous() for name, value in tensors.items()}))
            write_json(folder / "nodes.json", described)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
            draft.finish([TENSORS, "nodes.json", *files], facts)


@public()
def load_graph(folder: str | Path) -> Graph:
    """Load a graph from its folder.

    Args:
        folder: what `trace` wrote.

    Raises ArtifactError where it is missing, foreign, unfinished or altered.
    """
    path = local_path(folder)
    facts = read_manifest(path, FORMAT).facts
    tensors = load_file(path / TENSORS)
    described = json.loads((path / "nodes.json").read_text(encoding="utf-8"))
    return Graph(
        tokens=tuple(described["tokens"]),
        prompt=described["prompt"],
        logits=tuple(Logit(**one) for one in described["logits"]),
        n_layers=facts["n_layers"],
        n_active=facts["n_active"],
        model=ModelRef(**facts["model"]) if "model" in facts else None,
        replacement=facts["replacement"],
        **tensors,
    )


# ---------------------------------------------------------------- influence


def shares(edges: Float[Tensor, "target source"]) -> Float[Tensor, "target source"]:
    """Absolute edges as shares of each target's."""
    size = edges.abs()
    return size / size.sum(dim=1, keepdim=True).clamp_min(1e-10)


def influence_of(
    parts: Float[Tensor, "target source"], n_features: int, weights: Float[Tensor, " logit"]
) -> Float[Tensor, " source"]:
    """The sum of w N^k over all k >= 1, of the shares N and the logits' weights w.

    A feature's inputs are of earlier layers, so the series ends after as many terms as there are layers.
    """
    total = step = weights @ parts[n_features:]
    while True:
        step = step[:n_features] @ parts[:n_features]
        if not step.any():
            return total
        total = total + step


def dense_influence(
    parts: Float[Tensor, "target source"], n_features: int, weights: Float[Tensor, " logit"]
) -> Float[Tensor, " source"]:
    """The same by the inverse of I - N, as published: the plain reference."""
    n = parts.shape[1] + len(weights)
    square = parts.new_zeros(n, n)
    square[:n_features, : parts.shape[1]] = parts[:n_features]
    square[parts.shape[1] :, : parts.shape[1]] = parts[n_features:]
    eye = torch.eye(n, dtype=parts.dtype)
    start = torch.cat([parts.new_zeros(parts.shape[1]), weights])
    return (start @ (torch.linalg.inv(eye - square) - eye))[: parts.shape[1]]


@dataclass(frozen=True)
class Scores:
    """How much of an answer a graph explains."""

    HEADER = ("replacement", "completeness", "completeness, all nodes")

    replacement: float
    """share of what begins in tokens, of what begins in tokens and errors"""
    completeness: float
    """share of inputs that are not errors, weighted by influence, over nodes that have inputs"""
    completeness_all: float
    """the same over all nodes, of which tokens and errors count as explained: as circuit-tracer has it"""

    def cells(self) -> list[str]:
        return [f"{value:.3f}" for value in (self.replacement, self.completeness, self.completeness_all)]

    def to_json(self) -> dict[str, float]:
        return dict(vars(self))


def scores_of(
    parts: Float[Tensor, "target source"],
    influence: Float[Tensor, " source"],
    weights: Float[Tensor, " logit"],
    errors: slice,
) -> Scores:
    """Scores from the shares of edges and the influence of nodes; features come before the errors, tokens after."""
    n_features = errors.start
    from_tokens, from_errors = float(influence[errors.stop :].sum()), float(influence[errors].sum())
    unexplained = parts[:, errors].sum(dim=1)
    has_inputs = torch.cat([influence[:n_features], weights])
    without = float(influence[n_features:].sum())
    missing, total = float((unexplained * has_inputs).sum()), float(has_inputs.sum())
    return Scores(
        replacement=from_tokens / max(from_tokens + from_errors, 1e-30),
        completeness=1 - missing / max(total, 1e-30),
        completeness_all=1 - missing / max(total + without, 1e-30),
    )


# ---------------------------------------------------------------- pruning


@dataclass(frozen=True, eq=False)
class Pruned:
    """The part of a graph that most of the influence runs through."""

    graph: Graph
    nodes: Bool[Tensor, " source"]
    edges: Bool[Tensor, "target source"]
    scores: Scores
    node_share: float
    edge_share: float

    @property
    def features(self) -> list[int]:
        """The features that are left."""
        return self.nodes[: self.graph.n_features].nonzero().flatten().tolist()

    @property
    def linked(self) -> Bool[Tensor, " source"]:
        """Sources that have an edge left."""
        return self.edges.any(dim=0)


def prune(graph: Graph, node_share: float, edge_share: float) -> Pruned:
    """Keep the features with most influence, then the edges with the highest scores, then what hangs together."""
    n = graph.n_features
    keep = torch.ones(graph.n_sources, dtype=torch.bool)
    keep[:n] = largest(graph.influence, node_share)[:n]
    parts = shares(_masked(graph.edges, keep, n))
    influence = influence_of(parts, n, graph.weights)
    through = torch.cat([influence[:n], graph.weights])
    edges = largest((parts * through[:, None]).flatten(), edge_share).view(parts.shape) & (parts > 0)
    while True:
        alive = keep[:n] & edges[:, :n].any(dim=0) & edges[:n].any(dim=1)
        if torch.equal(alive, keep[:n]):
            break
        keep[:n] = alive
        edges[:, :n] &= alive
        edges[:n] &= alive[:, None]
    parts = shares(graph.edges * edges)
    influence = influence_of(parts, n, graph.weights)
    scores = scores_of(parts, influence, graph.weights, graph.error_slice)
    return Pruned(graph, keep, edges, scores, node_share, edge_share)


def _masked(edges: Tensor, keep: Tensor, n_features: int) -> Tensor:
    """Edges between nodes that are kept."""
    masked = edges * keep
    masked[:n_features] *= keep[:n_features, None]
    return masked


def largest(scores: Float[Tensor, " item"], share: float) -> Bool[Tensor, " item"]:
    """The fewest items, the largest first, whose sum reaches a share of the whole.

    Scores are at least zero, so the order of their bits is theirs: they are counted into bins of equal leading bits,
    and only the one bin in which the share is reached is sorted.
    """
    bits, drop = (torch.int64, 44) if scores.dtype == torch.float64 else (torch.int32, 14)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    bins = scores.contiguous().view(bits).long() >> drop
    sums = torch.zeros(int(bins.max()) + 1, dtype=torch.float64).index_add_(0, bins, scores.double())
    above = sums.flip(0).cumsum(0).flip(0)
    wanted = share * float(above[0])
    if share >= 1:
        return scores > 0
    # The last bin from which on the sum reaches the share.
    at = int((above >= wanted).nonzero()[-1])
    kept = bins > at
    inside = (bins == at).nonzero().flatten()
    order = inside[scores[inside].argsort(descending=True, stable=True)]
    missing = wanted - float(above[at + 1] if at + 1 < len(above) else 0.0)
    count = int(torch.searchsorted(scores[order].double().cumsum(0), missing)) + 1
    kept[order[:count]] = True
    return kept & (scores > 0)
