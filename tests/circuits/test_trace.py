"""Attribution graphs: their edges sum to what they should for every family, and their algebra is that of the papers."""

import dataclasses
from typing import Any

import pytest
import torch

from sonde.circuits.graph import Graph, dense_influence, influence_of, largest, load_graph, shares
from sonde.circuits.graph_json import cantor, check_schema, from_json, to_json, uncantor
from sonde.circuits.replacement import Replacement
from sonde.circuits.trace import trace
from sonde.errors import ArtifactForeignError, ArtifactMismatchError, ModelLacksError, SettingsError, TextError
from tests.circuits.transcoders import perfect_replacement, random_replacement, traceable
from tests.models.test_gradients import Put, constants
from tests.tiny import CAUSAL, make_model

PROMPT = "the red"


@pytest.fixture(scope="module")
def model():
    return traceable("llama")


@pytest.fixture(scope="module")
def graph(model) -> Graph:
    return trace(model, random_replacement(model), PROMPT)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=["32", "64"])
@pytest.mark.parametrize("family", CAUSAL)
def test_edges_sum_to_pre_activations_and_logits(family, dtype, tolerance):
    """Of each feature and each logit, relative to its value; what it should be is computed apart."""
    model = traceable(family, dtype)
    replacement = random_replacement(model, skip=family in ("gpt2", "llama", "olmo2"))
    graph = trace(model, replacement, PROMPT, batch_size=32)
    assert graph.n_active == 3 * 8 * 5 and graph.n_features == graph.n_active - 7 * 5, (
        "but the last layer's before the end"
    )
    total = graph.edges.sum(dim=1) + graph.bias
    for node in range(0, graph.n_features, 7):
        layer, position, feature = graph.features[node].tolist()
        dictionary = replacement.layers[layer]
        x = model.read(PROMPT, f"layers.{layer}.mlp_in").flatten(2)[0, position]
        pre = dictionary.W_enc[feature] @ x + dictionary.b_enc[feature]
        assert float(total[node]) == pytest.approx(float(pre), rel=tolerance), (layer, position, feature)
    scores = model.logits(PROMPT)[0, -1].double()
    config: Any = model.network.config
    cap = getattr(config.get_text_config(), "final_logit_softcapping", None)
    if cap:  # the edges sum to the logit before it is capped
        scores = cap * torch.atanh(scores / cap)
    for logit, value in zip(graph.logits, total[graph.n_features :].tolist(), strict=True):
        expected = float(scores[logit.token] - scores.mean())
        assert value == pytest.approx(expected, rel=tolerance, abs=tolerance), logit.label
    assert float((graph.bias / graph.values).abs().max()) > 0.01 or family in ("mixtral",), "or biases show nothing"


def test_edges_sum_with_a_budget_as_features_without_nodes_join_the_errors(model):
    replacement = random_replacement(model)
    whole, part = (trace(model, replacement, PROMPT, budget=budget, batch_size=8) for budget in (4096, 40))
    assert (whole.n_features, part.n_features, part.n_active) == (85, 40, 120)
    assert float((part.gap() / part.values).abs().max()) < 1e-4
    best = set(map(tuple, whole.features[whole.influence[:85].topk(20).indices].tolist()))
    assert len(best & set(map(tuple, part.features.tolist()))) >= 17
    assert part.scores.replacement < whole.scores.replacement


def test_a_perfect_transcoder_leaves_no_errors():
    model = traceable("gpt2", activation="relu")
    graph = trace(model, perfect_replacement(model), PROMPT)
    errors = graph.edges[:, graph.error_slice]
    assert float(errors.abs().max()) < 1e-5 * float(graph.edges.abs().max())
    assert graph.scores.replacement == pytest.approx(1, abs=1e-5)
    assert graph.scores.completeness == pytest.approx(1, abs=1e-5)
    assert float((graph.gap() / graph.values).abs().max()) < 1e-3


def test_influence_by_power_series_equals_the_dense_inverse(graph):
    parts = shares(graph.edges.double())
    weights = graph.weights.double()
    series, dense = (find(parts, graph.n_features, weights) for find in (influence_of, dense_influence))
    torch.testing.assert_close(series, dense, rtol=1e-9, atol=1e-12)
    assert float(series.sum()) > 1 and float(series.min()) >= 0


def test_scores_of_a_graph_that_is_known():
    """A logit fed half by an error and half by a token: the two readings of completeness."""
    edges = torch.tensor([[0.5, 0.5]])
    graph = known_graph(edges)
    assert graph.scores.replacement == 0.5 and graph.scores.completeness == 0.5
    assert graph.scores.completeness_all == 0.75


def known_graph(edges: torch.Tensor, features: int = 0) -> Graph:
    from sonde.circuits.graph import Logit

    return Graph(
        tokens=("a",),
        ids=torch.tensor([1]),
        n_layers=1,
        features=torch.zeros(features, 3, dtype=torch.long),
        activations=torch.ones(features),
        logits=(Logit("b", 2, None, 1.0, 1.0),),
        values=edges.sum(dim=1),
        edges=edges,
        bias=torch.zeros(len(edges)),
        n_active=features,
    )


def test_pruning_keeps_errors_and_tokens_and_what_hangs_together(graph):
    pruned = graph.pruned(0.5, 0.9)
    n = graph.n_features
    assert pruned.nodes[n:].all() and 0 < len(pruned.features) < n
    alive = pruned.nodes[:n]
    assert torch.equal(pruned.edges[:, :n].any(dim=0), alive) and torch.equal(pruned.edges[:n].any(dim=1), alive)
    assert len(graph.pruned(0.9, 0.98).features) > len(pruned.features)
    whole = graph.pruned(1.0, 1.0)
    assert len(whole.features) == n and whole.scores.replacement == pytest.approx(graph.scores.replacement)
    with pytest.raises(SettingsError, match="node_share is 0"):
        graph.pruned(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.98, 1.0])
def test_the_largest_are_found_as_by_sorting(dtype, share):
    scores = torch.rand(3000, generator=torch.Generator().manual_seed(1)).to(dtype) ** 6
    scores[::7] = 0
    kept = largest(scores, share)
    order = scores.double().argsort(descending=True)
    count = int((scores.double()[order].cumsum(0) < share * scores.double().sum()).sum()) + 1
    expected = torch.zeros(3000, dtype=torch.bool)
    expected[order[:count]] = True
    assert torch.equal(kept, expected if share < 1 else scores > 0)


def test_a_difference_of_logits_is_the_difference_of_their_edges(model):
    replacement = random_replacement(model)
    both, first, second = (
        trace(model, replacement, PROMPT, target=target, against=against)
        for target, against in (("a", "b"), ("a", None), ("b", None))
    )
    n = both.n_features
    torch.testing.assert_close(both.edges[n:], first.edges[n:] - second.edges[n:], rtol=1e-4, atol=1e-5)
    assert both.logits[0].label == "a less b" and both.logits[0].weight == 1


def test_a_graph_on_disk_is_the_same_graph(model, tmp_path, graph):
    written = trace(model, random_replacement(model), PROMPT, out=tmp_path / "graph")
    read = load_graph(tmp_path / "graph")
    assert torch.equal(read.edges, written.edges) and torch.equal(read.features, graph.features)
    assert read.logits == written.logits and read.title == written.title
    assert "through errors" in read.title and "through errors" in (tmp_path / "graph/graph.html").read_text("utf-8")


# ---------------------------------------------------------------- the published format


def test_a_graph_file_is_read_as_it_was_written(graph):
    pruned = graph.pruned()
    data = to_json(pruned)
    check_schema(data)
    again = from_json(data)
    kept = pruned.graph.edges * pruned.edges
    assert {link["weight"] for link in to_json(again)["links"]} == {link["weight"] for link in data["links"]}
    assert float(again.graph.edges.abs().sum()) == pytest.approx(float(kept.abs().sum()), rel=1e-6)

    def bare(file, part, keys):
        return sorted(tuple(one[key] for key in keys) for one in file[part])

    written = to_json(again)
    assert bare(written, "nodes", ("node_id", "jsNodeId", "clerp", "feature")) == bare(
        data, "nodes", ("node_id", "jsNodeId", "clerp", "feature")
    )
    assert bare(written, "links", ("source", "target", "weight")) == bare(data, "links", ("source", "target", "weight"))


def test_ids_of_errors_and_features_do_not_collide(graph):
    """Feature 1 of layer 0 at token 2, and the error of layer 1 there, are both 0_1_2 as published."""
    features = graph.features.clone()
    features[0] = torch.tensor([0, 2, 1])
    clash = dataclasses.replace(graph, features=features)
    data = to_json(clash.pruned(1.0, 1.0))
    ids = [node["node_id"] for node in data["nodes"]]
    assert len(set(ids)) == len(ids) and "0_1_2_error" in ids
    data["nodes"][-2]["node_id"] = ids[0]
    with pytest.raises(ArtifactForeignError, match="two nodes with the id"):
        check_schema(data)


def test_cantor_pairs():
    assert [uncantor(cantor(x, y)) for x, y in ((0, 0), (3, 16_383), (25, 1_000_000))] == [
        (0, 0),
        (3, 16_383),
        (25, 1_000_000),
    ]
    assert cantor(3, 4) == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("links"), "the file lacks links"),
        (lambda data: data["metadata"].pop("scan"), "metadata lacks scan"),
        (lambda data: data["nodes"][0].pop("clerp"), "an element of nodes lacks clerp"),
        (lambda data: data["links"][0].update(source="9_9_9"), "'9_9_9', which is no node"),
    ],
)
def test_a_graph_file_of_another_schema_is_refused(graph, change, message):
    data = to_json(graph.pruned())
    change(data)
    with pytest.raises(ArtifactForeignError, match=message):
        from_json(data)


# ---------------------------------------------------------------- wrong input


def test_wrong_input_is_one_line(model):
    replacement = random_replacement(model)
    with pytest.raises(TextError, match="longer than the context"):
        trace(model, replacement, "x" * 100)
    with pytest.raises(TextError, match="target 'ab' is 2 tokens"):
        trace(model, replacement, PROMPT, target="ab")
    with pytest.raises(SettingsError, match="against is 'a', but must be given with target"):
        trace(model, replacement, PROMPT, against="a")
    with pytest.raises(TextError, match="there is no token 99"):
        trace(model, replacement, PROMPT, position=99)
    with pytest.raises(SettingsError, match="budget is 0"):
        trace(model, replacement, PROMPT, budget=0)
    with pytest.raises(ArtifactMismatchError, match="transcoders of 2 layers, but"):
        trace(model, Replacement(replacement.layers[:2]), PROMPT)
    with pytest.raises(ArtifactMismatchError, match="no transcoder of layer 0"):
        Replacement(replacement.layers[1:])
    with pytest.raises(ModelLacksError, match="causal language-model head, which tracing needs"):
        bert = make_model("bert")
        trace(bert, random_replacement(bert), PROMPT)


# ---------------------------------------------------------------- against plain references


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "olmo2", "gpt_neox"])
def test_an_edge_is_what_a_target_loses_without_its_source(family):
    """In a model whose norms, patterns and MLP outputs are held by hand, take a feature, an error or a token away."""
    model = traceable(family, torch.float64)
    replacement = random_replacement(model)
    graph = trace(model, replacement, PROMPT, batch_size=16)
    tokens = model.tokenize(PROMPT)
    sites = ["embedding", *(f"layers.{n}.mlp" for n in range(3))]
    held = {site: value.flatten(2) for site, value in model.read(tokens, sites).items()}
    strongest = graph.edges[: graph.n_features].abs().amax(dim=0)
    chosen = [int(strongest[part].argmax()) + part.start for part in parts_of(graph)]
    with constants(model, tokens):
        reads = {n: pre_activations(model, replacement, tokens, held, n) for n in range(3)}
        for source in chosen:
            site, position, vector = written(graph, replacement, held, source)
            without = held | {site: held[site].clone()}
            without[site][0, position] -= vector
            for layer in range(3):
                after = pre_activations(model, replacement, tokens, without, layer)
                for target in (graph.features[:, 0] == layer).nonzero().flatten().tolist()[::5]:
                    _, at, feature = graph.features[target].tolist()
                    lost = float(reads[layer][at, feature] - after[at, feature])
                    assert lost == pytest.approx(float(graph.edges[target, source]), rel=1e-6, abs=1e-9)


def parts_of(graph: Graph) -> list[slice]:
    return [slice(0, graph.n_features), graph.error_slice, graph.token_slice]


def written(graph: Graph, replacement: Replacement, held, source: int):
    """Where a source writes, and what."""
    kind, layer, position, feature = graph.place(source)
    if kind == "token":
        return "embedding", position, held["embedding"][0, position]
    dictionary, site = replacement.layers[layer], f"layers.{layer}.mlp"
    if kind == "feature":
        return site, position, graph.activations[source] * dictionary.W_dec[feature]
    here = (graph.features[:, 0] == layer) & (graph.features[:, 1] == position)
    rows = zip(graph.features[here, 2].tolist(), graph.activations[here].tolist(), strict=True)
    explained = sum((value * dictionary.W_dec[number] for number, value in rows), dictionary.b_dec.clone())
    return site, position, held[site][0, position] - explained


def pre_activations(model, replacement, tokens, held, layer: int) -> torch.Tensor:
    with model.edited(*(Put(site, value) for site, value in held.items())):
        x = model.read(tokens, f"layers.{layer}.mlp_in").flatten(2)[0]
    return x @ replacement.layers[layer].W_enc.T + replacement.layers[layer].b_enc


def test_edges_are_the_same_for_any_batch(model):
    replacement = random_replacement(model)
    one, many = (trace(model, replacement, PROMPT, batch_size=size) for size in (1, 64))
    torch.testing.assert_close(one.edges, many.edges, rtol=1e-4, atol=1e-5)
