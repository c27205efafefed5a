"""Does shuffling matter? One dictionary, trained on rows in three orders.

The orders are the exact shuffle of the store, the rolling pool of `train --live`, and the order of the text.

    python benchmarks/shuffling.py                                   # the world's model on its own text
    python benchmarks/shuffling.py --model M --text T --site layers.3.residual   # any other

Everything else is equal: the rows (one pass), the dictionary, the steps. Printed are the FVU on held-out documents, the
share of features that never fire on training rows, and stability: the mean, over the features of one seed's dictionary,
of the largest cosine with a feature of another seed's. Appends a line to benchmarks/results/shuffling.jsonl.
"""

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rounds import scratch, write
from torch import Tensor

import sonde
from sonde.settings import Count


class TextOrder(sonde.Activations):
    """A store whose rows are read in the order of the text."""

    def stream(self, batch_size: int, start: int = 0, **options) -> Iterator[Tensor]:
        rows = torch.cat([self.pile(number).vectors(self.site) for number in range(self.n_piles)])
        document = torch.cat([self.pile(number).document for number in range(self.n_piles)])
        position = torch.cat([self.pile(number).position for number in range(self.n_piles)])
        order = torch.argsort(document * (1 << 20) + position)
        while True:
            for first in range(start, len(rows) - batch_size + 1, batch_size):
                yield rows[order[first : first + batch_size]]
            start = 0


def stability(one: Tensor, other: Tensor) -> float:
    """Mean over rows of the largest cosine with a row of the other; both have rows of length one."""
    return torch.cat([(part @ other.T).amax(dim=1) for part in one.split(1024)]).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="world")
    parser.add_argument("--text", help="by default 20,000 documents of the world")
    parser.add_argument("--site", default="layers.3.residual")
    parser.add_argument("--tokens", type=Count, default=Count("1M"))
    parser.add_argument("--pools", type=Count, nargs="+", default=[1 << 14, 1 << 18])
    parser.add_argument("--n-features", type=Count, default=2048)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    settings = parser.parse_args()
    found: dict[str, list[sonde.Dictionary]] = {}
    fvu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        folder = Path(place)
        text = settings.text or folder / "corpus.jsonl"
        if settings.text is None:
            sonde.world.write(20_000, text)
        model = sonde.load_model(settings.model)
        for seed in range(settings.seeds):
            read: dict[str, Any] = {"held_out": 0.02, "seed": seed, "context": 128}
            store = sonde.harvest(
                model, text, site=settings.site, tokens=settings.tokens, out=folder / f"acts-{seed}", **read
            )
            sources: dict[str, Any] = {
                "exact shuffle": store,
                "order of the text": TextOrder(store.folder, store.manifest),
            }
            for pool in settings.pools:
                sources[f"pool of {pool:,}"] = sonde.Live(model, text, site=settings.site, pool=pool, **read)
            for name, source in sources.items():
                trained = {"n_features": settings.n_features, "k": settings.k, "batch_size": settings.batch_size}
                out = folder / f"{name}-{seed}"
                dictionary = sonde.train(source, seed=seed, tokens=store.n_rows, out=out, **trained)
                found.setdefault(name, []).append(dictionary)
                fvu.setdefault(name, []).append(sonde.measure(dictionary, model=model, text=text).fvu)
                print(f"seed {seed}  {name:<20} held-out FVU {fvu[name][-1]:.4f}", flush=True)
    result: dict[str, dict] = {
        "settings": {**vars(settings), "text": Path(text).name, "model": Path(settings.model).name}
    }
    for name, dictionaries in found.items():
        pairs = itertools.permutations([dictionary.W_dec for dictionary in dictionaries], 2)
        qualities = [dictionary.info.quality for dictionary in dictionaries]
        result[name] = {
            "fvu": statistics.mean(fvu[name]),
            "fvu_range": [min(fvu[name]), max(fvu[name])],
            "dead": statistics.mean(quality.dead for quality in qualities if quality is not None),
            "stability": statistics.mean(itertools.starmap(stability, pairs)),
        }
        print(f"{name:<20} {json.dumps(result[name])}")
    write(__file__, result)


if __name__ == "__main__":
    main()
