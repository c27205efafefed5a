"""The page's server: what it answers, what it refuses, and that the page's types are those of the server."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

import sonde
from sonde.dictionaries.l1 import L1
from sonde.features.index import load_index
from sonde.features.labels import Score
from sonde.web.app import make_app
from sonde.web.guard import SECURITY_POLICY
from sonde.web.schema import openapi
from tests.tiny import texts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(walk):
    return TestClient(make_app(load_index(walk.index), "cpu"), raise_server_exceptions=False)


CHAT = "/v1/chat/completions"


def ask(content="who?", edits=(), **more):
    messages = [{"role": "user", "content": content}]
    return {"messages": messages, "edits": list(edits), "max_tokens": 8, "temperature": 0} | more


def answered(response):
    return response.json()["choices"][0]["message"]["content"]


def test_the_index_and_its_features(client, walk):
    info = client.get("/api/index").json()
    assert info["n_features"] == 64 and info["can_chat"] and info["site"] == "layers.1.residual"
    page = client.get("/api/features", params={"offset": 60, "limit": 50}).json()
    assert page["total"] == 64 and [row["feature"] for row in page["features"]] == [60, 61, 62, 63]
    dense = client.get("/api/features", params={"sort": "density", "descending": True}).json()["features"]
    assert [row["density"] for row in dense] == sorted((row["density"] for row in dense), reverse=True)
    found = client.get("/api/features", params={"query": "bridge"}).json()
    assert found["total"] and all(
        any("bridge" in piece["text"] for piece in row["example"]["pieces"]) or row["example"]
        for row in found["features"]
    )
    assert client.get("/api/features", params={"query": '"*('}).json()["total"] == 0


def test_a_feature_with_its_examples(client, walk):
    index = load_index(walk.index)
    number = int(index.statistics["density"].argmax())
    view = client.get(f"/api/features/{number}").json()
    assert view["maximum"] == pytest.approx(index.feature(number).maximum)
    example = view["examples"][0]
    assert "".join(piece["text"] for piece in example["pieces"]) == index.examples(number, 1)[0].text
    assert len(view["top_logits"]) == 10


def test_the_start_tells_how_good_the_dictionary_is(client, walk):
    index = load_index(walk.index)
    start = client.get("/api/start").json()
    figures = {figure["name"]: figure["value"] for figure in start["figures"]}
    assert figures["Dead features"] == index.facts.dead and 0 < figures["Variance explained"] < 1
    assert sum(bin["count"] for bin in start["densities"]) == int((index.statistics["count"] > 0).sum())
    for bin in start["densities"]:
        density = index.statistics["density"]
        assert bin["count"] == ((density >= bin["low"] * (1 - 1e-9)) & (density < bin["high"] * (1 - 1e-9))).sum()
    assert [point["step"] for point in start["curve"]] == sorted({point["step"] for point in start["curve"]})
    assert 1 <= len(start["featured"]) <= 6


def test_an_index_of_a_dictionary_in_memory_is_shown_without_a_quality(walk, tmp_path):
    dictionary = L1(8, 32).at("layers.1.residual")
    torch.nn.init.normal_(dictionary.W_enc)
    index = sonde.index(walk.model, dictionary, texts(20), out=tmp_path / "index", device="cpu")
    client = TestClient(make_app(index, "cpu"))
    info = client.get("/api/index").json()
    assert (info["kind"], info["fvu"], info["n_features"]) == ("l1", None, 8)
    start = client.get("/api/start").json()
    assert {figure["name"]: figure["value"] for figure in start["figures"]} == {
        "Features on a token": index.facts.l0,
        "Dead features": index.facts.dead,
    }
    assert start["curve"] == []


def test_a_measurement_is_shown_where_there_is_one(walk, tmp_path):
    shutil.copytree(walk.topk, tmp_path / "topk", ignore=shutil.ignore_patterns("measurement.json"))
    index = sonde.index(None, tmp_path / "topk", walk.corpus, tokens=2000, out=tmp_path / "index", device="cpu")
    client = TestClient(make_app(index, "cpu"))
    assert all(figure["name"] != "Loss recovered" for figure in client.get("/api/start").json()["figures"])
    sonde.measure(tmp_path / "topk", device="cpu")
    shown = {figure["name"]: figure for figure in client.get("/api/start").json()["figures"]}
    assert "not trained on" in shown["Variance explained"]["says"] and shown["Loss recovered"]["value"] <= 1


@pytest.mark.parametrize("name", ["density", "maximum", "mean", "same_word"])
def test_features_are_bounded_and_ordered_by_their_statistics(client, walk, name):
    statistics = load_index(walk.index).statistics[name]
    low, high = (float(bound) for bound in sorted(statistics)[10:50:39])
    asked = {f"{name}_min": low, f"{name}_max": high, "sort": name, "descending": True, "limit": 200}
    found = client.get("/api/features", params=asked).json()
    values = [row[name] for row in found["features"]]
    assert found["total"] == len(values) == ((statistics >= low) & (statistics <= high)).sum()
    assert values == sorted(values, reverse=True)
    del asked["limit"]
    assert client.get("/api/numbers", params=asked).json() == {
        "numbers": [row["feature"] for row in found["features"]],
        "more": False,
    }


def test_a_search_that_gives_only_its_best_says_so(client, monkeypatch):
    monkeypatch.setattr("sonde.web.api.features.MAX_FOUND", 5)

    def ask(**asked):
        found = client.get("/api/features", params=asked).json()
        numbers = client.get("/api/numbers", params=asked).json()
        assert numbers["more"] == found["more"] and len(numbers["numbers"]) == found["total"]
        return found["total"], found["more"]

    assert ask() == (64, False)
    assert ask(query="3", by="like") == (5, True)
    assert ask(query="the") == (5, True)
    assert ask(query="zzzz") == (0, False)
    total, more = ask(query="3", by="like", maximum_min=0.5)
    assert total <= 5 and more
    monkeypatch.setattr("sonde.web.api.features.MAX_FOUND", 64)
    assert ask(query="3", by="like") == (64, False)


def test_features_are_found_by_number_by_text_and_by_likeness(client, walk):
    index = load_index(walk.index)

    def ask(**asked):
        return [row["feature"] for row in client.get("/api/features", params=asked).json()["features"]]

    assert ask(query="7")[0] == 7
    text = "Anna goes to town"
    hits = sonde.Reader(index, device="cpu").search(text, n=50)
    assert ask(query=text, by="text") == [hit.feature.number for hit in hits]
    assert ask(query="7", by="like")[1:] == [hit.feature.number for hit in index.feature(7).neighbours(49)]
    numbers = ", ".join(map(str, index.directions[7].tolist()))
    assert ask(query=f"[{numbers}]", by="vector") == ask(query="7", by="like")
    for query in ("1, 2", "one", "nan", "1e100", "inf " * len(index.directions[7])):
        refused = client.get("/api/features", params={"query": query, "by": "vector"})
        assert refused.status_code == 404 and "direction" in refused.json()["error"]
    for query, status in (("64", 404), ("seven", 404)):
        assert client.get("/api/features", params={"query": query, "by": "like"}).status_code == status


def test_neurons_are_told_where_they_are_known(walk, tmp_path):
    from sonde.analysis.neurons import neurons

    index = load_index(shutil.copytree(walk.index, tmp_path / "i"))
    client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
    refused = client.get("/api/features", params={"neuron_max": 0.3})
    assert refused.status_code == 400 and "sonde neurons" in refused.json()["error"]
    found = neurons(sonde.Reader(index, device="cpu"))
    number = int(abs(found.correlation).argmax())
    assert client.get("/api/index").json()["has_neurons"]
    shown = client.get(f"/api/features/{number}").json()["neuron"]
    assert shown["neuron"] == found.neuron[number] and shown["correlation"] == pytest.approx(found.correlation[number])
    few = client.get("/api/features", params={"neuron_min": abs(found.correlation[number]) - 1e-6}).json()
    assert few["features"][0]["feature"] == number


def test_a_feature_on_a_text(client, walk):
    text = "Anna goes to town and sees the bridge."
    fired = sonde.Reader(walk.index, device="cpu").read(text)
    number = int(fired.feature[fired.value.argmax()])
    found = client.post(f"/api/features/{number}/activations", json={"text": text}).json()
    assert found["pieces"] == list(fired.pieces) and found["values"] == pytest.approx(fired.of(number).tolist())
    assert client.post("/api/features/64/activations", json={"text": text}).status_code == 404
    assert client.post("/api/features/6/activations", json={"text": " "}).status_code in (200, 400)


def test_two_texts_are_held_against_each_other(client, walk):
    one, other = "Anna goes to town.", "the red bridge"
    found = client.post("/api/read", json={"text": one, "unlike": other}).json()
    turned = client.post("/api/read", json={"text": other, "unlike": one}).json()
    assert "".join(found["other_pieces"]) == other
    assert found["other_features"] == turned["features"] and turned["other_features"] == found["features"]
    for hit in found["features"]:
        assert hit["score"] == pytest.approx(max(hit["values"]) - max(hit["other_values"]), abs=1e-4)
    maxima = load_index(walk.index).statistics["maximum"]
    fired = sonde.Reader(walk.index, device="cpu").read(one)
    for place, hits in enumerate(found["strongest"]):
        own = fired.position == place
        most = (fired.value[own] / maxima[fired.feature[own]]).max(initial=0)
        assert (hits[0]["value"] if hits else 0) == pytest.approx(most, rel=1e-3)
        assert [hit["value"] for hit in hits] == sorted((hit["value"] for hit in hits), reverse=True)


def test_a_map_is_served_where_there_is_one(client, walk, tmp_path):
    assert client.get("/api/map").status_code == client.get("/api/map/points").status_code == 400
    assert "sonde map" in client.get("/api/map").json()["error"]
    index = load_index(shutil.copytree(walk.index, tmp_path / "i"))
    place_by_hand(index)
    client = TestClient(make_app(index, "cpu"))
    assert [(c["name"], c["count"]) for c in client.get("/api/map").json()["clusters"]] == [("even", 32), ("odd", 32)]
    columns = np.frombuffer(client.get("/api/map/points").content, dtype="<f4").reshape(4, 64)
    np.testing.assert_array_equal(columns[0], np.arange(64))
    np.testing.assert_array_equal(columns[2].view("<i4"), np.arange(64) % 2)
    np.testing.assert_allclose(columns[3], index.statistics["density"], rtol=1e-6)


def place_by_hand(index):
    """A map without umap: features in a row, in two clusters."""
    position = np.stack([np.arange(64), np.arange(64) % 7], axis=1).astype(np.float32)
    save_file({"position": position, "cluster": np.arange(64, dtype=np.int32) % 2}, index.folder / "map.safetensors")
    (index.folder / "map.json").write_text('{"clusters": ["even", "odd"], "seed": 0, "with": 0}')


def test_doses_are_asked_for(client, walk):
    number = int(load_index(walk.index).statistics["maximum"].argmax())
    edit = {"op": "clamp", "feature": number, "value": 3, "unit": "max"}
    found = client.post(
        "/api/dose", json={"question": "who?", "edits": [edit], "doses": [0.5, 10], "max_tokens": 8}
    ).json()
    assert [one["dose"] for one in found] == [None, 0.5, 10]
    assert found[0]["answer"] == answered(client.post(CHAT, json=ask()))
    assert found[2]["answer"] == answered(client.post(CHAT, json=ask(edits=[edit | {"value": 30}])))
    for wrong in ({"doses": []}, {"doses": [-1]}, {"edits": []}, {"question": ""}, {"max_tokens": 10**6}):
        body = {"question": "who?", "edits": [edit], "doses": [1]} | wrong
        assert client.post("/api/dose", json=body).status_code == 422


def test_dictionaries_of_several_sizes_lead_to_each_other(sizes):
    from sonde.analysis.splitting import splitting

    small, large = load_index(sizes / "small"), load_index(sizes / "large")
    client = TestClient(make_app(small, "cpu"), raise_server_exceptions=False)
    info = client.get("/api/index").json()
    assert [(size["name"], size["here"]) for size in info["sizes"]] == [("small", True), ("large", False)]
    beside = client.get("/at/large/api/index").json()
    assert beside["n_features"] == 96 and [size["here"] for size in beside["sizes"]] == [False, True]
    tree = splitting(small, large)
    assert tree.children
    parent, children = next(iter(tree.children.items()))
    shown = client.get(f"/api/features/{parent}").json()["kin"]
    assert [(one["relation"], one["feature"]) for one in shown] == [("child", c.feature.number) for c in children][:12]
    back = client.get(f"/at/large/api/features/{shown[0]['feature']}").json()["kin"]
    assert [(one["relation"], one["size"], one["feature"]) for one in back] == [("parent", "small", parent)]
    assert client.get("/at/large/api/features/96").status_code == 404
    assert client.get("/at/nothing/api/index").status_code == 404
    assert client.get("/at/large/api/index", headers={"Host": "evil.example"}).status_code == 400


def test_labels_and_notes(walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "i"))
    client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
    evidence = {
        "words": [["dollar", 0.8], ["euro", 0.1]],
        "near": [["the", 0.6, 0.004]],
        "start of text": 0.0,
        "examples": 10,
    }
    index.labels.add(5, "first", by="embedded", evidence=evidence)
    index.labels.add_score(
        Score(5, "first", "detection", "openai:x", 0.9, {"chance": 0.5, "another feature's label": 0.4})
    )
    view = client.get("/api/features/5").json()
    assert view["scores"] == [{"score": "detection", "value": 0.9, "chance": 0.5, "control": 0.4, "by": "openai:x"}]
    assert view["labels"][0]["because"] == [
        "fires at dollar (80% of its activation), euro (10% of its activation)",
        "near the (60% of its examples, 0.4% of other text)",
        "from 10 examples of every strength",
    ]
    said = client.post("/api/features/5/label", json={"text": " a better  one "}).json()
    assert said["label"] == "a better one" and said["by"] == "person" and said["because"] == []
    assert client.post("/api/features/5/note", json={"text": "see 6"}).json() == ["see 6"]
    view = client.get("/api/features/5").json()
    assert [one["label"] for one in view["labels"]] == ["a better one", "first"]
    assert view["notes"] == ["see 6"] and view["scores"] == []  # they were of another label
    assert client.get("/api/features", params={"query": "better"}).json()["features"][0]["label"] == "a better one"
    assert client.post("/api/features/99/label", json={"text": "x"}).status_code == 404
    for bad in ({"text": ""}, {"text": "x" * 1001}, {"text": 3}, {}, {"text": "x", "more": 1}):
        assert client.post("/api/features/5/label", json=bad).status_code == 422
    assert client.post("/api/features/5/label", json={"text": "  "}).status_code == 400


def test_a_text_is_read(client, walk):
    text = "Anna goes to town and sees the bridge."
    found = client.post("/api/read", json={"text": text, "on": "mean", "n": 5}).json()
    assert "".join(found["pieces"]) == text
    hits = sonde.Reader(walk.index, device="cpu").search(text, on="mean", n=5)
    assert [hit["feature"] for hit in found["features"]] == [hit.feature.number for hit in hits]
    for hit in found["features"]:
        assert len(hit["values"]) == len(found["pieces"])
        assert sum(hit["values"]) / len(hit["values"]) == pytest.approx(hit["score"], abs=1e-4)
    assert client.post("/api/read", json={"text": text, "unlike": text}).json()["features"] == []


def test_answers_with_and_without_edits(client, walk):
    number = int(load_index(walk.index).statistics["maximum"].argmax())
    plain = answered(client.post(CHAT, json=ask()))
    edit = {"op": "clamp", "feature": number, "value": 30, "unit": "max"}
    edited = answered(client.post(CHAT, json=ask(edits=[edit])))
    assert plain != edited
    assert answered(client.post(CHAT, json=ask())) == plain


def test_presets_are_kept_by_the_page_too(walk, tmp_path):
    client = TestClient(make_app(load_index(shutil.copytree(walk.index, tmp_path / "i")), "cpu"))
    assert client.get("/api/presets").json() == []
    made = client.post("/api/presets", json={"name": "turned", "edits": ["feature:3=2max", "feature:4=0"]})
    assert (
        made.json()
        == [{"name": "turned", "edits": ["feature:3=2max", "feature:4=0"]}]
        == client.get("/api/presets").json()
    )
    for bad, message in (
        ({"name": "No Name", "edits": ["feature:3=1"]}, "cannot be named"),
        ({"name": "x", "edits": ["nonsense"]}, "cannot read"),
    ):
        refused = client.post("/api/presets", json=bad)
        assert refused.status_code == 400 and message in refused.json()["error"]
    client.post("/api/presets", json={"name": "мост", "edits": ["feature:3=1"]})
    left = client.delete("/api/presets/мост").json()
    assert left == made.json()
    gone = client.delete("/api/presets/мост")
    assert gone.status_code == 400 and "no preset" in gone.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("get", "/api/features/64", None, 404, "features 0 to 63"),
        ("get", "/api/features/-1", None, 422, "must be 0 or more"),
        ("get", "/api/features/x", None, 422, "number"),
        ("get", "/api/features?limit=100000", None, 422, "limit"),
        ("get", "/api/features?sort=colour", None, 422, "sort"),
        ("post", "/api/read", {"text": ""}, 422, "text"),
        ("post", "/api/read", {"text": "a", "on": "first"}, 422, "on"),
        ("post", "/api/read", {"text": "x" * 100_000}, 422, "text"),
        ("get", "/api/features/3?by=best", None, 422, "by"),
        ("post", CHAT, {}, 400, "messages"),
        ("post", CHAT, ask("x" * 100_000), 400, "content"),
        ("post", CHAT, ask("x" * 2_000_000), 413, "bytes at most"),
        ("post", CHAT, ask("x" * 5000), 400, "context holds 64; say less"),
        ("post", CHAT, ask(edits=[{"op": "clamp", "feature": 64, "value": 1}]), 400, "features 0 to 63"),
        ("post", CHAT, ask(edits=[{"op": "clamp", "feature": 1}, {"op": "ablate", "feature": 1}]), 400, "set twice"),
        ("post", CHAT, ask(edits=[{"op": "explode", "feature": 1}]), 400, "op"),
        ("post", CHAT, ask(unknown=1), 400, "unknown"),
        ("post", CHAT, ask(max_tokens=0), 400, "max_tokens"),
        ("get", "/api/nothing", None, 404, ""),
    ],
)
def test_wrong_requests_are_one_clear_line(client, method, path, body, status, message):
    response = client.request(method, path, json=body)
    assert response.status_code == status, response.text
    if message:
        error = response.json()["error"]
        said = error["message"] if isinstance(error, dict) else error
        assert message in said and "\n" not in said


def test_a_model_that_cannot_chat_says_why(walk, tmp_path):
    import sonde
    from tests.tiny import texts, write_model

    model = write_model(tmp_path / "m", "bert")
    store = sonde.harvest(model, texts(40), site="layers.0.residual", out=tmp_path / "a")
    sonde.train(store, n_features=16, k=2, tokens=500, batch_size=64, out=tmp_path / "d", device="cpu")
    index = sonde.index(None, tmp_path / "d", texts(10), out=tmp_path / "i", device="cpu")
    client = TestClient(make_app(index, "cpu"))
    info = client.get("/api/index").json()
    assert not info["can_chat"] and "no causal language-model head" in info["why_no_chat"]
    assert client.post(CHAT, json=ask()).status_code == 400


def test_the_server_keeps_to_itself(client):
    response = client.get("/api/index")
    assert response.headers["Content-Security-Policy"] == SECURITY_POLICY
    assert client.get("/api/index", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api/index", headers={"Host": "evil.example:8321"}).status_code == 400
    assert client.get("/api/index", headers={"Host": "localhost:8321"}).status_code == 200
    assert (
        "access-control-allow-origin" not in client.get("/api/index", headers={"Origin": "http://evil.example"}).headers
    )
    for path in ("/../pyproject.toml", "/..%2f..%2fapp.py", "/%2e%2e/app.py", "/assets/../../app.py"):
        assert client.get(path).status_code == 404


def test_the_types_of_the_page_are_those_of_the_server():
    """After a change of web/wire.py: python -m sonde.web.schema > frontend/openapi.json"""
    assert (ROOT / "frontend/openapi.json").read_text(encoding="utf-8") == openapi()


def test_pictures_are_served_as_the_model_saw_them(pictures):
    index = load_index(pictures.index)
    client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
    views = (client.get(f"/api/features/{number}").json() for number in range(index.n_features))
    example = next(example for view in views for example in view["examples"] if example["pictures"])
    picture = example["pictures"][0]
    assert len(picture["values"]) == picture["rows"] * picture["columns"] == 16
    assert example["pieces"][picture["piece"]]["text"] == "<image>"
    answer = client.get(f"/api/pictures/{example['document']}/{picture['number']}")
    assert answer.headers["content-type"] == "image/webp" and answer.content[8:12] == b"WEBP"
    assert answer.headers["content-security-policy"] == SECURITY_POLICY
    for path, status in (("0/7", 404), ("99999/0", 404), ("-1/0", 422), ("x/0", 422), (f"{2**70}/0", 422)):
        refused = client.get(f"/api/pictures/{path}")
        assert refused.status_code == status and refused.json()["error"], path
