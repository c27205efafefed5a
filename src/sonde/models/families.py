"""Where the sites of each family of models lie: a module path, and whether its input or its output is meant.

Paths are relative to the trunk (the model without its head) or, for the sites of a layer, to the layer. To
add a family, write one more `Family` and test it with `tests/models/test_sites.py`.
"""

from dataclasses import dataclass, field
from typing import Literal

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Place:
    """One side of a module."""

    path: str
    """dotted path; "" is the module that the path starts from"""
    side: Side
    split_heads: bool = False
    """the last axis is (heads, width of a head)"""
    in_place: bool = False
    """the stream at an input of a norm is also kept for the skip connection, so an edit writes into it"""


@dataclass(frozen=True)
class Family:
    """The module paths of one family."""

    layers: str
    """path of the list of layers, from the trunk"""
    trunk: dict[str, Place]
    """sites that occur once: embedding, final"""
    layer: dict[str, Place]
    """sites of each layer"""
    absent: dict[str, str] = field(default_factory=dict)
    """sites that the family does not have, and why"""


LAYER_SITES = ("residual", "residual_mid", "attention", "mlp", "mlp_in", "heads", "neurons")
MODEL_SITES = ("embedding", "final", "logits")

FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        layers="h",
        trunk={"embedding": Place("drop", "output"), "final": Place("ln_f", "output")},
        layer={
            "residual": Place("", "output"),
            "residual_mid": Place("ln_2", "input", in_place=True),
            "attention": Place("attn", "output"),
            "mlp": Place("mlp", "output"),
            "mlp_in": Place("mlp", "input"),
            "heads": Place("attn.c_proj", "input", split_heads=True),
            "neurons": Place("mlp.c_proj", "input"),
        },
    ),
    "llama": Family(
        layers="layers",
        trunk={"embedding": Place("embed_tokens", "output"), "final": Place("norm", "output")},
        layer={
            "residual": Place("", "output"),
            "residual_mid": Place("post_attention_layernorm", "input", in_place=True),
            "attention": Place("self_attn", "output"),
            "mlp": Place("mlp", "output"),
            "mlp_in": Place("mlp", "input"),
            "heads": Place("self_attn.o_proj", "input", split_heads=True),
            "neurons": Place("mlp.down_proj", "input"),
        },
    ),
    "bert": Family(
        layers="encoder.layer",
        trunk={"embedding": Place("embeddings", "output")},
        layer={
            "residual": Place("", "output"),
            "residual_mid": Place("attention.output", "output"),
            "attention": Place("attention.output.dense", "output"),
            "mlp": Place("output.dense", "output"),
            "mlp_in": Place("intermediate", "input"),
            "heads": Place("attention.output.dense", "input", split_heads=True),
            "neurons": Place("output.dense", "input"),
        },
        absent={
            "final": "bert normalises inside every layer and has no last norm; the last layers.N.residual is what its head reads",
        },
    ),
}
