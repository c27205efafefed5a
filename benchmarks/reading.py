"""Reading one middle site: sonde against the bare forward pass and three peers, in interleaved rounds of one run.

    python benchmarks/reading.py --rounds 30

One random model of GPT-2 small's size in a folder; what the stream is after layer 6 of 12, on 8 x 128 tokens and on one
text of 16, where what a call costs by itself shows. Each peer as its own
documentation shows it: nnsight with `tracer.stop()`, TransformerLens' bridge with `stop_at_layer`, interp-engine's
`capture` on its eager backend. What each reads is compared bit for bit with the bare pass. Import time and memory are
those of fresh processes. Appends a line to benchmarks/results/reading.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rounds import Worker, peer_python, run, write, write_gpt2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COMMON = """
import torch
folder, tokens, out = sys.argv[1:4]
torch.set_num_threads(2)
ids = torch.load(tokens)
def keep(x):
    torch.save(x.detach().clone(), out)
"""
HAND = (
    COMMON
    + """
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
class Stop(Exception): pass
kept = []
def hook(_, __, output):
    kept[:] = [output if isinstance(output, torch.Tensor) else output[0]]
    if STOPS: raise Stop
handle = model.transformer.h[6].register_forward_hook(hook)
@torch.no_grad()
def read():
    try:
        (model.transformer if STOPS else model)(input_ids=ids, use_cache=False)
    except Stop:
        pass
    return kept[0]
"""
)
PROGRAMS = {
    "truncated forward, by hand": (None, "STOPS = True\n" + HAND),
    "whole forward, by hand": (None, "STOPS = False\n" + HAND),
    "sonde": (
        None,
        COMMON
        + """
import sonde
from sonde.models.model import Tokens
model = sonde.load_model(folder, device="cpu")
batch = Tokens(ids, torch.ones_like(ids))
read = lambda: model.read(batch, "layers.6.residual")
""",
    ),
    "nnsight": (
        "nnsight",
        COMMON
        + """
from nnsight import LanguageModel
model = LanguageModel(folder, dispatch=True, dtype=torch.float32)
@torch.no_grad()
def read():
    with model.trace({"input_ids": ids}) as tracer:
        out = model.transformer.h[6].output
        x = (out if isinstance(out, torch.Tensor) else out[0]).save()
        tracer.stop()
    return x
""",
    ),
    "TransformerLens bridge": (
        "transformer-lens",
        COMMON
        + """
from transformer_lens.model_bridge import TransformerBridge
model = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
@torch.no_grad()
def read():
    _, cache = model.run_with_cache(ids, names_filter="blocks.6.hook_out", stop_at_layer=7)
    return cache["blocks.6.hook_out"]
""",
    ),
    "interp-engine": (
        "interp-engine",
        COMMON
        + """
from interp_engine import Address, capture, load_model
model = load_model(folder, backend="eager", device="cpu", dtype="float32")
point = Address("resid_post", 6)
@torch.no_grad()
def read():
    return capture(model, ids, [point])[point]
""",
    ),
}
SERVE = """
keep(read())
def work():
    read()
serve(work, repeats=int(sys.argv[4]))
"""
IMPORTS = {
    "sonde": (None, "import sonde; sonde.load_model"),
    "nnsight": ("nnsight", "import nnsight; nnsight.LanguageModel"),
    "TransformerLens bridge": ("transformer-lens", "from transformer_lens.model_bridge import TransformerBridge"),
    "interp-engine": ("interp-engine", "from interp_engine import capture, load_model"),
    "transformers": (None, "import torch; from transformers import AutoModelForCausalLM"),
}


def import_seconds(python: str, code: str, rounds: int = 5) -> float:
    """CPU seconds until what is needed is imported, in fresh processes; the median."""
    measure = f"import time; {code}; print(time.process_time())"
    runs = [
        subprocess.run([python, "-W", "ignore", "-c", measure], capture_output=True, text=True) for _ in range(rounds)
    ]
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_gpt2(folder / "model")
        result = {}
        for batch, length, repeats in ((8, 128, 1), (1, 16, 20)):
            torch.save(torch.randint(0, 50257, (batch, length)), folder / "ids.pt")
            workers = []
            for number, (name, (package, code)) in enumerate(PROGRAMS.items()):
                python = peer_python(package) if package else sys.executable
                files = (folder / "model", folder / "ids.pt", folder / f"{number}.pt")
                workers.append(Worker(name, python, code + SERVE, *files, repeats).wait_until_ready())
            measured = result[f"{batch} x {length}"] = run(workers, settings.rounds)
            expected = torch.load(folder / "0.pt")
            for number, name in enumerate(PROGRAMS):
                read = torch.load(folder / f"{number}.pt").reshape(expected.shape)
                measured[name]["largest_difference"] = float((read - expected).abs().max())
    result["import_cpu_s"] = {}
    for name, (package, code) in IMPORTS.items():
        python = peer_python(package) if package else sys.executable
        result["import_cpu_s"][name] = import_seconds(python, code)
    print(json.dumps(result, indent=1))
    write(__file__, {"rounds": settings.rounds} | result)


if __name__ == "__main__":
    main()
