"""An index on a Ray cluster of two nodes, one of which is killed half-way, equals that of one process."""

import pytest

import sonde
from sonde.cli import run
from sonde.features import build
from tests import kill
from tests.features.test_index import same

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("default")]  # Ray warns


def test_a_node_killed_half_way_changes_no_bit(walk, two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "TASK_TOKENS", 500)
    settings = {"device": "cpu", "threads": 1, "sample": 20}
    here = sonde.index(None, [walk.topk, walk.l1], walk.corpus, out=tmp_path / "here", **settings)
    segments = tmp_path / "there/l1/segments"
    with kill.node_killed(two_nodes, lambda: len(list(segments.glob("*.json"))), 3) as n_done_when_killed:
        there = sonde.index(None, [walk.topk, walk.l1], walk.corpus, out=tmp_path / "there", executor="ray", **settings)
    assert 3 <= n_done_when_killed[0] < here[0].n_tokens // 600
    for left, right in zip(here, there, strict=True):
        same(left.folder, right.folder)
        assert left.manifest.id == right.manifest.id


def test_the_command_line_indexes_on_a_cluster(walk, two_nodes, tmp_path, monkeypatch, capsys):
    here = sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "here", device="cpu", threads=1)
    monkeypatch.chdir(walk.root)  # paths are relative here, and nodes run elsewhere
    command = ["index", "--dictionary", "topk", "--text", "corpus.jsonl", "--model", "model", "--threads", "1"]
    assert run([*command, "--device", "cpu", "--executor", "ray", "--out", str(tmp_path / "i")]) == 0
    assert "activations of 64 features" in capsys.readouterr().out
    same(tmp_path / "i", here.folder)
