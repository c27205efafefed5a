"""Random things that users bring: a model, its tokenizer and chat template, and texts, all decided by one number."""

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from tests.tiny import FAMILIES, make_network, make_pieces, make_processor, make_tokenizer, make_words, write_gguf

TEMPLATES: dict[str, Any] = {
    "none": None,
    "plain": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
    "beginning": "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
    "turns": (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must\\nalternate') }}{% endif %}{{ m.content | trim }}{% endfor %}"
    ),
    "no system": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[-1].content }}"
    ),
    "parts": "{% for part in messages[-1].content if part.type == 'text' %}{{ part.text }}{% endfor %}",
    "says nothing": "{# nothing #}",
    "broken": "{% for m in messages %}{{ m.content }",
    "fails": "{{ messages[0]['content'] + 1 }}",
    "raises": "{{ raise_exception('never') }}",
    "unknown": "{{ today('%Y').a.b }}",
    "several": {"default": "{{ messages[-1].content }}", "tool_use": "{{ tools[0] }}"},
}
ALPHABETS = [
    lambda rng: rng.choice("the red bridge stands by bay a ,"),
    lambda rng: rng.choice(["the ", "red ", "bridge ", "stands", ", "]),
    lambda rng: chr(rng.randrange(0x20, 0x7F)),
    lambda rng: chr(rng.randrange(rng.random() > 0.01, 0x20)),
    lambda rng: chr(rng.choice([0x85, 0xA0, 0x200B, 0x200D, 0x200F, 0x202E, 0x2028, 0x2066, 0xFEFF, 0xFFFD, 0xFFFF])),
    lambda rng: chr(rng.randrange(0x590, 0x700)),
    lambda rng: chr(rng.randrange(0x300, 0x370)),
    lambda rng: chr(rng.randrange(0x4E00, 0x5000)),
    lambda rng: chr(rng.randrange(0x1F300, 0x1F700)),
    lambda rng: chr(rng.choice([*range(0x80, 0xD800), *range(0xE000, 0x3000), 0x10FFFF, 0xE0001, 0x1D11E])),
    lambda rng: rng.choice(["\r\n", "\n\n", "\t", "  ", "\u2581", "##s", "\u0120"]),
    lambda rng: rng.choice(
        ["<s>", "</s>", "<pad>", "<image>", "[UNK]", "[SEP]", "<0x0A>", "<|head|>", "{{", "%s", "feature:3=1"]
    ),
]
"""each makes a letter or two of its kind"""


def make_text(rng: random.Random, longest: int = 90) -> str:
    """A text of letters of one kind, two, or all; now and then empty, very long for its size, or half a character."""
    length = rng.choice([0, 1, 2, 12, 12, rng.randrange(longest), rng.randrange(longest)])
    alphabets = rng.sample(ALPHABETS, rng.choice([1, 2, len(ALPHABETS)]))
    return "".join(rng.choice(alphabets)(rng) for _ in range(length)) + ("\ud83d" if rng.random() < 0.002 else "")


PACKED = ["F16", "BF16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"]
"""number formats of GGUF files, most of them quantised"""
LONG = 400
"""one walk in so many has a line of 1 MB in its texts: about a million tokens, read by each verb"""


def make_long_line(rng: random.Random) -> str:
    """A line of about 1 MB: of one letter, or of a few hundred over and over."""
    unit = rng.choice([rng.choice("a \u4e00\x07"), make_text(rng, 400).replace("\n", " ") or "the red "])
    return unit * (1_000_000 // len(unit.encode("utf-8", "surrogatepass")))


def _without(*names: str) -> Callable[[PreTrainedTokenizerFast], None]:
    def change(tokenizer: PreTrainedTokenizerFast) -> None:
        for name in names:
            setattr(tokenizer, name, None)

    return change


def _begins_as_it_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.eos_token or "</s>"


def _adds_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)


def _adds_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_tokens([AddedToken("<|head|>", special=True), AddedToken("red", lstrip=True), AddedToken(" by ")])


CHANGES: list[Callable[[PreTrainedTokenizerFast], None]] = [
    lambda tokenizer: None,
    _without("pad_token"),
    _without("bos_token"),
    _without("eos_token"),
    _without("pad_token", "bos_token", "eos_token"),
    _begins_as_it_ends,
    _adds_nothing,
    _adds_tokens,
]


@dataclasses.dataclass
class Brought:
    """What one user brings."""

    said: str
    """all choices in one line"""
    model: Path
    text: Any
    """as `harvest` takes it"""
    texts: list[str]
    rng: random.Random
    """for whatever else is chosen"""


def bring(folder: Path, seed: int) -> Brought:
    """Write what the seed decides: a model folder, and texts in one of the forms that are read."""
    rng = random.Random(seed)
    family, template = rng.choice(sorted(FAMILIES)), rng.choice(sorted(TEMPLATES))
    make = make_tokenizer if family == "llava" else rng.choice([make_tokenizer, make_pieces, make_words])
    change, tokenizer = rng.randrange(len(CHANGES)), make()
    CHANGES[change](tokenizer)
    tokenizer.chat_template = TEMPLATES[template]
    tied, dtype = rng.choice([None, True, False]), rng.choice([torch.float32, torch.float16, torch.bfloat16])
    spare = rng.choice([0, 0, 0, 1, 1, 7, 64, -1])
    also = random.Random(f"also {seed}")  # so that what was drawn before there were these stays as it was
    packed, n_long = also.choice([None] * 9 + [also.choice(PACKED)]), int(seed % LONG == 13)
    if packed is not None:
        text = TEMPLATES[template]
        model, tokenizer = folder / "model.gguf", make_tokenizer()
        write_gguf(model, store=packed, template=None if text is None else str(text), seed=seed)
    else:
        model = folder / "model"
        network: Any = make_network(family, seed, vocabulary=len(tokenizer) + spare, tied=tied)
        network.to(dtype=dtype).save_pretrained(model)
        if family == "llava":
            processor = make_processor()
            processor.tokenizer = tokenizer
            processor.save_pretrained(model)
        tokenizer.save_pretrained(model)
    texts = [make_long_line(also) for _ in range(n_long)]
    texts += [make_text(rng) for _ in range(rng.choice([1, 3, 12, 12, 12]))]
    texts += ["the red bridge"] * rng.choice([0, 2, 2])
    form = rng.choice(sorted(FORMS))
    said = f"{family}, tied {tied}, {dtype}, {make.__name__} changed by {change}, {spare} spare"
    said = f"{said if packed is None else f'GGUF of {packed}'}, {n_long} long lines, {template=}, {form=}"
    return Brought(said, model, FORMS[form](folder, texts, tokenizer), texts, rng)


def _lines(folder: Path, texts: list[str], tokenizer: Any) -> Path:
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\r\n" for text in texts), encoding="utf-8")
    return path


def _plain(folder: Path, texts: list[str], tokenizer: Any) -> Path:
    path = folder / "text.txt"
    path.write_bytes("\r\n\r\n".join(texts).encode("utf-8", "surrogatepass"))
    return path


FORMS: dict[str, Callable[[Path, list[str], Any], Any]] = {
    "list": lambda folder, texts, tokenizer: texts,
    "jsonl": _lines,
    "txt": _plain,
    "ids": lambda folder, texts, tokenizer: [
        tokenizer(text.encode("utf-8", "replace").decode())["input_ids"] for text in texts
    ],
}
