"""Another model in the place of the one that an artifact was made with: an error, or a line where it was given."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

import sonde
from sonde.activations.live import Live
from sonde.errors import ArtifactMismatchError, ModelNotFoundError, OutputOccupiedError
from sonde.facts import ModelRef
from sonde.models.load import load_model
from sonde.models.recorded import SentModel, recorded_model
from tests.tiny import texts, write_corpus, write_model

SITE = "layers.1.residual"


class Said:
    """A reporter that keeps its lines."""

    def __init__(self):
        self.lines: list[str] = []

    def say(self, line):
        self.lines.append(line)

    def start(self, *_, **__):
        from sonde.progress import Silent

        return Silent().start("", None, "")


@pytest.fixture
def swapped(walk, tmp_path):
    """A copy of the walk whose model's weights were saved over."""
    root = tmp_path / "walk"
    shutil.copytree(walk.root, root)
    for name in ("acts", "topk", "index"):
        path = root / name / "manifest.json"
        path.write_text(path.read_text().replace(str(walk.root), str(root)))
    before = load_model(root / "model").identity
    write_model(root / "model", seed=7)
    after = load_model(root / "model").identity
    return SimpleNamespace(root=root, corpus=root / "corpus.jsonl", ids=(before, after))


def test_every_implicit_load_refuses_another_model(swapped):
    root, (before, after) = swapped.root, swapped.ids
    doors = {
        "index": lambda: sonde.index(None, root / "topk", swapped.corpus, out=root / "new"),
        "measure": lambda: sonde.measure(root / "topk"),
        "reader": lambda: sonde.Reader(root / "index"),
        "session": lambda: sonde.Session(root / "index"),
    }
    for name, door in doors.items():
        with pytest.raises(ArtifactMismatchError) as refused:
            door()
        assert before in str(refused.value) and after in str(refused.value), name
    assert not (root / "new").exists()


def test_the_server_refuses_another_model(swapped):
    from fastapi.testclient import TestClient

    from sonde.features.index import load_index
    from sonde.web.app import make_app

    client = TestClient(make_app(load_index(swapped.root / "index"), "cpu"))
    answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]})
    assert answer.status_code == 400 and all(identity in answer.text for identity in swapped.ids)


def test_a_model_given_on_purpose_is_one_line(walk, tmp_path):
    other, said = write_model(tmp_path / "other", seed=7), Said()
    kept = (walk.topk / "measurement.json").read_bytes() if (walk.topk / "measurement.json").exists() else None
    index = sonde.index(str(other), walk.topk, walk.corpus, out=tmp_path / "index", tokens=400, reporter=said)
    assert [line for line in said.lines if load_model(other).identity in line and "given" in line]
    assert index.facts.model == load_model(other).ref
    said.lines.clear()
    sonde.measure(walk.topk, model=other, tokens=400, reporter=said)
    assert sum("given" in line for line in said.lines) == 1
    now = (walk.topk / "measurement.json").read_bytes() if (walk.topk / "measurement.json").exists() else None
    assert now == kept, "what is kept beside a dictionary is measured with its own model"


def test_the_same_model_elsewhere_is_the_same(walk, tmp_path):
    moved, said = tmp_path / "moved", Said()
    shutil.copytree(walk.model, moved)
    sonde.measure(walk.topk, model=moved, tokens=400, reporter=said)
    assert not [line for line in said.lines if "given" in line]


def test_a_run_does_not_go_on_with_another_model(tmp_path):
    folder, text = write_model(tmp_path / "m"), write_corpus(tmp_path / "c.jsonl", 40)
    sonde.harvest(folder, text, site=SITE, out=tmp_path / "acts")
    live = {"site": SITE, "pool": 256}
    rows = Live(folder, text, **live)
    sonde.train(rows, n_features=16, k=2, tokens=2000, out=tmp_path / "dict", device="cpu")
    write_model(folder, seed=7)
    with pytest.raises(OutputOccupiedError, match=load_model(folder).identity):
        sonde.harvest(folder, text, site=SITE, out=tmp_path / "acts")
    with pytest.raises(OutputOccupiedError, match=load_model(folder).identity):
        sonde.train(Live(folder, text, **live), n_features=16, k=2, tokens=2000, out=tmp_path / "dict", device="cpu")


def test_a_run_goes_on_with_the_same_model_elsewhere(tmp_path):
    folder = write_model(tmp_path / "m")
    first = sonde.harvest(folder, texts(30), site=SITE, out=tmp_path / "acts")
    folder.rename(tmp_path / "n")
    assert sonde.harvest(tmp_path / "n", texts(30), site=SITE, out=tmp_path / "acts").manifest == first.manifest


def test_workers_load_the_very_same_model(tmp_path):
    folder = write_model(tmp_path / "m")
    sent = SentModel.of(load_model(folder))
    assert sent.load().identity == sent.ref.id
    write_model(folder, seed=7)
    with pytest.raises(ArtifactMismatchError, match="the run"):
        sent.load()


def test_a_relative_path_is_kept_whole(tmp_path, monkeypatch):
    write_model(tmp_path / "here" / "m")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = sonde.harvest("m", texts(60), site=SITE, out="acts")
    assert store.facts.model.name == str(tmp_path / "here" / "m")
    vectors = sonde.from_vectors(store.pile(0).vectors(SITE).float(), site=SITE, model="m", out="ready")
    assert vectors.facts.model == store.facts.model
    monkeypatch.chdir(tmp_path / "here" / "m")
    assert load_model(".").ref == store.facts.model
    monkeypatch.chdir(tmp_path / "there")
    assert recorded_model(store.facts.model, of="it").ref == store.facts.model


def test_a_relative_path_of_an_older_manifest_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "m")
    older = replace(load_model(folder).ref, name="m")
    monkeypatch.chdir(tmp_path)
    assert recorded_model(older, of="it").identity == older.id
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(ModelNotFoundError, match=str(tmp_path / "there" / "m")):
        recorded_model(older, of="it")


def test_a_folder_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("m", "./m", "a/b/m"):
        with pytest.raises(ModelNotFoundError, match=str(tmp_path)):
            load_model(name)


def test_a_model_of_the_hub_is_asked_for_by_its_commit(monkeypatch, tmp_path):
    commit, asked = "a" * 40, {}
    here = load_model(write_model(tmp_path / "m"))
    here.identity = commit

    def load(name, **keywords):
        asked.update(keywords, name=name)
        return here

    monkeypatch.setattr("sonde.models.recorded.load_model", load)
    recorded_model(ModelRef("some/model", commit), of="it")
    assert (asked["name"], asked["revision"]) == ("some/model", commit)


def test_the_manifest_of_a_store_has_the_models_id(walk):
    facts = json.loads((walk.acts / "manifest.json").read_text())["facts"]["model"]
    assert facts == load_model(walk.model).ref.to_json()
