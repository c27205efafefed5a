"""The TopK training step against sparsify's own, in interleaved rounds of one run.

    python benchmarks/train_step.py --rounds 5

sparsify is installed from PyPI into an environment of its own (.bench/sparsify). Each implementation is a process
that is kept waiting; in each round each takes its turn and reports CPU seconds for its steps. Batches are
sums of random directions, centred and with mean squared norm d, the same for both; both use Adam and no auxiliary loss; ours clips gradients, which sparsify
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
scale = (d / (torch.stack(xs) - mean).square().sum(-1).mean()) ** 0.5
xs = [(x - mean) * scale for x in xs]
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
import tempfile, sonde
from dataclasses import replace
from pathlib import Path
from sonde.manifests import Draft
from sonde.training.plan import make_plan
from sonde.training.run import Run
from sonde.training.settings import TrainSettings
folder = Path(tempfile.mkdtemp())
store = sonde.from_vectors(torch.cat(xs), site="layers.0.residual", store="float32", out=folder / "acts")
settings = TrainSettings(n_features=n, k=k, aux_k=0, lr=5e-4, batch_size=batch, tokens=1000 * batch, out=folder, seed=1)  # seed 0 made the data
plan = replace(make_plan(store, settings), warm_up=1, decay=1)
run = Run(store, settings, plan, Draft(folder, resumed=False), torch.device("cpu"))
steps(lambda x: run.step(x)["fvu"])
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
