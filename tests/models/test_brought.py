"""Tokenizers, templates and prompts that do not quite fit their model."""

from typing import Any

import pytest
import torch

import sonde
from sonde.errors import ConversationError, TextError
from sonde.models.load import load_model, wrap_model
from tests.tiny import VOCABULARY, make_network, make_tokenizer, texts, write_model

SITE = "layers.1.residual"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system, please') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
)


def with_padding_beyond():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == VOCABULARY
    return wrap_model(make_network("llama"), tokenizer, "padded")


def test_any_padding_will_do_as_it_is_masked():
    model, plain = with_padding_beyond(), wrap_model(make_network("llama"), make_tokenizer(), "plain")
    both = ["a", "abcdef"]
    assert torch.equal(model.read(both, SITE), plain.read(both, SITE))
    ids = [each.generate_ids(each.tokenize(both, "left"), 3) for each in (model, plain)]
    assert torch.equal(*ids)
    assert model.tokenize(both).ids.max() < VOCABULARY


def test_a_token_that_the_model_does_not_have_is_a_text_error(tmp_path):
    model = with_padding_beyond()
    for read in (
        lambda: sonde.harvest(model, [*texts(3), "x [PAD] y"], site=SITE, out=tmp_path / "a"),
        lambda: model.read("x [PAD] y", SITE),
        lambda: model.logits(model.pad([[5, VOCABULARY]])),
        lambda: model.generate("x [PAD] y"),
        lambda: model.pad([[-1]]),
    ):
        with pytest.raises(TextError, match=r"there is no token (260|-1) in padded, which knows 260"):
            read()
    with pytest.raises(TextError, match=r"texts\[3\]: there is no token 260"):
        sonde.harvest(model, [*texts(3), "x [PAD] y"], site=SITE, out=tmp_path / "a")


def test_the_embeddings_count_and_not_the_config():
    network = make_network("llama")
    network.config.vocab_size = 10_000
    assert wrap_model(network, make_tokenizer()).vocab_size == VOCABULARY


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_generating_ends_with_the_context(family):
    model = wrap_model(make_network(family), make_tokenizer(), family)
    batch = model.tokenize("x" * 59, "left")
    assert batch.ids.shape[1] == 60
    ids = model.generate_ids(batch, 50, eos_token_id=None)
    assert ids.shape[1] == model.context_length == 64
    assert torch.equal(ids, model.generate_ids(batch, 4, eos_token_id=None))
    for length in (63, 100):
        with pytest.raises(TextError, match=f"has {length + 1} tokens, but the context of {family} holds 64"):
            model.generate("x" * length, 5)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (NO_SYSTEM, "no system, please"),
        ("{{ messages[0]['content'] + 1 }}", "str"),
        ("{% if %}", "Expected"),
        ("{{ a.b.c }}", "a"),
    ],
)
def test_what_a_template_says_is_said(template, words):
    model = wrap_model(make_network("llama"), make_tokenizer(), "m")
    model.tokenizer.chat_template = template
    with pytest.raises(ConversationError, match=f"the chat template of m refuses this conversation: .*{words}"):
        model.chat_tokens([{"role": "system", "content": "be brief"}, {"role": "user", "content": "x"}])
    assert (model.why_no_chat() is None) == (template is NO_SYSTEM)


def test_a_message_that_lacks_something_is_named():
    model = wrap_model(make_network("llama"), make_tokenizer(), "m")
    brought: list[Any] = [{"role": "user"}, {"content": "x"}, "x"]
    for message in brought:
        with pytest.raises(ConversationError, match="message 2 is .* must have a role and a content"):
            model.chat_tokens([{"role": "user", "content": "x"}, message])


def test_what_needs_no_chat_works_with_a_broken_template(tmp_path):
    folder = write_model(tmp_path / "m")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    tokenizer.save_pretrained(folder)
    store = sonde.harvest(folder, texts(40), site=SITE, out=tmp_path / "a")
    sonde.train(store, n_features=16, k=2, tokens=1000, out=tmp_path / "d", device="cpu")
    index = sonde.index(None, tmp_path / "d", texts(40), out=tmp_path / "i", device="cpu")
    assert index.facts.why_no_chat is not None and "never" in index.facts.why_no_chat
    assert sonde.Reader(index, device="cpu").read("a text").pieces
    session = sonde.Session(index, device="cpu")
    for ask in (session.answer, lambda text: session.dose(text, "feature:3=1max")):
        with pytest.raises(ConversationError, match="never"):
            ask("who are you?")

    from fastapi.testclient import TestClient

    from sonde.web.app import make_app

    client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
    asked = {"messages": [{"role": "user", "content": "x"}]}
    answer = client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 400 and "never" in answer.json()["error"]["message"]
    assert client.post("/v1/completions", json={"prompt": "x", "max_tokens": 2}).status_code == 200


def test_half_a_character_is_a_text_error(walk):
    half = "gold \udcff"
    model = load_model(walk.model)
    session = sonde.Session(walk.index, device="cpu")
    for read in (
        lambda: model.read(half, SITE),
        lambda: model.generate(half),
        lambda: session.read(half),
        lambda: session.answer(half),
        lambda: session.dose(half, "feature:3=1max"),
        lambda: session.index.labels.add(3, half),
        lambda: session.index.labels.add_note(3, half),
    ):
        with pytest.raises(TextError, match=r"'\\udcff', half a character"):
            read()
