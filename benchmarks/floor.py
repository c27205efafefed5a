"""How near the training step on compiled kernels is to what the machine can do.

    python benchmarks/floor.py --rounds 7

The floor is what cannot be left out, each at the best rate that was found here, measured in the same rounds as the
step: the eight-bit product of the batch with all features (the kernel's own, with nothing found); reading and writing
weights and both moments once (a plain copy of as many bytes); and reading the rows of k active features four times, for
the exact values, the error, and the two gradients (torch's embedding bag over them). CPU seconds, medians. Also how
much memory steps take beyond weights, moments and batches, the eight-bit copy of the encoder included. Appends a line
to benchmarks/results/floor.jsonl.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch
from rounds import write

import sonde
from sonde.artifacts import Draft
from sonde.kernels.packed import Packed
from sonde.settings import from_mapping
from sonde.training.plan import make_plan
from sonde.training.run import Run
from sonde.training.settings import TrainSettings


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def peak_during(work) -> float:
    """The most resident memory, in MiB, while something runs, looked at every millisecond."""
    most, done = resident_mib(), threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, resident_mib())

    thread = threading.Thread(target=look)
    thread.start()
    work()
    done.set()
    thread.join()
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--n-features", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    given = parser.parse_args()
    d, n, batch, k = given.d, given.n_features, given.batch, given.k
    torch.manual_seed(0)
    torch.set_num_threads(2)
    truth = torch.nn.functional.normalize(torch.randn(2048, d), dim=1)
    rows = torch.cat(
        [
            (truth[torch.rand(batch, 2048).topk(16, dim=1).indices] * torch.rand(batch, 16, 1)).sum(1) * d**0.5
            for _ in range(3)
        ]
    )
    folder = Path(tempfile.mkdtemp())
    store = sonde.from_vectors(rows, site="layers.0.residual", store="float32", out=folder / "acts")
    chosen = {"n_features": n, "k": k, "aux_k": 0, "lr": 5e-4, "batch_size": batch, "tokens": 1000 * batch}
    settings = from_mapping(TrainSettings, chosen | {"out": folder, "seed": 1})
    plan = replace(make_plan(store, settings), warm_up=1, decay=1)
    run = Run(store, settings, plan, Draft(folder, resumed=False), torch.device("cpu"))
    assert run.fused is not None, "there is no C compiler"
    xs = rows.split(batch)
    before = resident_mib()
    peak = peak_during(lambda: [run.step(x) for x in xs * 2])
    memory = peak - before + (n * d + 12 * n) / 2**20  # the eight-bit copy was there before

    proposer, W = run.fused.proposer, run.dictionary.W_enc.detach()
    assert isinstance(proposer, Packed)
    x, _ = run.sides(xs[0])
    nothing = torch.full_like(proposer.scale, torch.inf)
    state = torch.zeros(6 * n * d)
    copied = torch.empty_like(state)
    features = torch.randint(n, (batch, k))
    weights, by_feature = torch.rand(batch, k), torch.randint(batch, (n, batch * k // n))
    own = torch.rand(by_feature.shape)
    bag = torch.nn.functional.embedding_bag
    works = {
        "step": lambda: run.step(xs[0]),
        "product": lambda: proposer._propose(x, 64, floors=nothing),
        "weights and moments": lambda: copied.copy_(state),
        "rows by row": lambda: bag(features, W, per_sample_weights=weights, mode="sum"),
        "rows by feature": lambda: bag(by_feature, x, per_sample_weights=own, mode="sum"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with torch.no_grad():
        for _ in range(given.rounds):
            for name, work in works.items():
                began = time.process_time()
                work()
                seconds[name].append(time.process_time() - began)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    # Exact values and both gradients go by feature, the error by row.
    floor = found["product"] + found["weights and moments"] + found["rows by row"] + 3 * found["rows by feature"]
    result = {
        "settings": vars(given),
        "cpu_s": found,
        "floor_cpu_s": floor,
        "share_of_floor": floor / found["step"],
        "product_gops": 2 * batch * n * d / found["product"] / 1e9,
        "memory_mib": memory,
    }
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
