"""Queries, keys, values and patterns of every family: what attention is computed from, read and edited."""

import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sonde.errors import ModelLacksError
from sonde.models.load import wrap_model
from sonde.models.model import Model
from tests.known import known
from tests.models.test_sites import all_hooks, batch
from tests.tiny import CAUSAL, FAMILIES, HEADS, LAYERS, make_model, make_network, make_tokenizer


@dataclass(frozen=True)
class Blind:
    """Head 1 no longer looks at the first token."""

    site: str = "layers.1.pattern"
    where: str = "all"
    rows: tuple[int, ...] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 1, :, 0] = 0
        return x


def by_query_head(x: Tensor) -> Tensor:
    """Keys or values [batch, position, head, width of a head], one for each query head."""
    return x.repeat_interleave(HEADS // x.shape[2], dim=2)


def mixed(pattern: Tensor, value: Tensor) -> Tensor:
    return torch.einsum("bhqk,bkhw->bqhw", pattern, by_query_head(value))


def inside(model: Model, tokens, layer: int) -> dict[str, Tensor]:
    names = [f"layers.{layer}.{part}" for part in ("query", "key", "value", "pattern", "heads")]
    return {name.split(".")[-1]: value for name, value in model.read(tokens, names).items()}


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_pattern_and_heads_are_computed_from_queries_keys_and_values(name):
    """Attention written out, from what the sites give: norms and rotary embeddings, scores, softmax, mix of values."""
    model = make_model(name, attention="eager")
    tokens = model.tokenize("the red bridge")
    for n in range(LAYERS):
        read = inside(model, tokens, n)
        torch.testing.assert_close(written_out(model, name, n, read), read["pattern"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mixed(read["pattern"], read["value"]), read["heads"], atol=1e-5, rtol=1e-4)


def written_out(model: Model, name: str, n: int, read: dict[str, Tensor]) -> Tensor:
    """The pattern of a layer for a batch of one text."""
    network: Any = model.network
    module: Any = model.site(f"layers.{n}.pattern").module
    if name == "gpt_neo":
        module = network.transformer.h[n].attn.attention
    query, key = read["query"], read["key"]
    if hasattr(module, "q_norm"):
        flat = name == "olmo2"  # over all heads at once
        query = module.q_norm(query.flatten(2)).view_as(query) if flat else module.q_norm(query)
        key = module.k_norm(key.flatten(2)).view_as(key) if flat else module.k_norm(key)
    query, key = query.transpose(1, 2), by_query_head(key).transpose(1, 2)
    rotary = next((m for path, m in model.network.named_modules() if path.endswith("rotary_emb")), None)
    if rotary is not None:
        positions = torch.arange(query.shape[2])[None]
        layer_type = (module.layer_type,) if name.startswith("gemma3") else ()
        cos, sin = rotary(read["value"], positions, *layer_type)
        query, key = sys.modules[type(module).__module__].apply_rotary_pos_emb(query, key, cos, sin)
    scores = query @ key.transpose(2, 3) * (1 if name == "gpt_neo" else module.scaling)
    cap = getattr(module, "attn_logit_softcapping", None)
    scores = torch.tanh(scores / cap) * cap if cap else scores
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool)
    seen = seen if name == "bert" else seen.tril()
    if getattr(module, "attention_type", "global") == "local":
        seen = seen.triu(1 - network.config.window_size)
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)


@torch.no_grad()
def test_patterns_are_those_that_transformers_gives(model, family):
    """Bit for bit those of its eager attention; with sdpa, which gives none, what eager makes of the same stream."""
    tokens = batch(model)
    names = [f"layers.{n}.pattern" for n in range(LAYERS)]
    read = model.read(tokens, names)
    eager = make_model(family, attention="eager").network
    expected = eager(input_ids=tokens.ids, attention_mask=tokens.mask, output_attentions=True).attentions
    exact = model.network.config._attn_implementation == "eager"
    for name, pattern in zip(names, expected, strict=True):
        torch.testing.assert_close(read[name], pattern, atol=0 if exact else 1e-5, rtol=0 if exact else 1e-4, msg=name)
        torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(pattern.shape[:-1]))


@torch.no_grad()
def test_an_edited_pattern_changes_its_own_head_alone(model):
    tokens = batch(model)
    before = inside(model, tokens, 1)
    with model.edited(Blind()):
        after = inside(model, tokens, 1)
        assert not after["pattern"][:, 1, :, 0].any()
        with model.edited(Moved()):  # what head 1 does not look at does not reach it
            moved = inside(model, tokens, 1)
    torch.testing.assert_close(after["heads"], mixed(after["pattern"], before["value"]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(after["heads"][:, :, 1], before["heads"][:, :, 1])
    others = [0, 2, 3]
    torch.testing.assert_close(after["heads"][:, :, others], before["heads"][:, :, others], atol=1e-5, rtol=1e-4)
    assert torch.equal(moved["heads"][:, :, 1], after["heads"][:, :, 1])
    assert not torch.allclose(moved["heads"][:, :, others], after["heads"][:, :, others])


@dataclass(frozen=True)
class Moved:
    """Other values at the first token."""

    site: str = "layers.1.value"

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + 1, x[:, 1:]], dim=1)


def test_pattern_edits_act_on_their_own_queries_and_rows():
    model = make_model("llama")
    tokens = model.tokenize(["the red bridge", "one by the bay"], side="left")
    plain = model.read(tokens, "layers.1.pattern")
    with model.edited(Blind(rows=(1,))):
        edited = model.read(tokens, "layers.1.pattern")
    assert torch.equal(edited[0], plain[0]) and not edited[1, 1, :, 0].any()
    with model.edited(Blind(where="answer")):  # outside of generation everything is prompt
        assert torch.equal(model.read(tokens, "layers.1.pattern"), plain)
    with model.edited(Blind(where="prompt", rows=(0,))):
        edited = model.read(tokens, "layers.1.pattern")
    assert torch.equal(edited[1], plain[1]) and not edited[0, 1, :, 0].any()


@pytest.mark.parametrize("name", CAUSAL)
def test_generation_under_pattern_edits_is_the_same_with_a_cache(name):
    """A cached step has one query and all keys."""
    model = make_model(name)
    tokens = model.tokenize(["the red bridge", "bay"], side="left")
    for where in ("all", "answer"):
        with model.edited(Blind(where=where), Blind("layers.0.pattern", where), Blind("layers.2.pattern", where)):
            cached, uncached = (model.generate_ids(tokens, 8, use_cache=cache) for cache in (True, False))
        assert torch.equal(cached, uncached), where


@pytest.mark.parametrize("name", FAMILIES)
def test_patterns_of_padded_and_packed_texts_are_those_of_each_text_alone(name):
    model = make_model(name)
    texts = ["the red bridge", "x", "a longer text about the bay"]
    rows, site = model.tokenizer(texts)["input_ids"], "layers.1.pattern"
    packed = model.pack(rows, 48)
    right, left, side_by_side = (model.read(t, site) for t in (model.pad(rows), model.pad(rows, "left"), packed))
    for number, row in enumerate(rows):
        alone, n = model.read(model.pad([row]), site)[0], len(row)
        place, start = (known(packed.segments) == number + 1).nonzero()[0].tolist()
        own = side_by_side[place, :, start : start + n, start : start + n]
        for pattern in (right[number, :, :n, :n], left[number, :, -n:, -n:], own):
            torch.testing.assert_close(pattern, alone, atol=1e-5, rtol=1e-4)


def test_gpt2_that_scores_in_float32_shows_that_pattern():
    network: Any = make_network("gpt2", attention="eager")
    network.config.reorder_and_upcast_attn = True
    for layer in network.transformer.h:
        layer.attn.reorder_and_upcast_attn = True
    model = wrap_model(network.bfloat16(), make_tokenizer())
    tokens = model.tokenize("the red bridge")
    expected = network(input_ids=tokens.ids, output_attentions=True).attentions[1]
    logits = model.logits(tokens)
    read = model.read(tokens, ["layers.1.pattern", "logits"])
    assert torch.equal(read["layers.1.pattern"], expected) and torch.equal(read["logits"], logits)


def test_attention_without_patterns_says_so():
    model = make_model("llama")
    network: Any = model.network
    network.config._attn_implementation = "flex_attention"
    with pytest.raises(ModelLacksError, match=r"'flex_attention' .* attention='sdpa' or 'eager'"):
        model.read("x", "layers.1.pattern")
    assert network.config._attn_implementation == "flex_attention"


def test_only_patterns_that_are_asked_for_change_how_attention_is_called():
    """Also after an edit that fails."""
    model = make_model("llama")
    calls = []
    handle = model.network.register_forward_pre_hook(
        lambda network, *_: calls.append(network.config._attn_implementation)
    )
    model.logits("x")
    model.read("x", ["layers.1.query", "layers.1.key", "layers.1.value", "logits"])
    with pytest.raises(ZeroDivisionError), model.edited(Blind()):
        model.read("x", ["layers.1.pattern", "logits"])
        raise ZeroDivisionError
    model.logits("x")
    handle.remove()
    assert calls == ["sdpa", "sdpa", "sonde_sdpa", "sdpa"] and not list(all_hooks(model))
