"""Attention explained: the pairs sum to the score, and the scores make the pattern."""

import pytest
import torch

from sonde.circuits.looking import look
from sonde.errors import FeatureError, ModelLacksError, SiteError
from tests.circuits.transcoders import random_replacement, traceable
from tests.tiny import CAUSAL

PROMPT = "the red"


@pytest.mark.parametrize("family", [family for family in CAUSAL if family != "gpt_neo"])
def test_pairs_sum_to_the_score(family):
    model = traceable(family, torch.float64)
    replacement = random_replacement(model)
    for contrasted in (False, True):
        found = look(model, replacement, PROMPT, layer=1, head=3, query=5, key=2, contrasted=contrasted)
        assert float(found.pairs.sum()) == pytest.approx(found.score, rel=1e-9, abs=1e-9)
        assert len(found.names) == found.of_query.shape[1] == 3 * 8 * 5 + 3 * 8 + 8 + 1
        torch.testing.assert_close(found.by_query, found.pairs.sum(dim=1))
        torch.testing.assert_close(found.by_key, found.pairs.sum(dim=0))
    layers = {int(name.split()[0].removeprefix("layers.")) for name, *_ in [(found.names[0],)]}
    assert layers == {0}, "features come first"


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gpt_neox"])
def test_scores_make_the_pattern(family):
    model = traceable(family)
    replacement = random_replacement(model)
    found = [look(model, replacement, PROMPT, layer=2, head=1, query=2, key=key, contrasted=False) for key in range(3)]
    scores = torch.tensor([one.score for one in found])
    expected = model.read(PROMPT, "layers.2.pattern")[0, 1, 2, :3]
    torch.testing.assert_close(scores.softmax(dim=0), expected, rtol=1e-4, atol=1e-5)
    less = [look(model, replacement, PROMPT, layer=2, head=1, query=2, key=key).score for key in range(3)]
    torch.testing.assert_close(torch.tensor(less), scores - scores.mean(), rtol=1e-3, atol=1e-4)


def test_only_what_was_written_before_a_layer_is_in_its_scores():
    model = traceable("llama")
    found = look(model, random_replacement(model), PROMPT, layer=1, head=0)
    for name, column in zip(found.names, found.of_query.T, strict=True):
        if name.startswith(("layers.1", "layers.2", "error of layer 1", "error of layer 2")):
            assert not column.any(), name
    assert found.key == int(model.read(PROMPT, "layers.1.pattern")[0, 0, -1].argmax())
    strongest = found.strongest(5)
    assert len(strongest) == 5 and abs(strongest[0][2]) == pytest.approx(float(found.pairs.abs().max()))
    assert "looks at" in str(found.draw()[0])


def test_wrong_heads_and_tokens_are_one_line():
    model = traceable("llama")
    replacement = random_replacement(model)
    with pytest.raises(SiteError, match="layer 1 has no head 9; it has heads 0 to 3"):
        look(model, replacement, PROMPT, layer=1, head=9)
    with pytest.raises(FeatureError, match="cannot see token 5 from token 2"):
        look(model, replacement, PROMPT, layer=1, head=0, query=2, key=5)
    with pytest.raises(SiteError, match="the model has layers 0 to 2"):
        look(model, replacement, PROMPT, layer=7, head=0)
    neo = traceable("gpt_neo")
    with pytest.raises(ModelLacksError, match="does not show the queries and keys"):
        look(neo, random_replacement(neo), PROMPT, layer=1, head=0)
