"""Dictionaries of each library after equal training, as they are saved and loaded again, on rows that they never saw.

    python benchmarks/quality.py planted --seeds 3      # sums of known directions: what is recovered of them
    python benchmarks/quality.py world --seeds 3        # 1 M rows of the built-in model, 1,024 features, k=16

Every library trains on the same rows in the same order with its own defaults; what differs is named. The peers come
from PyPI into environments of their own (.bench/). Appends lines to benchmarks/results/quality.jsonl.

planted: 384 directions in 64 dimensions with Zipf frequencies, 8 on a row, inputs of mean squared norm 64; 1,024
features, 1,200 steps of 1,024. recovered: share of the directions with a decoder row at cosine above 0.9. world: layer
3 of the built-in model. Where a library has its own batch size for a small run, it is used: ours has 1,024, the peers'
pipelines 4,096.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rounds import COMMON, DICTIONARY_LEARNING, peer_python, scratch, write

START = (
    COMMON
    + """
import json, math, numpy, torch
folder, n, k, batch, steps, seed = sys.argv[1], *map(int, sys.argv[2:7])
options = json.loads(sys.argv[7])
torch.set_num_threads(2)
torch.manual_seed(seed)
rows = torch.from_numpy(numpy.load(folder + "/train.npy", mmap_mode="c"))
test = torch.from_numpy(numpy.load(folder + "/test.npy"))
d = rows.shape[1]
def batches(size, count):
    for number in range(count):
        first = number * size % (len(rows) - size + 1)
        yield rows[first : first + size].clone()
@torch.no_grad()
def report(encode, reconstruct, W_dec, used):
    error = spread = active = 0.0
    fired = torch.zeros(n, dtype=torch.int64)
    mean = test.mean(0)
    for x in test.split(4096):
        codes = encode(x)
        error += (x - reconstruct(x)).double().square().sum().item()
        spread += (x - mean).double().square().sum().item()
        active += (codes > 0).sum().item()
        fired += (codes > 0).sum(0)
    dead = (fired == 0).double().mean().item()
    found = {"fvu": error / spread, "l0": active / len(test), "dead": dead, "cpu_s": used}
    try:
        truth = torch.from_numpy(numpy.load(folder + "/truth.npy"))
    except OSError:
        truth = None
    if truth is not None:
        best = (truth @ torch.nn.functional.normalize(W_dec, dim=1).T).amax(1)
        found |= {"mean_max_cosine": best.mean().item(), "recovered": (best > 0.9).double().mean().item()}
    print("found " + json.dumps(found), flush=True)
"""
)

OURS = (
    START
    + """
import sonde, tempfile
from pathlib import Path
out = Path(tempfile.mkdtemp(dir=folder))
settings = dict(n_features=n, tokens=steps * batch, batch_size=batch, seed=seed) | options
if settings.get("kind", "topk") in ("topk", "batchtopk", "matryoshka"):
    settings["k"] = k
store = sonde.load_activations(folder + "/acts")
before = cpu()
sonde.train(store, out=out / "d", device="cpu", **settings)
used = cpu() - before
saved = sonde.load_dictionary(out / "d", "cpu")
report(saved.encode, saved.reconstruct, saved.W_dec, used)
"""
)

SPARSIFY = (
    START
    + """
import tempfile
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder
from sparsify.sign_sgd import SignSGD
from schedulefree import ScheduleFreeWrapper
from transformers import get_linear_schedule_with_warmup
sae = SparseCoder(d, SparseCoderConfig(num_latents=n, k=k), dtype=torch.float32)
scale = math.sqrt(n / 2**14)  # the rules of its Trainer, and its warm-up as far as the run allows
if options["optimiser"] == "signum":
    optimiser, schedule = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=5e-3 / scale), momentum=0.95), None
    optimiser.train()
else:
    optimiser = torch.optim.Adam(sae.parameters(), lr=2e-4 / scale)
    schedule = get_linear_schedule_with_warmup(optimiser, min(1000, steps // 3), steps)
before = cpu()
for number, x in enumerate(batches(batch, steps)):
    if number == 0:
        sae.b_dec.data = x.mean(0).clone()
    sae.set_decoder_norm_to_unit_norm()
    sae(x=x, y=x, dead_mask=None).fvu.backward()
    sae.remove_gradient_parallel_to_decoder_directions()
    optimiser.step(); optimiser.zero_grad()
    if schedule:
        schedule.step()
if not schedule:
    optimiser.eval()
used = cpu() - before
sae.set_decoder_norm_to_unit_norm()
place = tempfile.mkdtemp(dir=folder)
sae.save_to_disk(place)
sae = SparseCoder.load_from_disk(place, device="cpu")
def encode(x):
    found = sae.encode(x)
    return torch.zeros(len(x), n).scatter_(1, found.top_indices, found.top_acts)
report(encode, lambda x: sae(x).sae_out, sae.W_dec.detach(), used)
"""
)

DL = (
    START
    + """
import tempfile
from dictionary_learning.trainers import batch_top_k, jumprelu, standard, top_k
common = dict(steps=steps, activation_dim=d, dict_size=n, layer=0, lm_name="x", device="cpu", seed=seed)
warm = steps // 10
common |= dict(warmup_steps=warm, decay_start=steps * 4 // 5)
kind = options["kind"]
if kind == "topk":
    trainer, kept = top_k.TopKTrainer(k=k, **common), top_k.AutoEncoderTopK
elif kind == "batchtopk":
    trainer, kept = batch_top_k.BatchTopKTrainer(k=k, **common), batch_top_k.BatchTopKSAE
elif kind == "l1":
    trainer = standard.StandardTrainerAprilUpdate(l1_penalty=options["sparsity"], sparsity_warmup_steps=warm, **common)
    kept = standard.AutoEncoder
else:
    trainer = jumprelu.JumpReluTrainer(target_l0=float(k), sparsity_warmup_steps=warm, **common)
    kept = jumprelu.JumpReluAutoEncoder
before = cpu()
for number, x in enumerate(batches(batch, steps)):
    trainer.update(number, x)
used = cpu() - before
place = tempfile.mkdtemp(dir=folder)
torch.save(trainer.ae.state_dict(), place + "/ae.pt")
sae = kept.from_pretrained(place + "/ae.pt", **({"k": k} if "topk" in kind else {}))
W_dec = sae.W_dec if kind == "jumprelu" else sae.decoder.weight.T
report(sae.encode, sae, W_dec.detach(), used)
"""
)

SAELENS = (
    START
    + """
import tempfile
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes import batchtopk_sae, jumprelu_sae, standard_sae, topk_sae
from sae_lens.training.sae_trainer import SAETrainer
common = dict(d_in=d, d_sae=n, device="cpu", dtype="float32")
kind = options["kind"]
if kind == "topk":
    sae = topk_sae.TopKTrainingSAE(topk_sae.TopKTrainingSAEConfig(k=k, **common))
elif kind == "batchtopk":
    sae = batchtopk_sae.BatchTopKTrainingSAE(batchtopk_sae.BatchTopKTrainingSAEConfig(k=k, **common))
elif kind == "l1":
    config = standard_sae.StandardTrainingSAEConfig(l1_coefficient=options["sparsity"], **common)
    sae = standard_sae.StandardTrainingSAE(config)
else:
    config = jumprelu_sae.JumpReLUTrainingSAEConfig(l0_coefficient=options["sparsity"], **common)
    sae = jumprelu_sae.JumpReLUTrainingSAE(config)
lr = options.get("lr", 3e-4)
config = SAETrainerConfig(
    total_training_samples=steps * batch, train_batch_size_samples=batch, lr=lr, lr_end=lr / 10
)
trainer = SAETrainer(config, sae, iter([]))
before = cpu()
for x in batches(batch, steps):
    trainer.step(x)
    trainer.n_training_steps += 1
used = cpu() - before
place = tempfile.mkdtemp(dir=folder)
sae.save_inference_model(place)
sae = SAE.load_from_disk(place, device="cpu")
report(sae.encode, sae, sae.W_dec.detach(), used)
"""
)


def planted(folder: Path, seed: int) -> None:
    """Rows, other rows, and the directions that they are sums of."""
    import numpy
    import torch

    torch.manual_seed(1000 + seed)
    truth = torch.nn.functional.normalize(torch.randn(384, 64), dim=1)
    frequency, offset = 1.0 / torch.arange(1, 385) ** 0.6, 0.3 * torch.randn(64)

    def make(n: int) -> torch.Tensor:
        parts = []
        for _ in range(0, n, 8192):
            chosen = torch.multinomial(frequency.expand(8192, 384), 8)
            strengths = 0.5 + torch.randn(8192, 8).abs()
            x = (truth[chosen] * strengths[:, :, None]).sum(dim=1)
            parts.append(x + offset + 0.0375 * torch.randn(8192, 64))
        return torch.cat(parts)[:n]

    train, test = make(300 * 1024), make(16384)
    scale = (64 / train.square().sum(dim=1).mean()).sqrt()
    for name, values in (("train", train * scale), ("test", test * scale), ("truth", truth)):
        numpy.save(folder / f"{name}.npy", values.numpy())


def world(folder: Path, seed: int) -> None:
    """A million rows of the built-in model, in a shuffled order, and rows of documents that are held out."""
    import numpy
    import torch

    import sonde

    corpus = folder / "corpus.jsonl"
    sonde.world.write(30_000, corpus, seed=100 + seed)
    store = sonde.harvest(
        "world", corpus, site="layers.3.residual", out=folder / "all", held_out=0.0, store="float32", seed=seed
    )
    rows = torch.cat(list(store.stream(4096, epochs=1)))
    numpy.save(folder / "train.npy", rows[:1_003_520].numpy())
    other = folder / "other.jsonl"
    sonde.world.write(3000, other, seed=500 + seed)
    held_out = sonde.harvest(
        "world", other, site="layers.3.residual", out=folder / "other", held_out=0.0, store="float32"
    )
    numpy.save(folder / "test.npy", torch.cat(list(held_out.stream(4096, epochs=1)))[:65536].numpy())


def runs(what: str) -> list[tuple[str, str, str, dict, int, int]]:
    """Name, library, code, options, batch size and steps of each run."""
    batch, steps = (1024, 1200) if what == "planted" else (4096, 245)
    peers = (batch, steps)
    made = [("sonde topk", "sonde", OURS, {"kind": "topk"}, *peers)]
    if what == "world":
        made += [("sonde topk, its own batch of 1,024", "sonde", OURS, {"kind": "topk"}, 1024, 980)]
    made += [
        ("sparsify topk, signum", "sparsify", SPARSIFY, {"optimiser": "signum"}, *peers),
        ("sparsify topk, Adam", "sparsify", SPARSIFY, {"optimiser": "adam"}, *peers),
        ("dictionary_learning topk", "dl", DL, {"kind": "topk"}, *peers),
        ("SAELens topk", "sae-lens", SAELENS, {"kind": "topk"}, *peers),
        ("SAELens topk, lr 1e-3", "sae-lens", SAELENS, {"kind": "topk", "lr": 1e-3}, *peers),
        ("sonde batchtopk", "sonde", OURS, {"kind": "batchtopk"}, *peers),
        ("dictionary_learning batchtopk", "dl", DL, {"kind": "batchtopk"}, *peers),
        ("SAELens batchtopk", "sae-lens", SAELENS, {"kind": "batchtopk"}, *peers),
    ]
    if what == "planted":
        for sparsity in (1.0, 3.0):
            options = {"kind": "l1", "sparsity": sparsity}
            libraries = (("sonde", "sonde", OURS), ("dictionary_learning", "dl", DL), ("SAELens", "sae-lens", SAELENS))
            made += [(f"{name} l1, lambda {sparsity:g}", lib, code, options, *peers) for name, lib, code in libraries]
    made += [
        ("sonde jumprelu", "sonde", OURS, {"kind": "jumprelu"}, *peers),
        ("sonde jumprelu, 0.15", "sonde", OURS, {"kind": "jumprelu", "sparsity": 0.15}, *peers),
        ("dictionary_learning jumprelu", "dl", DL, {"kind": "jumprelu"}, *peers),
        ("SAELens jumprelu, 1", "sae-lens", SAELENS, {"kind": "jumprelu", "sparsity": 1.0}, *peers),
    ]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["planted", "world"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="runs whose name has this in it")
    settings = parser.parse_args()
    import sonde

    pythons = {
        "sonde": sys.executable,
        "sparsify": peer_python("eai-sparsify", folder="sparsify"),
        "sae-lens": peer_python("sae-lens"),
        "dl": peer_python(*DICTIONARY_LEARNING),
    }
    n, k = 1024, 8 if settings.what == "planted" else 16
    results: dict[str, list[dict]] = {}
    for seed in range(settings.seeds):
        folder = scratch() / f"quality-{settings.what}-{seed}"
        if not (folder / "acts/manifest.json").exists():
            folder.mkdir(exist_ok=True)
            (planted if settings.what == "planted" else world)(folder, seed)
            sonde.from_vectors(folder / "train.npy", site="layers.0.residual", store="float32", out=folder / "acts")
        for name, library, code, options, batch, steps in runs(settings.what):
            if settings.only not in name:
                continue
            arguments = [str(folder), *map(str, (n, k, batch, steps, seed)), json.dumps(options)]
            done = subprocess.run(
                [pythons[library], "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True
            )
            lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
            if not lines:
                print(f"{name}: failed\n{done.stderr[-2000:]}", flush=True)
                continue
            found = json.loads(lines[-1].removeprefix("found "))
            results.setdefault(name, []).append(found)
            print(
                f"seed {seed}  {name:<36} " + "  ".join(f"{key} {value:.4g}" for key, value in found.items()),
                flush=True,
            )
    table = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        | {"fvu_min": min(row["fvu"] for row in rows), "fvu_max": max(row["fvu"] for row in rows)}
        for name, rows in results.items()
    }
    write(__file__, {"what": settings.what, "seeds": settings.seeds, "n_features": n, "k": k, "runs": table})


if __name__ == "__main__":
    main()
