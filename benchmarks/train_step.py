"""The TopK training step against the peers' own, in interleaved rounds of one run.

    python benchmarks/train_step.py --rounds 5

The peers are installed from PyPI into environments of their own (.bench/). Each implementation is a process
that is kept waiting; in each round each takes its turn and reports CPU seconds for its steps. Batches are
sums of random directions, centred and with mean squared norm d, the same for all; all use Adam, and no auxiliary loss but in the rows that
say so, in which every tenth feature is dead. Ours clips gradients, which sparsify does not. Appends a line to benchmarks/results/train_step.jsonl.
"""

import argparse
import json
import sys

from rounds import DICTIONARY_LEARNING, Worker, peer_python, run, write

DATA = """
import torch
d, n, batch, k, threads, aux = map(int, sys.argv[1:7])
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
settings = TrainSettings(n_features=n, k=k, aux_k=aux * d // 2, lr=5e-4, batch_size=batch, tokens=1000 * batch, out=folder, seed=1)  # seed 0 made the data
plan = replace(make_plan(store, settings), warm_up=1, decay=1)
run = Run(store, settings, plan, Draft(folder, resumed=False), torch.device("cpu"))
def step(x):
    if aux:
        run.quiet_rows[::10] = plan.dead_after
    return run.step(x)["fvu"]
steps(step)
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
dead = torch.arange(n) % 10 == 0 if aux else None
def step(x):  # the calls of its Trainer.fit, in their order
    sae.set_decoder_norm_to_unit_norm()
    out = sae(x=x, y=x, dead_mask=dead)
    (out.fvu + out.auxk_loss / 32).backward()
    sae.remove_gradient_parallel_to_decoder_directions()
    optimiser.step(); optimiser.zero_grad()
    return out.fvu.item()
steps(step)
"""
)


DL = (
    DATA
    + """
from dictionary_learning.trainers.top_k import TopKTrainer
trainer = TopKTrainer(steps=10_000, activation_dim=d, dict_size=n, layer=0, lm_name="x", device="cpu", lr=5e-4, k=k, warmup_steps=0)
count = 0
def step(x):
    global count
    trainer.update(count, x)
    count += 1
    return 0.0  # it reports another loss
steps(step)
"""
)

SAELENS = (
    DATA
    + """
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
sparse = SPARSE  # its sparse mode fails on a CPU with the rescaling that is its default
sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d, d_sae=n, device="cpu", dtype="float32", k=k, use_sparse_activations=sparse,
    rescale_acts_by_decoder_norm=not sparse))
trainer = SAETrainer(SAETrainerConfig(total_training_samples=10_000 * batch, train_batch_size_samples=batch, lr=5e-4, lr_end=5e-4), sae, iter(xs))
def step(x):
    trainer.step(x)
    trainer.n_training_steps += 1
    return 0.0  # it reports another loss
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
    sparsify, saelens = peer_python("eai-sparsify", folder="sparsify"), peer_python("sae-lens")
    learning = peer_python(*DICTIONARY_LEARNING)
    workers = [
        Worker("sonde", sys.executable, OURS, *sizes, 0).wait_until_ready(),
        Worker("sonde, AuxK", sys.executable, OURS, *sizes, 1).wait_until_ready(),
        Worker("sparsify", sparsify, SPARSIFY, *sizes, 0).wait_until_ready(),
        Worker("sparsify, AuxK", sparsify, SPARSIFY, *sizes, 1).wait_until_ready(),
        Worker("dictionary_learning", learning, DL, *sizes, 0).wait_until_ready(),
        Worker("SAELens", saelens, SAELENS.replace("SPARSE", "False"), *sizes, 0).wait_until_ready(),
        Worker("SAELens, sparse", saelens, SAELENS.replace("SPARSE", "True"), *sizes, 0).wait_until_ready(),
    ]
    result = {"settings": vars(settings), "batches_a_turn": 3} | run(workers, settings.rounds)
    for worker in workers:
        if worker.rows[-1][3] > 0:
            result[worker.name]["fvu"] = worker.rows[-1][3]
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
