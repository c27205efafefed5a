"""Passes that begin at a layer equal whole passes, bit for bit, whatever hooks there are."""

import pytest
import torch

from sonde.models.prefix import Prefix
from tests.models.test_sites import PutBack, all_hooks
from tests.tiny import CAUSAL, LAYERS, make_model


@pytest.mark.parametrize("family", CAUSAL)
def test_a_restarted_pass_gives_the_same_bits(family):
    model = make_model(family)
    tokens = model.tokenize("the red bridge")
    whole = model.logits(tokens)
    prefix = Prefix(model)
    forwards = [layer.forward for layer in prefix._layers]
    with prefix.recorded():
        assert torch.equal(model.logits(tokens), whole)
    sites = [name for name in model.sites() if name.startswith("layers.2")]
    read = model.read(tokens, sites)
    for layer in range(LAYERS + 1):
        with prefix.restarted(layer, 1):
            assert torch.equal(model.logits(tokens), whole)
            for site in sites if layer < LAYERS else ():
                assert torch.equal(model.read(tokens, site), read[site]), site
    assert [layer.forward for layer in prefix._layers] == forwards
    assert not list(all_hooks(model)) and not any("forward" in vars(layer) for layer in prefix._layers)


@pytest.mark.parametrize("family", CAUSAL)
def test_what_a_skipped_layer_gives_can_be_edited(family):
    """Also where an edit that is there already acts on it, and where one writes into the stream in its place."""
    model = make_model(family)
    tokens = model.tokenize("the red bridge")

    class Double:
        site = "layers.1.residual"

        def __call__(self, x):
            return 2 * x

    with model.edited(Double()):
        whole = model.logits(tokens)
    prefix = Prefix(model)
    with prefix.recorded():
        model.logits(tokens)
    for _ in range(2):
        with prefix.restarted(prefix.first_layer(Double.site), 1), model.edited(Double()):
            assert torch.equal(model.logits(tokens), whole)
    with model.edited(Double()):
        with prefix.recorded():
            model.logits(tokens)
        with prefix.restarted(2, 1), model.edited(PutBack("layers.2.residual")):
            assert torch.equal(model.logits(tokens), whole)


def test_the_first_layer_to_run_again():
    prefix = Prefix(make_model("llama"))
    firsts = {"embedding": 0, "layers.1.mlp": 1, "layers.1.residual": 2, "layers.2.residual": 3, "final": 3}
    assert {site: prefix.first_layer(site) for site in firsts} == firsts
    assert prefix.first_layer("module:model.norm") == 0
