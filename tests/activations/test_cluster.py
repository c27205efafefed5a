"""Harvest on a Ray cluster of two nodes, one of which is killed half-way."""

import threading
import time

import pytest

import sonde
from sonde.activations import harvest as harvest_module
from sonde.cli import run
from tests.activations.test_harvest import SITE, files_of

pytestmark = pytest.mark.soak


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster whose head has no CPU, and its two nodes of one CPU each."""
    ray = pytest.importorskip("ray", reason="Ray (pip install 'sonde[ray]') is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_node_killed_half_way_changes_no_byte(walk, two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(harvest_module, "TASK_BYTES", 1 << 8)
    settings = {"site": [SITE, "layers.0.mlp"], "threads": 1, "tokens": 12_000}
    here = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "here", **settings)
    cluster, nodes = two_nodes
    done_when_killed = []

    def kill() -> None:
        segments = tmp_path / "there/segments"
        while len(list(segments.glob("*.json"))) < 3:
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        done_when_killed.append(len(list(segments.glob("*.json"))))

    killer = threading.Thread(target=kill)
    killer.start()
    there = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "there", executor="ray", **settings)
    killer.join()
    assert 3 <= done_when_killed[0] < len(here.segments)
    assert files_of(there.folder) == files_of(here.folder)
    assert there.manifest.id == here.manifest.id


@pytest.mark.filterwarnings("default")
def test_the_errors_of_a_cluster_are_those_of_one_process(walk, two_nodes, tmp_path, monkeypatch, capsys):
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
