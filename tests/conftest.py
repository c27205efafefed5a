"""Shared fixtures: one small walk from text to an index, made once for all tests.

Torch runs on two threads at most, as the machines that run these tests have two cores; on one in each of two workers
(`pytest -n 2`).
"""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["OMP_NUM_THREADS"] = (
    "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
)  # of processes that tests start, too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell, where Ctrl-C is ignored, also by the processes that tests start and
    # interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its loops then run on a CPU

import pytest
import torch

from tests.tiny import write_corpus, write_model, write_picture

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def walk(tmp_path_factory) -> SimpleNamespace:
    """Folders of a tiny model, a corpus, activations, a TopK and an L1 dictionary, and an index of the first."""
    import sonde

    root: Path = tmp_path_factory.mktemp("walk")
    model = write_model(root / "model")
    corpus = write_corpus(root / "corpus.jsonl", 400)
    store = sonde.harvest(model, corpus, site="layers.1.residual", held_out=0.1, out=root / "acts")
    sonde.train(store, n_features=64, k=4, tokens=40_000, out=root / "topk", device="cpu")
    sonde.train(store, kind="l1", n_features=64, sparsity=1.0, tokens=40_000, out=root / "l1", device="cpu")
    sonde.index(None, root / "topk", corpus, out=root / "index", device="cpu")
    names = ("model", "corpus", "acts", "topk", "l1", "index")
    paths = dict(zip(names, (model, corpus, root / "acts", root / "topk", root / "l1", root / "index"), strict=True))
    return SimpleNamespace(root=root, **paths)


@pytest.fixture(scope="session")
def sizes(walk, tmp_path_factory) -> Path:
    """A folder of two indexes, small and large, of dictionaries that were indexed on the same text."""
    import sonde

    root: Path = tmp_path_factory.mktemp("sizes")
    sonde.train(walk.acts, n_features=24, k=4, tokens=20_000, out=root / "small", device="cpu")
    sonde.train(walk.acts, n_features=96, k=4, tokens=20_000, out=root / "large", device="cpu")
    sonde.index(None, [root / "small", root / "large"], walk.corpus, out=root / "both", device="cpu")
    return root / "both"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> SimpleNamespace:
    """A tiny LLaVA, a corpus of captions with pictures among plain texts, and what a walk makes of them."""
    import sonde

    root: Path = tmp_path_factory.mktemp("pictures")
    model = write_model(root / "model", "llava")
    (root / "drawings").mkdir()
    rows: list[dict] = []
    for n in range(40):
        write_picture(root / f"drawings/{n}.png", n)
        rows.append({"text": f"this is <image> number {n}", "images": [f"drawings/{n}.png"]})
        rows.append({"text": f"the red bridge stands by the bay {n}"})
    rows.append({"text": "<image><image> both", "images": ["drawings/0.png", "drawings/1.png"]})
    corpus = root / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    store = sonde.harvest(model, corpus, site="layers.1.residual", held_out=0.2, out=root / "acts")
    sonde.train(store, n_features=48, k=4, tokens=20_000, out=root / "dict", device="cpu")
    sonde.index(None, root / "dict", corpus, out=root / "index", device="cpu")
    return SimpleNamespace(root=root, model=model, corpus=corpus, dictionary=root / "dict", index=root / "index")


@pytest.fixture
def own_kinds():
    """Forget the kinds of dictionary that a test registers."""
    from sonde.dictionaries.load import KINDS
    from sonde.training import recipes

    yield
    for kind in set(recipes.kinds()) - set(recipes.BUILT_IN):
        del recipes._registered[kind], KINDS[kind]


@pytest.fixture
def two_nodes(monkeypatch):
    """A Ray cluster whose head has no CPU, and its two nodes of one CPU each: (cluster, nodes)."""
    ray = pytest.importorskip("ray", reason="Ray (pip install 'sonde[ray]') is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()
