"""Interventions under a graph: set some of its features, and compare what it predicts with what the model does.

Inside a range of layers each MLP's output is held at its value in the unchanged run, plus what the change of its own
features adds; the layers after the range run freely. Attention patterns are held as they were, or run freely too.
(Constrained patching: Ameisen et al. 2025, "Circuit Tracing", on interventions.) The range is a choice that decides
much, so `sweep` shows all of them, and not the one in which the effect is largest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.calls import public
from sonde.circuits.graph import Graph
from sonde.circuits.replacement import Replacement
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import EditError, FeatureError
from sonde.models.model import Model, Tokens

Attention = Literal["frozen", "free"]
_FORM = re.compile(r"(\d+)\.(\d+)@(\d+|\*)=(-?[0-9.]+(?:e-?\d+)?)(x?)")
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Setting:
    """What a feature is set to: a value, or a multiple of what it is.

    Written 3.120@5=0 (feature 120 of layer 3 at token 5 to zero), 3.120@5=2x (doubled), =-1x (flipped), or with
    @* at every token where it is active.
    """

    layer: int
    feature: int
    position: int | None
    """None for all at which it is active"""
    value: float
    multiple: bool

    @classmethod
    def of(cls, text: str) -> "Setting":
        """Read the written form; raises EditError where it cannot be read."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise EditError(
                f"cannot read the setting {text!r}; write LAYER.FEATURE@TOKEN=VALUE, such as 3.120@5=0 or 3.120@*=2x"
            )
        position = None if match[3] == "*" else int(match[3])
        return cls(int(match[1]), int(match[2]), position, float(match[4]), bool(match[5]))


@dataclass(frozen=True)
class Effect:
    """What settings do to the logits of a graph."""

    layers: tuple[int, int]
    """first and last layer of the range in which MLPs are held"""
    attention: Attention
    predicted: tuple[float, ...]
    """change of each logit of the graph, as the graph says"""
    true: tuple[float, ...]
    """as the model says"""
    first: str
    """the model's first choice under the settings"""


class Effects(list[Effect], Drawn):
    """The effects in each range of layers."""

    def __init__(self, rows: Sequence[Effect], graph: Graph, settings: Sequence[str]) -> None:
        super().__init__(rows)
        self.graph, self.settings = graph, tuple(settings)

    def __repr__(self) -> str:
        return f"Effects({', '.join(self.settings)} in {len(self)} ranges of layers)"

    def draw(self) -> list[Block]:
        rows = []
        for one in self:
            for logit, predicted, true in zip(self.graph.logits[:3], one.predicted, one.true, strict=False):
                where = f"{one.layers[0]} to {one.layers[1]}"
                rows.append([where, one.attention, logit.label, f"{predicted:+.3f}", f"{true:+.3f}", repr(one.first)])
        header = ("layers held", "attention", "logit", "predicted", "true", "first choice")
        title = f"{', '.join(self.settings)}: change of the logits. {self.graph.title}"
        return [Line(title, strong=True), Grid(rows, header, right=(3, 4))]

    def to_json(self) -> list[dict[str, Any]]:
        return [vars(one) for one in self]


# ---------------------------------------------------------------- running


@dataclass(frozen=True, eq=False)
class _Held:
    """Holds an MLP's output, in some rows of the batch, at its unchanged value plus what a change adds."""

    site: str
    value: Tensor
    """[1, position, width]"""
    added: Tensor
    """[row, position, width]"""
    held: Tensor
    """[row]"""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.held[:, None, None].to(x.device), (self.value + self.added).to(x), x)


@dataclass(frozen=True, eq=False)
class _Pattern:
    """Puts an attention pattern in every row."""

    site: str
    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.value.to(x).expand_as(x).clone()


@dataclass(frozen=True)
class Clean:
    """The unchanged run of a prompt."""

    tokens: Tokens
    mlps: tuple[Float[Tensor, "1 position width"], ...]
    patterns: dict[str, Tensor]
    logits: Float[Tensor, "position vocabulary"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, tokens: Tokens) -> "Clean":
        n_layers = sum(site.endswith(".mlp_in") for site in model.sites())
        mlps = [f"layers.{number}.mlp" for number in range(n_layers)]
        patterns = [f"layers.{number}.pattern" for number in range(n_layers)]
        values = model.read(tokens, [*mlps, *patterns])
        kept = {site: values[site] for site in patterns}
        return cls(tokens, tuple(values[site] for site in mlps), kept, model.logits(tokens)[0])


@torch.no_grad()
def run_changed(
    model: Model,
    clean: Clean,
    added: Sequence[dict[int, Float[Tensor, "position width"]]],
    held: Bool[Tensor, "row layer"],
    attention: Attention,
) -> Float[Tensor, "row position vocabulary"]:
    """Logits of runs in which each row's MLPs are changed in its own way.

    Args:
        added: of each row, layer -> what is added to its MLP's output.
        held: in which layers a row's MLPs are held; where something is added they must be.
    """
    found = []
    for first in range(0, len(added), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        part, edits = added[rows], []
        for layer, value in enumerate(clean.mlps):
            if held[rows, layer].any():
                total = torch.zeros(len(part), *value.shape[1:], dtype=value.dtype, device=value.device)
                for row, own in enumerate(part):
                    if layer in own:
                        total[row] = own[layer].to(value)
                edits.append(_Held(f"layers.{layer}.mlp", value, total, held[rows, layer]))
        if attention == "frozen":
            edits += [_Pattern(site, value) for site, value in clean.patterns.items()]
        n = len(part)
        tokens = Tokens(clean.tokens.ids.expand(n, -1), clean.tokens.mask.expand(n, -1))
        with model.edited(*edits):
            found.append(model.logits(tokens))
    return torch.cat(found)


# ---------------------------------------------------------------- what is changed


def changes(graph: Graph, replacement: Replacement, settings: Sequence[Setting]) -> dict[int, float]:
    """Node -> the change of its activation, as a multiple of it; raises FeatureError for what is no node."""
    found: dict[int, float] = {}
    for one in settings:
        for node in _nodes(graph, one):
            value = float(graph.activations[node])
            found[node] = (one.value - 1) if one.multiple else one.value / value - 1
    return found


def _nodes(graph: Graph, setting: Setting) -> list[int]:
    """The nodes that a setting is of."""
    layer, position, feature = graph.features.T
    here = (layer == setting.layer) & (feature == setting.feature)
    if setting.position is not None:
        here &= position == setting.position
    nodes = here.nonzero().flatten().tolist()
    if not nodes:
        at = "anywhere" if setting.position is None else f"at token {setting.position}"
        raise FeatureError(
            f"feature {setting.feature} of layer {setting.layer} is no node {at} in this graph; "
            "its nodes are in graph.features, or trace with a larger budget"
        )
    return nodes


def added_by(graph: Graph, replacement: Replacement, change: dict[int, float]) -> dict[int, Tensor]:
    """Layer -> what the changes add to its MLP's output [position, width]."""
    found: dict[int, Tensor] = {}
    for node, factor in change.items():
        layer, position, feature = graph.features[node].tolist()
        rows = replacement.layers[layer].W_dec.detach()
        if layer not in found:
            found[layer] = rows.new_zeros(graph.n_positions, rows.shape[1])
        found[layer][position] += factor * float(graph.activations[node]) * rows[feature]
    return found


def predicted(graph: Graph, change: dict[int, float], last: int) -> Float[Tensor, " logit"]:
    """The change of each logit by the graph's edges: directly, and through features above the range of layers.

    Args:
        change: node -> change of its activation, as a multiple of it.
        last: the last layer of the range; features up to it do not answer.
    """
    n = graph.n_features
    relative = torch.zeros(n, dtype=graph.edges.dtype)
    for node, factor in change.items():
        relative[node] = factor
    layers = graph.features[:, 0]
    for layer in range(last + 1, graph.n_layers):
        [here] = (layers == layer).nonzero(as_tuple=True)
        pre = graph.edges[here, :n] @ relative
        relative[here] += pre / graph.activations[here].to(pre)
    return graph.edges[n:, :n] @ relative


# ---------------------------------------------------------------- effects


@public()
def intervene(
    model: Model,
    replacement: Replacement,
    graph: Graph,
    settings: Sequence[str | Setting],
    *,
    layers: tuple[int, int] | None = None,
    attention: Attention = "frozen",
) -> Effect:
    """What settings of features do to the graph's logits, as the graph predicts and as the model does.

    Args:
        model, replacement, graph: as they were traced.
        settings: of features, as text (3.120@5=0 is feature 120 of layer 3 at token 5 to zero, =2x doubled) or values.
        layers: first and last layer of the range in which MLPs are held; by default from the first that is set to the
            last of the model.
        attention: whether attention patterns are held or run freely.

    Raises:
        EditError: a setting that cannot be read, or a range that leaves out a layer that is set.
        FeatureError: a feature that is no node of the graph.
    """
    wanted = [one if isinstance(one, Setting) else Setting.of(one) for one in settings]
    change = changes(graph, replacement, wanted)
    set_layers = [int(graph.features[node, 0]) for node in change]
    first, last = layers or (min(set_layers), graph.n_layers - 1)
    if not first <= min(set_layers) <= max(set_layers) <= last < graph.n_layers:
        raise EditError(
            f"layers {first} to {last} leave out layers that are set ({min(set_layers)} to {max(set_layers)}), or that "
            f"the model does not have; it has layers 0 to {graph.n_layers - 1}"
        )
    tokens = model.pad([graph.ids.tolist()])
    clean = Clean.of(model, tokens)
    held = torch.zeros(1, graph.n_layers, dtype=torch.bool)
    held[0, first : last + 1] = True
    logits = run_changed(model, clean, [added_by(graph, replacement, change)], held, attention)[0]
    foretold = predicted(graph, change, last)
    true = of_graph(graph, logits[-1]) - of_graph(graph, clean.logits[-1])
    choice = model.require_tokenizer().decode([int(logits[-1].argmax())])
    return Effect((first, last), attention, tuple(foretold.tolist()), tuple(true.tolist()), choice)


def sweep_layers(
    model: Model,
    replacement: Replacement,
    graph: Graph,
    settings: Sequence[str | Setting],
    *,
    attention: Attention = "frozen",
) -> Effects:
    """The effect of settings in every range of layers that begins with the first that is set."""
    wanted = [one if isinstance(one, Setting) else Setting.of(one) for one in settings]
    set_layers = [one.layer for one in wanted]
    rows = [
        intervene(model, replacement, graph, wanted, layers=(min(set_layers), last), attention=attention)
        for last in range(max(set_layers), graph.n_layers)
    ]
    return Effects(rows, graph, [str(one) if isinstance(one, str) else _written(one) for one in settings])


def _written(setting: Setting) -> str:
    at = "*" if setting.position is None else setting.position
    return f"{setting.layer}.{setting.feature}@{at}={setting.value:g}{'x' * setting.multiple}"


def of_graph(graph: Graph, logits: Float[Tensor, " vocabulary"]) -> Float[Tensor, " logit"]:
    """The values of a graph's logits: less the mean, or differences."""
    centred = logits.double() - logits.double().mean()
    return torch.stack(
        [centred[one.token] - (centred[one.against] if one.against is not None else 0.0) for one in graph.logits]
    )


# ---------------------------------------------------------------- validation


@dataclass(frozen=True)
class Validation(Drawn):
    """How well a graph's features answer for what the model does when each is ablated alone."""

    nodes: int
    influence: float
    """rank correlation of influence and of the divergence that ablation makes"""
    activation: float
    """the same of activations: the plain rival"""
    direct: float
    """the same of absolute edges to the logits"""
    logit: float
    """rank correlation of the predicted and the true change of the answer's logit"""
    sign: float
    """share of nodes for which the sign of that change is as predicted"""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    def draw(self) -> list[Block]:
        rows = [
            ["influence and divergence", f"{self.influence:.3f}"],
            ["activation and divergence", f"{self.activation:.3f}"],
            ["direct edges and divergence", f"{self.direct:.3f}"],
            ["predicted and true change of the logit", f"{self.logit:.3f}"],
            ["its sign as predicted", f"{self.sign:.1%}"],
        ]
        title = f"{self.nodes:,} features ablated one by one, attention and later layers free: rank correlations"
        return [Line(title, strong=True), Grid(rows, right=(1,))]


@public()
def validate_graph(
    model: Model, replacement: Replacement, graph: Graph, nodes: Sequence[int] | None = None
) -> Validation:
    """Ablate each feature alone in the running model, and compare with the graph.

    Args:
        model, replacement, graph: as they were traced.
        nodes: which features; by default those of the pruned graph.

    Raises FeatureError for fewer than three features, of which there is no rank correlation.
    """
    chosen = list(graph.pruned().features if nodes is None else nodes)
    if len(chosen) < 3:
        raise FeatureError(f"the graph has {len(chosen)} features, and validation compares at least three; prune less")
    clean = Clean.of(model, model.pad([graph.ids.tolist()]))
    held = torch.zeros(len(chosen), graph.n_layers, dtype=torch.bool)
    added = []
    for row, node in enumerate(chosen):
        held[row, int(graph.features[node, 0])] = True
        added.append(added_by(graph, replacement, {node: -1.0}))
    logits = run_changed(model, clean, added, held, "free")[:, -1]
    before, after = clean.logits[-1].double().log_softmax(dim=0), logits.double().log_softmax(dim=1)
    divergence = (before.exp() * (before - after)).sum(dim=1)
    base = of_graph(graph, clean.logits[-1])[0]
    true = torch.stack([of_graph(graph, row)[0] - base for row in logits])
    foretold = torch.stack([predicted(graph, {node: -1.0}, int(graph.features[node, 0]))[0] for node in chosen])
    direct = (graph.edges[graph.n_features :, chosen].abs() * graph.weights[:, None]).sum(dim=0)
    return Validation(
        nodes=len(chosen),
        influence=rank_correlation(graph.influence[chosen], divergence),
        activation=rank_correlation(graph.activations[chosen], divergence),
        direct=rank_correlation(direct, divergence),
        logit=rank_correlation(foretold, true),
        sign=float((foretold.sign() == true.sign()).double().mean()),
    )


def rank_correlation(a: Float[Tensor, " item"], b: Float[Tensor, " item"]) -> float:
    """Spearman's rank correlation; equal values share their mean rank."""
    ranks = [_ranks(values.double()) for values in (a, b)]
    centred = [rank - rank.mean() for rank in ranks]
    size = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / size) if size > 0 else 0.0


def _ranks(values: Tensor) -> Tensor:
    """Mean ranks, from zero."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts + 1) / 2)[inverse]
