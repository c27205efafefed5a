"""Replacements: trained together as alone, joined of single transcoders, measured, and pooled over prompts."""

import json
from types import SimpleNamespace

import pytest
import torch

import sonde
from sonde.circuits.interventions import Setting
from sonde.circuits.replacement import join_transcoders
from sonde.cli import run
from sonde.errors import ArtifactMismatchError, SettingsError, TextError, UsageError
from tests.circuits.transcoders import perfect_replacement, traceable
from tests.tiny import LAYERS, texts, write_corpus, write_model

SITES = [f"layers.{n}.{site}" for n in range(LAYERS) for site in ("mlp_in", "mlp")]
OPTIONS = {"n_features": 48, "k": 4, "tokens": 12_000, "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("replacement")
    model, corpus = write_model(root / "model"), write_corpus(root / "corpus.jsonl", 200)
    store = sonde.harvest(model, corpus, site=SITES, held_out=0.1, massive=0, out=root / "acts", device="cpu")
    replacement = sonde.train_replacement(store, out=root / "R", **OPTIONS)
    return SimpleNamespace(root=root, model=model, store=store, replacement=replacement)


def test_layers_trained_together_are_those_trained_alone(made, tmp_path):
    alone = sonde.train(made.store, site="layers.1.mlp_in", writes="layers.1.mlp", out=tmp_path / "one", **OPTIONS)
    together = made.replacement.layers[1]
    assert len(made.replacement.layers) == LAYERS and together.site == "layers.1.mlp_in -> layers.1.mlp"
    for name, value in alone.state_dict().items():
        assert torch.equal(value, together.state_dict()[name]), name
    assert [layer.site for layer in sonde.load_replacement(made.root / "R", "cpu").layers] == [
        f"layers.{n}.mlp_in -> layers.{n}.mlp" for n in range(LAYERS)
    ]
    again = sonde.train_replacement(made.store, out=made.root / "R", **OPTIONS)
    assert torch.equal(again.layers[1].W_enc, together.W_enc)


def test_a_replacement_of_single_transcoders(made, tmp_path):
    folders = [made.root / f"R/layers.{n}" for n in reversed(range(LAYERS))]
    joined = join_transcoders(folders, tmp_path / "joined")
    for ours, theirs in zip(joined.layers, made.replacement.layers, strict=True):
        assert torch.equal(ours.W_dec, theirs.W_dec)
    with pytest.raises(ArtifactMismatchError, match="no transcoder of layer 1"):
        join_transcoders([folders[0], folders[2]], tmp_path / "two")
    with pytest.raises(ArtifactMismatchError, match="two transcoders of layer 2"):
        join_transcoders([folders[0], folders[0]], tmp_path / "double")
    with pytest.raises(UsageError, match="out is missing"):
        sonde.replacement(folders)


def test_fidelity_of_layers_and_of_the_whole(made):
    found = sonde.replacement(made.replacement, tokens=600)
    assert len(found.layers) == LAYERS
    agreement, kl, loss = found.whole
    assert found.loss != loss and 0 < agreement < 1
    assert max(one.kl for one in found.layers) < kl < found.means[1]
    assert all(0 < one.fvu < 1 and one.l0 == pytest.approx(4, abs=0.2) for one in found.layers)
    shown = "\n".join(str(block) for block in found.draw())
    assert "all, means" in shown and found.to_json()["whole"]["kl"] == kl


def test_a_perfect_replacement_changes_nothing():
    model = traceable("gpt2", activation="relu")
    found = sonde.replacement(perfect_replacement(model), model=model, text=texts(6), tokens=200)
    assert found.whole[0] == 1 and found.whole[1] < 1e-6 and found.whole[2] == pytest.approx(found.loss, abs=1e-5)
    assert max(one.fvu for one in found.layers) < 1e-9


def test_a_replacement_needs_all_sites(made, tmp_path):
    store = sonde.harvest(made.model, texts(40), site="layers.0.mlp_in", out=tmp_path / "acts", device="cpu")
    with pytest.raises(SettingsError, match="the activations lack layers.0.mlp, which a replacement"):
        sonde.train_replacement(store, out=tmp_path / "R", **OPTIONS)
    with pytest.raises(SettingsError, match="site is 'final', but must be left out"):
        sonde.train_replacement(made.store, site="final", out=tmp_path / "R", **OPTIONS)


# ---------------------------------------------------------------- many prompts


def test_what_graphs_of_many_prompts_share(made, tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": text[:12], "target": "a"} for text in texts(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = sonde.trace_prompts(made.model, made.replacement, path, validated=True)
    assert found.prompts == 4 and 0 < found.features[0].prompts <= 4
    assert found.features[0].prompts >= found.features[-1].prompts
    for motif in found.features[:5]:
        low, high = motif.interval
        assert low < motif.prompts / 4 < high or motif.prompts == 4 and low < 1
    [(source, target, count)] = found.links[:1]
    assert source[0] < target[0] and 1 <= count <= 4
    assert "through errors" in found.title and len(found.validation) == 4
    path.write_text('{"text": "no prompt"}\n')
    with pytest.raises(TextError, match="line 1: no row such as"):
        sonde.trace_prompts(made.model, made.replacement, path)


def test_from_the_command_line(made, tmp_path, capsys):
    common = ["trace", str(made.model), "--replacement", str(made.root / "R"), "--device", "cpu"]
    assert run([*common, "--prompt", "the red", "--out", str(tmp_path / "graph"), "--validate"]) == 0
    shown = capsys.readouterr().out
    assert "through errors" in shown and "ablated one by one" in shown and "graph.html" in shown
    graph = sonde.load_graph(tmp_path / "graph")
    layer, position, feature = graph.features[int(graph.influence[: graph.n_features].argmax())].tolist()
    setting = f"{layer}.{feature}@{position}=0"
    assert Setting.of(setting).layer == layer
    assert run([*common, "--prompt", "the red", "--set", setting, "--json"]) == 0
    effects = json.loads(capsys.readouterr().out)["effects"]
    assert [one["layers"] for one in effects] == [[layer, last] for last in range(layer, LAYERS)]
    assert run([*common, "--prompt", "the red", "--look", "1.2@-1", "--json"]) == 0
    looked = json.loads(capsys.readouterr().out)["look"]
    assert (looked["layer"], looked["head"], looked["query"]) == (1, 2, 7) and len(looked["pairs"]) == 10
    assert run([*common, "--prompt", "the red", "--look", "1.2"]) == 2
    assert "write LAYER.HEAD@TOKEN" in capsys.readouterr().err
    assert run([*common, "--prompt", "a", "--prompts", "b"]) == 2
    assert "--prompt, a text, or --prompts" in capsys.readouterr().err
    assert run(["replacement", str(made.root / "R"), "--tokens", "300", "--device", "cpu"]) == 0
    assert "first choice kept" in capsys.readouterr().out
    acts = ["--activations", str(made.root / "acts"), "--replacement", "per-layer", "--device", "cpu"]
    flags = ["--n-features", "48", "--k", "4", "--tokens", "12000", "--out", str(made.root / "R")]
    assert run(["train", *acts, *flags]) == 0
    assert "replacement of 3 MLPs" in capsys.readouterr().out
