"""What clients of the protocol bring, and what they read from its answers."""

import json
from typing import Any

import pytest
from tokenizers import normalizers

from sonde.steering.presets import save_preset
from sonde.steering.session import Session
from tests.tiny import make_model, make_pieces, make_tokenizer
from tests.web.serving import make_client, make_parrot

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTION = [{"role": "user", "content": "who?"}]
LETTERS = "a🌉b\u2028c\u0085é日"
"""letters of several bytes, and ends of lines by Unicode"""


@pytest.fixture(scope="module")
def parrot(tmp_path_factory):
    """A client of a model that says LETTERS, byte by byte."""
    folder, tokenizer = tmp_path_factory.mktemp("parrot"), make_tokenizer()
    says = tokenizer(LETTERS, add_special_tokens=False)["input_ids"]
    assert len(set(says)) == len(says)
    return make_client(folder / "index", make_parrot(folder / "model", tokenizer, says))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A client of a model with a mark for the space before words, that says " stands by bay"."""
    folder = tmp_path_factory.mktemp("words")
    tokenizer: Any = make_pieces()
    says = [tokenizer.convert_tokens_to_ids("\u2581" + word) for word in ("stands", "by", "bay")]
    return make_client(folder / "index", make_parrot(folder / "model", tokenizer, says))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a random model; names of folders have what addresses give a meaning."""
    folder = tmp_path_factory.mktemp("clients")
    model = make_model("llama")
    network: Any = model.network
    network.save_pretrained(folder / "tiny #1")
    make_tokenizer().save_pretrained(folder / "tiny #1")
    return make_client(folder / "index #1? %41 🌉", folder / "tiny #1")


def choice(client, path, **asked):
    body = ({"messages": QUESTION} if path == CHAT else {"prompt": "x"}) | {"temperature": 0, "max_tokens": 40} | asked
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


def events(client, path, **asked):
    """The first choice of each event, read as clients do that split at every end of a line."""
    body = ({"messages": QUESTION} if path == CHAT else {"prompt": "x"}) | {"temperature": 0, "max_tokens": 40} | asked
    lines = client.post(path, json=body | {"stream": True}).text.splitlines()
    return [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines if line.startswith("data: {")]


def test_letters_of_several_bytes_are_whole_in_every_kind_of_answer(parrot):
    assert choice(parrot, TEXT)["text"] == LETTERS == choice(parrot, CHAT)["message"]["content"]
    assert "".join(one["text"] for one in events(parrot, TEXT)) == LETTERS
    assert "".join(one["delta"].get("content", "") for one in events(parrot, CHAT)) == LETTERS


def test_events_have_no_end_of_a_line_inside(parrot):
    for path in (CHAT, TEXT):
        text = parrot.post(
            path, json={"messages": QUESTION, "stream": True} if path == CHAT else {"prompt": "x", "stream": True}
        ).text
        assert text.isascii() and text.splitlines() == text.split("\n")[: len(text.splitlines())]


def test_the_bytes_of_all_tokens_are_the_answer(parrot):
    whole = choice(parrot, CHAT, logprobs=True, top_logprobs=3)["logprobs"]["content"]
    streamed = [
        one
        for event in events(parrot, CHAT, logprobs=True, top_logprobs=3)
        for one in (event["logprobs"] or {"content": []})["content"]
    ]
    assert whole == streamed
    assert bytes(byte for one in whole for byte in one["bytes"]).decode() == LETTERS
    assert [one["token"] for one in whole[:6]] == ["a", r"\xf0", r"\x9f", r"\x8c", r"\x89", "b"]
    assert all(one["top_logprobs"][0]["bytes"] == one["bytes"] for one in whole)


def test_a_letter_that_is_cut_off_is_said_to_be_one(parrot):
    """Where the answer ends inside a letter, one U+FFFD stands for it, streamed or not."""
    for n in (2, 3, 4):
        assert choice(parrot, TEXT, max_tokens=n)["text"] == "a\ufffd"
        assert "".join(one["text"] for one in events(parrot, TEXT, max_tokens=n)) == "a\ufffd"


@pytest.mark.parametrize("n", [0, 1, 5])
def test_the_likeliest_tokens_are_as_many_as_were_asked_for_and_the_chosen_is_among_them(client, n):
    """Many of these tokens are bytes of letters, which have no text of their own."""
    told = choice(client, TEXT, prompt="the red", logprobs=n, temperature=1.5, seed=1, max_tokens=20)["logprobs"]
    assert all(n <= len(top) <= n + 1 for top in told["top_logprobs"])
    for name, logprob, top in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True):
        assert top[name] == logprob


def test_offsets_go_on_from_chunk_to_chunk_and_count_letters(parrot, client):
    whole = choice(parrot, TEXT, logprobs=1)["logprobs"]
    assert whole["text_offset"][:6] == [0, 1, 1, 1, 1, 2]
    assert all(
        LETTERS[place] == name
        for name, place in zip(whole["tokens"], whole["text_offset"], strict=True)
        if len(name) == 1
    )
    for one, asked in ((parrot, {}), (client, {"temperature": 0.7, "seed": 1, "max_tokens": 6})):
        expected = choice(one, TEXT, logprobs=1, **asked)["logprobs"]["text_offset"]
        parts = [event["logprobs"]["text_offset"] for event in events(one, TEXT, logprobs=1, **asked)]
        assert sum(parts, []) == expected


def test_offsets_of_several_choices_are_counted_apart(client):
    asked = {"prompt": "the", "max_tokens": 4, "n": 2, "seed": 3, "logprobs": 1}
    whole = client.post(TEXT, json=asked).json()["choices"]
    lines = client.post(TEXT, json=asked | {"stream": True}).text.split("\n")
    parts = {0: [], 1: []}
    for line in lines:
        if line.startswith("data: {"):
            [one] = json.loads(line[6:])["choices"]
            parts[one["index"]] += one["logprobs"]["text_offset"]
    assert [parts[0], parts[1]] == [one["logprobs"]["text_offset"] for one in whole]


def test_the_space_before_a_word_is_kept(words):
    """Prompt and text together are what the tokenizer makes of all tokens; chat leaves out space at both ends."""
    told = choice(words, TEXT, prompt="the red bridge", logprobs=1)
    assert told["text"] == " stands by bay" == "".join(told["logprobs"]["tokens"])
    assert told["logprobs"]["text_offset"] == [0, 7, 10]
    assert "".join(one["text"] for one in events(words, TEXT, prompt="the red bridge")) == " stands by bay"
    assert choice(words, CHAT)["message"]["content"] == "stands by bay"
    assert choice(words, TEXT, prompt="the red bridge", stop=[" by"])["text"] == " stands"


def test_the_space_before_a_word_is_kept_in_the_tables_of_the_index(words):
    index = words.app.state.served.index
    token = make_pieces().convert_tokens_to_ids("\u2581red")
    assert index.text.token(token) == " red" and index.text.token(1) == "<s>"
    pieces = words.post("/api/read", json={"text": "the red bridge"}).json()["pieces"]
    assert pieces == ["the", " red", " bridge"]


@pytest.mark.parametrize("temperature", [1e-5, 1e-20, 1e-38, 1e-39, 1e-45, 1e-300, 5e-324])
def test_a_temperature_near_zero_is_zero(client, temperature):
    for path, read in ((CHAT, lambda one: one["message"]["content"]), (TEXT, lambda one: one["text"])):
        greedy = read(choice(client, path, max_tokens=5))
        assert read(choice(client, path, max_tokens=5, temperature=temperature)) == greedy


@pytest.mark.parametrize("top_p", [0.001, 1e-39, 1e-300])
def test_a_share_near_zero_leaves_the_likeliest(client, top_p):
    greedy = choice(client, TEXT, max_tokens=5)["text"]
    assert choice(client, TEXT, max_tokens=5, temperature=1.0, top_p=top_p)["text"] == greedy


def test_one_model_is_found_by_its_name(client):
    [name] = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert name == "tiny #1"
    assert client.get("/v1/models/tiny%20%231").json() == client.get("/v1/models").json()["data"][0]
    save_preset(client.app.state.served.index.folder, "turned", ["feature:1=1"])
    for known in (name, f"{name}#turned"):
        assert choice(client, CHAT, model=known, max_tokens=2)
        assert client.get("/v1/models/" + known.replace("#", "%23")).json()["id"] == known
    for unknown in ("other", "tiny ", "tiny #1#other", "tiny #1#"):
        refused = client.get("/v1/models/" + unknown.replace("#", "%23"))
        assert refused.status_code == 404 and refused.json()["error"]["code"] == "model_not_found"


def test_a_conversation_that_clients_send_back_is_taken(client):
    """With a null content, and with all the fields that an answer's message has."""
    answer = choice(client, CHAT, max_tokens=2)["message"]
    told = [*QUESTION, answer | {"tool_calls": None, "function_call": None, "annotations": []}, *QUESTION]
    assert choice(client, CHAT, messages=told, max_tokens=2)
    assert choice(client, CHAT, messages=[*QUESTION, {"role": "assistant", "content": None}, *QUESTION], max_tokens=2)
    for message, words in (
        ({"role": "user", "content": None}, "role user needs content"),
        ({"role": "system"}, "role system needs content"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, "tool calls are not supported"),
        ({"role": "tool", "content": "1"}, "'assistant'"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "messages.0.content.0.text"),
    ):
        refused = client.post(CHAT, json={"messages": [message]})
        assert refused.status_code == 400 and words in refused.json()["error"]["message"], refused.text


def test_prompts_of_every_form(client):
    """A text, ids, and lists of them; each has the answer that it would get alone."""
    model = client.app.state.served.model
    ids = model.tokenize("the red").ids[0].tolist()
    alone = [choice(client, TEXT, prompt=one, max_tokens=4)["text"] for one in ("the red", "a bay")]
    for several, expected in (
        (["the red"], alone[:1]),
        (ids, alone[:1]),
        ([ids], alone[:1]),
        (["the red", "a bay"], alone),
    ):
        answer = client.post(TEXT, json={"prompt": several, "max_tokens": 4, "temperature": 0}).json()
        assert [one["text"] for one in answer["choices"]] == expected
        assert [one["index"] for one in answer["choices"]] == list(range(len(expected)))
    twice = client.post(TEXT, json={"prompt": ["the red", "a bay"], "n": 2, "seed": 1, "max_tokens": 4}).json()[
        "choices"
    ]
    for place, prompt in ((0, "the red"), (2, "a bay")):
        own = client.post(TEXT, json={"prompt": prompt, "n": 2, "seed": 1, "max_tokens": 4}).json()["choices"]
        assert [one["text"] for one in twice[place : place + 2]] == [one["text"] for one in own]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": ["a", ""]}, "the prompt is empty"),
        ({"prompt": [5, "a"]}, "token ids"),
        ({"prompt": [True]}, "token ids"),
        ({"prompt": {"a": 1}}, "token ids"),
        ({"prompt": None}, "token ids"),
        ({"prompt": [5, 99999]}, "there is no token 99,999 in"),
        ({"prompt": [-1]}, "no token -1"),
        ({"prompt": ["a"] * 33}, "too many"),
        ({"prompt": ["a"] * 9, "n": 8}, "n is 8"),
        ({"prompt": list(range(3, 100))}, "context holds"),
        ({"prompt": "a", "stop": list("abcde")}, "stop: there may be 4 at most, not 5"),
        ({"prompt": "a", "stop": [5]}, "stop"),
        ({"prompt": "a", "tool_choice": "required"}, "'tool_choice' is not supported"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "echo": True}, "'echo' is not supported"),
    ],
)
def test_what_is_not_taken_is_said_in_words(client, asked, words):
    refused = client.post(TEXT, json=asked)
    error = refused.json()["error"]
    assert refused.status_code == 400 and words in error["message"] and "\n" not in error["message"], refused.text


HALF = "\ud83c"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (TEXT, {"prompt": HALF}),
        (TEXT, {"prompt": ["a", HALF]}),
        (TEXT, {"prompt": "a", "stop": [HALF]}),
        (TEXT, {"prompt": "a", "model": HALF}),
        (TEXT, {"prompt": "a", "edits": [HALF]}),
        (TEXT, {"prompt": "a", "edits": [{"op": "add", "vector": HALF}]}),
        (TEXT, {"prompt": "a", HALF: 1}),
        (CHAT, {"messages": [{"role": "user", "content": HALF}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": HALF}]}]}),
        (CHAT, {"messages": [{"role": HALF, "content": "a"}]}),
        ("/api/read", {"text": HALF}),
        ("/api/read", {"text": "a", "unlike": HALF}),
        ("/api/features/3/label", {"text": HALF}),
        ("/api/features/3/note", {"text": HALF}),
        ("/api/features/3/activations", {"text": HALF}),
        ("/api/dose", {"question": HALF, "edits": ["feature:1=1"], "doses": [1]}),
        ("/api/dose", {"question": "a", "edits": [HALF], "doses": [1]}),
        ("/api/dose", {"question": "a", "edits": [{"op": "add", "vector": HALF}], "doses": [1]}),
        ("/api/presets", {"name": HALF, "edits": ["feature:1=1"]}),
        ("/api/presets", {"name": "a", "edits": [HALF]}),
    ],
)
def test_half_a_letter_is_refused_wherever_it_stands(client, path, body):
    refused = client.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert refused.status_code in (400, 404, 422) and refused.json()["error"], refused.text


def test_an_answer_ends_at_the_context_however_long_it_may_be(client):
    for most in (8192, 10**9, 10**30):
        answer = client.post(
            CHAT, json={"messages": QUESTION, "max_tokens": most, "temperature": 0, "stop": None}
        ).json()
        assert answer["usage"]["total_tokens"] <= 64 and answer["choices"][0]["finish_reason"] in ("length", "stop")


def test_a_prompt_without_tokens_is_refused(client, monkeypatch):
    model = client.app.state.served.model
    monkeypatch.setattr(model, "tokenizer", make_tokenizer())
    model.tokenizer.backend_tokenizer.post_processor = None
    model.tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    refused = client.post(TEXT, json={"prompt": "  "})
    assert refused.status_code == 400 and "no tokens" in refused.json()["error"]["message"]


def test_paths_that_are_not_there_say_what_is(client):
    for method, path in (
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("GET", CHAT),
        ("DELETE", "/v1/models/x"),
    ):
        error = client.request(method, path).json()["error"]
        assert "not supported here" in error["message"] and "POST /v1/chat/completions" in error["message"]
    assert "error" in client.get("/api/nothing").json()


def test_a_decoder_that_depends_on_what_follows_is_never_an_error(tmp_path):
    """Bytes as a fallback, in any order: with random weights letters break off everywhere, and answers still go on."""
    tokenizer = make_pieces()
    says = list(range(250, 3, -3))  # bytes that make no letters, among them some that do
    parrot = make_client(tmp_path / "index", make_parrot(tmp_path / "model", tokenizer, says))
    for asked in ({}, {"temperature": 2.0, "seed": 1}, {"temperature": 2.0, "seed": 2}, {"stop": ["q"]}):
        asked |= {"max_tokens": 60, "logprobs": 2}
        whole = choice(parrot, TEXT, **asked)
        parts = events(parrot, TEXT, **asked)
        assert "".join(one["text"] for one in parts) == whole["text"] and parts[-1]["finish_reason"]
        assert sum((one["logprobs"]["tokens"] for one in parts), []) == whole["logprobs"]["tokens"]
        told = choice(parrot, CHAT, **asked | {"logprobs": True})
        assert told["message"]["content"] is not None and told["finish_reason"]
    app: Any = parrot.app
    session = Session(app.state.served.index, device="cpu")
    assert "\ufffd" in session.answer("who?", max_new_tokens=20)
