"""The TopK training step against sparsify's own, in interleaved rounds of one run.

    python benchmarks/train_step.py --rounds 5

sparsify is installed from PyPI into an environment of its own (.bench/sparsify). Each implementation is a process
that is kept waiting; in each round each takes its turn and reports CPU seconds for its steps. Batches are
sums of random directions, the same for both; both use Adam and no auxiliary loss; ours clips gradients, which sparsify
does not. Appends a line to benchmarks/results/train_step.jsonl.
"""

import argparse
import json
import sys

from rounds import Worker, peer_python, run, write

DATA = """
import torch
d, n, batch, k, threads = map(int, sys.argv[1:6])
torch.manual_seed(0)
torch.set_num_threads(threads)
truth = torch.nn.functional.normalize(torch.randn(2048, d), dim=1)
def make():
    chosen = torch.rand(batch, 2048).topk(16, dim=1).indices
    return (truth[chosen] * torch.rand(batch, 16, 1)).sum(1) * d ** 0.5
xs = [make() for _ in range(3)]
mean = torch.stack(xs).mean((0, 1))
xs = [x - mean for x in xs]
def steps(step):
    def work():
        for x in xs:
            fvu = step(x)
        return fvu
    serve(work, warm_up=1)
"""

OURS = (
    DATA
    + """
from sonde.dictionaries.topk import TopK
from sonde.training.train import Plan, _State, _step
plan = Plan(10**6, batch, 5e-4, 1, 1, k, 0.0, 0, 10**9, 1.0)
dictionary = TopK(n, d, k=k)
with torch.no_grad():
    directions = torch.nn.functional.normalize(torch.randn(n, d), dim=1)
    dictionary.W_enc.copy_(directions / 2); dictionary.W_dec.copy_(directions)
state = _State(dictionary, torch.optim.Adam(dictionary.parameters(), lr=5e-4, fused=True), 0, torch.zeros(n, dtype=torch.int64))
variance = float((xs[0] - xs[0].mean(0)).square().sum(1).mean())
steps(lambda x: _step(state, x, plan, variance)["fvu"])
"""
)

SPARSIFY = (
    DATA
    + """
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder
sae = SparseCoder(d, SparseCoderConfig(num_latents=n, k=k), dtype=torch.float32)
sae.b_dec.data = xs[0].mean(0).clone()
optimiser = torch.optim.Adam(sae.parameters(), lr=5e-4)
def step(x):  # the calls of its Trainer.fit, in their order
    sae.set_decoder_norm_to_unit_norm()
    out = sae(x=x, y=x, dead_mask=None)
    out.fvu.backward()
    sae.remove_gradient_parallel_to_decoder_directions()
    optimiser.step(); optimiser.zero_grad()
    return out.fvu.item()
steps(step)
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--n-features", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    settings = parser.parse_args()
    sizes = (settings.d, settings.n_features, settings.batch, settings.k, settings.threads)
    sonde = Worker("sonde", sys.executable, OURS, *sizes).wait_until_ready()
    sparsify = Worker("sparsify", peer_python("eai-sparsify", "sparsify"), SPARSIFY, *sizes).wait_until_ready()
    result = {"settings": vars(settings), "batches_a_turn": 3} | run([sonde, sparsify], settings.rounds)
    for worker in (sonde, sparsify):
        result[worker.name]["fvu"] = worker.rows[-1][3]
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
