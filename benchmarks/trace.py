"""Attribution graphs: what they cost, against a plain reference, and how exact they are for each family.

    python benchmarks/trace.py            # a table of CPU seconds, and one of the largest gaps

The model is a random LLaMA of 4 layers, 256 wide, with TopK transcoders of 4,096 features, 32 active on a token. The
plain reference finds the edges of one target at a time: a forward pass, a backward pass, and a product for each source.
It is timed on 16 targets, and its time for all is theirs times the number of targets. Appends a line to
results/trace.jsonl.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.circuits.transcoders import random_replacement, traceable
from tests.tiny import CAUSAL, make_tokenizer

from sonde.circuits.local import Local
from sonde.circuits.trace import trace_tokens
from sonde.circuits.trace_settings import TraceSettings
from sonde.display import table
from sonde.models.load import wrap_model
from sonde.progress import Silent
from sonde.settings import Count

RESULTS = Path(__file__).with_name("results") / "trace.jsonl"
REFERENCE_TARGETS = 16


def make(n_positions: int) -> Any:
    sizes: dict[str, Any] = {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    sizes |= {"num_key_value_heads": 4, "max_position_embeddings": n_positions, "vocab_size": 260}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**sizes, initializer_range=0.1)
    return wrap_model(transformers.LlamaForCausalLM(config), make_tokenizer(), "random")


def reference(model: Any, replacement: Any, tokens: Any, targets: int) -> float:
    """CPU seconds of the edges of some targets, one by one, each with a pass of its own."""
    began = time.process_time()
    for index in range(targets):
        local = Local(model, replacement, tokens, 1)
        target = local.feature_target(3, len(local.active[3].feature) - 1 - index)
        grads = local._gradients([target])
        for number, active in enumerate(local.active):
            by_layer = grads.get(id(local._mlps[number].value))
            if by_layer is not None:
                columns = (active.position.tolist(), active.feature.tolist(), active.value.tolist())
                for position, feature, value in zip(*columns, strict=True):
                    float(value * (by_layer[0, position] @ replacement.layers[number].W_dec[feature]))
    return time.process_time() - began


def cost(n_positions: int, budget: int, batch: int) -> dict[str, float]:
    model = make(max(64, n_positions))
    replacement = random_replacement(model, 4096, 32)
    ids = torch.randint(3, 260, (n_positions,), generator=torch.Generator().manual_seed(1)).tolist()
    settings = TraceSettings(budget=Count(budget), batch_size=Count(batch))
    began = time.process_time()
    graph = trace_tokens(model, replacement, model.pad([ids]), settings, Silent())
    used = time.process_time() - began
    gap = float((graph.gap().abs() / graph.edges.abs().sum(dim=1)).max())
    return {"tokens": n_positions, "active": graph.n_active, "features": graph.n_features, "cpu_s": used, "gap": gap}


def exactness() -> list[list[str]]:
    """The largest gap of a target's edges from its value, relative to it, in float32 and float64."""
    rows = []
    for family in CAUSAL:
        cells = [family]
        for dtype in (torch.float32, torch.float64):
            model = traceable(family, dtype)
            tokens = model.tokenize("the red bridge")
            graph = trace_tokens(model, random_replacement(model), tokens, TraceSettings(), Silent())
            cells.append(f"{float((graph.gap() / graph.values).abs().max()):.1e}")
        rows.append(cells)
    return rows


def main() -> None:
    transformers.logging.set_verbosity_error()
    rows = [cost(64, 1024, 64), cost(64, 4096, 64), cost(256, 1024, 16), cost(512, 1024, 8)]
    model = make(64)
    tokens, replacement = model.pad([list(range(3, 67))]), random_replacement(model, 4096, 32)
    plain = reference(model, replacement, tokens, REFERENCE_TARGETS) / REFERENCE_TARGETS
    header = ["tokens", "active features", "in the graph", "CPU s", "ms a feature", "plain reference, ms a feature"]
    shown = [header]
    for row in rows:
        each = 1000 * row["cpu_s"] / row["features"]
        last = f"{1000 * plain:.0f}" if row["tokens"] == 64 else "-"
        cells = [f"{row['tokens']:,}", f"{row['active']:,}", f"{row['features']:,}", f"{row['cpu_s']:.1f}"]
        shown.append([*cells, f"{each:.2f}", last])
    print(table(shown, right=(0, 1, 2, 3, 4, 5)))
    gaps = exactness()
    print(table([["family", "float32", "float64"], *gaps], right=(1, 2)))
    with RESULTS.open("a", encoding="utf-8") as file:
        line = {"torch": torch.__version__, "threads": torch.get_num_threads(), "costs": rows, "plain_s": plain}
        file.write(json.dumps(line | {"gaps": gaps}) + "\n")


if __name__ == "__main__":
    main()
