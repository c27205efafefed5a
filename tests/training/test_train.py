"""Training finds planted features, goes on where it stopped bit for bit, and saves what it measured."""

import json
import math

import pytest
import torch

import sonde
from sonde.activations.store import load_activations
from sonde.errors import ActivationError, OutputOccupiedError, SettingsError
from sonde.training import train as train_module
from sonde.training.losses import l1_loss, topk_loss
from sonde.training.settings import TrainSettings
from sonde.training.train import make_plan
from tests.dictionaries.test_dictionaries import random_dictionary


def planted(folder, n=30_000, width=32, n_true=48, active=3):
    """A store of sums of a few known directions, and the directions."""
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n_true, width), dim=1)
    chosen = torch.rand(n, n_true).topk(active, dim=1).indices
    vectors = (directions[chosen] * (0.5 + torch.rand(n, active, 1))).sum(dim=1) + 0.3
    return sonde.from_vectors(vectors, site="layers.0.residual", out=folder, model="none", store="float32"), directions


@pytest.mark.parametrize(("kind", "options"), [("topk", {"k": 3}), ("l1", {"l1": 1.0})])
def test_planted_features_are_found(tmp_path, kind, options):
    store, directions = planted(tmp_path / "acts")
    dictionary = sonde.train(
        store,
        kind=kind,
        n_features=96,
        tokens=600_000,
        batch_size=512,
        lr=3e-3,
        out=tmp_path / "d",
        device="cpu",
        **options,
    )
    cosines = (directions @ dictionary.W_dec.T).max(dim=1).values
    assert cosines.mean() > 0.95
    assert dictionary.facts["training_rows"]["fvu"] < 0.2


def test_the_loss_is_an_fvu_and_auxk_revives(tmp_path):
    dictionary, x = random_dictionary("topk"), torch.randn(64, 12)
    none = torch.zeros(40, dtype=torch.bool)
    plain = topk_loss(dictionary, x, 12.0, none, aux_k=6)
    error = (x - dictionary.reconstruct(x)).square().sum(dim=1).mean()
    torch.testing.assert_close(plain.loss, error / 12.0)
    revived = topk_loss(dictionary, x, 12.0, ~none, aux_k=6)
    assert revived.loss > plain.loss
    [gradient] = torch.autograd.grad(revived.loss, [dictionary.W_enc])
    assert (gradient.norm(dim=1) > 0).sum() > (
        torch.autograd.grad(plain.loss, [dictionary.W_enc])[0].norm(dim=1) > 0
    ).sum() - 1


def test_the_l1_loss_does_not_change_when_activations_are_rescaled():
    """f -> a f, W_dec -> W_dec / a leaves it as it is (Scaling Monosemanticity, methods)."""
    dictionary, x = random_dictionary("l1"), torch.randn(64, 12)
    before = l1_loss(dictionary, x, 12.0, 5.0).loss
    scale = torch.rand(40) + 0.5
    with torch.no_grad():
        dictionary.W_enc.mul_(scale[:, None])
        dictionary.b_enc.mul_(scale)
        dictionary.W_dec.div_(scale[:, None])
    torch.testing.assert_close(l1_loss(dictionary, x, 12.0, 5.0).loss, before)


@pytest.mark.parametrize("kind", ["topk", "l1"])
@pytest.mark.parametrize(
    "stop_at", [1, 17, 33, *(pytest.param(n, marks=pytest.mark.soak) for n in (2, 5, 8, 13, 20, 25, 30, 36, 38))]
)
def test_a_stopped_run_goes_on_and_ends_bit_equal(walk, tmp_path, monkeypatch, kind, stop_at):
    options = {
        "kind": kind,
        "n_features": 48,
        "tokens": 20_000,
        "batch_size": 512,
        "checkpoint_every_s": 0.0,
        "device": "cpu",
    }
    whole = sonde.train(walk.acts, out=tmp_path / "whole", **options)
    step = train_module._step

    def stop(state, *arguments):
        if state.step == stop_at:
            raise KeyboardInterrupt
        return step(state, *arguments)

    monkeypatch.setattr(train_module, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.train(walk.acts, out=tmp_path / "part", **options)
    monkeypatch.setattr(train_module, "_step", step)
    with pytest.raises(OutputOccupiedError, match="unfinished run with other settings"):
        sonde.train(walk.acts, out=tmp_path / "part", **(options | {"n_features": 49}))
    resumed = sonde.train(walk.acts, out=tmp_path / "part", **options)
    assert resumed.manifest.files["dictionary.safetensors"] == whole.manifest.files["dictionary.safetensors"]
    assert not (tmp_path / "part" / train_module.CHECKPOINT).exists()
    steps = [json.loads(line)["step"] for line in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_the_plan_follows_store_and_settings(walk):
    store = load_activations(walk.acts)
    plan = make_plan(store, TrainSettings(n_features=64, out="x", tokens=1_000_000))
    assert plan.batch_size == 1024 and plan.steps == 976
    assert plan.lr_at(0) < plan.lr_at(plan.warm_up) and plan.lr_at(plan.steps - 1) < plan.lr / 10
    assert plan.scale == pytest.approx(math.sqrt(store.width / store.variance))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "n_features is 0"),
        ({"n_features": 8, "k": 9}, "k is 9, but must be above 0 and at most"),
        ({"n_features": 8, "l1": 2.0}, "l1 is 2.0, but must be left out unless kind is l1"),
        ({"n_features": 8, "kind": "l1", "k": 2}, "k is 2, but must be left out"),
        ({"n_features": 8, "kind": "topq"}, "did you mean topk"),
        ({"n_feature": 8}, "did you mean n_features"),
        ({"n_features": 8, "batch_size": 10**7}, "at most the number of rows"),
    ],
)
def test_wrong_settings_are_named(walk, tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        sonde.train(walk.acts, out=tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()


def test_a_rate_that_is_too_high_says_so(walk, tmp_path):
    with pytest.raises(ActivationError, match=r"loss is (nan|inf) .* --lr"):
        sonde.train(walk.acts, kind="l1", n_features=16, lr=1e30, tokens=40_000, out=tmp_path / "d", device="cpu")
