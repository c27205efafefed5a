"""What eight-bit proposals miss, and what that costs.

Measured on the built-in model's stream, on planted outlier dimensions, or on any model.

    python benchmarks/proposals.py
    python benchmarks/proposals.py --model MODEL --site layers.3.residual --text corpus.jsonl

For each stream a TopK dictionary is trained twice with each of three seeds, with compiled kernels and with torch's
operators. Then, on 4,096 rows and the trained weights, held against float64: the share of each row's k largest that was
proposed; the share after doubtful rows were computed in full; how many those are; and the error of the gradients, over
their length. Appends a line to benchmarks/results/proposals.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rounds import scratch, write

RUN = """
import json, os, sys, tempfile
from pathlib import Path
store, n, k, seed, kernels = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
os.environ["SONDE_KERNELS"] = kernels
import torch, sonde
from sonde.training import run
seen = {}
finish = run.Run.finish
def look(self, reporter):
    if self.fused is not None:
        seen.update(inspect(self))
    finish(self, reporter)
run.Run.finish = look
def inspect(self):
    packed, W, b = self.fused.proposer, self.dictionary.W_enc.detach(), self.dictionary.b_enc.detach()
    x, _ = self.sides(next(iter(self.store.sample(4096))))
    x = x[:4096].contiguous()
    trained, packed.n_full = packed.n_full, 0
    wanted = k + packed.more
    capacity = wanted + max(wanted, 4 * packed.kernels.panel)
    proposed, _ = packed._propose(x, capacity, wanted=wanted)
    pre = x.double() @ W.double().T + b.double()
    values, features = pre.topk(k, dim=1)
    true = torch.zeros(pre.shape, dtype=torch.bool).scatter_(1, features, values > 0)
    was = torch.zeros_like(true)
    was[proposed.row.long(), proposed.feature.long()] = True
    found = packed.topk(x, k)
    got = torch.zeros_like(true)
    got[found.row.long(), found.feature.long()] = True
    # Gradients of the squared error, by kernels and by autograd in float64, both after the true choice.
    from sonde.kernels.sparse import decode_dense, encode_topk_dense
    weights = [p.detach().double().requires_grad_() for p in (W, b, self.dictionary.W_dec)]
    codes = encode_topk_dense(x.double(), weights[0], weights[1], k)
    error = x.double() - decode_dense(codes, weights[2]) - self.dictionary.b_dec.detach().double()
    exact = torch.autograd.grad(error.square().sum(dim=1).mean(), weights)
    from sonde.training.losses import LossSettings
    result = self.fused.loss(x, x, LossSettings(variance=1.0))
    def laid_out(gradient):
        dense = torch.zeros(len(W), x.shape[1], dtype=torch.float64)
        feature = torch.repeat_interleave(torch.arange(len(W)), gradient.starts.diff())
        order = gradient.order.long()
        source = gradient.source[gradient.row[order].long()].double()
        return dense.index_add_(0, feature, gradient.weight[order, None].double() * source)
    by_bias = self.dictionary.b_enc.grad.double()
    got_gradients = [laid_out(self.fused.by_encoder), by_bias, laid_out(self.fused.by_decoder)]
    off = [((a - e).norm() / e.norm()).item() for a, e in zip(got_gradients, exact)]
    n_true = true.sum().item()
    return {"proposed": (was & true).sum().item() / n_true, "after_repair": (got & true).sum().item() / n_true,
            "in_full": packed.n_full, "in_full_training": trained,
            "rows_trained": self.step_number * self.plan.batch_size,
            "more": packed.more, "large": len(packed.large), "gradient_error": max(off)}
out = Path(tempfile.mkdtemp(dir=Path(store).parent))
made = sonde.train(store, n_features=n, k=k, seed=seed, tokens=400 * 1024, batch_size=1024, out=out / "d", device="cpu")
print("found " + json.dumps(seen | {"fvu": sonde.measure(made).fvu if HELD_OUT else made.info.quality.fvu}))
"""


def planted(folder: Path) -> None:
    """Sums of known directions, 768 wide, with four dimensions sixty times as large as the others.

    One of the four is constant, three vary.
    """
    import numpy
    import torch

    torch.manual_seed(0)
    truth = torch.nn.functional.normalize(torch.randn(2048, 768), dim=1)
    parts = []
    for _ in range(25):
        chosen = torch.rand(4096, 2048).topk(16, dim=1).indices
        parts.append((truth[chosen] * torch.rand(4096, 16, 1)).sum(dim=1))
    rows = torch.cat(parts)
    usual = rows.square().mean().sqrt()
    rows[:, 100] = 60 * usual
    rows[:, [200, 300, 400]] += 60 * usual * torch.randn(len(rows), 3)
    numpy.save(folder / "planted.npy", rows.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--site", default="layers.3.residual")
    parser.add_argument("--text")
    parser.add_argument("--n-features", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    settings = parser.parse_args()
    import sonde

    folder = scratch() / "proposals"
    folder.mkdir(exist_ok=True)
    if settings.model:
        name = Path(settings.model).name
        sonde.harvest(settings.model, settings.text, site=settings.site, tokens=420_000, out=folder / name)
        streams = [name]
    else:
        if not (folder / "planted").exists():
            planted(folder)
            sonde.from_vectors(
                folder / "planted.npy", site="layers.6.residual", store="float32", out=folder / "planted"
            )
        if not (folder / "world").exists():
            sonde.world.write(13_000, folder / "world.jsonl", seed=7)
            sonde.harvest("world", folder / "world.jsonl", site="layers.2.residual", out=folder / "world")
        streams = ["world", "planted"]
    result: dict[str, dict] = {}
    for stream in streams:
        held_out = sonde.load_activations(folder / stream).manifest.settings.get("held_out", 0) and stream != "planted"
        rows = []
        for seed in range(3):
            for kernels in ("auto", "none"):
                arguments = [str(folder / stream), str(settings.n_features), str(settings.k), str(seed), kernels]
                code = RUN.replace("HELD_OUT", str(bool(held_out)))
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True
                )
                lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
                if not lines:
                    raise SystemExit(done.stderr[-2000:])
                found = json.loads(lines[-1].removeprefix("found "))
                print(f"{stream}  seed {seed}  kernels {kernels}  {found}", flush=True)
                rows.append((kernels, found))
        compiled = [found for kernels, found in rows if kernels == "auto"]
        plain = [found["fvu"] for kernels, found in rows if kernels == "none"]
        result[stream] = {key: statistics.median(row[key] for row in compiled) for key in compiled[0]}
        result[stream] |= {"fvus": [row["fvu"] for row in compiled], "fvus_torch": plain}
    print(json.dumps(result, indent=1))
    write(__file__, {"settings": vars(settings)} | result)


if __name__ == "__main__":
    main()
