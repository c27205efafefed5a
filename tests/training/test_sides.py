"""Transcoders and crosscoders: every kind reads sites and writes the same or others, of one model or several."""

import json
from typing import Any

import pytest
import torch

import sonde
from sonde.activations.lockstep import Lockstep
from sonde.analysis.measure import measure
from sonde.cli import run
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.load import load_dictionary
from sonde.errors import ActivationError, EditError, SettingsError
from sonde.models.load import load_model
from sonde.steering.directions import Clamp
from tests.known import known
from tests.tiny import write_corpus, write_model
from tests.training.test_train import KINDS, options_of

READ, WRITTEN = "layers.1.mlp_in", "layers.1.mlp"
STREAM = ("layers.0.residual", "layers.1.residual")


@pytest.fixture(scope="module")
def stores(walk, tmp_path_factory):
    """Rows of several sites of one model, and of the same sites of another with the same tokenizer."""
    root = tmp_path_factory.mktemp("stores")
    other = write_model(root / "other", seed=1)
    settings: dict[str, Any] = {"site": [READ, WRITTEN, *STREAM], "held_out": 0.1, "store": "float32"}
    return [
        sonde.harvest(model, walk.corpus, out=root / f"acts-{n}", **settings)
        for n, model in enumerate((walk.model, other))
    ]


def planted_pairs(folder, width=24, d_out=16, n_true=40, active=3):
    """Rows whose x are sums of a few directions, and y the sums of others that belong to them."""
    from sonde.activations.ready import from_vectors

    torch.manual_seed(4321)
    ins, outs = (torch.nn.functional.normalize(torch.randn(n_true, d), dim=1) for d in (width, d_out))
    chosen = torch.rand(30_000, n_true).topk(active, dim=1).indices
    strengths = 0.5 + torch.rand(30_000, active, 1)
    x, y = ((side[chosen] * strengths).sum(dim=1) for side in (ins, 5 * outs))
    one = from_vectors(x + 0.3, site="in", out=folder / "x", model="none", store="float32")
    two = from_vectors(y, site="out", out=folder / "y", model="none", store="float32")
    return Lockstep((one, two)), outs


@pytest.mark.parametrize("name", KINDS)
def test_a_transcoder_of_every_kind_finds_planted_pairs(tmp_path, name):
    store, outs = planted_pairs(tmp_path)
    options = options_of(name)
    if "sparsity" in options:
        options["sparsity"] /= 2  # y is half as wide as the vectors for which these weights are meant
    dictionary = sonde.train(
        store.stores,
        site="1:in",
        writes="2:out",
        n_features=80,
        tokens=600_000,
        batch_size=512,
        lr=3e-3,
        out=tmp_path / "d",
        device="cpu",
        **options,
    )
    assert dictionary.site == "1:in -> 2:out" and (dictionary.d_in, dictionary.d_out) == (24, 16)
    assert (outs @ dictionary.W_dec.T).max(dim=1).values.mean() > 0.9
    assert known(dictionary.info.quality).fvu < 0.35


def test_a_skip_connection_does_what_is_linear(stores, tmp_path):
    store = stores[0]
    options = {"site": READ, "writes": WRITTEN, "n_features": 48, "k": 2, "tokens": 60_000, "device": "cpu"}
    plain = sonde.train(store, out=tmp_path / "plain", **options)
    skipping = sonde.train(store, out=tmp_path / "skip", skip=True, **options)
    assert known(skipping.info.quality).fvu < known(plain.info.quality).fvu
    again = load_dictionary(tmp_path / "skip", "cpu")
    skip = known(again.W_skip)
    assert torch.equal(skip, known(skipping.W_skip)) and skip.abs().max() > 0 and plain.W_skip is None


@pytest.mark.parametrize("written", [(WRITTEN,), STREAM], ids=["transcoder", "cross-layer"])
def test_measure_compares_with_what_is_written(stores, walk, tmp_path, written):
    sonde.train(
        stores[0], site=READ, writes=written, n_features=48, k=4, tokens=40_000, out=tmp_path / "d", device="cpu"
    )
    dictionary, model = load_dictionary(tmp_path / "d", "cpu"), load_model(walk.model)
    found = measure(dictionary, model=model, text=walk.corpus, tokens=2000)
    from sonde.activations.corpus import Corpus, is_held_out

    held_out = [document.text for document in Corpus(walk.corpus) if is_held_out(document, 0.1, 0)]
    values = {site: torch.cat([model.read(text, site)[0, 1:] for text in held_out]) for site in (READ, *written)}
    x, y = values[READ], torch.cat([values[site] for site in written], dim=1)
    assert found.tokens == len(x)
    error, parts = (y - dictionary.reconstruct(x)).square().double(), list(dictionary.writes.values())
    spread = (y - y.mean(dim=0)).square().double()
    by_site = [(a.sum() / b.sum()).item() for a, b in zip(error.split(parts, 1), spread.split(parts, 1), strict=True)]
    assert found.fvu == pytest.approx(sum(by_site) / len(by_site), rel=1e-4)
    assert list(found.fvu_by_site.values()) == (pytest.approx(by_site, rel=1e-4) if len(written) > 1 else [])
    assert found.loss_recovered["zero"] is not None


def test_a_crosscoder_reads_and_writes_several_sites(stores, walk, tmp_path):
    """Held against single dictionaries: each site's part reconstructs that site; and it can be indexed."""
    made = sonde.train(
        stores[0], site=STREAM, kind="batchtopk", n_features=64, k=6, tokens=60_000, out=tmp_path / "d", device="cpu"
    )
    assert made.site == "layers.0.residual, layers.1.residual" and made.reads == {site: 32 for site in STREAM}
    quality = made.info.quality
    assert set(known(quality).fvu_by_site) == set(STREAM) and known(quality).l0 == pytest.approx(6, rel=0.05)
    index = sonde.index(None, made, walk.corpus, tokens=3000, out=tmp_path / "index", device="cpu")
    assert index.facts.site == made.site and index.facts.logits
    model = load_model(walk.model)
    text = "the red bridge stands by the bay"
    read = model.read(text, STREAM)
    x = torch.cat([read[site][0, 1:] for site in STREAM], dim=1)
    torch.testing.assert_close(made.reconstruct(x).shape, x.shape)
    with pytest.raises(EditError, match="dictionaries of one site"):
        Clamp(made, feature=1, value=1.0)


def test_an_l1_crosscoder_pays_for_each_site_apart():
    from sonde.training.losses import LossSettings
    from sonde.training.recipes.l1 import L1Recipe
    from tests.dictionaries.test_dictionaries import random_dictionary

    dictionary, x = random_dictionary("l1", d_out=7), torch.randn(64, 12)
    assert isinstance(dictionary, L1)
    y = torch.randn(64, 7)
    recipe = L1Recipe(n_features=dictionary.n_features)
    found = recipe.loss(dictionary, x, y, LossSettings(variance=7.0, widths=(4, 3), sparsity=0.7))
    codes = dictionary.encode(x)
    norms = dictionary.W_dec[:, :4].norm(dim=1) + dictionary.W_dec[:, 4:].norm(dim=1)
    error = (y - dictionary.reconstruct(x)).square().sum(dim=1).mean()
    torch.testing.assert_close(found.loss, (error + 0.7 * (codes @ norms).mean()) / 7.0)


def test_a_crosscoder_of_two_models_is_trained_measured_and_indexed(stores, walk, tmp_path):
    made = sonde.train(
        stores,
        site=("1:layers.1.residual", "2:layers.1.residual"),
        n_features=64,
        k=6,
        tokens=60_000,
        out=tmp_path / "d",
        device="cpu",
    )
    first, second = (next(store.at("layers.1.residual").stream(256)) for store in stores)
    both = torch.cat([first, second], dim=1)
    fvu = (both - made.reconstruct(both)).square().sum() / (both - both.mean(dim=0)).square().sum()
    assert fvu == pytest.approx(known(made.info.quality).fvu, rel=0.25)
    found = measure(made)
    assert set(found.fvu_by_site) == {"1:layers.1.residual", "2:layers.1.residual"} and found.loss is None
    assert found.fvu < 1
    index = sonde.index(None, made, walk.corpus, tokens=3000, out=tmp_path / "index", device="cpu")
    assert index.facts.activations > 0
    assert [entry["id"] for entry in known(made.artifact).manifest.parents.values()] == [
        store.manifest.id for store in stores
    ]


def test_stores_of_other_rows_are_refused(stores, walk, tmp_path):
    shorter = sonde.harvest(walk.model, walk.corpus, site=READ, tokens=500, out=tmp_path / "short")
    with pytest.raises(ActivationError, match="rows with seed 0, but .* harvest both from the same text"):
        sonde.train([stores[0], shorter], n_features=32, out=tmp_path / "d")
    other_text = write_corpus(tmp_path / "other.jsonl", 400, seed=5)
    settings = {"site": READ, "held_out": 0.0}
    one, two = (
        sonde.harvest(walk.model, text, out=tmp_path / f"a{n}", tokens=900, **settings)
        for n, text in enumerate((walk.corpus, other_text))
    )
    if one.n_rows == two.n_rows:
        with pytest.raises(ActivationError, match="differ in their"):
            sonde.train([one, two], n_features=32, out=tmp_path / "e")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"writes": WRITTEN}, "writes is given without site"),
        ({"site": READ, "writes": "layers.1.mpl"}, "no site 'layers.1.mpl'; did you mean layers.1.mlp"),
        ({"site": READ, "skip": True}, "skip is True, but must be left out unless --writes"),
        ({"site": (READ, READ)}, "without repetition"),
        ({}, "choose with --site"),
        ({"site": READ, "decoder_norms": "free"}, "unit for topk"),
    ],
)
def test_wrong_sides_are_named(stores, tmp_path, options, message):
    with pytest.raises((SettingsError, ActivationError), match=message):
        sonde.train(stores[0], n_features=32, out=tmp_path / "d", **options)


def test_the_command_line_trains_a_transcoder_and_measures_it(stores, tmp_path, capsys, monkeypatch):
    arguments = ["train", "--activations", str(stores[0].folder), "--site", READ, "--writes", WRITTEN, "--skip"]
    arguments += ["--n-features", "48", "--k", "2", "--tokens", "20k", "--device", "cpu"]
    assert run([*arguments, "--out", str(tmp_path / "d"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reads"] == {READ: 32} and told["writes"] == {WRITTEN: 32} and told["held_out"]["fvu"] < 1
    assert run([*arguments, "--out", str(tmp_path / "e")]) == 0
    out = capsys.readouterr().out
    assert f"{READ} -> {WRITTEN}" in out and "held out of training" in out and "loss recovered" in out
