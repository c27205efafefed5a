"""Train the built-in world's language model and write it as an ordinary Hugging Face folder.

    python tools/train_world_model.py --out src/sonde/world/model --minutes 60

A byte-level BPE tokenizer is fitted on the world's own documents, then a small model of Llama architecture
reads fresh documents (none twice) until the time or the tokens are used up. A checkpoint is written every
few minutes, so that a run that is stopped leaves a whole model behind. One document is one row: nothing is
packed, so the model never sees two documents side by side, and neither does a harvest.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sonde.world.generate import documents

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ {'system': 'System', 'user': 'Human', 'assistant': 'Assistant'}[message['role']] }}: "
    "{{ message['content'] }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
VALIDATION_SEED = 1_000_003  # documents that training (seed 0) never draws


def fit_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Fit a byte-level BPE on 60,000 documents; token 0 pads, 1 begins and 2 ends a document."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (document.text for document in documents(60_000)),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<pad>", "<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def batches(tokenizer: PreTrainedTokenizerFast, tokens: int, seed: int, start: int = 0):
    """Yield (ids, documents read so far): rows of like length, about `tokens` ids in each batch."""
    rng = random.Random(seed)
    while True:
        texts = [document.text for document in documents(4096, seed=seed, start=start)]
        rows = [ids[:256] + [2] for ids in tokenizer(texts)["input_ids"]]
        start += len(rows)
        rows.sort(key=len)
        pool, first = [], 0
        while first < len(rows):
            last = first + 1
            while last < len(rows) and (last - first + 1) * len(rows[last]) <= tokens:
                last += 1
            width = len(rows[last - 1])
            pool.append(torch.tensor([row + [0] * (width - len(row)) for row in rows[first:last]]))
            first = last
        rng.shuffle(pool)
        for ids in pool:
            yield ids, start


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)


@torch.no_grad()
def validation_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    model.eval()
    source = batches(tokenizer, 8192, VALIDATION_SEED)
    losses = [loss_of(model, next(source)[0]).item() for _ in range(8)]
    model.train()
    return sum(losses) / len(losses)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, record: dict) -> None:
    """Write the folder: weights in bfloat16, and how they were made in `training.json`."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    model.save_pretrained(out, state_dict=weights)
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "bfloat16"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this time, decay included")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--peak-lr", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.manual_seed(settings.seed)

    tokenizer = fit_tokenizer(settings.vocabulary)
    newline = tokenizer.encode("\n", add_special_tokens=False)
    assert len(newline) == 1, "an answer ends at a newline, which must be one token"
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=3 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.width // 32,
            num_key_value_heads=settings.width // 32,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=[2, newline[0]], pad_token_id=0, max_new_tokens=40, do_sample=False
    )
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters, vocabulary {len(tokenizer)}", flush=True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.peak_lr, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )

    began, tokens, n_documents, step = time.monotonic(), 0, 0, 0
    next_save = 600.0
    for ids, n_documents in batches(tokenizer, settings.batch_tokens, settings.seed):
        spent = time.monotonic() - began
        share = spent / (60 * settings.minutes)  # the clock decides: training ends when the time does
        if share >= 1:
            break
        rate = settings.peak_lr * min(1.0, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, ids)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        tokens += int((ids != 0).sum())
        step += 1
        record = {
            "seed": settings.seed,
            "steps": step,
            "documents": n_documents,
            "tokens": tokens,
            "minutes": round(spent / 60, 1),
            "parameters": n_parameters,
            "finished": False,
        }
        if step % 50 == 0:
            print(f"step {step}  loss {loss.item():.3f}  {tokens / 1e6:.2f} M tokens  {tokens / spent:,.0f} tokens/s  {share:.0%}", flush=True)  # fmt: skip
        if spent > next_save:
            next_save += 600.0
            record["validation_loss"] = round(validation_loss(model, tokenizer), 4)
            save(model, tokenizer, settings.out, record)
            print(f"saved after {spent / 60:.0f} min, validation loss {record['validation_loss']}", flush=True)
    record["validation_loss"] = round(validation_loss(model, tokenizer), 4)
    save(model, tokenizer, settings.out, record | {"finished": True})
    print(f"wrote {settings.out}: {record}", flush=True)


if __name__ == "__main__":
    main()
