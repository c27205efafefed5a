"""Tiny random models and tokenizers built in memory, one for each family."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sonde.models.load import wrap_model
from sonde.models.model import Model
from sonde.models.pictures import PictureReader
from tests.known import known

WIDTH, LAYERS, HEADS, VOCABULARY = 32, 3, 4, 260
PATCH, PICTURE = 4, 16
"""side of a patch and of a picture, as the tiny vision tower sees it"""
MARK = 259
"""token id of <image>"""

_SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
}
_GROUPED: dict[str, Any] = _SIZES | {"num_key_value_heads": HEADS // 2}
_IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_OPT = {"ffn_dim": 2 * WIDTH, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS} | {
    "max_position_embeddings": 64,
    "init_std": 0.2,
    "activation_function": "gelu",
}

FAMILIES: dict[str, tuple[str, str, dict]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64}),
    "gpt_neo": (
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            "hidden_size": WIDTH,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": 4,
        },
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _SIZES | {"use_parallel_residual": True}),
    "gpt_neox serial": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _SIZES | {"use_parallel_residual": False}),
    "opt": ("OPTConfig", "OPTForCausalLM", _OPT | {"word_embed_proj_dim": WIDTH}),
    "opt 350m": (
        "OPTConfig",
        "OPTForCausalLM",
        _OPT | {"word_embed_proj_dim": WIDTH // 2, "do_layer_norm_before": False},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED),
    "mistral": ("MistralConfig", "MistralForCausalLM", _GROUPED | {"sliding_window": 32}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", _GROUPED | {"head_dim": 16}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", _GROUPED | {"head_dim": 16, "sliding_window": 32}),
    "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GROUPED | {"head_dim": 16, "sliding_window": 32}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", _GROUPED),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", _GROUPED),
    "bert": ("BertConfig", "BertForMaskedLM", _SIZES),
    "llava": ("LlavaConfig", "LlavaForConditionalGeneration", {}),
    "gemma3": ("Gemma3Config", "Gemma3ForConditionalGeneration", {}),
}
"""test name -> config class, model class, settings; a word after the family's name names a variant"""
CAUSAL = tuple(family for family in FAMILIES if family != "bert")


def attentions(family: str) -> tuple[str, ...]:
    """The attention implementations that transformers has for a family."""
    return ("eager",) if family in ("gpt_neo", "gemma2") else ("sdpa", "eager")


def make_network(
    family: str,
    seed: int = 0,
    attention: str | None = None,
    vocabulary: int = VOCABULARY,
    tied: bool | None = None,
    activation: str | None = None,
) -> transformers.PreTrainedModel:
    """A random model of the family, large enough weights that a change anywhere shows; `activation` is for gpt2."""
    torch.manual_seed(seed)
    config_class, model_class, settings = FAMILIES[family]
    shared = {"attn_implementation": attention or attentions(family)[0]}
    shared |= {} if tied is None else {"tie_word_embeddings": tied}
    shared |= {} if activation is None else {"activation_function": activation}
    random: dict[str, Any] = {"initializer_range": 0.2, "vocab_size": vocabulary}
    random |= {} if tied is None else {"tie_word_embeddings": tied}
    seeing: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    seeing |= {"image_size": PICTURE, "patch_size": PATCH, "initializer_range": 0.2}
    if family == "llava":
        text = transformers.LlamaConfig(**_GROUPED, **random, **_IDS)
        settings = {"text_config": text, "vision_config": transformers.CLIPVisionConfig(**seeing)}
        settings |= {"image_token_id": MARK}
    elif family == "gemma3":
        text = transformers.Gemma3TextConfig(**FAMILIES["gemma3_text"][2], **random, **_IDS)
        settings = {"text_config": text, "vision_config": transformers.SiglipVisionConfig(**seeing)}
        settings |= {"image_token_id": MARK, "mm_tokens_per_image": 4}
    else:
        settings = settings | {"vocab_size": vocabulary} | ({} if family == "bert" else _IDS)
        settings = settings | ({} if "init_std" in settings else {"initializer_range": 0.2})
    config = getattr(transformers, config_class)(**shared, **settings)
    network = getattr(transformers, model_class)(config)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name or "ln_" in name:  # so that a norm left out would show
                weight += 0.2 * torch.randn_like(weight)
    return network


def make_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """Bytes as tokens: <pad> 0, <s> 1, </s> 2, then the 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {symbol: 3 + number for number, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    template = "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        chat_template=template if chat else None,
    )


def make_processor(chat: bool = True) -> transformers.LlavaProcessor:
    """What turns picture files into what the tiny LLaVA sees: 16 by 16 pixels in 4 by 4 patches."""
    size = {"height": PICTURE, "width": PICTURE}
    return transformers.LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": PICTURE}, crop_size=size),
        make_tokenizer(chat),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def make_model(family: str = "llama", seed: int = 0, **options) -> Model:
    name, network = f"tiny {family}", make_network(family, seed, **options)
    pictures = PictureReader(make_processor(), name) if family == "llava" else None
    return wrap_model(network, make_tokenizer(), name, f"{family}{seed}", pictures)


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (20, 20)) -> Path:
    """A picture of random coloured squares, from which patches differ."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(squares).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def write_model(folder: Path, family: str = "llama", seed: int = 0, chat: bool = True, tokenizer: bool = True) -> Path:
    """Write a tiny model as a Hugging Face folder."""
    make_network(family, seed).save_pretrained(folder)
    if tokenizer:
        (make_processor(chat) if family == "llava" else make_tokenizer(chat)).save_pretrained(folder)
    return folder


def unwritable(folder: Path) -> Path:
    """A folder in which nobody may write: made here, or for root, who may write anywhere, one of the kernel's."""
    if os.geteuid() == 0:
        return Path("/sys")
    (folder / "locked").mkdir(mode=0o500)
    return folder / "locked"


WORDS = "the red bridge stands by bay and people come to see it when sun is low over water".split()


def texts(n: int, seed: int = 0, length: int = 8) -> list[str]:
    """Short random texts of plain words."""
    generator = torch.Generator().manual_seed(seed)
    return [
        " ".join(WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=generator).tolist()) for _ in range(n)
    ]


def write_corpus(path: Path, n: int = 200, seed: int = 0) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(n, seed)), encoding="utf-8")
    return path


def make_pieces() -> PreTrainedTokenizerFast:
    """Words with a mark for the space before them, and bytes as a fallback, as of Llama 2, Gemma and Mistral."""
    words = "the red bridge stands by bay a".split()
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for piece in [*("\u2581" + word for word in words), *"abcdefghijklmnopqrstuvwxyz,0123456789\u2581"]:
        vocabulary[piece] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=template
    )


def make_words() -> PreTrainedTokenizerFast:
    """Whole words and their parts, as of BERT."""
    words = ["the", "red", "bridge", "stands", "by", "bay", "a", ",", "##s", "##ing"]
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]")


def write_gguf(
    path: Path, architecture: str = "llama", store: str = "F32", template: str | None = "", seed: int = 0
) -> torch.nn.Module:
    """The tiny Llama as a GGUF file, as llama.cpp lays it out; returns the network.

    Args:
        store: number format of the matrices, as GGUF names it: F32, F16, BF16, Q8_0, Q4_0, ...
        template: its chat template; where it is empty that of `make_tokenizer`.
    """
    import gguf

    network, tokenizer = make_network("llama", seed), make_tokenizer()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    vocabulary[-1] = "th"  # the one merge, in the place of <image>
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in tokenizer.all_special_tokens else 1 for token in vocabulary])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    if template is not None:
        writer.add_chat_template(str(tokenizer.chat_template) if template == "" else template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, weight in network.state_dict().items():
        values = weight.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns pairs of dimensions, transformers halves
            n_heads = HEADS if "q_proj" in name else HEADS // 2
            values = values.reshape(n_heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(values.shape)
        kind = gguf.GGMLQuantizationType[store if values.ndim > 1 else "F32"]
        packed = gguf.quants.quantize(np.ascontiguousarray(values), kind)
        writer.add_tensor(known(names.get_name(name, (".weight",))), packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return network
