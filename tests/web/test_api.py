"""The page's server: what it answers, what it refuses, and that the page's types are those of the server."""

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import sonde
from sonde.features.labels import Score
from sonde.features.store import load_index
from sonde.web.app import SECURITY_POLICY, make_app
from sonde.web.schema import openapi

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
    dense = client.get("/api/features", params={"sort": "density"}).json()["features"]
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


def test_labels_and_notes(walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "i"))
    client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
    index.labels.say(5, "first", by="embedded")
    index.labels.add_score(
        Score(5, "first", "detection", "openai:x", 0.9, {"chance": 0.5, "another feature's label": 0.4})
    )
    view = client.get("/api/features/5").json()
    assert view["scores"] == [{"score": "detection", "value": 0.9, "chance": 0.5, "control": 0.4, "by": "openai:x"}]
    said = client.post("/api/features/5/label", json={"text": " a better  one "}).json()
    assert said["label"] == "a better one" and said["by"] == "person"
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


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("get", "/api/features/64", None, 404, "features 0 to 63"),
        ("get", "/api/features/-1", None, 404, "there is no feature -1"),
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
        ("post", CHAT, ask(max_tokens=10**9), 400, "max_tokens"),
        ("get", "/api/nothing", None, 404, ""),
    ],
)  # fmt: skip
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
