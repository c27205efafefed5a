"""The benchmark of truth for several kinds and sizes of dictionaries of the built-in model.

    python benchmarks/truth.py --kinds topk l1 --sizes 512 2048 8192
    python benchmarks/truth.py --sizes 2048 --peers sparsify sae-lens

Each is trained on the demo's activations (2 M rows of its site) with its kind's defaults; those of sparsify and SAELens
are TopK with theirs, trained on the same rows by their own trainers in environments of their own (as in quality.py),
and their weights are brought into our form. Appends a line for each to benchmarks/results/truth.jsonl.
"""

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from quality import SAELENS, SPARSIFY
from rounds import peer_python, scratch, write

PEERS = {
    "sparsify": (("eai-sparsify",), "sparsify", SPARSIFY, {"optimiser": "signum"}),
    "sae-lens": (("sae-lens",), "", SAELENS, {"kind": "topk"}),
}
"""packages, environment, training code and options"""
PEERS_BATCH = 4096


def peers_dictionary(name: str, folder: Path, like, n_rows: int):
    """A peer's TopK dictionary of the rows in `folder`, in the form of our dictionary `like`.

    `like` has the same size and was trained on the same rows.
    """
    import numpy
    import torch
    from safetensors.torch import load_file

    packages, environment, code, options = PEERS[name]
    place = folder / f"{name}-{like.n_features}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for rows in ("train.npy", "test.npy"):
        (place / rows).symlink_to((folder / rows).resolve())
    steps = n_rows // PEERS_BATCH
    arguments = [place, like.n_features, like.k, PEERS_BATCH, steps, 0, json.dumps(options)]
    python = peer_python(*packages, folder=environment)
    subprocess.run([python, "-W", "ignore", "-c", code, *map(str, arguments)], check=True)
    weights = load_file(next(place.glob("*/*.safetensors")))
    if name == "sparsify":  # encoder [n, d]
        W_enc, b_enc = weights["encoder.weight"], weights["encoder.bias"]
    else:  # encoder [d, n], whose results are chosen by the length of what they add
        W_enc, b_enc = weights["W_enc"].T, weights["b_enc"]
        norms = weights["W_dec"].norm(dim=1)
        W_enc, b_enc = W_enc * norms[:, None], b_enc * norms
    W_dec, b_dec = weights["W_dec"], weights["b_dec"]
    with torch.no_grad():
        like.W_enc.copy_(W_enc)
        like.b_enc.copy_(b_enc - W_enc @ b_dec)  # both take b_dec from what they read
        like.W_dec.copy_(torch.nn.functional.normalize(W_dec, dim=1))
        like.b_dec.copy_(b_dec)
        rows = torch.from_numpy(numpy.load(folder / "test.npy"))
        codes = torch.cat([like.encode(part) for part in rows.split(4096)])
        like.max_activation.copy_(codes.amax(dim=0))
        like.mean_activation.copy_(codes.mean(dim=0))
    return like


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kinds", nargs="*", default=["topk", "l1"], help="peers need a topk of their size, of this run or one before"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--peers", nargs="*", default=[], choices=list(PEERS))
    settings = parser.parse_args()
    import sonde
    from sonde_world.demo import CORPUS_SEED, SITE
    from sonde_world.demo import SETTINGS as DEMO
    from sonde_world.writing import write as write_corpus

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
            more: dict[str, Any] = {"k": DEMO["k"]} if "topk" in kind or kind == "matryoshka" else {}
            dictionary = sonde.train(
                store, kind=kind, n_features=n, tokens=settings.rows, out=out, device="cpu", **more
            )
            judge(kind, dictionary, model, time.perf_counter() - began)
        for name in settings.peers:
            write_rows(store, folder)
            began = time.perf_counter()
            dictionary = peers_dictionary(
                name, folder, sonde.load_dictionary(folder / f"topk-{n}", "cpu"), settings.rows
            )
            judge(f"{name} topk", dictionary, model, time.perf_counter() - began)


def write_rows(store, folder: Path) -> None:
    """The rows of a store in shuffled order, and 65,536 of them to set maxima by, as numpy files."""
    import numpy
    import torch

    if not (folder / "train.npy").exists():
        rows = torch.cat(list(store.stream(4096, epochs=1))).float()
        numpy.save(folder / "train.npy", rows.numpy())
        numpy.save(folder / "test.npy", rows[:65536].numpy())


def judge(kind: str, dictionary, model, trained: float) -> None:
    """Measure a dictionary, hold it against the truth, print a line and keep it."""
    from sonde.analysis.measure import measure
    from sonde_world.bench import bench

    quality = measure(dictionary, model=model)
    began = time.perf_counter()
    found = bench(dictionary)
    result = {
        "kind": kind,
        "n_features": dictionary.n_features,
        "fvu": quality.fvu,
        "l0": quality.l0,
        "train_s": trained,
    }
    result["bench_s"] = time.perf_counter() - began
    result |= {name: found[name] for name in ("transfer", "pictures", "purity", "steering", "causes")}
    result["recovery"] = {name: value for name, value in found["recovery"].items() if name != "concepts"}
    result["hierarchy"] = {name: found["hierarchy"][name] for name in ("split", "absorbed")}
    share, median = found["recovery"]["found"], found["recovery"]["median"]
    print(
        f"{kind:<14} {dictionary.n_features:>6}  FVU {quality.fvu:.4f}  L0 {quality.l0:5.1f}  found {share['auc']:.0%} "
        f"(few {share['few']:.0%}, neurons {share['neurons']:.0%}, probe {share['probe']:.0%})  "
        f"median {median['auc']:.3f}  steering {found['steering']['share']['feature']:.0%}  {result['bench_s']:.0f} s",
        flush=True,
    )
    write(__file__, result)


if __name__ == "__main__":
    main()
