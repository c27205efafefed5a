"""Scores of heads against loops over their patterns, and direct logit attribution, which adds up."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch

import sonde
from sonde.circuits.direct import direct
from sonde.circuits.heads import LOOKS, Looks, random_repeats
from sonde.circuits.targets import LogitDifference
from sonde.display import to_text
from sonde.errors import ModelLacksError, SettingsError, TextError
from tests.known import known
from tests.models.test_sites import all_hooks
from tests.tiny import HEADS, LAYERS, make_model, texts

SUMMING = ("gpt2", "gpt_neo", "gpt_neox", "opt", "llama", "mixtral", "qwen3", "gemma3_text", "phi3", "olmo2", "llava")
SMALL = {"length": 6, "repeats": 3, "sequences": 2}
TARGET = LogitDifference(100, 50, "one less another")


def parts(model) -> tuple[Any, Any]:
    """The trunk and the head of a llama."""
    return model.network.model, model.network.lm_head


@pytest.mark.parametrize("family", SUMMING)
def test_direct_attributions_add_up_to_the_logit_difference(family):
    model = make_model(family)
    tokens = model.tokenize("the red bridge")
    found = direct(model, tokens, TARGET)
    logits = model.logits(tokens)[0, -1]
    assert found.value == pytest.approx(float(logits[100] - logits[50]), abs=1e-4)
    assert found.total == pytest.approx(found.value, abs=1e-4)
    assert found.heads.shape == (LAYERS, HEADS) and np.abs(found.heads).max() > 1e-3
    assert not list(all_hooks(model))


def test_what_a_head_adds_goes_through_its_part_of_the_output_projection():
    model = make_model("llama")
    tokens = model.tokenize("the red bridge")
    found = direct(model, tokens, TARGET)
    trunk, head = parts(model)
    stream = model.read(tokens, f"layers.{LAYERS - 1}.residual")[0, -1]
    scale = torch.rsqrt(stream.square().mean() + trunk.norm.variance_epsilon)
    up = (head.weight[100] - head.weight[50]) * trunk.norm.weight * scale
    output = model.read(tokens, "layers.1.heads")[0, -1]
    projection = trunk.layers[1].self_attn.o_proj.weight.unflatten(1, (HEADS, -1))
    for number in range(HEADS):
        assert found.heads[1, number] == pytest.approx(float(up @ (projection[:, number] @ output[number])), abs=1e-4)
    assert found.mlp[2] == pytest.approx(float(up @ model.read(tokens, "layers.2.mlp")[0, -1]), abs=1e-4)


@pytest.mark.parametrize("family", ["opt 350m", "gemma2"])
def test_a_stream_that_is_no_sum_is_refused(family):
    model = make_model(family)
    with pytest.raises(ModelLacksError, match="are no sum of what its layers add"):
        direct(model, model.tokenize("the red"), TARGET)


def test_where_tokens_look_back_to():
    ids = torch.tensor([[9, 5, 6, 5, 6, 7]])
    looks = Looks.of(ids, torch.tensor([[False, True, True, True, True, True]]))
    assert looks.duplicate[0].nonzero().tolist() == [[3, 1], [4, 2]]
    assert looks.prefix[0].nonzero().tolist() == [[3, 2], [4, 3]]
    assert looks.previous[0].nonzero().tolist() == [[2, 1], [3, 2], [4, 3], [5, 4]]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_scores_are_what_loops_over_patterns_give(family):
    model = make_model(family)
    found = sonde.heads(model, **SMALL)
    rows = random_repeats(model, 6, 3, 2, 0)
    pattern = model.read(rows, "layers.1.pattern")
    ids = rows.ids.tolist()
    expected = np.zeros((3, HEADS))
    count = 0
    for row in range(2):
        assert len(set(ids[row][1:7])) == 6 and ids[row][1:7] == ids[row][7:13]
        for query in range(7, 19):
            count += 1
            for head in range(HEADS):
                expected[0, head] += float(pattern[row, head, query, query - 1])
                for key in range(1, query):
                    if ids[row][key] == ids[row][query]:
                        expected[1, head] += float(pattern[row, head, query, key])
                        expected[2, head] += float(pattern[row, head, query, key + 1])
    for name, values in zip(LOOKS, expected / count, strict=True):
        np.testing.assert_allclose(found.scores[name][1], values, atol=1e-5)
    assert ((found.scores["copying"] >= 0) & (found.scores["copying"] <= 1)).all()
    assert len(found.ablations) == 5 and np.isfinite([each.full for each in found.ablations]).all()
    last = [each for each in found.ablations if each.layer == LAYERS - 1]
    assert all(each.full == pytest.approx(each.preserving, abs=1e-5) for each in last), "no pattern comes after"


def test_copying_is_the_rank_of_the_attended_token():
    """Token by token, with the head's output taken through the projection, the norm's gain and the unembedding."""
    model = make_model("llama")
    trunk, head = parts(model)
    rows = random_repeats(model, 6, 3, 2, 0)
    read = model.read(rows, ["layers.1.pattern", "layers.1.heads"])
    pattern, output = read.values()
    projection = trunk.layers[1].self_attn.o_proj.weight.unflatten(1, (HEADS, -1))
    shares = np.zeros(HEADS)
    for row, place, number in itertools.product(range(2), range(7, 19), range(HEADS)):
        seen = int(rows.ids[row, 1 + int(pattern[row, number, place, 1:].argmax())])
        raised = head.weight @ (trunk.norm.weight * (projection[:, number] @ output[row, place, number]))
        others = set(rows.ids[row, 1:7].tolist()) - {seen}
        shares[number] += np.mean([bool(raised[other] < raised[seen]) for other in others]) / 24
    np.testing.assert_allclose(sonde.heads(model, **SMALL).scores["copying"][1], shares, atol=1e-6)
    assert 0.01 < shares.min() < shares.max() < 0.99 and np.ptp(shares) > 0.02


def test_natural_text_has_deciles_and_a_chance(walk, tmp_path):
    found = sonde.heads(walk.model, texts(20), tokens=400, prompt="the red", target="a", against="b", **SMALL)
    natural = known(found.natural)
    assert natural.deciles.shape == (9, LAYERS, HEADS) and (np.diff(natural.deciles, axis=0) >= 0).all()
    assert 0 < natural.chance < 1 and 0 < natural.counted <= natural.tokens
    text = to_text(found.drawing())
    assert "deciles of prefix matching" in text and "direct path to the logit of 'a' less that of 'b'" in text
    json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": 40, "repeats": 2}, SettingsError, "2 repeats of 40 tokens are longer than the context"),
        ({"length": 1}, SettingsError, "length is 1"),
        ({"prompt": "the"}, SettingsError, "give all three"),
        (SMALL | {"text": ["ab"]}, TextError, "no token of the text occurs twice"),
    ],
)
def test_wrong_input_is_one_line(options, error, message):
    with pytest.raises(error, match=message):
        sonde.heads(make_model("llama"), **options)
