"""Make the dictionary for SmolLM2 that comes with sonde, from nothing but the model.

    python tools/smollm2/make.py --out build --chat 2.5M --plain 1.5M --rows 16M --device cuda

1. Let the model write: answers to questions about the topics of sonde/cases/topics.toml, and plain text from short
   beginnings.
2. Harvest the residual stream at the layers.
3. Train a dictionary at each layer.
4. Measure each on the documents that were held out, and on other text where it is given.
5. Pack the first layer's with eight-bit rows, and measure how much that changes.

Each step is skipped where its result is there. On a GPU it takes minutes; with --chat 200k --plain 100k --rows 1M a
laptop does it in two hours. Prints one JSON line for each step.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import sonde
from sonde.cases.own_text import write_own_text
from sonde.dictionaries.load import load_dictionary, save_dictionary
from sonde.settings import Count

K, N_FEATURES = 32, 8192


def say(step: str, began: float, **facts: Any) -> None:
    print(json.dumps({"step": step, "seconds": round(time.monotonic() - began, 1)} | facts), flush=True)


def quality(found: Any) -> dict[str, Any]:
    values = found.to_json()
    return {name: values[name] for name in ("fvu", "l0", "dead", "tokens", "loss_recovered", "kl")} | {
        "massive": values.get("massive", 0),
        "fvu_with_massive": values.get("fvu_with_massive"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layers", type=int, nargs="+", default=[10])
    parser.add_argument("--chat", type=Count, default=200_000, help="tokens of answers")
    parser.add_argument("--plain", type=Count, default=100_000, help="tokens of plain text")
    parser.add_argument("--rows", type=Count, default=1_000_000, help="rows to train on; more than there are: again")
    parser.add_argument("--kinds", nargs="+", default=["topk"])
    parser.add_argument("--batch", type=int, default=32, help="answers written at the same time")
    parser.add_argument("--other", type=Path, nargs="*", default=[], help="other text to measure on")
    parser.add_argument("--measure", type=Count, default=50_000, help="tokens to measure on")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()

    began = time.monotonic()
    writer = sonde.load_model(
        chosen.model, device=chosen.device, dtype="bfloat16" if chosen.device == "cuda" else "auto"
    )
    text = write_own_text(writer, chosen.out, chat=chosen.chat, plain=chosen.plain, batch=chosen.batch)
    say("text", began, bytes=sum(file.stat().st_size for file in text.iterdir()))
    del writer

    model = sonde.load_model(chosen.model, device=chosen.device, dtype="float32")
    for layer, kind in itertools.product(chosen.layers, chosen.kinds):
        site, out = f"layers.{layer}.residual", chosen.out / f"{kind}-{layer}"
        began = time.monotonic()
        acts = sonde.harvest(model, text, site=site, out=chosen.out / f"acts-{layer}")
        massive = acts.facts.massive
        say("harvest", began, site=site, rows=acts.n_rows, limits=acts.norm_limits, massive=massive and massive.rows)
        began = time.monotonic()
        dictionary = sonde.train(
            acts, kind=kind, n_features=N_FEATURES, k=K, tokens=chosen.rows, out=out, device=chosen.device
        )
        say("train", began, kind=kind, site=site, quality=dictionary.info.quality and dictionary.info.quality.to_json())
        began = time.monotonic()
        say("measure", began, kind=kind, site=site, **quality(sonde.measure(out, model=model, tokens=chosen.measure)))
        for other in chosen.other:
            found = sonde.measure(out, model=model, text=other, tokens=chosen.measure)
            say("measure", began, kind=kind, site=site, text=other.name, **quality(found))
    pack(chosen.out / f"{chosen.kinds[0]}-{chosen.layers[0]}", chosen.out / "packed", model, chosen.measure)


def pack(folder: Path, packed: Path, model: sonde.Model, n_tokens: int) -> None:
    """Write a dictionary with eight-bit rows, and measure it beside the one with float32."""
    began = time.monotonic()
    dictionary = load_dictionary(folder, str(model.device))
    save_dictionary(dictionary, packed, store="int8")
    again = load_dictionary(packed, str(model.device))
    text = dictionary.info.text
    assert text is not None
    found = {
        name: quality(sonde.measure(each, model=model, text=text.path, tokens=n_tokens))
        for name, each in (("float32", dictionary), ("int8", again))
    }
    say("pack", began, bytes=sum(file.stat().st_size for file in packed.iterdir()), **found)


if __name__ == "__main__":
    main()
