"""OpenAI's protocol: its own client works unchanged, edits and presets apply, and errors have its shape."""

import base64
import json
import shutil
import threading
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from sonde.errors import EditError
from sonde.features.index import load_index
from sonde.models.load import load_config, load_model
from sonde.models.token_text import TokenTexts
from sonde.steering.apply import make_edits
from sonde.steering.edits import Edit
from sonde.steering.group import shares_batches
from sonde.steering.presets import load_presets, remove_preset, save_preset
from sonde.steering.vectors import save_vector
from sonde.web.app import make_app
from tests.known import known
from tests.tiny import write_picture
from tests.web.serving import served

EDITS = ["feature:3=9", "feature:5+=4@answer"]
QUESTION = [{"role": "user", "content": "who?"}]


@pytest.fixture(scope="module")
def folder(walk, tmp_path_factory):
    folder = shutil.copytree(walk.index, tmp_path_factory.mktemp("serving") / "i")
    save_preset(folder, "turned", EDITS)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    return TestClient(make_app(load_index(folder), "cpu"), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def truth(walk, folder):
    """What the model says by `generate`, plain and under the edits."""
    model, index = load_model(walk.model, device="cpu"), load_index(folder)
    asked = model.chat_tokens(QUESTION)
    plain = model.generate(asked, 10)
    with model.edited(*make_edits(EDITS, index)):
        return plain, model.generate(asked, 10)


def ask(client, **more):
    body = {"messages": QUESTION, "max_tokens": 10, "temperature": 0} | more
    return client.post("/v1/chat/completions", json=body)


def said(response):
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def test_edits_and_presets_answer_as_generate_does(client, truth):
    plain, turned = truth
    assert plain != turned
    assert said(ask(client)) == plain
    assert said(ask(client, edits=EDITS)) == turned
    assert (
        said(
            ask(
                client,
                edits=[
                    {"op": "clamp", "feature": 3, "value": 9},
                    {"op": "add", "feature": 5, "value": 4, "where": "answer"},
                ],
            )
        )
        == turned
    )
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names == ["model", "model#turned"]
    assert said(ask(client, model="model#turned")) == turned and said(ask(client, model="model")) == plain
    whole = ask(client, model="model#turned").json()
    assert whole["object"] == "chat.completion" and whole["model"] == "model#turned"
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 10
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 10


def test_a_stream_says_the_same(client, truth):
    response = ask(client, stream=True, edits=EDITS, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert text == truth[1]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length" and chunks[-1]["usage"]["completion_tokens"] == 10
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_edits_of_every_target_as_text_and_as_objects(client, walk, folder):
    """A vector of the index's folder, a set of features and a neuron: answers equal those of `generate`."""
    index, model = load_index(folder), load_model(walk.model, device="cpu")
    prompt = model.tokenize("the red")
    save_vector(folder / "own.safetensors", torch.randn(32), site="layers.1.residual", norm=9.0)
    for text in ("vector:own.safetensors+=2norm", "features:3,9=8@answer", "neuron:layers.1.residual/7=30"):
        with model.edited(*make_edits(text, index)):
            ids = model.generate_ids(prompt, 12)[0, prompt.ids.shape[1] :].tolist()
        texts = TokenTexts(model.require_tokenizer())
        expected = [
            f"bytes:{name}" if name.startswith("\\x") else name for name in map(texts.name, ids) if name != "</s>"
        ]
        for edit in (text, Edit.parse(text).to_json()):
            body = {"prompt": "the red", "max_tokens": 12, "temperature": 0, "logprobs": 1, "edits": [edit]}
            response = client.post("/v1/completions", json=body).json()
            assert response["choices"][0]["logprobs"]["tokens"] == expected


def test_choices_seeds_stops_and_logprobs(client):
    several = ask(client, n=3, temperature=1.0, seed=5, logprobs=True, top_logprobs=2).json()["choices"]
    assert [choice["index"] for choice in several] == [0, 1, 2]
    assert (
        ask(client, temperature=1.0, seed=6).json()["choices"][0]["message"]["content"]
        == several[1]["message"]["content"]
    )
    told = several[0]["logprobs"]["content"]
    assert len(told) == 10 and all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in told)
    text = client.post(
        "/v1/completions", json={"prompt": "the red", "max_tokens": 12, "temperature": 0, "logprobs": 1}
    ).json()
    whole = text["choices"][0]["text"]
    assert text["object"] == "text_completion" and len(text["choices"][0]["logprobs"]["tokens"]) == 12
    stop = whole[4:6]
    cut = client.post(
        "/v1/completions", json={"prompt": "the red", "max_tokens": 12, "temperature": 0, "stop": [stop]}
    ).json()
    assert cut["choices"][0]["text"] == whole[: whole.index(stop)] and cut["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, 400, "role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "reads no pictures",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, "input_audio"),
        ({"messages": QUESTION, "temperature": 3}, 400, "temperature"),
        ({"messages": QUESTION, "tools": [{"type": "function"}]}, 400, "'tools' is not supported"),
        ({"messages": QUESTION, "presence_penalty": 3}, 400, "presence_penalty"),
        ({"messages": QUESTION, "frequency_penalty": -3}, 400, "frequency_penalty"),
        ({"messages": QUESTION, "repetition_penalty": 1.2}, 400, "'repetition_penalty' is not supported"),
        ({"messages": QUESTION, "nonsense": 1}, 400, "nonsense"),
        ({"messages": QUESTION, "edits": ["feature:999=1"]}, 400, "no feature 999"),
        ({"messages": QUESTION, "edits": ["feature:1=1", "feature:1=2"]}, 400, "set twice"),
        ({"messages": QUESTION, "edits": ["nonsense"]}, 400, "cannot read the edit"),
        ({"messages": QUESTION, "edits": ["feature:1=1@promt"]}, 400, "did you mean prompt"),
        ({"messages": QUESTION, "edits": [{"op": "clmp", "feature": 1}]}, 400, "'clamp'"),
        (
            {"messages": QUESTION, "edits": [{"op": "scale", "feature": 1, "value": 2, "unit": "max"}]},
            400,
            "plain factor",
        ),
        ({"messages": QUESTION, "edits": [{"op": "add", "feature": 1, "neuron": "a/1"}]}, 400, "one target"),
        ({"messages": QUESTION, "edits": [{"op": "add", "feature": 1, "valu": 1}]}, 400, "valu"),
        ({"messages": QUESTION, "edits": ["vector:/etc/x.safetensors=0"]}, 400, "outside the index"),
        ({"messages": QUESTION, "edits": ["vector:../x.safetensors=0"]}, 400, "outside the index"),
        ({"messages": QUESTION, "edits": ["neuron:layers.1.residual/999=0"]}, 400, "no dimension 999"),
        ({"messages": QUESTION, "edits": ["neuron:layers.1.residul/9=0"]}, 400, "did you mean layers.1.residual"),
        ({"messages": QUESTION, "model": "gpt-9"}, 404, "there is no model 'gpt-9'"),
        ({"messages": QUESTION, "model": "model#other"}, 404, "model#turned"),
        ({"messages": [{"role": "user", "content": "a b c " * 100}]}, 400, "context holds"),
        ({"messages": QUESTION, "max_tokens": 0}, 400, "max_tokens"),
    ],
)
def test_what_is_wrong_is_said_in_the_protocols_shape(client, body, status, message):
    response = client.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert response.status_code == status and message in error["message"], response.text
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"


def test_what_asks_for_nothing_is_taken(client):
    assert (
        ask(client, user="me", presence_penalty=0, tools=[], response_format={"type": "text"}, metadata={}).status_code
        == 200
    )


def test_penalties_keep_an_answer_from_repeating_itself(client):
    asked = {"prompt": "the red", "max_tokens": 12, "temperature": 0, "logprobs": 1}
    for name in ("presence_penalty", "frequency_penalty"):
        [choice] = client.post("/v1/completions", json=asked | {name: 2}).json()["choices"]
        [loud] = client.post("/v1/completions", json=asked | {name: -2}).json()["choices"]
        assert len(set(choice["logprobs"]["tokens"])) > len(set(loud["logprobs"]["tokens"])), name


def test_the_official_client_works_unchanged(folder, truth):
    openai = pytest.importorskip("openai")
    with served(folder) as address:
        client = openai.OpenAI(base_url=f"{address}v1", api_key="none")
        assert [model.id for model in client.models.list()] == ["model", "model#turned"]
        given = {"messages": QUESTION, "max_tokens": 10, "temperature": 0}
        answer = client.chat.completions.create(model="model#turned", **given)
        assert answer.choices[0].message.content == truth[1] and answer.usage.completion_tokens == 10
        answer = client.chat.completions.create(model="model", extra_body={"edits": EDITS}, **given)
        assert answer.choices[0].message.content == truth[1]
        stream = client.chat.completions.create(model="model", stream=True, **given)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == truth[0]
        with pytest.raises(openai.NotFoundError, match="no model"):
            client.chat.completions.create(model="other", **given)
        with pytest.raises(openai.BadRequestError, match="context holds"):
            client.completions.create(model="model", prompt="a b c " * 100)


def test_many_at_once_get_what_each_would_alone(folder, truth):
    import httpx2

    with served(folder) as address:
        found = {}

        def one(number):
            body = {"messages": QUESTION, "max_tokens": 10, "temperature": 0, "edits": EDITS if number % 2 else []}
            with httpx2.Client(timeout=60) as client:
                if number % 5 == 4:  # gone before the answer is there
                    with client.stream(
                        "POST", f"{address}v1/chat/completions", json=body | {"stream": True}
                    ) as response:
                        next(response.iter_lines())
                    return
                found[number] = client.post(f"{address}v1/chat/completions", json=body).json()["choices"][0]["message"][
                    "content"
                ]

        threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 16
        assert all(answer == truth[number % 2] for number, answer in found.items())


def test_a_token_is_wanted_where_one_is_set(folder):
    client = TestClient(make_app(load_index(folder), "cpu", name="box.local", token="secret"))
    wrong: list[Any] = [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer sécret".encode()}]
    for headers in wrong:
        assert client.get("/v1/models", headers=headers).status_code == 401
    right = {"authorization": "Bearer secret"}
    assert client.get("/v1/models", headers=right).status_code == 200
    assert client.get("/v1/models", headers=right | {"host": "box.local:8321"}).status_code == 200
    assert client.get("/v1/models", headers=right | {"host": "evil.example"}).status_code == 400


def test_presets_are_kept_changed_and_refused(tmp_path):
    assert load_presets(tmp_path) == {}
    save_preset(tmp_path, "one", ["feature:1=2max"])
    save_preset(tmp_path, "one", ["feature:1=3"])
    assert [str(edit) for edit in load_presets(tmp_path)["one"]] == ["feature:1=3"]
    for name in ("", "One", "a b", "../x", "-a", "a_b", "x" * 41, "e\u0301", "Ä"):
        with pytest.raises(EditError, match="cannot be named"):
            save_preset(tmp_path, name, ["feature:1=2"])
    with pytest.raises(EditError, match="no edits"):
        save_preset(tmp_path, "two", [])
    with pytest.raises(EditError, match="did you mean one"):
        remove_preset(tmp_path, "ones")
    remove_preset(tmp_path, "one")
    names = {"brücke-2", "мост", "橋", "पुल-की"}
    for name in names:
        save_preset(tmp_path, name, ["feature:1=2"])
    assert set(load_presets(tmp_path)) == names


def test_pictures_are_sent_and_answered_under_edits(pictures, tmp_path):
    """An answer to a picture that came as a data URL is the one that `generate` gives to the file."""
    index = load_index(pictures.index)
    model = load_model(pictures.model, device="cpu")
    client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
    edits = [f"feature:{int(index.statistics['maximum'].argmax())}=8max"]
    answers = set()
    for seed in (1, 2):
        path = write_picture(tmp_path / f"{seed}.png", seed)
        url = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]
        asked = model.chat_tokens(
            [{"role": "user", "content": f"what?\n{known(model.pictures).image_token}", "images": [path]}]
        )
        for given in ([], edits):
            with model.edited(*make_edits(given, index)):
                expected = model.generate(asked, 10)
            found = said(ask(client, messages=[{"role": "user", "content": content}], edits=given))
            whole = [text.replace("\ufffd", "").strip() for text in (found, expected)]
            assert whole[0] == whole[1]
            answers.add((seed, bool(given), found))
    assert len({found for _, _, found in answers}) > 1
    for url, words in (
        ("https://example.com/x.png", "not fetched"),
        ("data:image/png;base64,%%%", "base64"),
        ("data:image/png;base64," + base64.b64encode(b"no picture").decode(), "cannot be read"),
        ("data:text/plain;base64,aGk=", "not fetched"),
    ):
        content = [{"type": "image_url", "image_url": {"url": url}}]
        refused = ask(client, messages=[{"role": "user", "content": content}])
        assert refused.status_code == 400 and words in refused.json()["error"]["message"], refused.text


def test_the_list_of_models_says_whether_answers_share_batches(client, tmp_path, walk):
    assert [one["batched"] for one in client.get("/v1/models").json()["data"]] == [True, True]
    from tests.tiny import write_model

    config = load_config(write_model(tmp_path / "gemma", "gemma2"))
    assert not shares_batches(config) and shares_batches(load_config(walk.model))
