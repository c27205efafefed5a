"""Training from the store against the step alone: what reading, shuffling, scaling and checking cost.

    python benchmarks/end_to_end.py --rounds 3

`sonde.train` reads 164,000 rows, 768 wide, in shuffled order from a store; the step alone is given batches that are in
memory. CPU and wall seconds of a step, the prefetch thread's included, start and end of the run left out; rounds take
turns. Appends a line to benchmarks/results/end_to_end.jsonl.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from rounds import scratch, write

import sonde
from sonde.artifacts import Draft
from sonde.settings import from_mapping
from sonde.training.plan import make_plan
from sonde.training.run import Run
from sonde.training.settings import TrainSettings

STEPS, BATCH = 40, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n-features", type=int, default=16384)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    folder = scratch() / "end-to-end"
    if not (folder / "manifest.json").exists():
        truth = torch.nn.functional.normalize(torch.randn(2048, 768), dim=1)
        parts = [
            (truth[torch.rand(BATCH, 2048).topk(16, dim=1).indices] * torch.rand(BATCH, 16, 1)).sum(1)
            for _ in range(STEPS)
        ]
        sonde.from_vectors(torch.cat(parts), site="layers.0.residual", out=folder)
    store = sonde.load_activations(folder)
    options = {"n_features": given.n_features, "k": 32, "aux_k": 0, "lr": 5e-4, "batch_size": BATCH}
    out = Path(tempfile.mkdtemp())

    def from_store(number: int) -> list[tuple[float, float]]:
        seen: list[tuple[float, float]] = []

        def log(_: object) -> None:
            seen.append((time.process_time(), time.perf_counter()))

        sonde.train(store, out=out / f"d{number}", tokens=STEPS * BATCH, device="cpu", log=log, **options)
        return seen

    settings = from_mapping(TrainSettings, options | {"out": out, "tokens": STEPS * BATCH})
    run = Run(store, settings, replace(make_plan(store, settings)), Draft(out, resumed=False), torch.device("cpu"))
    batches = [next(store.stream(BATCH, start=number * BATCH)).float() for number in range(3)]

    def alone(_: int) -> list[tuple[float, float]]:
        seen = []
        for number in range(STEPS):
            run.step(batches[number % 3])
            seen.append((time.process_time(), time.perf_counter()))
        run.step_number = 0
        return seen

    found: dict[str, list[tuple[float, float]]] = {"alone": [], "from the store": []}
    for number in range(given.rounds):
        for name, work in (("alone", alone), ("from the store", from_store)):
            seen = work(number)
            used, waited = ((seen[-1][part] - seen[2][part]) / (len(seen) - 3) for part in (0, 1))
            found[name].append((used, waited))
            print(f"round {number}  {name:<16} {used:.3f} CPU s  {waited:.3f} s a step", flush=True)
    result = {
        name: {"cpu_s": statistics.median(row[0] for row in rows), "wall_s": statistics.median(row[1] for row in rows)}
        for name, rows in found.items()
    }
    pairs = list(zip(found["alone"], found["from the store"], strict=True))
    result["speed_of_the_step"] = {
        "cpu": statistics.median(a[0] / b[0] for a, b in pairs),
        "wall": statistics.median(a[1] / b[1] for a, b in pairs),
    }
    print(json.dumps(result, indent=1))
    write(__file__, {"settings": vars(given)} | result)


if __name__ == "__main__":
    main()
