"""What an index costs to make, on disk and in memory, and how fast it answers; compared with SAEDashboard.

SAEDashboard reads the same model, dictionary and text.

    python benchmarks/index.py cost          # against the forward pass and one encoding of the same text
    python benchmarks/index.py latency       # a synthetic index of 1 M features and 60 M activations
    python benchmarks/index.py dashboards    # against SAEDashboard, installed from PyPI into an environment of its own

Appends a line to benchmarks/results/index.jsonl.
"""

import argparse
import json
import sqlite3
import statistics
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from rounds import Worker, peer_python, run, scratch, write


def prepared(folder: Path, tokens: int, n_features: int) -> tuple[Path, Path]:
    """A dictionary of the built-in model, and a text."""
    import sonde

    text = folder / f"corpus-{tokens}.jsonl"
    if not text.exists():
        sonde.world.write(tokens // 45, text, seed=11)
    store = sonde.harvest("world", text, site="layers.2.residual", tokens=400_000, out=folder / f"acts-{tokens}")
    sonde.train(
        store,
        n_features=n_features,
        k=16,
        tokens=400_000,
        out=folder / f"dictionary-{tokens}-{n_features}",
        device="cpu",
    )
    return folder / f"dictionary-{tokens}-{n_features}", text


BARE = """
import torch, sonde
from sonde.activations.contexts import BATCH_TOKENS, Cutter, batches, make_batch
from sonde.activations.corpus import Corpus
from sonde.dictionaries.reading import Reading
dictionary, text, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
model, dictionary = sonde.load_model("world", device="cpu"), sonde.load_dictionary(dictionary, "cpu")
cutter, reading = Cutter(model), Reading(dictionary, model)
@torch.no_grad()
def work():
    documents, n = [], 0
    for document in cutter.tokenize(Corpus(text, "text", False)):
        documents.append(document)
        n += len(document.ids)
        if n >= tokens:
            break
    for first in range(0, len(documents), 1024):
        for contexts in batches(list(cutter.contexts(documents[first : first + 1024])), BATCH_TOKENS):
            batch = make_batch(model, contexts)
            x, _ = reading(batch.tokens, batch.text_mask)
            dictionary.active(x)
serve(work, warm_up=0)
"""

SONDE = """
import shutil, sonde
dictionary, text, tokens, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
model, dictionary = sonde.load_model("world", device="cpu"), sonde.load_dictionary(dictionary, "cpu")
def work():
    shutil.rmtree(out, ignore_errors=True)
    index = sonde.index(model, dictionary, text, tokens=tokens, out=out, device="cpu")
    return index.facts.activations
serve(work, warm_up=0)
"""


def cost(rounds: int, tokens: int, n_features: int) -> dict:
    """CPU seconds against the forward pass and one encoding; bytes an activation; peak memory."""
    folder = scratch() / "index"
    folder.mkdir(exist_ok=True)
    dictionary, text = prepared(folder, tokens, n_features)
    out = folder / "out"
    workers = [
        Worker("forward and encode", sys.executable, BARE, dictionary, text, tokens).wait_until_ready(),
        Worker("sonde.index", sys.executable, SONDE, dictionary, text, tokens, out).wait_until_ready(),
    ]
    found = run(workers, rounds)
    n = workers[1].rows[-1][3]
    found["bytes an activation"] = {path.name: path.stat().st_size / n for path in sorted(out.iterdir())}
    return found


def synthetic_folder(n_features: int, n_activations: int) -> Path:
    return scratch() / f"synthetic-{n_features}-{n_activations}" / "index"


def synthetic(folder: Path, n_features: int, n_activations: int) -> None:
    """An index of random postings over 10 M tokens in 100,000 documents, and a random dictionary beside it."""
    import numpy as np
    import torch
    from safetensors.numpy import save_file

    from sonde.artifacts import new_artifact
    from sonde.dictionaries.l1 import L1
    from sonde.dictionaries.load import save_dictionary
    from sonde.facts import ModelRef
    from sonde.features.folder import IndexFacts
    from sonde.features.postings import record_type
    from sonde.manifests import parent_entry, read_manifest

    rng = np.random.default_rng(0)
    n_documents, length = 100_000, 100
    n_tokens = n_documents * length
    share = rng.pareto(1.2, n_features) + 0.05
    counts = np.maximum(1, np.minimum(share / share.sum() * n_activations, n_tokens / 20)).astype(np.int64)
    offsets = np.concatenate([[0], counts.cumsum()])
    beside = folder.with_name("dictionary")
    if not beside.exists():
        dictionary = L1(n_features, 8)
        dictionary.W_dec.data.copy_(torch.from_numpy(rng.normal(size=(n_features, 8))))
        save_dictionary(dictionary, beside)
    parents = {"dictionary": parent_entry(beside, read_manifest(beside))}
    with new_artifact(folder, format="index", settings={"text": "synthetic"}, parents=parents) as draft:
        if draft.finished:
            return
        records = np.empty(offsets[-1], dtype=record_type(n_tokens))
        token = rng.integers(n_tokens, size=offsets[-1])
        records["low"], records["high"] = token & 0xFFFF, token >> 16
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        records["value"] = 1 - place / np.repeat(counts, counts)
        save_file({"records": records.view(np.uint8).reshape(len(records), -1)}, folder / "postings.safetensors")
        ones = np.ones(n_features, dtype=np.float32)
        logits = rng.integers(500, size=(n_features, 10)).astype(np.int32)
        values = np.ones((n_features, 10), dtype=np.float32)
        statistics_ = {"offsets": offsets, "starts": np.arange(n_documents + 1) * length, "count": counts}
        statistics_ |= {"density": counts / n_tokens, "maximum": ones, "mean": ones / 2}
        statistics_ |= {"same_word": rng.random(n_features, dtype=np.float32)}
        for which in ("top", "bottom"):
            statistics_ |= {f"{which}_logit_tokens": logits, f"{which}_logit_values": values}
        save_file(statistics_, folder / "features.safetensors")
        kept = 1 << 16
        coactive = {"tokens": np.arange(kept), "offsets": np.arange(kept + 1) * 6}
        coactive |= {"features": rng.integers(n_features, size=kept * 6).astype(np.uint32)}
        coactive["count"] = np.bincount(coactive["features"], minlength=n_features)
        save_file(coactive, folder / "coactive.safetensors")
        database = sqlite3.connect(folder / "index.sqlite")
        database.execute("CREATE TABLE documents (number INTEGER PRIMARY KEY, text TEXT NOT NULL, spans BLOB NOT NULL)")
        database.execute(
            "CREATE TABLE pictures (document INTEGER, number INTEGER, first INTEGER, "
            "rows INTEGER, columns INTEGER, image BLOB)"
        )
        database.execute("CREATE INDEX pictures_of ON pictures (document, number)")
        database.execute("CREATE TABLE vocabulary (token INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        database.execute(
            'CREATE VIRTUAL TABLE examples USING fts5 (fires, contexts, tokenize = "unicode61 remove_diacritics 2")'
        )
        words = [f"w{number}" for number in range(5000)]
        database.executemany("INSERT INTO vocabulary VALUES (?, ?)", [(n, f" w{n}") for n in range(500)])
        for number in range(n_documents):
            chosen = [words[i] for i in rng.integers(len(words), size=length)]
            ends = np.cumsum([len(word) + 1 for word in chosen])
            spans = np.stack([ends - [len(word) + 1 for word in chosen], ends - 1], axis=1).astype("<i4")
            row = (number, " ".join(chosen), zlib.compress(spans.tobytes(), 1))
            database.execute("INSERT INTO documents VALUES (?, ?, ?)", row)
        database.commit()
        database.close()
        files = ["postings.safetensors", "features.safetensors", "coactive.safetensors", "index.sqlite"]
        facts = IndexFacts(
            n_features=n_features,
            tokens=n_tokens,
            documents=n_documents,
            activations=int(offsets[-1]),
            l0=6.0,
            dead=0.0,
            site="none",
            model=ModelRef("none", "none"),
            why_no_chat="it is synthetic",
        )
        draft.finish(files, facts.to_json())


def latency(n_features: int, n_activations: int, n_queries: int = 1000) -> dict:
    """Milliseconds of questions that the page asks, warm: median, 95th percentile, longest."""
    import random

    from sonde.features.index import load_index
    from sonde.features.labels import Labels

    folder = synthetic_folder(n_features, n_activations)
    synthetic(folder, n_features, n_activations)
    index = load_index(folder)
    chosen = random.Random(0)
    numbers = [chosen.randrange(n_features) for _ in range(n_queries)]
    questions = {
        "ten examples, strongest": lambda number: index.examples(number, 10),
        "ten examples, from equal intervals": lambda number: index.examples(number, 10, "interval"),
        "what fires together": lambda number: index.feature(number).fires_with(),
        "the dashboard: statistics, histogram, quantiles, logits, twenty examples": lambda number: index.feature(
            number
        ).to_json(20),
    }
    found: dict[str, Any] = {"features": index.n_features, "activations": index.facts.activations}
    labels = Labels(folder)
    if not labels.path.exists():
        words = ["bridge", "city", "the", "river", "error", "of"] + [f"thing{n}" for n in range(20_000)]
        with labels._writing() as database:
            rows = [(n, f"the {chosen.choice(words)} of {chosen.choice(words)} {n}") for n in range(n_features)]
            database.executemany(
                "INSERT INTO labels (feature, label, by, evidence, at) VALUES (?, ?, 'test', '{}', 0)", rows
            )
            database.executemany("INSERT INTO words (rowid, label, notes) VALUES (?, ?, '')", rows)
    for name, ask in questions.items():
        for number in numbers:  # what is asked has been read from the disk before
            ask(number)
        found[name] = _timed(ask, numbers)
    found["words in a million labels"] = _timed(
        labels.search, ["bridge city", "thing77", "river", "the", "of the", "err"] * 20
    )
    return found


def _timed(ask, given) -> dict:
    taken = []
    for one in given:
        began = time.perf_counter()
        ask(one)
        taken.append(1e3 * (time.perf_counter() - began))
    taken.sort()
    return {"median_ms": statistics.median(taken), "p95_ms": taken[int(0.95 * len(taken))], "longest_ms": taken[-1]}


SAEDASHBOARD = """
import json, numpy, os, torch, transformers
from pathlib import Path
from safetensors.torch import load_file
from tokenizers import Tokenizer
from sae_dashboard.data_writing_fns import save_feature_centric_vis
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import HookedSAETransformer
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
model_folder, dictionary, tokens, out = map(Path, sys.argv[1:5])
c = json.loads((model_folder / "config.json").read_text())
names = (
    "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers",
    "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
)
rope_theta = c["rope_parameters"]["rope_theta"]
config = transformers.LlamaConfig(**{name: c[name] for name in names}, rope_theta=rope_theta)
hf = transformers.LlamaForCausalLM(config)
weights = load_file(model_folder / "model.safetensors")
hf.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
hf.tie_weights()
d_head = c["hidden_size"] // c["num_attention_heads"]
cfg = HookedTransformerConfig(
    d_model=c["hidden_size"], d_head=d_head, n_heads=c["num_attention_heads"],
    n_key_value_heads=c["num_key_value_heads"], d_mlp=c["intermediate_size"], n_layers=c["num_hidden_layers"],
    n_ctx=c["max_position_embeddings"], eps=c["rms_norm_eps"], d_vocab=c["vocab_size"], act_fn="silu",
    normalization_type="RMS", positional_embedding_type="rotary", rotary_adjacent_pairs=False, rotary_dim=d_head,
    final_rms=True, gated_mlp=True, rotary_base=int(rope_theta),
    original_architecture="LlamaForCausalLM", device="cpu", default_prepend_bos=False)
model = HookedSAETransformer(cfg)
model.load_state_dict(convert_llama_weights(hf, cfg), strict=False)
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model_folder / "tokenizer.json"))
tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(c["bos_token_id"])
model.tokenizer = tokenizer
weights = load_file(dictionary / "dictionary.safetensors")
n, d = weights["W_enc"].shape
metadata = SAEMetadata(hook_name="blocks.2.hook_resid_post", hook_head_index=None)
sae = TopKSAE(TopKSAEConfig(
    d_in=d, d_sae=n, k=16, device="cpu", dtype="float32", apply_b_dec_to_input=False,
    rescale_acts_by_decoder_norm=True, metadata=metadata,
))
for name in ("b_enc", "b_dec", "W_dec"):
    getattr(sae, name).data = weights[name].clone()
sae.W_enc.data = weights["W_enc"].T.contiguous()
rows = torch.from_numpy(numpy.load(tokens)).long()
with torch.no_grad():  # the same vectors, or nothing here means anything
    own = hf(rows[:4], output_hidden_states=True).hidden_states[3]
    theirs = model.run_with_cache(rows[:4], names_filter="blocks.2.hook_resid_post")[1]["blocks.2.hook_resid_post"]
    assert (own - theirs).norm() < 1e-3 * own.norm(), (own - theirs).norm() / own.norm()
def work():
    config = SaeVisConfig(hook_point="blocks.2.hook_resid_post", features=list(range(n)))
    found = SaeVisRunner(config).run(encoder=sae, model=model, tokens=rows)
    save_feature_centric_vis(sae_vis_data=found, filename=out)
    return out.stat().st_size / 1e6
serve(work, warm_up=0)
"""

OURS = """
import json, shutil, sonde
from pathlib import Path
dictionary, tokens, out = map(Path, sys.argv[2:5])
model, dictionary = sonde.load_model("world", device="cpu"), sonde.load_dictionary(dictionary, "cpu")
def work():
    shutil.rmtree(out, ignore_errors=True)
    index = sonde.index(model, dictionary, tokens, out=out, device="cpu")
    lines = (json.dumps(feature.to_json(20)) + chr(10) for feature in index.features)
    (out / "dashboards.jsonl").write_text("".join(lines))
    return sum(path.stat().st_size for path in out.iterdir()) / 1e6
serve(work, warm_up=0)
"""


def dashboards(rounds: int, tokens: int, n_features: int) -> dict:
    """CPU seconds for every feature's dashboard, from the same rows of 128 tokens.

    The last figure of each round is the megabytes written.
    """
    import numpy as np

    import sonde
    from sonde.models.load import built_in

    folder = scratch() / "index"
    folder.mkdir(exist_ok=True)
    dictionary, text = prepared(folder, tokens, n_features)
    tokenizer = sonde.load_model("world", device="cpu").require_tokenizer()
    ids, bos = [], tokenizer.bos_token_id
    for line in text.open():
        ids += tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]
        if len(ids) > tokens:
            break
    rows = np.array(ids[: tokens // 127 * 127]).reshape(-1, 127)
    np.save(folder / "rows.npy", np.concatenate([np.full((len(rows), 1), bos), rows], axis=1))
    model = built_in("world")
    peer = peer_python("sae-dashboard", "pyarrow<20")
    given = (model, dictionary, folder / "rows.npy")
    workers = [
        Worker("sonde", sys.executable, OURS, *given, folder / "from-rows").wait_until_ready(),
        Worker("SAEDashboard", peer, SAEDASHBOARD, *given, folder / "dashboards.html").wait_until_ready(),
    ]
    found = run(workers, rounds)
    for worker in workers:
        found[worker.name]["MB written"] = worker.rows[-1][3]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["cost", "latency", "dashboards"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--n-features", type=int)
    parser.add_argument("--activations", type=int, default=60_000_000)
    settings = parser.parse_args()
    if settings.part == "cost":
        result = cost(settings.rounds, settings.tokens, settings.n_features or 1024)
    elif settings.part == "latency":
        result = latency(settings.n_features or 1_000_000, settings.activations)
    else:
        result = dashboards(settings.rounds, settings.tokens, settings.n_features or 1024)
    print(json.dumps(result, indent=1))
    write(__file__, {"settings": vars(settings)} | result)


if __name__ == "__main__":
    main()
