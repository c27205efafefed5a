"""The training step against the peers' own, in interleaved rounds of one run.

    python benchmarks/train_step.py --rounds 5
    python benchmarks/train_step.py --kind batchtopk          # or l1 or jumprelu

l1 and jumprelu have 2 k features active, as after their warm-up. The peers are installed from PyPI into environments of
their own (.bench/). Each implementation is a process that is kept waiting; in each round each takes its turn and
reports CPU seconds for its steps. Batches are sums of random directions, centred and with mean squared norm d, the same
for all; all use Adam at 5e-4 (l1 and jumprelu at a rate near zero). The rows that say so have an auxiliary loss, with
every tenth feature dead. Ours clips gradients, which sparsify does not; "torch" is ours without compiled kernels.
Appends a line to benchmarks/results/train_step.jsonl.
"""

import argparse
import json
import sys
from typing import Any

from rounds import DICTIONARY_LEARNING, Worker, peer_python, run, write

DATA = """
import torch
d, n, batch, k, threads, aux = map(int, sys.argv[1:7])
kind = sys.argv[7]
by_floor = kind in ("l1", "jumprelu")
lr = 1e-8 if by_floor else 5e-4  # so that as many features stay active
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
def make_sparse(W_enc, b_enc, threshold=0.0):  # as such a dictionary is after its warm-up
    with torch.no_grad():
        pre = xs[0][:512] @ W_enc.T + b_enc - threshold
        b_enc -= pre.flatten().topk(2 * k * len(pre)).values[-1]
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
from sonde.artifacts import Draft
from sonde.training.plan import make_plan
from sonde.training.run import Run
from sonde.training.settings import TrainSettings
folder = Path(tempfile.mkdtemp())
store = sonde.from_vectors(torch.cat(xs), site="layers.0.residual", store="float32", out=folder / "acts")
settings = TrainSettings(
    kind=kind, n_features=n, k=None if by_floor else k, aux_k=aux * d // 2, lr=lr, batch_size=batch,
    tokens=1000 * batch, out=folder, seed=1,  # seed 0 made the data
)
plan = replace(make_plan(store, settings), warm_up=1, decay=1, sparsity_warm_up=1)
run = Run(store, settings, plan, Draft(folder, resumed=False), torch.device("cpu"))
if by_floor:
    make_sparse(run.dictionary.W_enc, run.dictionary.b_enc, run.dictionary.floor())
def step(x):
    if aux:
        run.rows_since_fired[::10] = plan.dead_after
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
optimiser = torch.optim.Adam(sae.parameters(), lr=lr)
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
from dictionary_learning.trainers import batch_top_k, jumprelu, standard, top_k
common = dict(steps=10_000, activation_dim=d, dict_size=n, layer=0, lm_name="x", device="cpu", lr=lr, warmup_steps=0)
if kind == "topk":
    trainer = top_k.TopKTrainer(k=k, **common)
elif kind == "batchtopk":
    trainer = batch_top_k.BatchTopKTrainer(k=k, **common)
elif kind == "jumprelu":
    trainer = jumprelu.JumpReluTrainer(target_l0=2.0 * k, sparsity_warmup_steps=1, **common)
    make_sparse(trainer.ae.W_enc.T, trainer.ae.b_enc, trainer.ae.threshold)
else:
    trainer = standard.StandardTrainerAprilUpdate(l1_penalty=5.0, sparsity_warmup_steps=1, **common)
    make_sparse(trainer.ae.encoder.weight, trainer.ae.encoder.bias)
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
from sae_lens.saes import batchtopk_sae, jumprelu_sae, standard_sae, topk_sae
from sae_lens.training.sae_trainer import SAETrainer
common = dict(d_in=d, d_sae=n, device="cpu", dtype="float32")
if kind == "topk":  # its sparse mode fails on a CPU with the rescaling that is its default
    common |= dict(k=k, use_sparse_activations=bool(aux), rescale_acts_by_decoder_norm=not aux)
    sae = topk_sae.TopKTrainingSAE(topk_sae.TopKTrainingSAEConfig(**common))
elif kind == "batchtopk":
    sae = batchtopk_sae.BatchTopKTrainingSAE(batchtopk_sae.BatchTopKTrainingSAEConfig(k=k, **common))
elif kind == "jumprelu":
    sae = jumprelu_sae.JumpReLUTrainingSAE(jumprelu_sae.JumpReLUTrainingSAEConfig(**common))
    make_sparse(sae.W_enc.T, sae.b_enc, sae.threshold)
else:
    sae = standard_sae.StandardTrainingSAE(standard_sae.StandardTrainingSAEConfig(l1_coefficient=5.0, **common))
    make_sparse(sae.W_enc.T, sae.b_enc)
config = SAETrainerConfig(
    total_training_samples=10_000 * batch, train_batch_size_samples=batch, lr=lr, lr_end=5e-4
)
trainer = SAETrainer(config, sae, iter(xs))
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
    parser.add_argument("--kind", choices=["topk", "batchtopk", "l1", "jumprelu"], default="topk")
    parser.add_argument("--only", default="", help="names of implementations, with commas between")
    settings = parser.parse_args()
    kind = settings.kind
    sizes = (settings.d, settings.n_features, settings.batch, settings.k, settings.threads)
    without_kernels = "import os; os.environ['SONDE_KERNELS'] = 'none'\n"
    learning, saelens = peer_python(*DICTIONARY_LEARNING), peer_python("sae-lens")
    chosen = [
        ("sonde", sys.executable, OURS, 0),
        ("sonde, torch", sys.executable, without_kernels + OURS, 0),
        ("dictionary_learning", learning, DL, 0),
        ("SAELens", saelens, SAELENS, 0),
    ]
    if kind == "topk":
        sparsify = peer_python("eai-sparsify", folder="sparsify")
        chosen += [
            ("sonde, AuxK", sys.executable, OURS, 1),
            ("sparsify", sparsify, SPARSIFY, 0),
            ("sparsify, AuxK", sparsify, SPARSIFY, 1),
            ("SAELens, sparse", saelens, SAELENS, 1),
        ]
    chosen = [one for one in chosen if not settings.only or one[0] in settings.only.split(",")]
    workers = [Worker(name, python, code, *sizes, aux, kind).wait_until_ready() for name, python, code, aux in chosen]
    result: dict[str, Any] = {"settings": vars(settings), "batches_a_turn": 3} | run(workers, settings.rounds)
    for worker in workers:
        if worker.rows[-1][3] > 0:
            result[worker.name]["fvu"] = worker.rows[-1][3]
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
