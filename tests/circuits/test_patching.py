"""Patches: bit for bit where they are exact, and equal to what hand-written hooks do."""

import json
from typing import Any

import numpy as np
import pytest
import torch

import sonde
from sonde.circuits import passes
from sonde.circuits.passes import Run, last_alone
from sonde.circuits.patched import Patched
from sonde.circuits.patching import _kind
from sonde.circuits.sweep import Kind, cells
from sonde.display import to_text
from sonde.errors import SettingsError, SiteError, TextError
from sonde.models.sites import layers_of
from tests.circuits.toys import linear_model
from tests.known import known
from tests.models.test_sites import all_hooks
from tests.tiny import CAUSAL, HEADS, LAYERS, make_model

PAIR = {"clean": "the red bay", "corrupt": "the sun bay", "answer": "a", "wrong": "b"}
LENGTH = 12
SOME = ("gpt2", "gpt_neox", "opt", "llama", "mixtral", "gemma2", "qwen3")


def logits_of(model, text):
    """Of the last token; as a product with the head of that token alone, whose bits are others than of all together."""
    with last_alone(model):
        return model.logits(text)[:, -1]


def difference(model, logits):
    a, b = (model.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ab")
    return logits[:, a] - logits[:, b]


@pytest.mark.parametrize("family", CAUSAL)
def test_patching_a_run_with_itself_changes_no_bit(family):
    """At each kind of site, cell by cell: against the same pass without a patch."""
    model = make_model(family)
    names = [name for name in model.sites() if name not in ("logits",)]
    run = Run(model, model.tokenize(PAIR["clean"]), names)
    assert torch.equal(run.last(), logits_of(model, PAIR["clean"]))
    for name in [name for name in names if not name.startswith("layers.0")]:
        kind = _kind(model, name, None, None)
        masks = cells(kind, run.values[name], None)
        layer = run.prefix.first_layer(name)
        patched = run.changed([Patched(name, run.values[name], masks)], len(masks))
        plain = run.changed([], len(masks), layer=layer)
        if family == "mixtral":  # what its experts compute of a token depends in the last bits on the batch
            torch.testing.assert_close(patched, plain)
        else:
            assert torch.equal(patched, plain), name
        alone = run.changed([Patched(name, run.values[name], masks[:1])], 1)
        assert torch.equal(alone, run.last()), name
    assert not list(all_hooks(model))


@pytest.mark.parametrize("family", CAUSAL)
def test_patching_everything_gives_the_clean_run_bit_for_bit(family):
    model = make_model(family)
    clean = Run(model, model.tokenize(PAIR["clean"]), ["embedding", "layers.1.residual", "layers.2.residual"])
    corrupt = Run(model, model.tokenize(PAIR["corrupt"]), [])
    assert not torch.equal(clean.last(), corrupt.last())
    for site, value in clean.values.items():
        if site != "logits":
            whole = torch.ones(1, 1, 1, dtype=torch.bool)
            assert torch.equal(corrupt.changed([Patched(site, value, whole)], 1), clean.last()), site


@pytest.mark.parametrize("family", SOME)
def test_patches_equal_hand_written_ones(family):
    """A position of the stream, through torch's own hook; a head, by writing into what the output projection reads."""
    model = make_model(family)
    found = sonde.patch(model, **PAIR, site=["residual", "heads"])
    residual, heads = found.maps
    assert residual.values is not None and residual.values.shape == (1, LAYERS, LENGTH)
    assert heads.values is not None and heads.values.shape == (1, LAYERS, HEADS)
    clean, corrupt = (difference(model, logits_of(model, PAIR[name])) for name in ("clean", "corrupt"))
    [value] = (model.read(PAIR["clean"], "layers.1.residual"),)

    def put(_, __, output):
        changed = output.clone() if isinstance(output, torch.Tensor) else output[0].clone()
        changed[:, 6] = value[:, 6]
        return changed if isinstance(output, torch.Tensor) else (changed, *output[1:])

    handle = model.site("layers.1.residual").module.register_forward_hook(put)
    patched = difference(model, logits_of(model, PAIR["corrupt"]))
    handle.remove()
    expected = float((patched - corrupt) / (clean - corrupt))
    assert residual.values[0, 1, 6] == pytest.approx(expected, abs=1e-3)
    of_heads = model.read(PAIR["clean"], "layers.1.heads")

    def head(module, arguments):
        x = arguments[0].clone()
        x.view(1, LENGTH, HEADS, -1)[:, :, 2] = of_heads[:, :, 2]
        return (x, *arguments[1:])

    handle = model.site("layers.1.heads").module.register_forward_pre_hook(head)
    patched = difference(model, logits_of(model, PAIR["corrupt"]))
    handle.remove()
    assert heads.values[0, 1, 2] == pytest.approx(float((patched - corrupt) / (clean - corrupt)), abs=1e-3)


def test_hooks_that_were_there_are_still_there_and_act():
    model = make_model("llama")
    seen = []
    layer = layers_of(model.network)[2]
    layer.register_forward_hook(lambda *_: seen.append(1))
    before = list(all_hooks(model))
    sonde.patch(model, **PAIR, layers="2..2")
    assert list(all_hooks(model)) == before and seen


def test_batches_of_any_size_give_the_same(monkeypatch):
    model = make_model("gpt2")
    whole = known(sonde.patch(model, **PAIR).maps[0].values)
    monkeypatch.setattr(passes, "TOKENS_AT_ONCE", 1)
    np.testing.assert_allclose(known(sonde.patch(model, **PAIR).maps[0].values), whole, atol=1e-4)


def test_a_sweep_costs_at_most_sixty_per_cent_of_whole_passes():
    """Counted in layers that run: 3 layers here; 12 layers of 16 positions by the same count."""
    model = make_model("llama")
    ran = [0]
    for number in range(LAYERS):
        mlp = model.site(f"layers.{number}.mlp").module
        mlp.register_forward_hook(lambda _, arguments, __: ran.__setitem__(0, ran[0] + len(arguments[0])))
    run = Run(model, model.tokenize(PAIR["clean"]), ["layers.0.residual"])
    ran[0] = 0
    for number in range(LAYERS):
        run.changed([Patched(f"layers.{number}.residual", torch.zeros(1), torch.ones(1, 1, 1) > 0)], LENGTH)
    assert ran[0] == LENGTH * sum(LAYERS - 1 - number for number in range(LAYERS)) <= 0.6 * LENGTH * LAYERS**2


@pytest.mark.parametrize(
    "options", [{}, {"steps": 3}, {"mode": "noise"}, {"put": "zero"}, {"metric": "log-probability"}]
)
def test_in_a_linear_model_estimates_are_exact(options):
    model = linear_model()
    metric = options.get("metric", "difference")
    found = sonde.patch(model, **PAIR, site=["residual", "mlp", "heads"], method="both", **options)
    for each in found.maps:
        if metric == "difference":
            np.testing.assert_allclose(known(each.estimates), known(each.values), atol=1e-9)
            assert each.error()["pearson"] == pytest.approx(1) or np.ptp(known(each.values)) < 1e-9  # type: ignore[index]
        else:
            assert not np.allclose(known(each.estimates), known(each.values), atol=1e-9)
    if metric == "difference":
        assert found.base == (0 if found.said.startswith("clean values") else 1)


def test_the_last_layers_last_position_brings_everything():
    model = make_model("gpt2")
    denoised, noised = (sonde.patch(model, **PAIR, mode=mode).maps[0].values for mode in ("denoise", "noise"))
    assert denoised is not None and noised is not None
    np.testing.assert_allclose(denoised[0, -1], [0] * (LENGTH - 1) + [1], atol=1e-4)
    np.testing.assert_allclose(noised[0, -1], [1] * (LENGTH - 1) + [0], atol=1e-4)
    assert np.abs(denoised[0, :, :4]).max() < 1e-4, "tokens before the first that differs"


def test_the_metrics_say_what_they_mean():
    model = make_model("llama")
    kl = sonde.patch(model, **PAIR, metric="kl")
    clean, corrupt = (logits_of(model, PAIR[name]).log_softmax(1) for name in ("clean", "corrupt"))
    assert kl.base == pytest.approx(float((clean.exp() * (clean - corrupt)).sum()), rel=1e-4)
    assert kl.maps[0].values is not None and kl.maps[0].values[0, -1, -1] == pytest.approx(0, abs=1e-5)
    gained = sonde.patch(model, PAIR["clean"], PAIR["corrupt"], answer="a", metric="log-probability").maps[0].values
    a = model.tokenizer("a", add_special_tokens=False)["input_ids"][0]
    assert gained is not None and gained[0, -1, -1] == pytest.approx(float(clean[0, a] - corrupt[0, a]), abs=1e-4)


def test_ablations_put_zero_the_mean_or_another_prompts_values():
    model = make_model("llama")
    texts = ["the red bay", "the sun bay", "see it come"]
    rows = [{"clean": text, "answer": "a", "wrong": "b"} for text in texts]
    options: Any = {"pairs": rows, "site": "mlp", "by": "layer", "layers": "1..1"}
    read = {text: model.read(text, "layers.1.mlp") for text in texts}
    mean = torch.cat([x[0] for x in read.values()]).mean(0).expand_as(read[texts[0]])
    ways: dict[Any, list[torch.Tensor]] = {
        "zero": [torch.zeros_like(mean)],
        "mean": [mean],
        "resample": list(read.values())[1:],
    }
    for put, values in ways.items():
        found = sonde.patch(model, put=put, **options).maps[0].values
        assert found is not None
        plain = difference(model, logits_of(model, texts[0]))
        possible = []
        for value in values:
            with model.edited(Patched("layers.1.mlp", value, torch.ones(1, 1, 1) > 0)):
                possible.append(float(difference(model, logits_of(model, texts[0])) / plain))
        assert min(abs(found[0, 0, 0] - each) for each in possible) < 1e-3, put


def test_heads_of_patterns_are_patched_alone():
    model = make_model("llama")
    site = "layers.1.pattern"
    found = sonde.patch(model, **PAIR, site=site).maps[0]
    value = model.read(PAIR["clean"], site)

    class Head:
        def __init__(self):
            self.site = site

        def __call__(self, x):
            changed = x.clone()
            changed[:, 1] = value[:, 1]
            return changed

    clean, corrupt = (difference(model, logits_of(model, PAIR[name])) for name in ("clean", "corrupt"))
    with model.edited(Head()):
        patched = difference(model, logits_of(model, PAIR["corrupt"]))
    assert found.values is not None and found.values.shape == (1, 1, HEADS)
    assert found.values[0, 0, 1] == pytest.approx(float((patched - corrupt) / (clean - corrupt)), abs=1e-3)


def test_pairs_are_pooled_and_drawn(tmp_path, walk):
    rows = [PAIR, PAIR | {"clean": "the bay sun"}, PAIR | {"clean": "the sky bay"}]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = sonde.patch(walk.model, pairs=file, svg=tmp_path / "map.svg", n=3)
    assert found.pairs == 3 and len(found.clean) == 3 and found.maps[0].values is not None
    cell = found.maps[0].interval(1, 5)
    assert cell.low <= cell.mean <= cell.high and cell.mean == pytest.approx(found.maps[0].values[:, 1, 5].mean())
    text = to_text(found.drawing())
    assert "layer 2" in text and "95 % interval" in text and "logit difference is" in text
    assert (tmp_path / "map.svg").read_text(encoding="utf-8").count("<rect") == LAYERS * LENGTH
    assert "<svg" in found._repr_html_()
    json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (PAIR | {"corrupt": "the suns bay"}, TextError, "has 12 tokens and the corrupt one 13: at token 5 'r' 'e' 'd'"),
        (PAIR | {"answer": "abc"}, TextError, "the answer 'abc' is 3 tokens"),
        (PAIR | {"wrong": "a"}, SettingsError, "is the wrong answer, too"),
        (PAIR | {"site": "residul"}, SiteError, "did you mean"),
        (PAIR | {"site": "logits"}, SiteError, "logits is no place to patch"),
        (PAIR | {"by": "head"}, SettingsError, "residual has no heads"),
        (PAIR | {"layers": "7..9"}, SettingsError, "the layers 7..9 are none of the model's, which are 0 to 2"),
        (PAIR | {"position": 12}, SettingsError, "there is no position 12: the shortest prompt has 12 tokens"),
        (PAIR | {"corrupt": "the red bay"}, SettingsError, "the same logit difference"),
        (PAIR | {"put": "resample"}, TextError, "no other prompt has 12 tokens"),
        (
            PAIR | {"put": "mean", "site": "pattern"},
            SettingsError,
            "patterns of prompts of several lengths have no mean",
        ),
        (PAIR | {"steps": 3}, SettingsError, "leave steps out"),
        (PAIR | {"pairs": [PAIR]}, SettingsError, "leave clean out"),
        ({"clean": "a", "answer": "a"}, SettingsError, "corrupt is missing"),
        ({"clean": "a", "corrupt": "b", "answer": "a"}, SettingsError, "needs a wrong answer too"),
        ({"pairs": [PAIR, PAIR | {"clean": "the", "corrupt": "see"}]}, SettingsError, "4 to 12 tokens"),
        ({"pairs": [{"clean": "a"}]}, TextError, "row 1 has no field 'corrupt'"),
    ],
)
def test_wrong_input_is_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        sonde.patch(make_model("llama"), **options)
    assert "\n" not in str(caught.value)


def test_a_kind_of_site_is_all_its_layers():
    model = make_model("llama")
    assert _kind(model, "mlp", None, "1..") == Kind("mlp", ("layers.1.mlp", "layers.2.mlp"), (1, 2), "position", None)
    assert _kind(model, "embedding", None, None).sites == ("embedding",)
