"""What harvesting costs over the bare forward pass, and what SAELens takes for the same, in interleaved rounds.

    python benchmarks/harvest.py --rounds 7

A random model of GPT-2 small's size, texts of random words in contexts of 128 tokens, the stream after layer 6 of 12.
The bare pass runs the same batches through a hook that stops at the layer and throws the values away; harvest also
tokenizes, deals, sums up and writes them. SAELens' CacheActivationsRunner writes them unshuffled, and gets its tokens
ready; as it ships it writes float32, so harvest does so in a row of its own. The live rows: as many tokens through the
model, mixed in a pool of about 8,192 rows (SAELens: its mixing buffer of that size). CPU seconds relative to the bare
pass. Appends a line to benchmarks/results/harvest.jsonl.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rounds import Worker, peer_python, run, write, write_gpt2

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
contexts = list(cutter.contexts(cutter.tokenize(Corpus(text))))
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
    out = folder / sys.argv[3]
    shutil.rmtree(out, ignore_errors=True)
    return sonde.harvest(model, text, site=SITE, context=128, held_out=0.0, store=sys.argv[3], out=out).n_rows
serve(work, warm_up=1)
"""
)
LIVE = (
    COMMON
    + """
def work():  # half of the rows fill the pool, and the others come after them, a batch for a batch
    batch = 32 * 127  # a context is 127 tokens of text
    stream = sonde.Live(model, text, site=SITE, context=128, held_out=0.0, pool=2 * batch).stream(batch)
    return sum(len(next(stream)) for _ in range(int(sys.argv[3]) // 4096 - 1))
serve(work, warm_up=1)
"""
)
SAELENS = """
import logging, os, shutil, torch
import sae_lens.cache_activations_runner as runner
from datasets import Dataset, disable_progress_bars
from transformer_lens import HookedTransformer, HookedTransformerConfig
disable_progress_bars()
torch.set_num_threads(2)
folder, n_tokens = sys.argv[1] + "/saelens", int(sys.argv[2])
config = HookedTransformerConfig(
    n_layers=12, d_model=768, n_ctx=1024, d_head=64, n_heads=12, d_mlp=3072, d_vocab=50257, act_fn="gelu_new",
    normalization_type="LN", device="cpu", seed=0,
)
model = HookedTransformer(config)
runner.load_model = lambda **_: model
tokens = Dataset.from_dict({"tokens": torch.randint(0, 50257, (n_tokens // 128, 128)).tolist()})
cache = runner.CacheActivationsRunnerConfig(
    dataset_path="", model_name="", model_batch_size=64, hook_name="blocks.6.hook_resid_post", d_in=768,
    training_tokens=n_tokens, context_size=128, new_cached_activations_path=folder, device="cpu", shuffle=False,
    buffer_size_gb=8192 * 768 * 4 / 1e9 + 1e-9, streaming=False,
)
"""
SAELENS_CACHE = (
    SAELENS
    + """
def work():
    shutil.rmtree(folder, ignore_errors=True)
    return len(runner.CacheActivationsRunner(cache, override_dataset=tokens).run()) * 128
serve(work, warm_up=1)
"""
)
SAELENS_LIVE = (
    SAELENS
    + """
from sae_lens.training.activations_store import ActivationsStore
passes = 0
def count(*_):
    global passes
    passes += 1
model.embed.register_forward_hook(count)
def work():
    global passes
    passes, rows = 0, 0
    store = ActivationsStore(
        model, tokens, False, "blocks.6.hook_resid_post", None, 128, 768, n_batches_in_buffer=64,
        total_training_tokens=n_tokens, store_batch_size_prompts=64, train_batch_size_tokens=4096, prepend_bos=True,
        normalize_activations="none", device=torch.device("cpu"), dtype="float32",
    )
    while passes * 8192 < n_tokens:
        rows += len(next(store))
    return rows
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
        ours, peer = (sys.executable, peer_python("sae-lens"))
        text = folder / "text.jsonl"
        programs: dict[str, tuple[Any, ...]] = {
            "bare forward pass": (ours, BARE, folder, text),
            "sonde harvest": (ours, HARVEST, folder, text, "bfloat16"),
            "sonde harvest, float32": (ours, HARVEST, folder, text, "float32"),
            "sonde live": (ours, LIVE, folder, text, settings.tokens),
            "SAELens CacheActivationsRunner": (peer, SAELENS_CACHE, folder, settings.tokens),
            "SAELens ActivationsStore": (peer, SAELENS_LIVE, folder, settings.tokens),
        }
        workers = [Worker(name, *program).wait_until_ready() for name, program in programs.items()]
        result = run(workers, settings.rounds)
    print(json.dumps(result, indent=1))
    write(__file__, {"settings": vars(settings)} | result)


if __name__ == "__main__":
    main()
