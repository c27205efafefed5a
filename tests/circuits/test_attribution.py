"""Attributions and ablations of features, against hand-written ones, and in a model where both are the same."""

import json
from typing import Any

import numpy as np
import pytest
import torch

import sonde
from sonde.circuits import passes
from sonde.circuits.agreement import agree, interval_of, pearson
from sonde.display import to_text
from sonde.errors import ArtifactMismatchError, FeatureError, SettingsError, SondeError, TextError
from tests.circuits.toys import linear_model, random_dictionary
from tests.known import known
from tests.models.test_sites import all_hooks
from tests.tiny import make_model

PROMPT = "the red"


@pytest.mark.parametrize("options", [{"against": "b"}, {"against": "b", "steps": 3}])
def test_in_a_linear_model_attribution_is_ablation(options):
    model = linear_model()
    dictionaries = [random_dictionary(f"layers.{layer}.residual", seed=layer).double() for layer in (0, 1)]
    [found] = sonde.attribute(dictionaries, PROMPT, target="a", model=model, **options)
    assert len(found.effect) == 2 * 4 * len(PROMPT) and set(found.source) == {0, 1}
    np.testing.assert_allclose(found.attribution, found.effect, atol=1e-9)
    assert np.abs(found.effect).max() > 0.1 and found.agreement.attribution == pytest.approx(1)
    assert found.agreement.top_attribution == 10 and found.agreement.activation < 0.9


@pytest.mark.parametrize("family", ("gpt2", "gpt_neox", "opt", "llama", "mixtral", "gemma2", "qwen3", "llava"))
def test_an_ablation_is_what_a_hand_written_one_is(family, monkeypatch):
    """In every family, in batches, one at a time, and in a whole pass that takes one feature away at one token."""
    model = make_model(family)
    dictionary = random_dictionary("layers.1.residual")
    [found] = sonde.attribute(dictionary, PROMPT, target="a", against="b", model=model)
    monkeypatch.setattr(passes, "TOKENS_AT_ONCE", 1)
    [alone] = sonde.attribute(dictionary, PROMPT, target="a", against="b", model=model)
    np.testing.assert_allclose(alone.effect, found.effect, atol=2e-5)
    tokens = model.tokenize(PROMPT)
    a, b = (model.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ab")
    plain = model.logits(tokens)[0, -1]
    assert found.value == pytest.approx(float(plain[a] - plain[b]), abs=1e-4)
    assert found.right == (found.value > 0)
    for place in (0, 7, -1):

        class Without:
            site = "layers.1.residual"

            def __call__(self, x, place=place):
                changed = x.clone()
                direction = dictionary.W_dec[int(found.feature[place])]
                changed[0, found.position[place]] -= float(found.activation[place]) * direction
                return changed

        with model.edited(Without()):
            logits = model.logits(tokens)[0, -1]
        assert found.effect[place] == pytest.approx(found.value - float(logits[a] - logits[b]), abs=1e-4)
    assert not list(all_hooks(model))


def test_attributions_along_a_path_add_up_to_removing_all():
    model, dictionary = make_model("llama"), random_dictionary("layers.0.residual")
    model.network.double()
    dictionary.double()
    options = {"target": "a", "model": model, "ablate": 0}
    [found] = sonde.attribute(dictionary, PROMPT, steps=200, **options)
    assert np.isnan(found.effect).all() and found.agreement.n == 0

    class Without:
        site = "layers.0.residual"

        def __call__(self, x):
            changed = x.clone()
            for position, feature, value in zip(found.position, found.feature, found.activation, strict=True):
                changed[0, position] -= value * dictionary.W_dec[feature]
            return changed

    token = model.tokenizer("a", add_special_tokens=False)["input_ids"][0]
    with model.edited(Without()):
        without = model.logits(PROMPT)[0, -1].log_softmax(0)[token]
    assert found.attribution.sum() == pytest.approx(found.value - float(without), rel=1e-3)
    [once] = sonde.attribute(dictionary, PROMPT, **options)
    assert once.attribution.sum() != pytest.approx(found.value - float(without), rel=0.05), "or this shows nothing"


def test_a_later_feature_as_the_target():
    model = linear_model()
    first, second = (random_dictionary(f"layers.{layer}.residual", seed=layer).double() for layer in (0, 2))
    [found] = sonde.attribute([first, second], PROMPT, target="feature:5", model=model)
    assert set(found.source) == {0} and found.right is None
    np.testing.assert_allclose(found.attribution, found.effect, atol=1e-9)
    x = model.read(PROMPT, "layers.2.residual")[0, -1]
    assert found.value == pytest.approx(float(x @ second.W_enc[5] + second.b_enc[5]))


def test_a_probe_as_the_target(tmp_path):
    model = linear_model()
    vector = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    path = sonde.save_vector(tmp_path / "probe.safetensors", vector, site="layers.1.mlp")
    dictionary = random_dictionary("layers.0.residual").double()
    [found] = sonde.attribute(dictionary, PROMPT, target=f"vector:{path}", model=model)
    np.testing.assert_allclose(found.attribution, found.effect, atol=1e-9)
    assert found.value == pytest.approx(float(model.read(PROMPT, "layers.1.mlp")[0, -1] @ vector))


def test_a_model_in_bfloat16_gives_nearly_the_same():
    """What is estimated and measured, and what is patched."""
    model, dictionary = make_model("llama"), random_dictionary("layers.1.residual")
    options: Any = {"clean": PROMPT, "corrupt": "see red", "answer": "a", "wrong": "b", "site": ["mlp", "heads"]}
    exact = sonde.attribute(dictionary, PROMPT, target="a", against="b", model=model)[0]
    patched = sonde.patch(model, **options, method="both")
    model.network.to(torch.bfloat16)
    rough = sonde.attribute(dictionary, PROMPT, target="a", against="b", steps=2, model=model)[0]
    assert rough.value == pytest.approx(exact.value, abs=0.3) and np.isfinite(rough.effect).all()
    again = sonde.patch(model, **options, method="both")
    for own, other in zip(again.maps, patched.maps, strict=True):
        assert pearson(known(own.values).ravel(), known(other.values).ravel()) > 0.98


def test_only_the_strongest_are_ablated():
    model, dictionary = make_model("llama"), random_dictionary("layers.1.residual")
    [found] = sonde.attribute(dictionary, PROMPT, target="a", model=model, ablate=5)
    ablated = np.isfinite(found.effect)
    assert ablated.sum() == 5 == found.agreement.n
    assert np.abs(found.attribution[ablated]).min() >= np.abs(found.attribution[~ablated]).max()


def test_prompts_of_a_file_are_pooled(walk, tmp_path):
    rows = [{"prompt": text, "target": "a", "against": "b"} for text in ("the red", "by the bay", "sun")]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = sonde.attribute([walk.index, walk.topk], prompts=file)
    assert [each.prompt for each in found] == ["the red", "by the bay", "sun"]
    figures = found.pooled()
    expected = np.mean([each.agreement.attribution for each in found])
    assert figures["attribution"]["mean"] == pytest.approx(expected) and figures["asked"] == 3
    assert figures["attribution"]["low"] <= expected <= figures["attribution"]["high"]
    assert "3 prompts" in to_text(found.drawing()) and "3 of 3" not in repr(found)
    json.dumps(found.to_json(), allow_nan=True)
    one = sonde.attribute(walk.index, "the red", target="a", n=3)
    assert "<table" in one._repr_html_()


def test_agreement_of_what_is_known():
    effect = np.array([3.0, -2.0, 1.0, np.nan])
    found = agree(np.array([1.0, 2.0, 3.0, 9.0]), effect * 2, effect)
    assert found.n == 3 and found.attribution == pytest.approx(1) and found.loudness == 3
    assert found.activation == pytest.approx(np.corrcoef([1, 2, 3], [3, -2, 1])[0, 1])
    assert found.top_chance == 3
    same = interval_of([2.0, 2.0, float("nan")])
    assert (same.mean, same.low, same.high, same.n) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"prompt": "the", "target": "abc"},
            TextError,
            "'abc' is 3 tokens of tiny llama \\('a', 'b', 'c'\\); give",
        ),
        ({"prompt": "the", "target": ""}, TextError, "is no token"),
        ({"prompt": "the"}, SettingsError, "the prompt has no target"),
        ({"target": "a"}, SettingsError, "neither was given"),
        ({"prompt": "the", "prompts": []}, SettingsError, "both were given"),
        ({"prompts": []}, TextError, "holds no rows"),
        ({"prompts": [{"prompt": "a"}]}, TextError, "row 1 has no field 'target'"),
        ({"prompts": [{"prompt": 3, "target": "a"}]}, TextError, "row 1: prompt is 3, but must be text"),
        ({"prompts": [{"prompt": "a", "target": "a"}], "target": "a"}, SettingsError, "leave target and against out"),
        ({"prompt": " ", "target": "a"}, TextError, "the prompt is empty"),
        ({"prompt": "x" * 70, "target": "a"}, TextError, "has 71 tokens, but the context of tiny llama holds 64"),
        ({"prompt": "the", "target": "a", "against": "a"}, SettingsError, "held against itself"),
        ({"prompt": "the", "target": "feature:3"}, SettingsError, "the last of several dictionaries"),
        ({"prompt": "the", "target": "vector:no.safetensors"}, SondeError, "there is no vector file"),
        ({"prompt": "the", "target": "a", "steps": 0}, SettingsError, "steps is 0"),
    ],
)
def test_wrong_input_is_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        sonde.attribute(random_dictionary("layers.1.residual"), model=make_model("llama"), **options)
    assert "\n" not in str(caught.value)


def test_dictionaries_that_do_not_fit():
    model = make_model("llama")
    early, late = (random_dictionary(f"layers.{layer}.residual") for layer in (0, 2))
    with pytest.raises(SettingsError, match="layers.0.residual lies before it"):
        sonde.attribute([late, early], PROMPT, target="feature:1", model=model)
    with pytest.raises(FeatureError, match="no feature 99"):
        sonde.attribute([early, late], PROMPT, target="feature:99", model=model)
    with pytest.raises(ArtifactMismatchError, match="has width 32"):
        sonde.attribute(random_dictionary("layers.0.residual", width=8), PROMPT, target="a", model=model)
    with pytest.raises(SondeError, match="no index was given"):
        sonde.attribute([], PROMPT, target="a", model=model)
