"""Interventions: what the graph predicts is what the model does, as far as it is linear."""

import pytest
import torch

from sonde.circuits.graph import Graph
from sonde.circuits.interventions import Setting, intervene, rank_correlation, sweep_layers, validate_graph
from sonde.circuits.trace import trace
from sonde.errors import EditError, FeatureError
from tests.circuits.transcoders import perfect_replacement, random_replacement, traceable
from tests.models.test_gradients import constants

PROMPT = "the red"


@pytest.fixture(scope="module")
def model():
    return traceable("gpt2", activation="relu")


@pytest.fixture(scope="module")
def replacement(model):
    return perfect_replacement(model)


@pytest.fixture(scope="module")
def graph(model, replacement) -> Graph:
    return trace(model, replacement, PROMPT)


def strongest(graph: Graph, layer: int) -> tuple[int, str]:
    nodes = (graph.features[:, 0] == layer).nonzero().flatten()
    node = int(nodes[graph.influence[nodes].argmax()])
    at, position, feature = graph.features[node].tolist()
    return node, f"{at}.{feature}@{position}"


def test_with_norms_held_a_change_does_what_the_graph_predicts():
    """The size of norms is the one thing that the graph takes for constant and an intervention does not."""
    model = traceable("gpt2", torch.float64, activation="relu")
    replacement = perfect_replacement(model)
    graph = trace(model, replacement, PROMPT)
    with constants(model, model.tokenize(PROMPT), attention=False):
        for layer in range(3):
            _, name = strongest(graph, layer)
            for last in range(layer, 3):
                setting = f"{name}={0 if last == 2 else 1.0001}x"  # within the range features do not answer
                effect = intervene(model, replacement, graph, [setting], layers=(layer, last))
                assert effect.true == pytest.approx(effect.predicted, rel=1e-6, abs=1e-9)
                assert max(map(abs, effect.true)) > 1e-7


def test_ablating_a_feature_is_subtracting_its_vector(model, replacement, graph):
    node, name = strongest(graph, 1)
    effect = intervene(model, replacement, graph, [f"{name}=0"], layers=(1, 1), attention="free")
    layer, position, feature = graph.features[node].tolist()

    class Minus:
        site = "layers.1.mlp"

        def __call__(self, x):
            changed = x.clone()
            changed[0, position] -= graph.activations[node] * replacement.layers[layer].W_dec[feature]
            return changed

    plain = model.logits(PROMPT)[0, -1]
    with model.edited(Minus()):
        changed = model.logits(PROMPT)[0, -1]
    for logit, true in zip(graph.logits, effect.true, strict=True):
        expected = (changed[logit.token] - changed.mean()) - (plain[logit.token] - plain.mean())
        assert true == pytest.approx(float(expected), abs=1e-4)


def test_leaving_features_as_they_are_changes_nothing(model, replacement, graph):
    _, name = strongest(graph, 0)
    for effect in sweep_layers(model, replacement, graph, [f"{name}=1x"]):
        assert max(map(abs, effect.true)) < 1e-4 and max(map(abs, effect.predicted)) == 0


def test_every_range_of_layers_is_shown(model, replacement, graph):
    _, name = strongest(graph, 0)
    effects = sweep_layers(model, replacement, graph, [f"{name}=-1x"], attention="free")
    assert [one.layers for one in effects] == [(0, 0), (0, 1), (0, 2)]
    assert "through errors" in str(effects.draw()[0])


def test_influence_foretells_ablation_better_than_chance(model, replacement, graph):
    found = validate_graph(model, replacement, graph)
    assert found.nodes > 20
    assert found.influence > 0.3 and found.logit > 0.3 and found.sign > 0.6


def test_rank_correlation():
    a = torch.tensor([1.0, 2.0, 2.0, 5.0])
    assert rank_correlation(a, a**3) == pytest.approx(1) and rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, torch.ones(4)) == 0
    # Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4 have covariance 3 and squared lengths 4.5 and 5.
    assert rank_correlation(a, torch.tensor([2.0, 1.0, 3.0, 4.0])) == pytest.approx(3 / (4.5 * 5) ** 0.5)


def test_settings_as_text(model, replacement, graph):
    assert Setting.of("3.120@5=0") == Setting(3, 120, 5, 0.0, False)
    assert Setting.of("3.120@*=-1x") == Setting(3, 120, None, -1.0, True)
    for text in ("3.120", "3.120=0", "feature:3=0", "3.120@5=yes"):
        with pytest.raises(EditError, match="cannot read the setting"):
            Setting.of(text)
    with pytest.raises(FeatureError, match="feature 99999 of layer 0 is no node at token 1"):
        intervene(model, replacement, graph, ["0.99999@1=0"])
    _, name = strongest(graph, 1)
    with pytest.raises(EditError, match="layers 0 to 0 leave out layers that are set"):
        intervene(model, replacement, graph, [f"{name}=0"], layers=(0, 0))
    assert random_replacement(model).layers[0].n_features == 40
