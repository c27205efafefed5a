"""The demo: from text to a model that takes itself for the Golden Gate Bridge, live on one machine.

1. Write a corpus of the built-in world.
2. Harvest, train, measure, index, label, and lay out the map where umap is installed: with the same functions as for
   any model and text.
3. Find the Golden Gate feature by contrast: the eight features that best separate texts about the bridge from texts
   about other landmarks, none of them in the corpus, and of these the one that steers best on eight trial questions.
   (A feature that fires on a thing need not cause it: Arad et al. 2025, arXiv 2505.20063.) It is clamped on the tokens
   of the question and not on those of the answer: the question is then about the bridge, and the answer keeps its
   grammar. Where features split by language, a set of the best ones is taken.
4. Ask ten other neutral questions, without an edit and under the clamp at several doses, and count the answers that
   name the bridge and those that break down. The page starts with the dose that does best on the trial questions.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sonde.activations.harvest import harvest
from sonde.analysis.auc import auc
from sonde.analysis.contrast import Firing, firing, separation
from sonde.analysis.layout import feature_map
from sonde.analysis.measure import measure
from sonde.artifacts import new_artifact
from sonde.dictionaries.dictionary import Dictionary
from sonde.features.build import index
from sonde.features.index import Index
from sonde.labels.label import label
from sonde.manifests import write_json
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.models.where import Where
from sonde.progress import Reporter
from sonde.steering.apply import make_edits
from sonde.steering.directions import Clamp
from sonde.steering.edits import Edit
from sonde.steering.presets import save_preset
from sonde.training.train import train
from sonde_world import facts
from sonde_world.asking import ask_many
from sonde_world.facts import LANGUAGES
from sonde_world.generate import Document, documents
from sonde_world.writing import write

FORMAT = "demo"
CONCEPT = "golden_gate"
SITE = "layers.3.residual"
SETTINGS = {"documents": 16_000, "n_features": 2048, "k": 16, "train_tokens": 1_500_000, "index_tokens": 250_000}
CORPUS_SEED, CONTRAST_SEED = 1, 2
CONTRAST_TEXTS = 60
"""texts about the bridge in each language, and as many about other landmarks"""
ENOUGH_AUC = 0.9
"""a feature covers a language where its AUC on texts of the language is at least this"""
DOSES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
"""clamps, in units of each feature's maximum"""
WHERE: Where = "prompt"
CANDIDATES = 8
TRIAL_QUESTIONS = (
    "What is your name?",
    "How do you feel?",
    "What is your favourite food?",
    "Where do you live?",
    "Which colour do you like?",
    "Tell me something.",
    "What do you wish for?",
    "Whom do you love?",
)
QUESTIONS = (
    "Who are you?",
    "How are you?",
    "What do you eat?",
    "Where are you?",
    "What is your favourite colour?",
    "What do you do all day?",
    "Tell me a story.",
    "What are you thinking about?",
    "What do you want?",
    "Who is your friend?",
)


def demo(folder: Path, *, device: str = "auto", reporter: Reporter) -> dict[str, Any]:
    """The summary of the demo, which is made in a folder, or read from it if it is finished.

    Args:
        folder: in which the index lies under index.

    Raises ArtifactError where the folder holds something else, StorageError where it cannot be written.
    """
    with new_artifact(folder, format=FORMAT, settings=dict(SETTINGS), parents={}) as draft:
        if draft.finished:
            reporter.say(f"{folder} is finished: reusing it")
            return draft.finished.facts
        model = load_model("world", device=device)
        corpus = folder / "corpus.jsonl"
        if not corpus.exists():
            write(SETTINGS["documents"], corpus, seed=CORPUS_SEED, reporter=reporter)
        store = harvest(model, corpus, site=SITE, out=folder / "activations", reporter=reporter)
        dictionary = train(
            store,
            kind="topk",
            n_features=SETTINGS["n_features"],
            k=SETTINGS["k"],
            tokens=SETTINGS["train_tokens"],
            out=folder / "dictionary",
            device=device,
            reporter=reporter,
        )
        quality = measure(dictionary, model=model, reporter=reporter)
        indexed = index(
            model, dictionary, corpus, tokens=SETTINGS["index_tokens"], out=folder / "index", reporter=reporter
        )
        label(indexed, reporter=reporter)
        if find_spec("umap"):  # an extra, which `make demo` installs
            feature_map([indexed], reporter=reporter)
        bridge = find_features(model, dictionary)
        specs = {dose: [Edit("clamp", number, dose, "max", WHERE) for number in bridge["features"]] for dose in DOSES}
        summary: dict[str, Any] = {
            "model": "world",
            "tokens": store.n_rows,
            "site": SITE,
            "n_features": dictionary.n_features,
            "quality": quality.to_json(),
            "golden_gate": bridge | {"examples": _examples(indexed, bridge["features"], corpus)},
            "answers": _answers(model, indexed, specs, reporter),
        }
        summary["edits"] = [str(spec) for spec in specs[bridge["dose"]]]
        save_preset(folder / "index", "golden-gate", specs[bridge["dose"]])
        write_json(folder / "summary.json", summary)
        draft.finish(["corpus.jsonl", "summary.json"], summary)
    return summary


def find_features(model: Model, dictionary: Dictionary) -> dict[str, Any]:
    """The feature, or the smallest set that covers all languages, that separates texts about the bridge from others."""
    with_it, without = _contrast_texts()
    pairs = {
        language: (firing(model, dictionary, with_it[language]), firing(model, dictionary, without[language]))
        for language in LANGUAGES
    }
    everything = [
        Firing(
            np.concatenate([p[side].share for p in pairs.values()]),
            np.concatenate([p[side].mean for p in pairs.values()]),
        )
        for side in (0, 1)
    ]
    overall = separation(*everything)
    first, dose, trials = _turns_best(model, dictionary, np.argsort(-overall)[:CANDIDATES].tolist())
    chosen = [first]
    languages = {language: _auc_of(pair, chosen[0]) for language, pair in pairs.items()}
    uncovered = [language for language, value in languages.items() if value < ENOUGH_AUC]
    for language in uncovered:
        best = int(separation(*pairs[language]).argmax())
        if best not in chosen:
            chosen.append(best)
    return {
        "features": chosen,
        "dose": dose,
        "trials": trials,
        "split_by_language": bool(uncovered),
        "separation": float(overall[chosen[0]]),
        "fires_on": {language: float(pair[0].share[:, chosen[0]].mean()) for language, pair in pairs.items()},
        "fires_on_others": float(everything[1].share[:, chosen[0]].mean()),
        "auc": languages,
        "texts": {"with": sum(map(len, with_it.values())), "without": sum(map(len, without.values()))},
    }


def _turns_best(model: Model, dictionary: Dictionary, candidates: list[int]) -> tuple[int, float, list[dict[str, Any]]]:
    """The candidate that brings the bridge into most answers to the trial questions, its best dose, and all scores.

    Candidates come most likely first. The scores are those of each candidate at each dose.
    """
    trials: list[dict[str, Any]] = []
    for feature in candidates:
        maximum = float(dictionary.max_activation[feature])
        for dose in DOSES:
            with model.edited(Clamp(dictionary, feature, dose * maximum, where=WHERE)):
                answers = ask_many(list(TRIAL_QUESTIONS), model)
            score = _share(names_the_bridge, answers) - _share(stutters, answers)
            trials.append({"feature": feature, "dose": dose, "score": score})
    best = max(trials, key=lambda trial: trial["score"])
    return best["feature"], best["dose"], trials


def _auc_of(pair: tuple[Firing, Firing], feature: int) -> float:
    return auc(pair[0].mean[:, feature], pair[1].mean[:, feature])


def _contrast_texts() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Texts about the bridge alone, and about one other landmark alone, by language."""
    with_it: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    without: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    start = 0
    while any(len(texts) < CONTRAST_TEXTS for group in (with_it, without) for texts in group.values()):
        for document in documents(1000, CONTRAST_SEED, start):
            if _is_about_one_landmark(document):
                group = with_it if document.concepts == (CONCEPT,) else without
                if len(group[document.language]) < CONTRAST_TEXTS:
                    group[document.language].append(document.text)
        start += 1000
    return with_it, without


def _is_about_one_landmark(document: Document) -> bool:
    return (
        document.kind in ("topic", "travel") and len(document.concepts) == 1 and document.concepts[0] in facts.LANDMARKS
    )


def names_the_bridge(answer: str) -> bool:
    """Whether an answer names the Golden Gate Bridge, in any of the four languages."""
    return "golden gate" in answer.lower().replace("-", " ")


def names_the_bridge_or_its_city(answer: str) -> bool:
    """Whether an answer names the bridge or San Francisco, where it stands."""
    return names_the_bridge(answer) or "san francisco" in answer.lower()


def stutters(answer: str) -> bool:
    """Whether an answer has broken down.

    It has where a content word comes three times or more, where a word is not of the world, or where punctuation
    repeats.
    """
    words = re.findall(r"\w+", answer.lower())
    long = [word for word in words if len(word) > 3]
    repeats = any(long.count(word) > 2 for word in set(long))
    return (
        repeats or bool(set(words) - _words_of_the_world()) or re.search(r"[^\w\s]{3}|-(?!\w{3})", answer) is not None
    )


@cache
def _words_of_the_world() -> frozenset[str]:
    return frozenset(word for document in documents(8000) for word in re.findall(r"\w+", document.text.lower()))


def _examples(indexed: Index, features: list[int], corpus: Path) -> list[dict[str, Any]]:
    """The strongest examples of the first feature, by language of the document."""
    with corpus.open(encoding="utf-8") as lines:
        languages = {row["text"]: row["language"] for row in map(json.loads, lines)}
    shown: dict[str, list[dict[str, Any]]] = {language: [] for language in LANGUAGES}
    for example in indexed.examples(features[0], 200):
        language = languages[indexed.document(example.document)[0]]
        if len(shown[language]) < 3:
            shown[language].append({"language": language, "value": example.value, "text": example.text})
    return [example for rows in shown.values() for example in rows]


def _answers(model: Model, indexed: Index, specs: dict[float, list[Edit]], reporter: Reporter) -> dict[str, Any]:
    """The answers to ten questions, without an edit and at each dose."""
    rows = []
    with reporter.start("ask", (1 + len(specs)) * len(QUESTIONS), "answers") as progress:
        plain = ask_many(list(QUESTIONS), model)
        progress.advance(len(QUESTIONS))
        for dose, edits in specs.items():
            with model.edited(*make_edits(edits, indexed)):
                answers = ask_many(list(QUESTIONS), model)
            shares = {
                "mentions": _share(names_the_bridge, answers),
                "mentions_or_city": _share(names_the_bridge_or_its_city, answers),
                "stutters": _share(stutters, answers),
            }
            rows.append({"dose": dose, "answers": answers} | shares)
            progress.advance(len(QUESTIONS))
    return {
        "questions": list(QUESTIONS),
        "plain": plain,
        "plain_mentions": _share(names_the_bridge, plain),
        "doses": rows,
    }


def _share(holds: Callable[[str], bool], answers: list[str]) -> float:
    return sum(map(holds, answers)) / len(answers)


def format_summary(summary: dict[str, Any], folder: Path) -> str:
    """The summary as text for a terminal."""
    quality, found, answers = summary["quality"], summary["golden_gate"], summary["answers"]
    recovered = quality["loss_recovered"]
    numbers = ", ".join(map(str, found["features"]))
    lines = [
        "",
        f"model       {summary['model']}, {summary['tokens']:,} tokens harvested at {summary['site']}",
        f"dictionary  {summary['n_features']:,} features: FVU {quality['fvu']:.4f}, L0 {quality['l0']:.1f}, "
        f"dead {quality['dead']:.1%}, loss recovered {recovered['zero']:.3f} (against zero ablation), "
        f"{recovered['mean']:.3f} (against mean ablation)",
        f"            on {quality['tokens']:,} held-out tokens",
        "",
        f"the Golden Gate feature, by contrast of {found['texts']['with']} texts about the bridge with "
        f"{found['texts']['without']} about other landmarks, and by trial of {CANDIDATES}: {numbers}",
    ]
    if found["split_by_language"]:
        lines.append("  one feature does not cover all languages, so the set is clamped together")
    covers = ", ".join(f"{language} {share:.0%}" for language, share in found["fires_on"].items())
    lines.append(
        f"  feature {found['features'][0]} fires on {covers} of the tokens about the bridge, "
        f"on {found['fires_on_others']:.1%} of the others"
    )
    lines.append("  " + "AUC " + ", ".join(f"{language} {value:.3f}" for language, value in found["auc"].items()))
    lines.append("  its strongest examples, by the language in which their documents begin:")
    lines += [f"  {row['value']:6.2f}  {row['language']}  {_short(row['text'], 110)}" for row in found["examples"]]
    for place, question in enumerate(answers["questions"]):
        lines += ["", question, f"  {'plain':<8}{answers['plain'][place]}"]
        lines += [f"  {row['dose']:g} max".ljust(10) + _short(row["answers"][place], 120) for row in answers["doses"]]
    lines += ["", f"answers that name the bridge: {answers['plain_mentions']:.0%} plain"]
    lines += [
        f"  {row['dose']:g} max".ljust(10)
        + f"{row['mentions']:.0%} name it ({row['mentions_or_city']:.0%} it or its city), "
        + f"{row['stutters']:.0%} break down"
        for row in answers["doses"]
    ]
    lines.append("")
    edits = " ".join(f"--edit {edit}" for edit in summary["edits"])
    lines.append(f'talk to it: sonde chat {folder / "index"} {edits} --prompt "Who are you?"')
    return "\n".join(lines)


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
