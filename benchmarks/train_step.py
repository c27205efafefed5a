"""The TopK training step against sparsify's own, in interleaved rounds of one run.

    python benchmarks/train_step.py --rounds 5

sparsify is installed from PyPI into an environment of its own (.bench/sparsify). Each implementation is a process
that is kept waiting; in each round each takes its turn and reports CPU seconds for its steps. Batches are
sums of random directions, the same for both; both use Adam and no auxiliary loss; ours clips gradients, which sparsify
does not. Appends a line to benchmarks/results/train_step.jsonl.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DATA = """
import resource, sys, time, torch
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
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
def serve(step):
    for x in xs:
        step(x)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("ready", flush=True)
    for line in sys.stdin:
        before, wall = cpu(), time.perf_counter()
        for x in xs:
            fvu = step(x)
        print((cpu() - before) / len(xs), (time.perf_counter() - wall) / len(xs), fvu, base / 1024, flush=True)
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
serve(lambda x: _step(state, x, plan, variance)["fvu"])
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
serve(step)
"""
)


def peer_python() -> str:
    """The Python of an environment that holds sparsify; made where it is missing."""
    folder = ROOT / ".bench/sparsify"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pins = ["-c", str(ROOT / "constraints/ci.txt")]
        subprocess.run([folder / "bin/pip", "install", "--quiet", *pins, "eai-sparsify"], check=True)
        (folder / "ready").touch()
    return str(folder / "bin/python")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--n-features", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    settings = parser.parse_args()
    sizes = [str(v) for v in (settings.d, settings.n_features, settings.batch, settings.k, settings.threads)]
    programs = {"sonde": (sys.executable, OURS), "sparsify": (peer_python(), SPARSIFY)}
    workers, rows = {}, {name: [] for name in programs}
    for name, (python, code) in programs.items():
        workers[name] = subprocess.Popen(
            [python, "-W", "ignore", "-c", code, *sizes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while workers[name].stdout.readline().strip() != "ready":
            assert workers[name].poll() is None, f"{name} ended before it was ready"
    for number in range(settings.rounds):
        for name, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            rows[name].append([float(value) for value in worker.stdout.readline().split()])
            cpu, wall, fvu, _ = rows[name][-1]
            print(f"round {number}  {name:<9} {cpu:.2f} CPU s  {wall:.2f} s  FVU {fvu:.3f}", flush=True)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    result = {"settings": vars(settings), "machine": platform.processor() or platform.machine()}
    for name, measured in rows.items():
        result[name] = {
            "cpu_s": statistics.median(row[0] for row in measured),
            "wall_s": statistics.median(row[1] for row in measured),
            "peak_mib": measured[-1][3],
        }
    ratios = [theirs[0] / ours[0] for ours, theirs in zip(rows["sonde"], rows["sparsify"], strict=True)]
    result["cpu_ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    print(json.dumps(result, indent=1))
    out = ROOT / "benchmarks/results/train_step.jsonl"
    out.parent.mkdir(exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
