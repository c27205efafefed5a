"""Sites of every family: reads are exact, a read changes nothing, an edit that puts back what it read neither."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sonde.errors import EditError, ModelLacksError, SiteError, TextError
from sonde.models.attention import pattern_point
from sonde.models.load import wrap_model
from sonde.models.model import Model
from tests.tiny import CAUSAL, FAMILIES, LAYERS, VOCABULARY, WIDTH, make_model, make_network, make_tokenizer


@dataclass(frozen=True)
class PutBack:
    site: str

    def __call__(self, x: Tensor) -> Tensor:
        return x.clone()


def pattern(x: Tensor) -> Tensor:
    """A direction that no norm takes away."""
    return torch.sin(torch.arange(x.shape[-1]) ** 2.0)


@dataclass(frozen=True)
class Shift:
    site: str
    by: float = 0.5
    where: str = "all"

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.by * pattern(x)


NORM_OF_MLP = {
    "gpt2": "ln_2",
    "gpt_neo": "ln_2",
    "opt": "final_layer_norm",
    "gemma2": "pre_feedforward_layernorm",
    "gemma3_text": "pre_feedforward_layernorm",
    "gemma3": "pre_feedforward_layernorm",
    "olmo2": None,
    "opt 350m": None,
    "bert": None,
}
"""the norm between the stream and the MLP; None where the MLP reads the stream itself"""


def batch(model: Model):
    return model.tokenize(["the red bridge", "a longer text about the bay", "x"])


def hidden_states(model: Model, tokens) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model.network(input_ids=tokens.ids, attention_mask=tokens.mask, output_hidden_states=True).hidden_states


def test_stream_equals_hidden_states(model, family):
    tokens = batch(model)
    expected = hidden_states(model, tokens)
    names = ["embedding", *(f"layers.{n}.residual" for n in range(LAYERS))]
    read = model.read(tokens, names)
    for name, state in zip(names[:-1], expected[:-1], strict=True):
        assert torch.equal(read[name], state), name
    last = read[names[-1]]
    if "final" in model.sites():  # transformers gives the last state after the last norm
        assert torch.equal(model.read(tokens, "final"), expected[-1])
        last = model.site("final").module(last)
    if family == "opt 350m":
        last = model.network.model.decoder.project_out(last)
    assert torch.equal(last, expected[-1])


@torch.no_grad()
def test_parts_add_up_to_the_stream(model, family):
    """The stream is the sum of what was added to it, bit for bit (after the norms of those that norm the sum)."""
    tokens = batch(model)
    for n in range(LAYERS):
        parts = ("attention", "residual_mid", "mlp", "residual")
        names = ["embedding" if n == 0 else f"layers.{n - 1}.residual"]
        names += [f"layers.{n}.{part}" for part in parts if f"layers.{n}.{part}" in model.sites()]
        read = model.read(tokens, names)
        layer = model.site(f"layers.{n}.residual").module
        if family == "gpt_neox":
            start, attention, mlp, after = read.values()
            assert torch.equal(mlp + attention + start, after)
            continue
        start, attention, mid, mlp, after = read.values()
        assert torch.equal(norm_of_sum(layer, family, "attention")(attention + start), mid)
        assert torch.equal(norm_of_sum(layer, family, "mlp")(mid + mlp), after)


def norm_of_sum(layer, family: str, after: str):
    """What a post-norm family does to the stream after attention or MLP was added."""
    match family, after:
        case "bert", "attention":
            return layer.attention.output.LayerNorm
        case "bert", "mlp":
            return layer.output.LayerNorm
        case "opt 350m", "attention":
            return layer.self_attn_layer_norm
        case "opt 350m", "mlp":
            return layer.final_layer_norm
    return torch.nn.Identity()


@torch.no_grad()
def test_inner_sites_give_what_their_modules_compute(model, family):
    tokens = batch(model)
    width_of_head = 16 if family in ("qwen3", "gemma2", "gemma3_text", "gemma3") else WIDTH // 4
    for n in range(LAYERS):
        layer = model.site(f"layers.{n}.residual").module
        before = "embedding" if n == 0 else f"layers.{n - 1}.residual"
        wanted = [name for name in model.sites() if name.startswith(f"layers.{n}.")]
        read = {name.split(".")[-1]: value for name, value in model.read(tokens, [before, *wanted]).items()}
        start = model.read(tokens, before)

        assert read["heads"].shape == (*tokens.ids.shape, 4, width_of_head)
        attention = model.site(f"layers.{n}.heads").module(read["heads"].flatten(-2))
        mlp = read["mlp"]
        if family in ("gemma2", "gemma3_text", "gemma3", "olmo2"):
            attention = layer.post_attention_layernorm(attention)
        assert torch.equal(attention, read["attention"])

        norm = NORM_OF_MLP.get(family, "post_attention_layernorm")
        mid = read.get("residual_mid", start)
        assert torch.equal(layer.get_submodule(norm)(mid) if norm else mid, read["mlp_in"])

        if "neurons" in read:
            down = model.site(f"layers.{n}.neurons").module
            neurons = hidden_of_mlp(layer, family, read["mlp_in"])
            assert torch.equal(neurons, read["neurons"])
            out = down(read["neurons"])
        else:
            out = layer.mlp(read["mlp_in"])
        if family in ("gemma2", "gemma3_text", "gemma3", "olmo2"):
            out = layer.post_feedforward_layernorm(out)
        assert torch.equal(out, mlp)


def hidden_of_mlp(layer, family: str, x: Tensor) -> Tensor:
    """An MLP up to its hidden activations, written out."""
    match family:
        case "gpt2" | "gpt_neo":
            return layer.mlp.act(layer.mlp.c_fc(x))
        case "gpt_neox" | "gpt_neox serial":
            return layer.mlp.act(layer.mlp.dense_h_to_4h(x))
        case "opt" | "opt 350m":
            return layer.activation_fn(layer.fc1(x))
        case "bert":
            return layer.intermediate(x)
        case "phi3":
            gate, up = layer.mlp.gate_up_proj(x).chunk(2, dim=-1)
            return up * layer.mlp.activation_fn(gate)
        case _:
            return layer.mlp.act_fn(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x)


def test_reading_changes_no_logit(model):
    tokens = batch(model)
    plain = model.logits(tokens)
    read = model.read(tokens, model.sites())
    assert torch.equal(read["logits"], plain)
    assert torch.equal(model.logits(tokens), plain)
    assert not list(all_hooks(model))


def test_putting_back_what_was_read_changes_no_logit(model):
    tokens = batch(model)
    plain = model.logits(tokens)
    for site in model.sites():
        with model.edited(PutBack(site)):
            assert torch.equal(model.logits(tokens), plain), site
        with model.edited(PutBack(site), PutBack(site)):
            assert torch.equal(model.logits(tokens), plain), site


@dataclass(frozen=True)
class Turn:
    """Longer and elsewhere: one key added to all keys, or queries made longer before a norm, change nothing."""

    site: str

    def __call__(self, x: Tensor) -> Tensor:
        return 1.5 * x + 0.5 * pattern(x)


def test_every_site_can_be_edited(model):
    tokens = batch(model)
    plain = model.logits(tokens)
    for site in model.sites():
        with model.edited(Turn(site)):
            assert not torch.allclose(model.logits(tokens), plain, atol=1e-4), site
    assert torch.equal(model.logits(tokens), plain)


@torch.no_grad()
def test_an_edited_middle_stream_is_what_the_rest_of_the_layer_sees(model, family):
    """A change of residual_mid reaches the MLP and the skip connection alike."""
    if family == "gpt_neox":
        pytest.skip("parallel blocks have no stream between attention and MLP")
    tokens = batch(model)
    mid = model.read(tokens, "layers.1.residual_mid").clone()
    with model.edited(Shift("layers.1.residual_mid")):
        changed = model.read(tokens, [f"layers.1.{part}" for part in ("residual_mid", "mlp_in", "mlp", "residual")])
    stream, mlp_in, mlp, after = changed.values()
    assert torch.equal(stream, mid + 0.5 * pattern(mid))
    layer = model.site("layers.1.residual").module
    norm = NORM_OF_MLP.get(family, "post_attention_layernorm")
    assert torch.equal(layer.get_submodule(norm)(stream) if norm else stream, mlp_in)
    assert torch.equal(norm_of_sum(layer, family, "mlp")(stream + mlp), after)


@pytest.mark.parametrize("first", ["layers.1.residual_mid", "layers.1.mlp_in"])
@pytest.mark.parametrize("name", ["olmo2", "llama", "opt"])
def test_an_edit_of_what_the_mlp_reads_leaves_the_stream_alone(name, first):
    """Also in olmo2, whose MLP reads the very tensor of the stream, and in whichever order edits were made."""
    model = make_model(name)
    tokens = batch(model)
    other = {"layers.1.residual_mid": "layers.1.mlp_in", "layers.1.mlp_in": "layers.1.residual_mid"}[first]
    mid, mlp_in = (model.read(tokens, site).clone() for site in ("layers.1.residual_mid", "layers.1.mlp_in"))
    with model.edited(Shift(first, 0.25)), model.edited(Shift(other, 0.25)):
        for sites in ((first, other), (other, first)):
            read = model.read(tokens, [*sites, "layers.1.mlp", "layers.1.residual"])
            stream = mid + 0.25 * pattern(mid)
            assert torch.equal(read["layers.1.residual_mid"], stream)
            if name == "olmo2":
                assert torch.equal(read["layers.1.mlp_in"], stream + 0.25 * pattern(mid))
            assert torch.equal(read["layers.1.residual"], stream + read["layers.1.mlp"])
    with model.edited(Shift("layers.1.mlp_in")):
        read = model.read(tokens, ["layers.1.residual_mid", "layers.1.mlp_in"])
        assert torch.equal(read["layers.1.residual_mid"], mid)
        assert torch.equal(read["layers.1.mlp_in"], mlp_in + 0.5 * pattern(mlp_in))


def test_reading_stops_after_the_last_site(model):
    calls = []
    last = model.site(f"layers.{LAYERS - 1}.residual").module
    handle = last.register_forward_hook(lambda *_: calls.append(1))
    model.read(batch(model), ["layers.0.residual", "embedding"])
    handle.remove()
    assert not calls


def test_edits_at_one_site_read_the_same_x_and_add_up(model):
    tokens = batch(model)
    site = "layers.1.residual"
    x = model.read(tokens, site)

    @dataclass(frozen=True)
    class Double:
        site: str

        def __call__(self, x: Tensor) -> Tensor:
            return 2 * x

    with model.edited(Shift(site, 1.0)), model.edited(Double(site)):
        changed = model.read(tokens, site)
    torch.testing.assert_close(changed, x + pattern(x) + x)


def test_an_edit_that_changes_the_shape_says_so():
    @dataclass(frozen=True)
    class Last:
        site: str = "layers.1.mlp"

        def __call__(self, x: Tensor) -> Tensor:
            return x[:, -1]

    model = make_model("llama")
    with pytest.raises(EditError, match=r"layers\.1\.mlp gave back \[1, 32\] for \[1, 2, 32\]"), model.edited(Last()):
        model.logits("x")
    assert not list(all_hooks(model))


def test_edits_unwind_after_nesting_repeats_and_exceptions(model):
    tokens = batch(model)
    plain = model.logits(tokens)
    once = Shift("layers.0.residual")
    with pytest.raises(ZeroDivisionError), model.edited(once), model.edited(once, Shift("layers.2.mlp")):
        raise ZeroDivisionError
    assert not list(all_hooks(model))
    with pytest.raises(SiteError), model.edited(once, Shift("layers.9.mlp")):
        pass
    assert not list(all_hooks(model))
    with model.edited(once):
        single = model.logits(tokens)
        with model.edited(once):
            assert not torch.equal(model.logits(tokens), single)
        assert torch.equal(model.logits(tokens), single)
    assert torch.equal(model.logits(tokens), plain)


def all_hooks(model: Model):
    points = [pattern_point(model.site(name).module) for name in model.sites() if name.endswith(".pattern")]
    for module in [*model.network.modules(), *points]:
        yield from module._forward_hooks.values()
        yield from module._forward_pre_hooks.values()


DECODING = {
    "greedy": {},
    "sampled": {"do_sample": True, "temperature": 2.0, "top_k": 0},
    "beam": {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0},
}


def generate(model: Model, tokens, **options) -> Tensor:
    torch.manual_seed(1)
    return model.generate_ids(tokens, 8, **options)


@pytest.mark.parametrize("decoding", DECODING)
@pytest.mark.parametrize("name", CAUSAL)
def test_generation_with_a_cache_equals_generation_without(name, decoding):
    model = make_model(name)
    tokens = model.tokenize(["the red bridge", "bay"], side="left")
    options = DECODING[decoding]
    plain = generate(model, tokens, **options)
    for site in ("layers.1.residual", "layers.1.residual_mid", "layers.0.heads", "layers.2.mlp_in", "logits"):
        if site not in model.sites():
            continue
        for where in ("all", "prompt", "answer") if decoding == "greedy" else ("all",):
            with model.edited(Shift(site, 5.0, where)):
                cached = generate(model, tokens, **options)
                uncached = generate(model, tokens, use_cache=False, **options)
            assert torch.equal(cached, uncached), (site, where)
            if site.endswith(("residual", "residual_mid")):  # others may leave the likeliest token as it is
                assert not torch.equal(cached, plain), f"the edit at {site} must have an effect, or this shows nothing"
    assert torch.equal(generate(model, tokens, **options), plain)


@pytest.mark.parametrize("decoding", ["greedy", "beam"])
@pytest.mark.parametrize("name", CAUSAL)
def test_each_row_of_a_batch_has_edits_of_its_own(name, decoding):
    """Row 0 under one edit and row 2 under another give what each gives alone, and row 1 what it gives plain."""
    model = make_model(name)
    texts, site = ["the red bridge", "bay", "a sun is low"], "layers.1.residual"
    options = DECODING[decoding]
    copies = options.get("num_return_sequences", 1)

    @dataclass(frozen=True)
    class Own(Shift):
        rows: tuple[int, ...] = ()

    edits = {0: Own(site, 5.0, rows=(0,)), 2: Own(site, -5.0, rows=(2,))}
    tokens = model.tokenize(texts, side="left")
    with model.edited(*edits.values()):
        together = generate(model, tokens, **options)
    n_prompt = tokens.ids.shape[1]
    for row, text in enumerate(texts):
        alone = model.tokenize(text, side="left")
        plain = generate(model, alone, **options)[:, alone.ids.shape[1] :]
        with model.edited(*([Shift(site, edits[row].by)] if row in edits else [])):
            single = generate(model, alone, **options)[:, alone.ids.shape[1] :]
        own = together[row * copies : (row + 1) * copies, n_prompt:]
        width = min(single.shape[1], own.shape[1])  # rows that ended early are padded
        assert torch.equal(own[:, :width], single[:, :width]), text
        assert (row in edits) != torch.equal(single, plain), "an edit must have an effect, or this shows nothing"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_prompt_and_answer_edits_act_on_their_own_tokens(family):
    model = make_model(family)
    batch = model.tokenize("the red bridge", side="left")
    n_prompt, site = batch.ids.shape[1], "layers.1.residual"
    seen = {}

    @dataclass(frozen=True)
    class Mark:
        where: str
        site: str = "layers.1.residual"

        def __call__(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 7.0)

    def watch(_, __, output):
        seen[where] = (output if isinstance(output, Tensor) else output[0])[0, :, 0] == 7.0

    for where in ("prompt", "answer"):
        with model.edited(Mark(where)):
            handle = model.site(site).module.register_forward_hook(watch)
            model.generate_ids(batch, 5, use_cache=False, eos_token_id=[])
            handle.remove()
    positions = torch.arange(n_prompt + 4)
    assert torch.equal(seen["prompt"], positions < n_prompt)
    assert torch.equal(seen["answer"], positions >= n_prompt)


def test_padding_and_packing_do_not_change_what_is_read(model):
    texts = ["the red bridge", "x", "a longer text about the bay"]
    sites = [site for site in model.sites() if site.startswith(("embedding", "layers.1", "final", "logits"))]
    sites.remove("layers.1.pattern")  # whose last axis is positions: tests/models/test_attention.py
    rows = model.tokenizer(texts)["input_ids"]
    packed = model.pack(rows, 48)
    assert packed.ids.shape[0] < len(rows)
    right, left, side_by_side = (
        model.read(tokens, sites) for tokens in (model.pad(rows), model.pad(rows, "left"), packed)
    )
    for number, row in enumerate(rows):
        alone = model.read(model.pad([row]), sites)
        for site in sites:
            expected, n = alone[site][0], len(row)
            torch.testing.assert_close(right[site][number, :n], expected, atol=1e-5, rtol=1e-5, msg=site)
            torch.testing.assert_close(left[site][number, -n:], expected, atol=1e-5, rtol=1e-5, msg=site)
            own = side_by_side[site][packed.segments == number + 1]
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5, msg=site)


def test_what_cannot_be_packed_says_so():
    model = make_model("llama")
    with pytest.raises(TextError, match=r"11 tokens cannot be packed: rows have 10"):
        model.pack([[1] * 11], 10)
    with pytest.raises(TextError, match=r"65 tokens cannot be packed: the model's context holds 64"):
        model.pack([[1] * 65], 80)
    row = model.pack([[5] * 60, [6] * 60], 128)  # longer than the context, though no text is
    alone = model.read(model.pad([[6] * 60]), "layers.1.residual")[0]
    read = model.read(row, "layers.1.residual")
    torch.testing.assert_close(read[row.segments == 2], alone, atol=1e-5, rtol=1e-5)
    with pytest.raises(TextError, match=r"sliding window holds 32"):
        make_model("mistral").pack([[1] * 40], 64)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_longer_than_the_context_says_so(name):
    model = make_model(name)
    with pytest.raises(TextError, match="a batch of 65 tokens is longer than the context of tiny .*, which holds 64"):
        model.read(model.pad([[5] * 65]), "embedding")
    assert model.read(model.pad([[5] * 64]), "embedding").shape[1] == 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_is_exact_too(name, dtype):
    model = make_model(name)
    model.network.to(dtype)
    tokens = batch(model)
    plain = model.logits(tokens)
    assert plain.dtype == dtype and torch.isfinite(plain).all()
    read = model.read(tokens, model.sites())
    assert torch.equal(read["logits"], plain)
    assert torch.equal(read["layers.0.residual"], hidden_states(model, tokens)[1])
    for site in model.sites():
        assert read[site].dtype == dtype
        with model.edited(PutBack(site)):
            assert torch.equal(model.logits(tokens), plain), site
    with model.edited(Shift("layers.1.residual_mid" if name != "gpt_neox" else "layers.1.mlp")):
        assert not torch.equal(model.logits(tokens), plain)


def test_any_module_can_be_named_by_path(model):
    tokens = batch(model)
    out = model.site("layers.1.heads").module  # the projection after the heads
    path = next(name for name, module in model.network.named_modules() if module is out)
    value = model.read(tokens, f"module:{path}")
    assert value.shape == (*tokens.ids.shape, WIDTH)
    head = next(
        name for name, module in model.network.named_modules() if module is model.network.get_output_embeddings()
    )
    said = model.read(tokens, f"module:{head}")
    cap = getattr(model.network.config, "final_logit_softcapping", None)
    assert torch.equal(torch.tanh(said / cap) * cap if cap else said, model.logits(tokens))
    with pytest.raises(SiteError, match="no module 'nowhere'"):
        model.read(tokens, "module:nowhere")


def test_errors_name_the_site_and_the_nearest():
    model = make_model("llama")
    with pytest.raises(SiteError, match=r"did you mean layers\.1\.residual"):
        model.site("layers.1.residul")
    with pytest.raises(SiteError, match="layers 0 to 2"):
        model.site("layers.7.residual")
    for family, site, reason in (
        ("bert", "final", "no last norm"),
        ("opt 350m", "final", "no last norm"),
        ("mixtral", "layers.0.neurons", "no one list of neurons"),
        ("gpt_neox", "layers.0.residual_mid", "no stream between them"),
    ):
        with pytest.raises(SiteError, match=reason):
            make_model(family).site(site)
        assert site not in make_model(family).sites()


def test_a_model_without_a_head_or_tokenizer_says_so():
    trunk = wrap_model(make_network("bert").base_model, make_tokenizer(), "bare")
    assert "logits" not in trunk.sites()
    with pytest.raises(SiteError, match="without a language-model head"):
        trunk.site("logits")
    with pytest.raises(ModelLacksError, match="head"):
        trunk.generate("x")
    with pytest.raises(ModelLacksError, match="no tokenizer"):
        wrap_model(make_network("llama"), None, "mute").read("x", "embedding")
    with pytest.raises(ModelLacksError, match="no chat template"):
        wrap_model(make_network("llama"), make_tokenizer(chat=False), "shy").chat_tokens(
            [{"role": "user", "content": "x"}]
        )


def test_an_unknown_family_is_told_how_to_name_a_module_and_add_a_family():
    network: Any = make_network("llama")
    network.config.model_type = "novel"
    with pytest.raises(SiteError) as error:
        wrap_model(network, make_tokenizer()).site("layers.1.residual")
    first, *tree = str(error.value).splitlines()
    assert "module:model.layers.1" in first and "docs/models.md" in first
    assert "  model.layers.N.mlp.down_proj  Linear" in tree


@torch.no_grad()
@pytest.mark.parametrize("name", CAUSAL)
def test_the_direct_path_is_the_norm_and_the_head(name):
    """What a direction says to each token is the change it makes to the logits where nothing else is in the way."""
    model = make_model(name)
    direction = torch.randn(5, WIDTH)
    said = model.unembed(direction)
    assert said.shape == (5, VOCABULARY)
    network: Any = model.network
    steps = {"opt 350m": [network.base_model.decoder.project_out] if name == "opt 350m" else []}
    path = [model.site("final").module] if "final" in model.sites() else []
    value, zero = direction, torch.zeros(WIDTH)
    for module in [*path, *steps.get(name, [])]:
        value, zero = module(value) - module(zero), torch.zeros_like(zero)[: module(value).shape[-1]]
    torch.testing.assert_close(said, value @ network.get_output_embeddings().weight.T)
    torch.testing.assert_close(model.unembed(direction[0]), said[0])
