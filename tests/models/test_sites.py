"""Sites of every family: reads are exact, a read changes nothing, an edit that puts back what it read neither."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sonde.errors import ModelLacksError, SiteError
from sonde.models.load import wrap_model
from sonde.models.model import Model
from tests.tiny import FAMILIES, LAYERS, WIDTH, make_model, make_network, make_tokenizer

ATTENTION = ("sdpa", "eager")


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


@pytest.fixture(params=[(family, attention) for family in FAMILIES for attention in ATTENTION], ids=str)
def model(request) -> Model:
    family, attention = request.param
    return make_model(family, attention=attention)


def batch(model: Model):
    return model.tokenize(["the red bridge", "a longer text about the bay", "x"])


def hidden_states(model: Model, tokens) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return model.network(input_ids=tokens.ids, attention_mask=tokens.mask, output_hidden_states=True).hidden_states


def test_stream_equals_hidden_states(model):
    tokens = batch(model)
    expected = hidden_states(model, tokens)
    names = ["embedding", *(f"layers.{n}.residual" for n in range(LAYERS))]
    read = model.read(tokens, names)
    last_is_normed = "final" in model.sites()  # transformers gives the last state after the last norm
    for number, name in enumerate(names[:-1] if last_is_normed else names):
        assert torch.equal(read[name], expected[number]), name
    if last_is_normed:
        assert torch.equal(model.read(tokens, "final")["final"], expected[-1])
        norm = model.site("final").module
        with torch.no_grad():
            assert torch.equal(norm(read[names[-1]]), expected[-1])


def test_parts_add_up_to_the_stream(model):
    """The stream is the sum of what was added to it, bit for bit (after BERT's norms, where it has them)."""
    tokens = batch(model)
    for n in range(LAYERS):
        before = "embedding" if n == 0 else f"layers.{n - 1}.residual"
        names = [before, *(f"layers.{n}.{part}" for part in ("attention", "residual_mid", "mlp", "residual"))]
        start, attention, mid, mlp, after = model.read(tokens, names).values()
        layer = model.site(f"layers.{n}.residual").module
        if model.network.config.model_type == "bert":
            with torch.no_grad():
                assert torch.equal(layer.attention.output.LayerNorm(attention + start), mid)
                assert torch.equal(layer.output.LayerNorm(mlp + mid), after)
        else:
            assert torch.equal(attention + start, mid)
            assert torch.equal(mid + mlp, after)


def test_inner_sites_give_what_their_modules_compute(model):
    tokens = batch(model)
    for n in range(LAYERS):
        layer = model.site(f"layers.{n}.residual").module
        names = [f"layers.{n}.{part}" for part in ("heads", "attention", "mlp_in", "neurons", "mlp", "residual_mid")]
        heads, attention, mlp_in, neurons, mlp, mid = model.read(tokens, names).values()
        assert heads.shape == (*tokens.ids.shape, 4, WIDTH // 4)
        with torch.no_grad():
            match model.network.config.model_type:
                case "gpt2":
                    assert torch.equal(layer.attn.c_proj(heads.flatten(-2)), attention)
                    assert torch.equal(layer.ln_2(mid), mlp_in)
                    assert torch.equal(layer.mlp.act(layer.mlp.c_fc(mlp_in)), neurons)
                    assert torch.equal(layer.mlp.c_proj(neurons), mlp)
                case "llama":
                    assert torch.equal(layer.self_attn.o_proj(heads.flatten(-2)), attention)
                    assert torch.equal(layer.post_attention_layernorm(mid), mlp_in)
                    gate = layer.mlp.act_fn(layer.mlp.gate_proj(mlp_in)) * layer.mlp.up_proj(mlp_in)
                    assert torch.equal(gate, neurons)
                    assert torch.equal(layer.mlp.down_proj(neurons), mlp)
                case "bert":
                    assert torch.equal(layer.attention.output.dense(heads.flatten(-2)), attention)
                    assert torch.equal(mid, mlp_in)
                    assert torch.equal(layer.intermediate(mlp_in), neurons)
                    assert torch.equal(layer.output.dense(neurons), mlp)


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


def test_every_site_can_be_edited(model):
    tokens = batch(model)
    plain = model.logits(tokens)
    for site in model.sites():
        with model.edited(Shift(site)):
            assert not torch.allclose(model.logits(tokens), plain, atol=1e-4), site
    assert torch.equal(model.logits(tokens), plain)


def test_an_edited_middle_stream_is_what_the_rest_of_the_layer_sees(model):
    """A change of residual_mid reaches the MLP and the skip connection alike."""
    tokens = batch(model)
    mid = model.read(tokens, "layers.1.residual_mid")["layers.1.residual_mid"]
    with model.edited(Shift("layers.1.residual_mid")):
        changed = model.read(tokens, ["layers.1.residual_mid", "layers.1.mlp", "layers.1.residual"])
    assert torch.equal(changed["layers.1.residual_mid"], mid + 0.5 * pattern(mid))
    total = changed["layers.1.residual_mid"] + changed["layers.1.mlp"]
    if model.network.config.model_type == "bert":
        total = model.site("layers.1.residual").module.output.LayerNorm(
            changed["layers.1.mlp"] + changed["layers.1.residual_mid"]
        )
    assert torch.equal(changed["layers.1.residual"], total)


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
    x = model.read(tokens, site)[site]

    @dataclass(frozen=True)
    class Double:
        site: str

        def __call__(self, x: Tensor) -> Tensor:
            return 2 * x

    with model.edited(Shift(site, 1.0)), model.edited(Double(site)):
        changed = model.read(tokens, site)[site]
    torch.testing.assert_close(changed, x + pattern(x) + x)


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
    for module in model.network.modules():
        yield from module._forward_hooks.values()
        yield from module._forward_pre_hooks.values()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("where", ["all", "prompt", "answer"])
@pytest.mark.parametrize("site", ["layers.1.residual", "layers.1.residual_mid", "layers.0.heads", "layers.2.mlp"])
def test_generation_with_a_cache_equals_generation_without(family, where, site):
    model = make_model(family)
    batch = model.tokenize(["the red bridge", "bay"], side="left")
    plain = model.generate_ids(batch, 12)
    with model.edited(Shift(site, 5.0, where)):
        cached = model.generate_ids(batch, 12)
        uncached = model.generate_ids(batch, 12, use_cache=False)
    assert torch.equal(cached, uncached)
    assert not torch.equal(cached, plain), "the edit must have an effect, or this shows nothing"
    assert torch.equal(model.generate_ids(batch, 12), plain)


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


def test_padding_does_not_change_what_is_read(model):
    site = "layers.1.residual"
    text = "the red bridge"
    alone = model.read(text, site)[site][0]
    padded = model.read([text, "a much longer text than the other one"], site)[site][0]
    torch.testing.assert_close(padded[: len(alone)], alone, atol=1e-5, rtol=1e-5)


def test_any_module_can_be_named_by_path(model):
    tokens = batch(model)
    path = next(
        name for name, module in model.network.named_modules() if name.endswith("1.mlp") or name.endswith("1.output")
    )
    value = model.read(tokens, f"module:{path}")[f"module:{path}"]
    assert value.shape == (*tokens.ids.shape, WIDTH)
    head = next(name for name, module in model.network.named_modules() if module is model.site("logits").module)
    assert torch.equal(model.read(tokens, f"module:{head}")[f"module:{head}"], model.logits(tokens))
    with pytest.raises(SiteError, match="no module 'nowhere'"):
        model.read(tokens, "module:nowhere")


def test_errors_name_the_site_and_the_nearest():
    model = make_model("llama")
    with pytest.raises(SiteError, match=r"did you mean layers\.1\.residual"):
        model.site("layers.1.residul")
    with pytest.raises(SiteError, match="layers 0 to 2"):
        model.site("layers.7.residual")
    with pytest.raises(SiteError, match="no last norm"):
        make_model("bert").site("final")


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
        wrap_model(make_network("llama"), make_tokenizer(chat=False), "shy").chat_ids(
            [{"role": "user", "content": "x"}]
        )


def test_an_unknown_family_is_told_how_to_name_a_module():
    network = make_network("llama")
    network.config.model_type = "novel"
    with pytest.raises(SiteError, match=r"module:model\.layers\.1"):
        wrap_model(network, make_tokenizer()).site("layers.1.residual")
