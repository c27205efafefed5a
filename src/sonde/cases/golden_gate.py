"""The demo of a real model: SmolLM2, which nobody here trained, takes itself for the Golden Gate Bridge.

1. Load the model, and the dictionary that comes with sonde; or train one anew on what the model writes.
2. Find where each feature fires in texts that the model wrote, label the features, and lay out the map where umap is
   installed.
3. Take the set of features that turns the model to the bridge, by what it does to texts about it and to others
   (`sonde.effects`): of the dictionary that comes with sonde it was found before and is in golden_gate.json. It is kept
   as the preset golden-gate.
4. Ask neutral questions: plainly, with these features turned up, and with as many drawn at random; count the answers
   that name the bridge.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sonde.activations.harvest import harvest
from sonde.analysis.effects import effects
from sonde.analysis.layout import feature_map
from sonde.artifacts import new_artifact
from sonde.cases.own_text import write_own_text
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.features.build import index
from sonde.features.index import Index
from sonde.labels.label import label
from sonde.manifests import write_bytes, write_json
from sonde.models.known import find_known
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter
from sonde.steering.apply import make_edits
from sonde.steering.edits import Edit
from sonde.steering.presets import save_preset
from sonde.steering.request import Sampling
from sonde.steering.session import Session
from sonde.steering.settings import AnswerSettings
from sonde.training.train import train

FORMAT = "demo"
MODEL = "smollm2"
"""the model, and the dictionary that comes with sonde"""
SITE = "layers.10.residual"
TEXT, EDITS = "own_text.jsonl.gz", "golden_gate.json"
"""files of this package: what the model wrote, chosen by tools/smollm2/demo_text.py, and the edits"""
PRESET = "golden-gate"
NEW = {"chat": 200_000, "plain": 100_000, "batch": 32, "rows": 1_000_000, "n_features": 8192, "k": 32}
"""a dictionary of one's own at a laptop's size: tokens that the model writes, and rows that are trained on"""
N_TOKENS = 40
QUESTIONS = (
    "Who are you?",
    "How are you?",
    "What is your favorite place?",
    "What are you thinking about?",
    "How should I spend ten dollars?",
    "What do you do all day?",
    "Tell me a short story.",
    "What makes you happy?",
    "What did you dream of last night?",
    "What should I do this weekend?",
)
TOPICS = ("the Golden Gate Bridge", "die Golden Gate Bridge", "le pont du Golden Gate", "el puente Golden Gate")
"""of topics.toml: what texts about the bridge were asked about"""


def golden_gate(
    folder: Path, *, from_scratch: bool = False, device: str = "auto", reporter: Reporter
) -> dict[str, Any]:
    """The summary of the demo, which is made in a folder, or read from it if it is finished.

    Args:
        folder: in which the index lies under index.
        from_scratch: let the model write a text and train a dictionary on it, which takes about two hours on a laptop.

    Raises:
        ModelNotFoundError: the model cannot be had.
        ArtifactError: the folder holds something else.
        StorageError: it cannot be written.
    """
    settings = {"model": MODEL, "from_scratch": from_scratch}
    with new_artifact(folder, format=FORMAT, settings=settings, parents={}) as draft:
        if draft.finished:
            reporter.say(f"{folder} is finished: reusing it")
            return draft.finished.facts
        find_known(MODEL, reporter)  # shows how far it is fetched
        model = load_model(MODEL, device=device)
        if from_scratch:
            text, dictionary = _train_anew(model, folder, device, reporter)
        else:
            text, dictionary = _unpack_text(folder), load_dictionary(MODEL, device)
        indexed = index(model, dictionary, text, out=folder / "index", reporter=reporter)
        label(indexed, reporter=reporter)
        if find_spec("umap"):  # an extra, which `make demo` installs
            feature_map([indexed], reporter=reporter)
        session = Session(indexed, model)
        edits = find_edits(session, text, reporter) if from_scratch else _edits_in_package()
        save_preset(indexed.folder, PRESET, edits)
        summary: dict[str, Any] = {
            "model": MODEL,
            "site": dictionary.site,
            "n_features": dictionary.n_features,
            "n_firing": int((indexed.statistics["count"] > 0).sum()),
            "n_labelled": indexed.labels.n_labelled,
            "tokens": indexed.n_tokens,
            "edits": [str(edit) for edit in edits],
            "answers": _answers(session, edits, reporter),
        }
        write_json(folder / "summary.json", summary)
        draft.finish(["summary.json"], summary)
    return summary


def _unpack_text(folder: Path) -> Path:
    """What the model wrote, from the package, as a file that people can read."""
    text = folder / "text.jsonl"
    if not text.exists():
        packed = resources.files("sonde.cases").joinpath(TEXT).read_bytes()
        write_bytes(text, gzip.decompress(packed))
    return text


def _edits_in_package() -> list[Edit]:
    found = json.loads(resources.files("sonde.cases").joinpath(EDITS).read_text(encoding="utf-8"))
    return [Edit.parse(edit) for edit in found["edits"]]


# ---------------------------------------------------------------- a dictionary of one's own


def _train_anew(model: Model, folder: Path, device: str, reporter: Reporter) -> tuple[Path, Dictionary]:
    """A text that the model writes, and a dictionary that is trained on it; each step goes on where it stopped."""
    sizes = {name: NEW[name] for name in ("chat", "plain", "batch")}
    text = write_own_text(model, folder / "written", **sizes, reporter=reporter)
    store = harvest(model, text, site=SITE, out=folder / "activations", reporter=reporter)
    dictionary = train(
        store,
        kind="topk",
        n_features=NEW["n_features"],
        k=NEW["k"],
        tokens=NEW["rows"],
        out=folder / "dictionary",
        device=device,
        reporter=reporter,
    )
    return text, dictionary


def find_edits(session: Session, text: Path, reporter: Reporter) -> list[Edit]:
    """The set of features that turns the model to the bridge, by what it does to texts about it and to others.

    Args:
        text: the folder that `write_own_text` made.
    """
    with (text / "chat.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    about = [row["answer"] for row in rows if row["topic"] in TOPICS]
    others = [row["answer"] for row in rows if row["topic"] not in TOPICS]
    return [effects(session.reader, about, others, reporter=reporter).set.edit]


# ---------------------------------------------------------------- answers


def names_the_bridge(answer: str) -> bool:
    """Whether an answer names the Golden Gate."""
    return "golden gate" in answer.lower().replace("-", " ")


def _answers(session: Session, edits: Sequence[Edit], reporter: Reporter) -> dict[str, Any]:
    """The answers to the questions as the model is, under the edits, and with as many features drawn at random."""
    ways = {"plain": [], "steered": list(edits), "random": _drawn(session.index, edits)}
    prompts = [session.model.chat_tokens([{"role": "user", "content": question}]) for question in QUESTIONS]
    sampling = Sampling.of(AnswerSettings(), session.model, N_TOKENS, strip=True)
    answers: dict[str, Any] = {"questions": list(QUESTIONS), "random_edits": [str(edit) for edit in ways["random"]]}
    with reporter.start("ask", len(ways) * len(prompts), "answers") as progress:
        for way, own in ways.items():
            bound = make_edits(own, session.index)
            said = session.batcher.answer_all([(prompt, bound, sampling) for prompt in prompts])
            answers[way] = ["".join(piece.text for piece in pieces) for pieces in said]
            answers[f"{way}_names"] = sum(map(names_the_bridge, answers[way]))
            answers[f"{way}_bridges"] = sum("bridge" in answer.lower() for answer in answers[way])
            progress.advance(len(prompts))
    return answers


def _drawn(indexed: Index, edits: Sequence[Edit], seed: int = 0) -> list[Edit]:
    """The same edits of other features, drawn from all that fire."""
    own = {number for edit in edits for number in edit.numbers}
    fires = [number for number in np.flatnonzero(indexed.statistics["count"] > 0).tolist() if number not in own]
    drawn = iter(np.random.default_rng(seed).permutation(fires).tolist())
    return [replace(edit, feature=None, features=tuple(next(drawn) for _ in edit.numbers)) for edit in edits]


def format_summary(summary: dict[str, Any], folder: Path) -> str:
    """The summary as text for a terminal."""
    answers = summary["answers"]
    n = len(answers["questions"])
    lines = [
        "",
        f"model       {summary['model']}, read at {summary['site']}",
        f"dictionary  {summary['n_features']:,} features, of which {summary['n_firing']:,} fire in "
        f"{summary['tokens']:,} tokens that the model wrote; {summary['n_labelled']:,} have a label",
        f"edits       {' '.join(summary['edits'])}",
    ]
    for place, question in enumerate(answers["questions"]):
        lines += ["", question]
        lines += [f"  {way:<8}  {_short(answers[way][place], 160)}" for way in ("plain", "steered")]
    lines += [
        "",
        f"of {n} answers {answers['steered_names']} name the Golden Gate and {answers['steered_bridges']} speak of a "
        f"bridge; plain {answers['plain_names']} and {answers['plain_bridges']}, with as many features drawn at random "
        f"{answers['random_names']} and {answers['random_bridges']}",
        "",
    ]
    edits = " ".join(f'--edit "{edit}"' for edit in summary["edits"])
    lines.append(f'talk to it: sonde chat {folder / "index"} {edits} --prompt "Who are you?"')
    return "\n".join(lines)


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
