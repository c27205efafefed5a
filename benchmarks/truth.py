"""The benchmark of truth over kinds and sizes: dictionaries of the built-in model, held against what is known of every token.

    python benchmarks/truth.py --kinds topk l1 --sizes 512 2048 8192

Each is trained on the demo's activations (2 M rows of layers.3.residual) with its kind's defaults. Appends a line for each to benchmarks/results/truth.jsonl.
"""

import argparse
import shutil
import time

from rounds import scratch, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["topk", "l1"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--rows", type=int, default=2_000_000)
    settings = parser.parse_args()
    import sonde
    from sonde.analysis.measure import measure
    from sonde.world.bench import bench
    from sonde.world.demo import CORPUS_SEED, SITE
    from sonde.world.demo import SETTINGS as DEMO
    from sonde.world.writing import write as write_corpus

    folder = scratch() / "truth"
    folder.mkdir(exist_ok=True)
    model = sonde.load_model("world", device="cpu")
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        write_corpus(DEMO["documents"], corpus, seed=CORPUS_SEED)
    store = sonde.harvest(model, corpus, site=SITE, out=folder / "activations")
    for n in settings.sizes:
        for kind in settings.kinds:
            out = folder / f"{kind}-{n}"
            shutil.rmtree(out, ignore_errors=True)
            began = time.perf_counter()
            more = {"k": DEMO["k"]} if "topk" in kind or kind == "matryoshka" else {}
            dictionary = sonde.train(
                store, kind=kind, n_features=n, tokens=settings.rows, out=out, device="cpu", **more
            )
            trained = time.perf_counter() - began
            quality = measure(dictionary, model=model)
            began = time.perf_counter()
            found = bench(dictionary)
            result = {"kind": kind, "n_features": n, "fvu": quality.fvu, "l0": quality.l0, "train_s": trained}
            result["bench_s"] = time.perf_counter() - began
            result |= {name: found[name] for name in ("transfer", "purity", "steering", "causes")}
            result["recovery"] = {name: value for name, value in found["recovery"].items() if name != "concepts"}
            result["hierarchy"] = {name: found["hierarchy"][name] for name in ("split", "absorbed")}
            share, median = found["recovery"]["found"], found["recovery"]["median"]
            print(
                f"{kind:<10} {n:>6}  FVU {quality.fvu:.4f}  L0 {quality.l0:5.1f}  found {share['auc']:.0%} (few {share['few']:.0%}, neurons {share['neurons']:.0%}, "
                f"probe {share['probe']:.0%})  median {median['auc']:.3f}  steering {found['steering']['share']['feature']:.0%}  {result['bench_s']:.0f} s",
                flush=True,
            )
            write(__file__, result)


if __name__ == "__main__":
    main()
