"""Tiny random models and tokenizers built in memory, one for each family."""

import json
import os
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sonde.models.load import wrap_model
from sonde.models.model import Model

WIDTH, LAYERS, HEADS, VOCABULARY = 32, 3, 4, 259
FAMILIES = ("gpt2", "llama", "bert")


def make_network(family: str, seed: int = 0, attention: str = "sdpa") -> transformers.PreTrainedModel:
    """A random model of the family, large enough weights that a change anywhere shows."""
    torch.manual_seed(seed)
    shared = {"vocab_size": VOCABULARY, "attn_implementation": attention, "initializer_range": 0.2}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if family == "gpt2":
        config = transformers.GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=64, **shared, **ids)
        return transformers.GPT2LMHeadModel(config)
    if family == "llama":
        config = transformers.LlamaConfig(
            hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            num_key_value_heads=HEADS // 2, max_position_embeddings=64, **shared, **ids,
        )  # fmt: skip
        return transformers.LlamaForCausalLM(config)
    config = transformers.BertConfig(
        hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        max_position_embeddings=64, **shared, pad_token_id=0,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


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
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        chat_template=template if chat else None,
    )  # fmt: skip


def make_model(family: str = "llama", seed: int = 0, **options) -> Model:
    return wrap_model(make_network(family, seed, **options), make_tokenizer(), f"tiny {family}", f"{family}{seed}")


def write_model(folder: Path, family: str = "llama", seed: int = 0, chat: bool = True, tokenizer: bool = True) -> Path:
    """Write a tiny model as a Hugging Face folder."""
    make_network(family, seed).save_pretrained(folder)
    if tokenizer:
        make_tokenizer(chat).save_pretrained(folder)
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
