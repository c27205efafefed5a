"""A page that shows a pruned graph: columns of tokens, layers upward, links; one file that needs nothing else.

A click on a node pins it: its links alone are drawn, and what goes in and out of it is listed beside the picture.
"""

import html
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import torch

from sonde.circuits.graph import Graph, Pruned, Scores

MOST_NODES, MOST_LINKS = 400, 4000
"""features and links that are drawn, the most influential first"""
STEP, ROW, MARGIN, PER_LINE = 16, 46, 64, 8
"""pixels between nodes side by side, between layers, and around; nodes in a line of a layer and a token"""
LABEL = 24
"""letters of a logit's label that are drawn"""


@dataclass(frozen=True)
class _Drawn:
    """A node as it is drawn."""

    kind: str
    x: float
    y: float
    name: str
    note: str


def to_page(pruned: Pruned, labels: Mapping[tuple[int, int], str] | None = None) -> str:
    """The page of a pruned graph.

    Args:
        labels: (layer, feature) -> what the feature is called.
    """
    graph = pruned.graph
    shown = _shown(pruned)
    layout = _laid_out(graph, shown)
    nodes = {node: _place(graph, node, layout, labels or {}) for node in shown}
    nodes |= _logits(graph, layout)
    links = _links(pruned, nodes)
    size = f"{layout.width:.0f}", f"{layout.height:.0f}"
    template = resources.files("sonde.circuits").joinpath("graph_view.html").read_text(encoding="utf-8")
    data = {
        "nodes": {node: [one.kind, one.name, one.note] for node, one in nodes.items()},
        "links": links,
    }
    filled = {
        "TITLE": html.escape(graph.title),
        "SCORES": _scores(pruned, len(shown), len(links)),
        "SIZE": f'viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}"',
        "DRAWING": _axes(graph, layout) + _drawn_links(links, nodes) + _drawn_nodes(nodes),
        "DATA": json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"),
    }
    for name, value in filled.items():
        template = template.replace(f"[[{name}]]", value)
    return template


def _scores(pruned: Pruned, n_nodes: int, n_links: int) -> str:
    graph = pruned.graph
    rows = [("", *Scores.HEADER), ("all nodes", *graph.scores.cells()), ("pruned", *pruned.scores.cells())]
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    counts = f"{n_nodes:,} nodes and {n_links:,} links drawn; {graph.n_features:,} features in the graph, "
    counts += f"{graph.n_active:,} active on the prompt"
    return f"<table>{cells}</table><p>{counts}</p>"


def _shown(pruned: Pruned) -> list[int]:
    """Sources that are drawn: those with links, of features the most influential."""
    graph, linked = pruned.graph, pruned.linked
    features = linked.nonzero().flatten()
    features = features[features < graph.n_features]
    if len(features) > MOST_NODES:
        features = features[graph.influence[features].topk(MOST_NODES).indices].sort().values
    rest = linked.clone()
    rest[: graph.n_features] = False
    rest[graph.token_slice] = True
    return [*features.tolist(), *rest.nonzero().flatten().tolist()]


@dataclass(frozen=True)
class _Layout:
    """Where columns of tokens and rows of layers are, in pixels."""

    left: list[float]
    """of each token"""
    slots: dict[int, int]
    """node -> its number among those of its layer and token"""
    top: list[float]
    """of each row: tokens, layers upward, logits"""
    width: float
    height: float


def _laid_out(graph: Graph, shown: list[int]) -> _Layout:
    """Columns as wide and rows as high as what is in them."""
    slots, used = {}, Counter[tuple[int, int]]()
    for node in shown:
        _, layer, position, _ = graph.place(node)
        slots[node] = used[layer, position]
        used[layer, position] += 1
    used[graph.n_layers, graph.n_positions - 1] = len(graph.logits)
    left, x = [], float(MARGIN)
    for position, token in enumerate(graph.tokens):
        most = max(min(used[layer, position], PER_LINE) for layer in range(-1, graph.n_layers + 1))
        left.append(x)
        x += max(most * STEP, 12 + 6.5 * min(len(token), 14)) + 12
    lines = [
        max(1, *(math.ceil(used[layer, position] / PER_LINE) for position in range(graph.n_positions)))
        for layer in range(-1, graph.n_layers + 1)
    ]
    longest = max(len(logit.label.strip()[:LABEL]) for logit in graph.logits)
    tops, y = [], MARGIN + 4.0 * max(0, longest - 8)  # labels of logits stand aslant
    for count in reversed(lines):  # from the logits down
        tops.append(y)
        y += ROW + STEP * (count - 1)
    return _Layout(left, slots, tops[::-1], x + 24, y + 20)


def _at(layout: _Layout, layer: int, position: int, slot: int) -> tuple[float, float]:
    """The middle of a node."""
    line, place = divmod(slot, PER_LINE)
    return layout.left[position] + STEP * (place + 0.5), layout.top[layer + 1] + STEP * line


def _place(graph: Graph, node: int, layout: _Layout, labels: Mapping[tuple[int, int], str]) -> _Drawn:
    kind, layer, position, feature = graph.place(node)
    x, y = _at(layout, layer, position, layout.slots[node])
    token = f"{graph.tokens[position]!r} ({position})"
    if kind == "feature":
        label = labels.get((layer, feature), "")
        note = f"activation {float(graph.activations[node]):.3g}, influence {float(graph.influence[node]):.3f}"
        return _Drawn(kind, x, y, f"layer {layer}, feature {feature} at {token} {label}".strip(), note)
    name = f"error of layer {layer} at {token}" if kind == "error" else f"token {token}"
    return _Drawn(kind, x, y, name, f"influence {float(graph.influence[node]):.3f}")


def _logits(graph: Graph, layout: _Layout) -> dict[int, _Drawn]:
    return {
        graph.n_sources + number: _Drawn(
            "logit",
            *_at(layout, graph.n_layers, graph.n_positions - 1, number),
            f"logit of {logit.label!r}",
            f"probability {logit.probability:.3f}",
        )
        for number, logit in enumerate(graph.logits)
    }


def _links(pruned: Pruned, nodes: dict[int, _Drawn]) -> list[tuple[int, int, float, float]]:
    """(source, target, weight, influence that runs through it) of the links that are drawn, the strongest last."""
    graph, n = pruned.graph, pruned.graph.n_features
    rows, sources = pruned.edges.nonzero(as_tuple=True)
    targets = torch.where(rows < n, rows, rows - n + graph.n_sources)
    weights = graph.edges[rows, sources]
    share = weights.abs() / graph.edges.abs().sum(dim=1).clamp_min(1e-30)[rows]
    through = torch.cat([graph.influence[:n], graph.weights])[rows] * share
    order = through.argsort(descending=True)[:MOST_LINKS].flip(0).tolist()
    found = ((int(sources[one]), int(targets[one]), float(weights[one]), float(through[one])) for one in order)
    return [
        (source, target, float(f"{weight:.4g}"), float(f"{part:.3g}"))
        for source, target, weight, part in found
        if source in nodes and target in nodes
    ]


# ---------------------------------------------------------------- drawing


def _axes(graph: Graph, layout: _Layout) -> str:
    parts = []
    for layer in range(-1, graph.n_layers + 1):
        name = "tokens" if layer < 0 else "logits" if layer == graph.n_layers else f"layer {layer}"
        y = layout.top[layer + 1]
        parts.append(f'<line class="row" x1="{MARGIN - 8}" x2="{layout.width:.0f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="axis" x="4" y="{y + 4}">{name}</text>')
    for left, token in zip(layout.left, graph.tokens, strict=True):
        text = html.escape(token.strip().replace("\n", "\\n")[:14]) or "&#160;"
        parts.append(f'<text class="token" x="{left}" y="{layout.top[0] + 22}">{text}</text>')
    for logit, place in zip(graph.logits, _logits(graph, layout).values(), strict=True):
        turned = f'transform="rotate(-40 {place.x} {place.y - 10})"'
        label = html.escape(logit.label.strip()[:LABEL])
        parts.append(f'<text class="token" x="{place.x}" y="{place.y - 10}" {turned}>{label}</text>')
    return "".join(parts)


def _drawn_links(links: list[tuple[int, int, float, float]], nodes: dict[int, _Drawn]) -> str:
    """Curves, the stronger the more of the influence runs through them."""
    parts, most = [], max((strength for *_, strength in links), default=1.0)
    for number, (source, target, weight, strength) in enumerate(links):
        a, b, share = nodes[source], nodes[target], strength / most
        middle = (a.y + b.y) / 2
        path = f"M{a.x:.1f} {a.y:.1f}C{a.x:.1f} {middle:.1f} {b.x:.1f} {middle:.1f} {b.x:.1f} {b.y:.1f}"
        sign = "minus" if weight < 0 else "plus"
        style = f"stroke-width:{0.5 + 3 * share**0.5:.2f};stroke-opacity:{0.04 + 0.6 * share**0.5:.2f}"
        parts.append(f'<path class="link {sign}" data-n="{number}" d="{path}" style="{style}"/>')
    return "".join(parts)


def _drawn_nodes(nodes: dict[int, _Drawn]) -> str:
    parts = []
    for number, one in nodes.items():
        title = f"<title>{html.escape(one.name)}: {html.escape(one.note)}</title>"
        common = f'class="node {one.kind}" data-n="{number}" tabindex="0" role="button"'
        if one.kind == "feature":
            parts.append(f'<circle {common} cx="{one.x:.1f}" cy="{one.y:.1f}" r="5.5">{title}</circle>')
        elif one.kind == "error":
            points = (
                f"{one.x - 5.5:.1f},{one.y + 5:.1f} {one.x + 5.5:.1f},{one.y + 5:.1f} {one.x:.1f},{one.y - 5.5:.1f}"
            )
            parts.append(f'<polygon {common} points="{points}">{title}</polygon>')
        else:
            at = f'x="{one.x - 5:.1f}" y="{one.y - 5:.1f}" width="10" height="10"'
            parts.append(f"<rect {common} {at}>{title}</rect>")
    return "".join(parts)
