"""What harvesting costs over the bare forward pass that it needs, in interleaved rounds of one run.

    python benchmarks/harvest.py --rounds 7

A random model of GPT-2 small's size, texts of random words in contexts of 128 tokens, the stream after layer 6 of 12. The bare
pass runs the same batches through a hook that stops at the layer and throws the values away; harvest also tokenizes, deals,
sums up and writes them. CPU seconds relative to the bare pass. Appends a line to benchmarks/results/harvest.jsonl.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from rounds import Worker, run, write, write_gpt2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COMMON = """
import shutil, torch, sonde
from pathlib import Path
from sonde.activations.contexts import BATCH_TOKENS, Cutter, batches, make_batch
from sonde.activations.corpus import Corpus
folder, text = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(2)
model = sonde.load_model(folder / "model", device="cpu")
SITE = "layers.6.residual"
"""
BARE = (
    COMMON
    + """
cutter = Cutter(model, 128)
contexts = [context for document in cutter.tokenize(Corpus(text)) for context in cutter.cut(document)]
groups = [make_batch(model, group).tokens for group in batches(contexts, BATCH_TOKENS)]
class Stop(Exception): pass
def hook(*_): raise Stop
@torch.no_grad()
def work():
    handle = model.network.transformer.h[6].register_forward_hook(hook)
    for tokens in groups:
        try:
            model.network.transformer(input_ids=tokens.ids, attention_mask=tokens.mask, use_cache=False)
        except Stop:
            pass
    handle.remove()
serve(work, warm_up=1)
"""
)
HARVEST = (
    COMMON
    + """
def work():
    out = folder / "acts"
    shutil.rmtree(out, ignore_errors=True)
    return sonde.harvest(model, text, site=SITE, context=128, held_out=0.0, out=out).n_rows
serve(work, warm_up=1)
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=16_384)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_gpt2(folder / "model")
        letters = torch.randint(97, 123, (settings.tokens // 127, 127))
        texts = "".join(json.dumps({"text": bytes(row.tolist()).decode()}) + "\n" for row in letters)
        (folder / "text.jsonl").write_text(texts)
        programs = {"bare forward pass": BARE, "sonde harvest": HARVEST}
        workers = [
            Worker(name, sys.executable, code, folder, folder / "text.jsonl").wait_until_ready()
            for name, code in programs.items()
        ]
        result = run(workers, settings.rounds)
    print(json.dumps(result, indent=1))
    write(__file__, {"settings": vars(settings)} | result)


if __name__ == "__main__":
    main()
