"""What reading and steering cost over the bare model, in interleaved rounds of one run.

    python benchmarks/overhead.py --rounds 15

A random model of GPT-2 small's size and the built-in model. Reading the middle site is held against the whole forward
pass and against a bare hook that stops there; generation under a clamp (L1: one encoder row; TopK: encoded in full)
against plain generation. CPU seconds; ratios are medians over rounds with their range. Appends a line to
benchmarks/results/overhead.jsonl.
"""

import argparse
import json
import resource
import statistics
from pathlib import Path
from typing import Any

import torch
import transformers

import sonde
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.topk import TopK
from sonde.models.model import Model, Tokens
from sonde.steering.directions import Clamp


class Stop(Exception):
    pass


def bare_read(model: Model, site: str, tokens: Tokens) -> torch.Tensor:
    """What one would write by hand: a hook that keeps the output and stops."""
    kept = []

    def hook(_, __, output):
        kept.append(output if isinstance(output, torch.Tensor) else output[0])
        raise Stop

    trunk: Any = model.network.base_model
    handle = model.site(site).module.register_forward_hook(hook)
    try:
        with torch.no_grad():
            trunk(input_ids=tokens.ids, attention_mask=tokens.mask, use_cache=False)
    except Stop:
        pass
    handle.remove()
    return kept[0]


def cpu_seconds(work) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(ways: dict, rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds of each way relative to the first, in interleaved rounds."""
    times = {name: [] for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            times[name].append(cpu_seconds(work))
    first = next(iter(times.values()))
    result = {}
    for name, row in times.items():
        ratios = [own / base for own, base in zip(row, first, strict=True)]
        result[name] = {
            "cpu_s": statistics.median(row),
            "ratio": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        }
        span = f"{result[name]['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:<34} {result[name]['cpu_s']:.3f} CPU s  {span}", flush=True)
    return result


def with_site(dictionary, site: str):
    """A dictionary with random directions that acts at a site."""
    with torch.no_grad():
        directions = torch.nn.functional.normalize(torch.randn(dictionary.n_features, dictionary.d_in), dim=1)
        dictionary.W_enc.copy_(directions)
        dictionary.W_dec.copy_(directions)
    return dictionary.at(site).requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    settings = parser.parse_args()
    torch.manual_seed(0)
    gpt2 = sonde.wrap_model(transformers.GPT2LMHeadModel(transformers.GPT2Config()), None, "gpt2 size")
    world = sonde.load_model("world", device="cpu")
    result = {}

    tokens = gpt2.pad(torch.randint(0, 50257, (8, 128)).tolist())
    site = "layers.6.residual"
    assert torch.equal(bare_read(gpt2, site, tokens), gpt2.read(tokens, site))
    print("gpt2 size, 8 x 128 tokens, reading layer 6 of 12:")
    result["read"] = compare(
        {
            "bare hook that stops": lambda: bare_read(gpt2, site, tokens),
            "sonde read": lambda: gpt2.read(tokens, site),
            "whole forward pass": lambda: gpt2.logits(tokens),
        },
        settings.rounds,
    )
    for model, at, width, n_features, n_tokens in (
        (world, "layers.3.residual", 128, 2048, 40),
        (gpt2, site, 768, 16384, 8),
    ):
        prompt = model.pad([list(range(3, 11))], "left")
        l1, topk = with_site(L1(n_features, width), at), with_site(TopK(n_features, width, k=32), at)

        def generate(*edits, model=model, prompt=prompt, n_tokens=n_tokens):
            with model.edited(*edits):
                model.generate_ids(prompt, n_tokens, min_new_tokens=n_tokens)

        print(f"{model.name}, {n_features:,} features, {n_tokens} tokens after 8, batch 1:")
        result[f"generate {model.name}"] = compare(
            {
                "plain": generate,
                "clamp, L1": lambda generate=generate, l1=l1: generate(Clamp(l1, 5, 1.0)),
                "clamp, TopK": lambda generate=generate, topk=topk: generate(Clamp(topk, 5, 1.0)),
            },
            settings.rounds,
        )
    out = Path(__file__).parent / "results/overhead.jsonl"
    out.parent.mkdir(exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps({"rounds": settings.rounds} | result) + "\n")


if __name__ == "__main__":
    main()
