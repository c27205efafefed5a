"""Answering many requests at once, plain and each under a clamp of its own: CPU seconds of one batch of answers.

    python benchmarks/serving.py --rounds 5

A random model of GPT-2 small's size; dictionaries of 16,384 random features after layer 6, of a kind with thresholds
(l1) and of topk, which must be encoded in full. 1, 8 and 32 streams of 24 tokens after a prompt of 16. All run in one
process, in an order of its own in each round. With --peers SAELens generates as much by its hooks, with the same model,
sizes and clamp (each row its own feature, the error term kept), as one batch that starts and ends together; and
interp-engine's eager mode one stream, with a vector added, as it has no clamp; in the same rounds, in processes of
their own. Appends a line to benchmarks/results/serving.jsonl.
"""

import argparse
import json
import random
import resource
import statistics
import threading
from typing import Any

from rounds import Worker, peer_python, scratch, write, write_gpt2

WIDTH, FEATURES, SITE, TOKENS, PROMPT = 768, 16_384, "layers.6.residual", 24, 16


SAELENS = """
import torch
from sae_lens import StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig
from sae_lens.analysis.hooked_sae_transformer import HookedSAETransformer
from sae_lens.saes.sae import SAEMetadata
from transformer_lens import HookedTransformerConfig
streams, kind, tokens, prompt, features = int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
torch.manual_seed(0)
model = HookedSAETransformer(HookedTransformerConfig(
    n_layers=12, d_model=768, n_ctx=1024, d_head=64, n_heads=12, d_mlp=3072, act_fn="gelu_new", d_vocab=50257,
    normalization_type="LNPre", device="cpu", seed=0)).eval()
if kind != "plain":
    Kind, Config, more = (TopKSAE, TopKSAEConfig, {"k": 32}) if kind == "topk" else (StandardSAE, StandardSAEConfig, {})
    metadata = SAEMetadata(hook_name="blocks.6.hook_resid_post")
    sae = Kind(Config(d_in=768, d_sae=features, device="cpu", metadata=metadata, **more)).eval()
    model.add_sae(sae, use_error_term=True)
    def clamp(acts, hook):
        for row in range(acts.shape[0]):
            acts[row, :, 7 * row] = 3.0
        return acts
    model.add_hook("blocks.6.hook_resid_post.hook_sae_acts_post", clamp)
ids = torch.randint(3, 250, (streams, prompt))
def work():
    with torch.no_grad():
        options = {"do_sample": False, "stop_at_eos": False, "verbose": False, "return_type": "tokens"}
        found = model.generate(ids, max_new_tokens=tokens, **options)
    assert found.shape == (streams, prompt + tokens)
serve(work, warm_up=1)
"""


INTERP_ENGINE = """
import asyncio, torch
from interp_engine import load_model
from interp_engine.steer_specs import AddSpec, LayerSteeringSpec, SteeringSpec
folder, kind, tokens, prompt = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
model = load_model(folder, backend="eager", device="cpu", dtype="float32")
torch.manual_seed(0)
ids = torch.randint(3, 250, (prompt,)).tolist()
direction = torch.nn.functional.normalize(torch.randn(768), dim=0)
spec = SteeringSpec(layers={6: LayerSteeringSpec([AddSpec(direction, 3.0)])})
async def answer():
    n = 0
    steering = spec if kind == "add" else None
    async for step in model.generate_steps(ids, max_tokens=tokens, stop_at_eos=False, steering_spec=steering):
        n += 1
    return n
def work():
    assert asyncio.run(answer()) == tokens
serve(work, warm_up=1)
"""


def make_dictionary(kind: str):
    import torch

    from sonde.dictionaries.load import KINDS

    torch.manual_seed(0)
    options: dict[str, Any] = {"k": 32} if kind == "topk" else {}
    dictionary = KINDS[kind](FEATURES, WIDTH, **options)
    with torch.no_grad():
        dictionary.W_enc.normal_(std=WIDTH**-0.5)
        dictionary.W_dec.copy_(torch.nn.functional.normalize(torch.randn(FEATURES, WIDTH), dim=1))
        dictionary.max_activation.fill_(1.0)
    return dictionary.at(SITE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    settings = parser.parse_args()
    import torch

    import sonde
    from sonde.models.model import Tokens
    from sonde.steering.batching import Batcher
    from sonde.steering.request import Sampling

    folder = scratch() / "gpt2"
    write_gpt2(folder)
    model = sonde.load_model(folder, device="cpu")
    network: Any = model.network
    network.generation_config.eos_token_id = None  # all answers have the same length
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

    peers: list[tuple[tuple, Worker, Worker]] = []
    """(what it is held against, the peer, the peer without edits)"""
    if settings.peers:
        python = peer_python("sae-lens")
        for streams in (1, 32):
            found = [
                Worker(f"SAELens {streams} {kind}", python, SAELENS, streams, kind, TOKENS, PROMPT, FEATURES)
                for kind in ("plain", "l1", "topk")
            ]
            peers += [((streams, kind), one, found[0]) for kind, one in zip((None, "l1", "topk"), found, strict=True)]
        python = peer_python("interp-engine")
        found = [
            Worker(f"interp-engine 1 {kind}", python, INTERP_ENGINE, folder, kind, TOKENS, PROMPT)
            for kind in ("plain", "add")
        ]
        peers += [((1, kind), one, found[0]) for kind, one in zip((None, "l1"), found, strict=True)]
        for _, worker, _ in peers:
            worker.wait_until_ready()

    jobs = [(streams, kind) for streams in (1, 8, 32) for kind in (None, "l1", "topk")]
    for job in jobs:
        answer(*job)
    used: dict[tuple, list[float]] = {job: [] for job in jobs}
    order = random.Random(0)
    for number in range(settings.rounds):
        for job in order.sample(jobs, len(jobs)):
            used[job].append(answer(*job))
            print(f"round {number}  {job[0]:>2} streams  {job[1] or 'plain':<6} {used[job][-1]:.3f} CPU s", flush=True)
            for other, worker, _ in peers:
                if other == job:
                    print(f"round {number}  {worker.name}  {worker.turn()[0]:.3f} CPU s", flush=True)
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
    for job, worker, base in peers:
        theirs, plain = ([row[0] for row in one.rows] for one in (worker, base))
        ratios = [other / own for other, own in zip(theirs, used[job], strict=True)]
        result[worker.name] = {
            "cpu_s": statistics.median(theirs),
            "of ours": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
            "of its plain": statistics.median(own / other for own, other in zip(theirs, plain, strict=True)),
        }
        worker.close()
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
