"""Where the sites of each family of models lie: a module path, and whether its input or its output is meant.

Paths of a layer's sites start at the layer, those of the trunk at the trunk: the language model without its
head. A site is placed where the block itself has the value, so that reading computes nothing:

- `query`, `key` and `value` are what the projections give: with their biases, before any norm of queries and
  keys, any scaling, and any rotary embedding. Where one projection gives all three, each is a slice of it.
- `attention` and `mlp` are what is *added* to the stream, after the norms that gemma and olmo2 put there.
- `residual_mid` is a norm's input in most families. The block keeps that very tensor for its skip connection,
  so an edit writes into it (`in_place`), and what is put back unchanged is bit-exact.
- A family whose blocks add attention and MLP at once has no stream between the two.

To add a family, put one more `Family` into `FAMILIES`; `docs/models.md` has an example that runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Side = Literal["input", "output", "pattern"]
"""pattern: of an attention module, its pattern, which is computed by a function and not by a module"""
Projection = Literal["query", "key", "value"]


@dataclass(frozen=True)
class Place:
    """One side of a module."""

    path: str
    """dotted path; "" is the module that the path starts from"""
    side: Side
    heads: Projection | None = None
    """the last axis is (heads, width of a head), for as many heads as there are queries, keys or values"""
    fused: Literal["blocks", "by head"] | None = None
    """the module gives queries, keys and values in one: all heads of each in turn, or the three of each head"""
    in_place: bool = False
    """what passes is the stream itself, kept for the skip connection, so an edit writes into it"""
    rows: bool = False
    """the block lays batch and positions out as one axis there"""


@dataclass(frozen=True)
class Family:
    """The module paths of one family."""

    layers: str
    """path of the list of layers, from the trunk"""
    layer: dict[str, Place]
    """sites of each layer, by the names in `LAYER_SITES`"""
    final: str | None
    """path of the last norm, from the trunk; None where there is none"""
    absent: dict[str, str] = field(default_factory=dict)
    """sites that the family does not have, and why"""
    before_head: str | None = None
    """path, from the trunk, of a projection between the last norm and the head"""


LAYER_SITES = (
    *("query", "key", "value", "pattern", "heads", "attention"),
    *("residual_mid", "mlp_in", "neurons", "mlp", "residual"),
)
"""in the order of the forward pass"""

_NO_FINAL = "{} normalises inside every layer and has no last norm; the last layers.N.residual is what its head reads"


def _attention(path: str, query: str, key: str, value: str, output: str) -> dict[str, Place]:
    """Sites inside an attention module that has a projection for each of queries, keys and values."""
    return {
        "query": Place(f"{path}.{query}", "output", heads="query"),
        "key": Place(f"{path}.{key}", "output", heads="key"),
        "value": Place(f"{path}.{value}", "output", heads="value"),
        "pattern": Place(path, "pattern"),
        "heads": Place(f"{path}.{output}", "input", heads="query"),
    }


def _fused_attention(path: str, projection: str, order: Literal["blocks", "by head"], output: str) -> dict[str, Place]:
    """Sites inside an attention module that has one projection for queries, keys and values."""
    sites = _attention(path, projection, projection, projection, output)
    return {
        name: replace(place, fused=order) if name in ("query", "key", "value") else place
        for name, place in sites.items()
    }


def _pre_norm(
    layers: str, final: str, inside: dict[str, Place], *, attention: str, mlp_norm: str, neurons: str
) -> Family:
    """Blocks with a norm before attention and one before the MLP, whose outputs are added as they are."""
    return Family(
        layers=layers,
        final=final,
        layer=inside
        | {
            "attention": Place(attention, "output"),
            "residual_mid": Place(mlp_norm, "input", in_place=True),
            "mlp_in": Place("mlp", "input"),
            "neurons": Place(neurons, "input"),
            "mlp": Place("mlp", "output"),
            "residual": Place("", "output"),
        },
    )


_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_GPT2 = _pre_norm(
    "h",
    "ln_f",
    _fused_attention("attn", "c_attn", "blocks", "c_proj"),
    attention="attn",
    mlp_norm="ln_2",
    neurons="mlp.c_proj",
)
_GPT_NEO = _pre_norm(
    "h",
    "ln_f",
    # Its pattern passes a module: the dropout, which does nothing.
    _attention("attn.attention", *_PROJECTIONS, "out_proj")
    | {"pattern": Place("attn.attention.attn_dropout", "output")},
    attention="attn",
    mlp_norm="ln_2",
    neurons="mlp.c_proj",
)
_LLAMA = _pre_norm(
    "layers",
    "norm",
    _attention("self_attn", *_PROJECTIONS, "o_proj"),
    attention="self_attn",
    mlp_norm="post_attention_layernorm",
    neurons="mlp.down_proj",
)
_PHI3 = replace(_LLAMA, layer=_LLAMA.layer | _fused_attention("self_attn", "qkv_proj", "blocks", "o_proj"))
_MIXTRAL = replace(
    _LLAMA,
    layer={name: place for name, place in _LLAMA.layer.items() if name != "neurons"},
    absent={
        "neurons": "mixtral sends each token through two experts of many, so an MLP has no one list of neurons; "
        "layers.N.mlp is what the experts add together"
    },
)
_GEMMA = replace(
    _LLAMA,
    layer=_LLAMA.layer
    | {
        "attention": Place("post_attention_layernorm", "output"),
        "residual_mid": Place("pre_feedforward_layernorm", "input", in_place=True),
        "mlp": Place("post_feedforward_layernorm", "output"),
    },
)
_OLMO2 = replace(
    _LLAMA,
    layer=_LLAMA.layer
    | {
        "attention": Place("post_attention_layernorm", "output"),
        "residual_mid": Place("mlp", "input", in_place=True),
        "mlp": Place("post_feedforward_layernorm", "output"),
    },
)
_BERT = Family(
    layers="encoder.layer",
    final=None,
    layer={
        **_attention("attention.self", "query", "key", "value", "output"),
        "heads": Place("attention.output.dense", "input", heads="query"),
        "attention": Place("attention.output.dense", "output"),
        "residual_mid": Place("attention.output", "output"),
        "mlp_in": Place("intermediate", "input"),
        "neurons": Place("output.dense", "input"),
        "mlp": Place("output.dense", "output"),
        "residual": Place("", "output"),
    },
    absent={"final": _NO_FINAL.format("bert")},
)


def _gpt_neox(config: Any) -> Family:
    """Pythia and GPT-NeoX: attention and MLP side by side, or one after the other where the config says so."""
    family = _pre_norm(
        "layers",
        "final_layer_norm",
        _fused_attention("attention", "query_key_value", "by head", "dense"),
        attention="attention",
        mlp_norm="post_attention_layernorm",
        neurons="mlp.dense_4h_to_h",
    )
    if not config.use_parallel_residual:
        return family
    return replace(
        family,
        layer={name: place for name, place in family.layer.items() if name != "residual_mid"},
        absent={
            "residual_mid": "gpt_neox adds attention and MLP to the stream at once, so there is no stream between "
            "them; layers.N.attention and layers.N.mlp are what each adds"
        },
    )


def _opt(config: Any) -> Family:
    """OPT: norms before attention and MLP, or, in the 350m model, after."""
    family = Family(
        layers="decoder.layers",
        final="decoder.final_layer_norm",
        layer={
            **_attention("self_attn", *_PROJECTIONS, "out_proj"),
            "attention": Place("self_attn", "output"),
            "residual_mid": Place("final_layer_norm", "input", in_place=True, rows=True),
            "mlp_in": Place("fc1", "input", rows=True),
            "neurons": Place("fc2", "input", rows=True),
            "mlp": Place("fc2", "output", rows=True),
            "residual": Place("", "output"),
        },
    )
    if config.word_embed_proj_dim != config.hidden_size:
        family = replace(family, before_head="decoder.project_out")
    if config.do_layer_norm_before:
        return family
    return replace(
        family,
        final=None,
        layer=family.layer | {"residual_mid": Place("self_attn_layer_norm", "output")},
        absent={"final": _NO_FINAL.format("this opt")},
    )


FAMILIES: dict[str, Family | Callable[[Any], Family]] = {
    "bert": _BERT,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gpt2": _GPT2,
    "gpt_neo": _GPT_NEO,
    "gpt_neox": _gpt_neox,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _MIXTRAL,
    "olmo2": _OLMO2,
    "opt": _opt,
    "phi3": _PHI3,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""by `model_type` of the language model's config; a function where the places depend on the config"""

LANGUAGE_MODELS = {"llava": "language_model", "gemma3": "language_model"}
"""models that hold a language model beside a vision tower: its path; its own `model_type` gives the family"""


def family_of(config: Any) -> Family | None:
    """The family of a model, from its config; None where it is not known."""
    family = FAMILIES.get(config.get_text_config().model_type)
    return family(config.get_text_config()) if callable(family) else family
