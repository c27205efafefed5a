"""Training of the built-in world's language model from scratch, as an ordinary Hugging Face folder.

A byte-level BPE tokenizer is fitted on the world's own documents, then a small model of Llama architecture reads fresh
documents, none twice. One document is one row: nothing is packed, so the model never sees two documents together, and
neither does a harvest. The step is compiled and computes in bfloat16 with weights in float32; matrices are trained by
Muon (Jordan et al. 2024; orthogonalised momentum), all other weights by AdamW. The state of the run is saved every few
minutes, and a run that was stopped resumes from there.
"""

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.optim import Optimizer
from transformers import (
    AutoConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from sonde.artifacts import alone_in
from sonde.errors import UsageError
from sonde.models.load import BUILT_IN, built_in
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path
from sonde_world.generate import documents

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ {'system': 'System', 'user': 'Human', 'assistant': 'Assistant'}[message['role']] }}: "
    "{{ message['content'] }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
VALIDATION_SEED = 1_000_003
"""seed of documents that training (seed 0) never draws"""
PAD, BEGIN, END = 0, 1, 2
CONTEXT = 256
HEAD = 32
UNFINISHED = "unfinished.pt"
POOL = 4096
"""documents that are sorted by length to form batches"""


@dataclass(frozen=True, kw_only=True)
class TrainWorldConfig:
    """How the world's model is made."""

    start: str = ""
    """a model of the world whose language to go on from, as a folder or `world`; random weights if there is none"""
    tokens: int = 15_000_000
    """to read, padding aside"""
    width: int = 192
    layers: int = 6
    vocabulary: int = 3072
    batch_tokens: int = 4096
    """of a step, padding among them"""
    lr: float = 3e-3
    """at its highest, after `warmup` steps; from there it falls in a line to none"""
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0
    checkpoints: int = 0
    """models along the way, evenly spaced: all but the last, which is the finished one, are left in folders of their
    own"""
    save_minutes: float = 5.0


def fit_tokenizer(vocabulary: int, n_documents: int = 60_000) -> PreTrainedTokenizerFast:
    """Fit a byte-level BPE tokenizer on documents of the world.

    Token 0 pads, 1 begins and 2 ends a document, and 3 stands for a patch of a picture.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (document.text for document in documents(n_documents)),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<pad>", "<s>", "</s>", "<image>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def batches(
    tokenizer: PreTrainedTokenizerFast, tokens: int, seed: int, pool: int = 0, skip: int = 0
) -> Iterator[tuple[Tensor, int, int]]:
    """Yield (ids, pool, index): rows of similar length, at most `tokens` ids in a batch, padded to a multiple of 4.

    Args:
        pool: document from which the first pool begins.
        skip: batches of that pool to leave out, for a run that goes on.
    """
    while True:
        rows = token_rows(tokenizer, (document.text for document in documents(POOL, seed=seed, start=pool)))
        rows.sort(key=len)
        found, first = [], 0
        while first < len(rows):
            last, width = first + 1, _up(len(rows[first]))
            while last < len(rows) and (last - first + 1) * _up(len(rows[last])) <= tokens:
                width = _up(len(rows[last]))
                last += 1
            found.append(padded(rows[first:last], width))
            first = last
        random.Random(f"{seed}:{pool}").shuffle(found)
        for place, ids in enumerate(found):
            if place >= skip:
                yield ids, pool, place
        pool, skip = pool + POOL, 0


def token_rows(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of texts, with begin and end tokens, cut to the context."""
    return [ids[: CONTEXT - 1] + [END] for ids in tokenizer(list(texts))["input_ids"]]


def padded(rows: Sequence[list[int]], width: int | None = None) -> Tensor:
    """Rows of token ids as a tensor [row, token], padded to the longest or to a width."""
    width = width or max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def _up(length: int) -> int:
    return 4 * math.ceil((length - 1) / 4) + 1  # one more, as the last is only predicted


def make_config(config: TrainWorldConfig, vocabulary: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        intermediate_size=3 * config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.width // HEAD,
        num_key_value_heads=config.width // HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
    )


def rotation(length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [length, HEAD] of rotary positions."""
    angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, HEAD, 2) / HEAD)
    return torch.cat([angles.cos()] * 2, -1).to(dtype), torch.cat([-angles.sin(), angles.sin()], -1).to(dtype)


def forward(weights: dict[str, Tensor], x: Tensor, n_layers: int, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
    """The network of `LlamaForCausalLM` from embeddings [row, token, width] to the last norm.

    Written in few operations, so that it compiles well; a test compares it with the original.
    """
    rows, length, width = x.shape
    heads = width // HEAD

    def turned(vectors: Tensor) -> Tensor:
        return vectors * cos + torch.roll(vectors, HEAD // 2, -1) * sin

    for layer in range(n_layers):
        own = f"model.layers.{layer}."
        h = F.rms_norm(x, (width,), weights[own + "input_layernorm.weight"], 1e-6)
        qkv = torch.cat([weights[f"{own}self_attn.{name}_proj.weight"] for name in "qkv"])
        q, k, v = F.linear(h, qkv).view(rows, length, 3, heads, HEAD).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(turned(q), turned(k).transpose(-1, -2)) * HEAD**-0.5 + mask
        mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(rows, length, width)
        x = x + F.linear(mixed, weights[own + "self_attn.o_proj.weight"])
        h = F.rms_norm(x, (width,), weights[own + "post_attention_layernorm.weight"], 1e-6)
        gate, up = (F.linear(h, weights[f"{own}mlp.{name}_proj.weight"]) for name in ("gate", "up"))
        x = x + F.linear(F.silu(gate) * up, weights[own + "mlp.down_proj.weight"])
    return F.rms_norm(x, (width,), weights["model.norm.weight"], 1e-6)


def loss_of(weights: dict[str, Tensor], ids: Tensor, n_layers: int, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy of the tokens after the first, without padding, in nats."""
    embedding = weights["model.embed_tokens.weight"]
    length = ids.shape[1] - 1
    x = F.embedding(ids[:, :-1], embedding)
    x = forward(weights, x, n_layers, cos[:length], sin[:length], mask[:length, :length])
    logits = F.linear(x.reshape(-1, x.shape[-1]), embedding)
    return F.cross_entropy(logits.float(), ids[:, 1:].reshape(-1), ignore_index=PAD)


@dataclass
class _Done:
    """How far a run has come."""

    step: int = 0
    tokens: int = 0
    minutes: float = 0.0
    pool: int = 0
    batches: int = 0
    """batches read of this pool"""


@dataclass
class _Run:
    """A run of training: what it changes, and the record of it that the model folder keeps."""

    network: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    weights: dict[str, torch.nn.Parameter]
    optimisers: list[Optimizer]
    done: _Done
    record: dict[str, Any]


def train_world(
    out: str | Path, config: TrainWorldConfig | None = None, *, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Train the model, or resume the stopped run of this folder; returns the record of how it was made.

    Args:
        out: receives the model folder, and `unfinished.pt` as long as it is being trained.

    Raises:
        UsageError: the folder holds a run with other settings, or `start` is no model of the world.
        OutputBusyError: another run is writing the folder.
    """
    folder = local_path(out)
    with alone_in(folder):
        return _train(folder, config or TrainWorldConfig(), reporter or default_reporter())


def _train(folder: Path, config: TrainWorldConfig, reporter: Reporter) -> dict[str, Any]:
    record_path = folder / "training.json"
    if record_path.exists() and (made := json.loads(record_path.read_text())).get("finished"):
        reporter.say(f"{folder} is finished: reusing it")
        return made
    torch.manual_seed(config.seed)
    run = _begin(folder, config, reporter)
    done = run.done
    take_step = _stepper(config, run.network.config.num_hidden_layers)
    saved = time.monotonic()
    with reporter.start("train", config.tokens, "tokens", done.tokens) as progress:
        for ids, pool, place in batches(run.tokenizer, config.batch_tokens, config.seed, done.pool, done.batches):
            began, before = time.monotonic(), done.tokens
            loss = take_step(run.weights, run.optimisers, ids, done)
            done.step, done.tokens = done.step + 1, before + int((ids[:, 1:] != PAD).sum())
            done.pool, done.batches = pool, place + 1
            done.minutes += (time.monotonic() - began) / 60
            progress.advance(done.tokens - before, f"loss {loss:.3f}")
            _record(run, loss, config)
            _save_checkpoints(folder, config, run, before)
            if run.record["finished"]:
                break
            if time.monotonic() - saved > 60 * config.save_minutes:
                saved = time.monotonic()
                _keep(folder, config, run)
    save(run.network, run.tokenizer, folder, run.record)
    (folder / UNFINISHED).unlink(missing_ok=True)
    return run.record


def _begin(folder: Path, config: TrainWorldConfig, reporter: Reporter) -> _Run:
    """A new run, from random weights or from another model's, or the stopped run of this folder."""
    state = _unfinished(folder, config)
    if config.start:
        network, tokenizer, start = read_start(config.start)
        done, record = _Done(pool=start["documents"]), {"start": start}
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder) if state else fit_tokenizer(config.vocabulary)
        network = LlamaForCausalLM(make_config(config, len(tokenizer)))
        done, record = _Done(), {}
    tokenizer.save_pretrained(folder)
    weights = dict(network.named_parameters())
    optimisers = make_optimisers(weights, config)
    if state:
        network.load_state_dict(state["weights"])
        for optimiser, optimiser_state in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(optimiser_state)
        done = _Done(**state["done"])
        reporter.say(f"going on after {done.tokens:,} tokens")
    record |= {"settings": asdict(config), "parameters": sum(weight.numel() for weight in weights.values())}
    return _Run(network, tokenizer, weights, optimisers, done, record)


def _record(run: _Run, loss: float, config: TrainWorldConfig) -> None:
    """Bring the record up to date after a step."""
    done = run.done
    run.record |= {"tokens": done.tokens, "steps": done.step, "documents": done.pool + POOL}
    run.record |= {"minutes": round(done.minutes, 1), "loss": round(loss, 4)}
    run.record |= {"finished": done.tokens >= config.tokens}


def _save_checkpoints(folder: Path, config: TrainWorldConfig, run: _Run, before: int) -> None:
    """Save the models that are due between `before` and the tokens read by now."""
    due = [config.tokens * number // config.checkpoints for number in range(1, config.checkpoints)]
    for number, tokens in enumerate(due):
        if before < tokens <= run.done.tokens:
            save(run.network, run.tokenizer, folder / f"checkpoint-{number}", run.record)


def world_model_folder(model: str) -> Path:
    """The folder of a model of the world; raises UsageError for any other."""
    folder = built_in(model) if model in BUILT_IN else Path(model)
    if not (folder / "training.json").exists():
        raise UsageError(f"{model} is no model of the world: give a folder written by sonde world train, or world")
    return folder


def read_start(start: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """The language part of a model of the world in float32, its tokenizer, and how it was made."""
    folder = world_model_folder(start)
    config = AutoConfig.from_pretrained(folder)
    if isinstance(config, LlavaConfig):
        network = LlamaForCausalLM(config.get_text_config())  # type: ignore[arg-type]
        seeing = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        network.model.load_state_dict(seeing.model.language_model.state_dict())
        network.tie_weights()
    else:
        network = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    record = json.loads((folder / "training.json").read_text())
    return network, PreTrainedTokenizerFast.from_pretrained(folder), record


def _stepper(config: TrainWorldConfig, n_layers: int) -> Callable[..., float]:
    """A compiled step, which updates the weights on a batch and returns its loss."""
    cos, sin = rotation(CONTEXT, torch.bfloat16)
    mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1).bfloat16()
    compiled = torch.compile(loss_of)

    def take_step(
        weights: dict[str, torch.nn.Parameter], optimisers: list[Optimizer], ids: Tensor, done: _Done
    ) -> float:
        rate = config.lr * min(1.0, (done.step + 1) / config.warmup) * (1 - done.tokens / config.tokens)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        torch._dynamo.mark_dynamic(ids, [0, 1])  # weights stay of fixed shapes, or their loops are not vectorised
        cast = {name: weight.bfloat16() for name, weight in weights.items()}
        loss = compiled(cast, ids, n_layers, cos, sin, mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        return loss.item()

    return take_step


def _unfinished(folder: Path, config: TrainWorldConfig) -> dict[str, Any] | None:
    """The state of a stopped run; None where there is none."""
    path = folder / UNFINISHED
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    if state["settings"] != asdict(config):
        raise UsageError(
            f"{folder} holds a run with other settings ({state['settings']}): give them, or another folder"
        )
    return state


def _keep(folder: Path, config: TrainWorldConfig, run: _Run) -> None:
    """Save all that a run needs to resume, atomically."""
    state: dict[str, Any] = {"settings": asdict(config), "weights": run.network.state_dict(), "done": asdict(run.done)}
    state["optimisers"] = [optimiser.state_dict() for optimiser in run.optimisers]
    temporary = folder / f"{UNFINISHED}.tmp"
    torch.save(state, temporary)
    temporary.replace(folder / UNFINISHED)


def make_optimisers(weights: dict[str, torch.nn.Parameter], config: TrainWorldConfig) -> list[Optimizer]:
    """Muon for the matrices of layers, AdamW for embeddings and norms."""
    matrices = [weight for name, weight in weights.items() if weight.ndim == 2 and "layers" in name]
    others = [weight for name, weight in weights.items() if not (weight.ndim == 2 and "layers" in name)]
    return [
        torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True),
    ]


def save(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, record: dict[str, Any]) -> None:
    """Write the model folder."""
    newline = tokenizer.encode("\n", add_special_tokens=False)
    assert len(newline) == 1, "an answer ends at a newline, which must be one token"
    network.generation_config = GenerationConfig(
        bos_token_id=BEGIN, eos_token_id=[END, newline[0]], pad_token_id=PAD, max_new_tokens=40, do_sample=False
    )
    save_model(network, tokenizer, folder, record)


def save_model(
    network: PreTrainedModel, reader: PreTrainedTokenizerFast | ProcessorMixin, folder: Path, record: dict[str, Any]
) -> None:
    """Write a model folder: weights in bfloat16, tokenizer or processor, and the record in `training.json`."""
    weights = {name: value.bfloat16() for name, value in network.state_dict().items() if name != "lm_head.weight"}
    network.save_pretrained(folder, state_dict=weights)  # the head is tied to the embedding
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "bfloat16"}, indent=2) + "\n")
    reader.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
