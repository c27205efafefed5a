"""Answering many requests at once, plain and each under a clamp of its own: CPU seconds of one batch of answers.

    python benchmarks/serving.py --rounds 5

A random model of GPT-2 small's size; dictionaries of 16,384 random features after layer 6, of a kind with thresholds (l1) and of topk, which
must be encoded in full. 1, 8 and 32 streams of 24 tokens after a prompt of 16. All run in one process, in an order of its own in each round.
Appends a line to benchmarks/results/serving.jsonl.
"""

import argparse
import json
import random
import resource
import statistics
import tempfile
import threading
import types
from pathlib import Path

from rounds import write, write_gpt2

WIDTH, FEATURES, SITE, TOKENS, PROMPT = 768, 16_384, "layers.6.residual", 24, 16


def make_dictionary(kind: str):
    import torch

    from sonde.dictionaries.load import KINDS

    torch.manual_seed(0)
    dictionary = KINDS[kind](FEATURES, WIDTH, **({"k": 32} if kind == "topk" else {}))
    with torch.no_grad():
        dictionary.W_enc.normal_(std=WIDTH**-0.5)
        dictionary.W_dec.copy_(torch.nn.functional.normalize(torch.randn(FEATURES, WIDTH), dim=1))
        dictionary.max_activation.fill_(1.0)
    dictionary.manifest = types.SimpleNamespace(facts={"site": SITE, "reads": {SITE: WIDTH}, "writes": {SITE: WIDTH}})
    return dictionary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    import torch

    import sonde
    from sonde.models.model import Tokens
    from sonde.steering.batching import Batcher, Sampling

    with tempfile.TemporaryDirectory() as folder:
        write_gpt2(Path(folder))
        model = sonde.load_model(folder, device="cpu")
    model.network.generation_config.eos_token_id = None  # answers are all as long
    batcher = Batcher(model)
    dictionaries = {"l1": make_dictionary("l1"), "topk": make_dictionary("topk")}
    prompts = [torch.randint(3, 250, (1, PROMPT)) for _ in range(32)]

    def answer(streams: int, kind: str | None) -> float:
        before = resource.getrusage(resource.RUSAGE_SELF)
        ended = threading.Semaphore(0)
        for number in range(streams):
            edits = [] if kind is None else [sonde.Clamp(dictionaries[kind], feature=7 * number, value=3.0)]

            def emit(piece) -> None:
                if piece.error is not None:
                    raise SystemExit(piece.error)
                if piece.finish:
                    ended.release()

            tokens = Tokens(prompts[number], torch.ones_like(prompts[number]))
            batcher.submit(tokens, edits, Sampling(max_tokens=TOKENS), emit)
        for _ in range(streams):
            ended.acquire()
        after = resource.getrusage(resource.RUSAGE_SELF)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    jobs = [(streams, kind) for streams in (1, 8, 32) for kind in (None, "l1", "topk")]
    for job in jobs:
        answer(*job)
    used: dict[tuple, list[float]] = {job: [] for job in jobs}
    order = random.Random(0)
    for number in range(settings.rounds):
        for job in order.sample(jobs, len(jobs)):
            used[job].append(answer(*job))
            print(f"round {number}  {job[0]:>2} streams  {job[1] or 'plain':<6} {used[job][-1]:.3f} CPU s", flush=True)
    result = {"settings": vars(settings)}
    for streams, kind in jobs:
        ratios = [own / plain for own, plain in zip(used[streams, kind], used[streams, None], strict=True)]
        result[f"{streams} {kind or 'plain'}"] = {
            "cpu_s": statistics.median(used[streams, kind]),
            "tokens_per_cpu_s": streams * TOKENS / statistics.median(used[streams, kind]),
            "ratio": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        }
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
