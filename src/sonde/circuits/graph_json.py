"""The JSON of Anthropic's attribution-graphs page, which Neuronpedia and circuit-tracer read and write too.

A graph file has metadata, qParams (how the page shows it), nodes and links. Ids are those of circuit-tracer:

    feature    {layer}_{feature}_{position}             its "feature" is the Cantor pair of layer and feature
    error      0_{layer}_{position}                     with "_error" at its end where a feature of layer 0 has this id
    token      E_{token}_{position}
    logit      {layers + 1}_{token}_{position}

That ids of errors and of features of layer 0 coincide is a fault of the format; a file in which two nodes have one id
is refused. Biases have no place in it.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sonde.circuits.graph import Graph, Logit, Pruned, Scores, influence_of, scores_of, shares
from sonde.errors import ArtifactForeignError, ArtifactMissingError
from sonde.remote import local_path

FEATURE, ERROR, TOKEN, LOGIT = "cross layer transcoder", "mlp reconstruction error", "embedding", "logit"
_SLUG = re.compile(r"[^A-Za-z0-9_.-]+")
_NEEDED = {
    "": ("metadata", "qParams", "nodes", "links"),
    "metadata": ("slug", "scan", "prompt_tokens", "prompt"),
    "nodes": ("node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"),
    "links": ("source", "target", "weight"),
}
"""keys that a graph file needs, and those of each part"""
_OUTPUT = re.compile(r'Output "(.*)" \(p=([0-9.eE+-]+)\)', re.DOTALL)


def cantor(x: int, y: int) -> int:
    """The Cantor pair of two numbers, which graph files call a feature."""
    return (x + y) * (x + y + 1) // 2 + y


def uncantor(pair: int) -> tuple[int, int]:
    """The two numbers of a Cantor pair."""
    total = (math.isqrt(8 * pair + 1) - 1) // 2
    y = pair - total * (total + 1) // 2
    return total - y, y


# ---------------------------------------------------------------- writing


def to_json(pruned: Pruned, labels: Mapping[tuple[int, int], str] | None = None, slug: str = "") -> dict[str, Any]:
    """A pruned graph as a graph file has it.

    Args:
        labels: (layer, feature) -> what the feature is called.
        slug: the graph's short name; by default made of its prompt.
    """
    graph = pruned.graph
    ids = _ids(pruned)
    order = graph.influence.argsort(descending=True)
    cumulative = torch.empty_like(graph.influence)
    cumulative[order] = graph.influence[order].cumsum(0) / graph.influence.sum().clamp_min(1e-30)
    kept = pruned.nodes.nonzero().flatten().tolist()
    nodes = [_node(graph, node, ids[node], float(cumulative[node]), labels or {}) for node in kept]
    nodes += [_logit_node(graph, number, ids[graph.n_sources + number]) for number in range(len(graph.logits))]
    targets = [*range(graph.n_features), *range(graph.n_sources, graph.n_sources + len(graph.logits))]
    rows, columns = pruned.edges.nonzero(as_tuple=True)
    weights = graph.edges[rows, columns].tolist()
    links = [
        {"source": ids[source], "target": ids[targets[row]], "weight": weight}
        for row, source, weight in zip(rows.tolist(), columns.tolist(), weights, strict=True)
    ]
    return {"metadata": _metadata(pruned, slug), "qParams": _parameters(), "nodes": nodes, "links": links}


def to_json_text(pruned: Pruned, labels: Mapping[tuple[int, int], str] | None = None) -> str:
    """The text of a graph file."""
    return json.dumps(to_json(pruned, labels), ensure_ascii=False)


def _ids(pruned: Pruned) -> list[str]:
    """The id of each source, then of each logit."""
    graph = pruned.graph
    features = [f"{layer}_{feature}_{position}" for layer, position, feature in graph.features.tolist()]
    taken, errors = {features[node] for node in pruned.features}, []
    for layer in range(graph.n_layers):
        for position in range(graph.n_positions):
            name = f"0_{layer}_{position}"
            errors.append(f"{name}_error" if name in taken else name)
    tokens = [f"E_{token}_{position}" for position, token in enumerate(graph.ids.tolist())]
    last = graph.n_positions - 1
    return features + errors + tokens + [f"{graph.n_layers + 1}_{logit.token}_{last}" for logit in graph.logits]


def _node(
    graph: Graph, node: int, node_id: str, influence: float, labels: Mapping[tuple[int, int], str]
) -> dict[str, Any]:
    kind, layer, position, feature = graph.place(node)
    shared = {"node_id": node_id, "ctx_idx": position, "influence": influence}
    text = graph.tokens[position]
    if kind == "feature":
        own = {"feature": cantor(layer, feature), "layer": str(layer), "feature_type": FEATURE}
        own |= {"jsNodeId": f"{layer}_{feature}-0", "clerp": labels.get((layer, feature), "")}
        return shared | own | {"activation": float(graph.activations[node])}
    if kind == "error":
        own = {"feature": -1, "layer": str(layer), "feature_type": ERROR}
        return shared | own | {"jsNodeId": f"{layer}_{position}-0", "clerp": f'Err: mlp "{text}"'}
    token = int(graph.ids[position])
    own = {"feature": token, "layer": "E", "feature_type": TOKEN}
    return shared | own | {"jsNodeId": f"E_{token}-{position}", "clerp": f'Emb: "{text}"'}


def _logit_node(graph: Graph, number: int, node_id: str) -> dict[str, Any]:
    logit = graph.logits[number]
    return {
        "node_id": node_id,
        "feature": logit.token,
        "layer": str(graph.n_layers + 1),
        "ctx_idx": graph.n_positions - 1,
        "feature_type": LOGIT,
        "jsNodeId": f"L_{logit.token}-{graph.n_positions - 1}",
        "clerp": f'Output "{logit.label}" (p={logit.probability:.3f})',
        "token_prob": logit.probability,
        "is_target_logit": number == 0,
    }


def _metadata(pruned: Pruned, slug: str) -> dict[str, Any]:
    graph = pruned.graph
    scan = graph.model.short_name if graph.model else "model"
    note = f"{graph.error_share:.0%} of the way from tokens and errors to the answer begins in errors"
    return {
        "slug": _name(slug or graph.prompt)[:60],
        "scan": _name(scan),
        "prompt_tokens": list(graph.tokens),
        "prompt": graph.prompt,
        "node_threshold": pruned.node_share,
        "schema_version": 1,
        "info": {"description": note, "generator": {"name": "sonde"}},
        "pruning_settings": {"node_threshold": pruned.node_share, "edge_threshold": pruned.edge_share},
    }


def _name(text: str) -> str:
    """A text in the letters that names of graphs may have."""
    return _SLUG.sub("-", text).strip("-") or "graph"


def _parameters() -> dict[str, Any]:
    return {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}


# ---------------------------------------------------------------- reading


def read_graph_file(path: str | Path) -> Pruned:
    """The graph in a file of this format, whoever wrote it, all of which is kept.

    Its biases are not in the file, so a target's value is the sum of its links.

    Raises:
        ArtifactMissingError: there is no such file.
        ArtifactForeignError: it is no graph file, or two of its nodes have one id.
    """
    file = local_path(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactMissingError(f"cannot read the graph file {file}: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactForeignError(f"{file} is no graph file: it is not valid JSON ({error})") from error
    return from_json(data, str(file))


def from_json(data: Any, name: str = "the graph") -> Pruned:
    """The graph of a file's contents; see `read_graph_file`."""
    check_schema(data, name)
    by_kind: dict[str, list[dict[str, Any]]] = {FEATURE: [], ERROR: [], TOKEN: [], LOGIT: []}
    for node in data["nodes"]:
        by_kind[_kind(node)].append(node)
    tokens = data["metadata"]["prompt_tokens"]
    n_layers = _n_layers(by_kind)
    features = sorted(by_kind[FEATURE], key=lambda node: _feature(node))
    n, positions = len(features), len(tokens)
    columns = {node["node_id"]: number for number, node in enumerate(features)}
    rows = dict(columns)
    for node in by_kind[ERROR]:
        columns[node["node_id"]] = n + int(node["layer"]) * positions + node["ctx_idx"]
    for node in by_kind[TOKEN]:
        columns[node["node_id"]] = n + n_layers * positions + node["ctx_idx"]
    rows |= {node["node_id"]: n + number for number, node in enumerate(by_kind[LOGIT])}
    edges = torch.zeros(n + len(by_kind[LOGIT]), n + (n_layers + 1) * positions, dtype=torch.float64)
    for link in data["links"]:
        if link["source"] not in columns or link["target"] not in rows:
            missing = link["source"] if link["source"] not in columns else link["target"]
            raise ArtifactForeignError(f"{name} has a link of {missing!r}, which is no node that can have it")
        edges[rows[link["target"]], columns[link["source"]]] = link["weight"]
    kept = torch.zeros(edges.shape[1], dtype=torch.bool)
    kept[list(columns.values())] = True
    ids = {node["ctx_idx"]: int(node["node_id"].split("_")[1]) for node in by_kind[TOKEN]}
    graph = Graph(
        tokens=tuple(tokens),
        ids=torch.tensor([ids.get(position, 0) for position in range(positions)]),
        n_layers=n_layers,
        features=torch.tensor([_feature(node) for node in features], dtype=torch.long).view(-1, 3),
        activations=torch.tensor([float(node.get("activation") or 0) for node in features], dtype=edges.dtype),
        logits=_logits(by_kind[LOGIT]),
        values=edges.sum(dim=1),
        edges=edges,
        bias=edges.new_zeros(len(edges)),
        n_active=n,
        prompt=data["metadata"]["prompt"],
    )
    shown = data["metadata"].get("pruning_settings") or {}
    given = (float(shown.get(f"{what}_threshold") or 1) for what in ("node", "edge"))
    return Pruned(graph, kept, edges != 0, _scores(graph), *given)


def check_schema(data: Any, name: str = "the graph") -> None:
    """Raise ArtifactForeignError where a graph file lacks something, or two of its nodes have one id."""
    for part, needed in _NEEDED.items():
        values = [data] if part == "" else [data[part]] if part == "metadata" else data[part]
        for value in values if isinstance(values, list) else [None]:
            missing = [key for key in needed if not isinstance(value, dict) or key not in value]
            if missing:
                where = f"an element of {part}" if part in ("nodes", "links") else part or "the file"
                raise ArtifactForeignError(
                    f"{name} is no graph file of the published schema: {where} lacks {missing[0]}"
                )
    seen: set[str] = set()
    for node in data["nodes"]:
        if node["node_id"] in seen:
            raise ArtifactForeignError(
                f"{name} has two nodes with the id {node['node_id']!r}, so its links are ambiguous; write it anew"
            )
        seen.add(node["node_id"])


def _kind(node: dict[str, Any]) -> str:
    for kind in (ERROR, TOKEN, LOGIT):
        if kind == node["feature_type"]:
            return kind
    return ERROR if "error" in node["feature_type"] else FEATURE


def _feature(node: dict[str, Any]) -> tuple[int, int, int]:
    """Layer, position and number of a feature's node."""
    layer, feature = uncantor(int(node["feature"]))
    return (layer, int(node["ctx_idx"]), feature)


def _n_layers(by_kind: dict[str, list[dict[str, Any]]]) -> int:
    """How many layers the model has, from the logits' layer, or else from the highest that there is."""
    ends = [int(node["node_id"].split("_")[0]) - 1 for node in by_kind[LOGIT]]
    inside = [int(node["layer"]) + 1 for kind in (FEATURE, ERROR) for node in by_kind[kind]]
    return max(ends + inside, default=1)


def _logits(nodes: list[dict[str, Any]]) -> tuple[Logit, ...]:
    found = [(_OUTPUT.fullmatch(node["clerp"]), node) for node in nodes]
    chances = [float(node.get("token_prob") or (float(match[2]) if match else 1 / len(nodes))) for match, node in found]
    total = sum(chances) or 1.0
    return tuple(
        Logit(match[1] if match else node["clerp"], int(node["node_id"].split("_")[1]), None, p, p / total)
        for (match, node), p in zip(found, chances, strict=True)
    )


def _scores(graph: Graph) -> Scores:
    parts = shares(graph.edges)
    return scores_of(parts, influence_of(parts, graph.n_features, graph.weights), graph.weights, graph.error_slice)
