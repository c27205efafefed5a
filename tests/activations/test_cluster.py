"""Harvest on a Ray cluster of two nodes, one of which is killed half-way."""

import pytest

import sonde
from sonde.activations import harvest as harvest_module
from sonde.cli import run
from tests import kill
from tests.activations.test_harvest import SITE, files_of

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("default")]  # Ray warns


def test_a_node_killed_half_way_changes_no_byte(walk, two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(harvest_module, "TASK_BYTES", 1 << 8)
    settings = {"site": [SITE, "layers.0.mlp"], "threads": 1, "tokens": 12_000}
    here = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "here", **settings)
    segments = tmp_path / "there/segments"
    with kill.node_killed(two_nodes, lambda: len(list(segments.glob("*.json"))), 3) as n_done_when_killed:
        there = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "there", executor="ray", **settings)
    assert 3 <= n_done_when_killed[0] < len(here.segments)
    assert files_of(there.folder) == files_of(here.folder)
    assert there.manifest.id == here.manifest.id


def test_the_errors_of_a_cluster_are_those_of_one_process(walk, two_nodes, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in walk.model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    next(tensor for name, tensor in weights.items() if "embed" in name or "wte" in name)[:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    command = ["harvest", "--model", str(broken), "--site", SITE, "--text", str(walk.corpus), "--executor", "ray"]
    assert run([*command, "--out", str(tmp_path / "acts")]) == 2
    assert "are not finite, the first in document" in capsys.readouterr().err
