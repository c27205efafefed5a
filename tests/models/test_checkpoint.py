"""A checkpoint lacks tensors, or has some too many: an error that names them, never random numbers."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file

from sonde.errors import ModelError
from sonde.models.load import load_model
from tests.tiny import write_model


def change(folder, family, lacks=(), has=()):
    """A model folder whose checkpoint lacks some tensors and has others besides."""
    write_model(folder, family)
    weights = load_file(folder / "model.safetensors")
    for name in lacks:
        del weights[name]
    save_file(weights | {name: torch.ones(2, 2) for name in has}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "model.layers.1.mlp.down_proj.weight"),
        ("llama", "lm_head.weight"),
        ("gpt2", "transformer.h.0.ln_1.bias"),
        ("bert", "bert.encoder.layer.0.output.dense.weight"),
        ("llava", "language_model.model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_a_tensor_that_is_missing_is_named(tmp_path, family, name):
    with pytest.raises(ModelError, match=rf"lack 1 tensor .*{name.split('.', 2)[-1]}.* would be random"):
        load_model(change(tmp_path / "m", family, lacks=[name]))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "model.layers.3.mlp.down_proj.weight"),
        ("llama", "model.layers.0.self_attn.q_proj.bias"),
        ("llama", "model.layers.0.mlp.up_proj.lora_A.weight"),
        ("llama", "lm_head.bias"),
    ],
)
def test_a_tensor_without_a_place_is_named(tmp_path, family, name):
    with pytest.raises(ModelError, match=rf"hold 1 tensor \({name}\)"):
        load_model(change(tmp_path / "m", family, has=[name]))


def test_of_many_tensors_the_first_are_named(tmp_path):
    lacks = [f"model.layers.{n}.mlp.{part}.weight" for n in range(3) for part in ("up_proj", "down_proj")]
    with pytest.raises(ModelError, match=r"lack 6 tensors \(model.layers.0.mlp.down_proj.weight, .* and 3 more\)"):
        load_model(change(tmp_path / "m", "llama", lacks=lacks))


@pytest.mark.parametrize(
    ("family", "has"),
    [
        ("llama", ["model.layers.0.self_attn.rotary_emb.inv_freq", "score.weight", "mtp.0.weight"]),
        ("gpt_neox", ["gpt_neox.layers.0.attention.masked_bias"]),
        ("bert", ["bert.pooler.dense.weight", "cls.seq_relationship.weight"]),
    ],
)
def test_what_transformers_leaves_out_on_purpose_is_no_fault(tmp_path, family, has):
    load_model(change(tmp_path / "m", family, has=has)).logits("a text")


def test_a_tied_head_is_not_missing(tmp_path):
    folder = write_model(tmp_path / "m", "gpt2")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    load_model(folder)


def test_a_pooler_that_is_missing_is_left_out(tmp_path):
    """Encoders for other tasks come without one, and nothing reads it."""
    folder = write_model(tmp_path / "m", "bert")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForTokenClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    model = load_model(folder)
    assert model.network.pooler is None
    assert model.read("a text", "layers.1.residual").shape[-1] == 32


def test_models_may_be_loaded_from_several_threads(tmp_path):
    """transformers patches itself while it loads; two loads at once would leave it patched."""
    folder = write_model(tmp_path / "m", "gpt2")
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: load_model(folder), range(32)))
    again = write_model(tmp_path / "again", "gpt2")
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    logits = [model.logits(model.tokenize("who are you")) for model in models]
    assert all(torch.equal(each, logits[0]) for each in logits)
