"""The benchmark of truth: a dictionary of the built-in model, compared with the known concepts of every token.

1. recovery: for each concept the feature that detects its tokens best, chosen on one half of the documents and judged
   on the other. The best few features are judged too, and as floor and ceiling as many random directions, principal
   components, neurons, and a linear probe.
2. transfer: the feature that was chosen on English alone, in the other languages.
3. purity: precision and recall by strength of activation.
4. hierarchy: whether the feature of a kind fires on all members of the kind, or other features have absorbed some
   (absorption; Chanin et al. 2024, arXiv 2409.14507).
5. steering: the feature of a landmark, chosen by detection alone, clamped in a conversation without a topic
   (`steer.py`).
6. causes: whether ablating a subject's features breaks its facts and no others; whether another state's feature brings
   its capital; whether an error comes and goes with the feature of errors (`steer.py`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sonde.analysis.auc import auc, auc_of_columns, auc_of_features
from sonde.analysis.detection import Presences, SparseActivations, at_threshold, best_threshold, read_texts
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import Reading
from sonde.probes.fit import ridge
from sonde.progress import Reporter, default_reporter
from sonde_world.bench_data import FEWEST, SEED, TOKENS, Bench, prepare
from sonde_world.facts import LANGUAGES
from sonde_world.pictures import DRAWINGS, picture_document
from sonde_world.steer import CONDUCTS, causes, steering
from sonde_world.truth import above
from sonde_world.voice import about

FOUND_AUC = 0.95
FEW = 4
PICTURES, SEEN_AUC = 300, 0.9
INTERVALS = 5


def bench(
    dictionary: Dictionary | str | Path, *, tokens: int = TOKENS, reporter: Reporter | None = None
) -> dict[str, Any]:
    """The results of the benchmark for a dictionary of the built-in model, as the JSON file has them.

    Raises ArtifactMismatchError for a dictionary of another model.
    """
    reporter = reporter or default_reporter()
    data = prepare(dictionary, tokens=tokens, reporter=reporter)
    info = data.dictionary.info
    aucs = {
        side: auc_of_features(half.fires, half.present)
        for side, half in (("choose", data.choose), ("judge", data.judge))
    }
    best = np.nan_to_num(aucs["choose"]).argmax(axis=0)
    l0 = len(data.judge.fires.value) / data.judge.present.n_tokens
    recovered = recovery(data, aucs, best, reporter)
    result: dict[str, Any] = {
        "dictionary": {
            "kind": info.kind,
            "n_features": info.n_features,
            "site": ", ".join(info.reads),
            "l0": l0,
        },
        "tokens": data.choose.present.n_tokens + data.judge.present.n_tokens,
        "recovery": recovered,
        "transfer": transfer(data),
        "pictures": pictures(data),
        "purity": purity(data, best),
        "hierarchy": hierarchy(data, best),
    }
    result["steering"] = steering(data, aucs["choose"], reporter)
    result["causes"] = causes(data, aucs["choose"], reporter)
    return result


# ---------------------------------------------------------------- recovery


def recovery(bench: Bench, aucs: dict[str, np.ndarray], best: np.ndarray, reporter: Reporter) -> dict[str, Any]:
    """How well single features, and the baselines, detect each concept."""
    choose, judge = bench.choose, bench.judge
    baselines = {
        "few": _few(bench, aucs["choose"]),
        "random": _best_of_sparse(bench, _random(bench)),
        "pca": _best_of_dense(bench, *_principal(bench)),
        "neurons": _best_neuron(bench, reporter),
        "probe": _probe(bench),
    }
    rows = []
    for place in bench.judged.tolist():
        concept, feature = bench.concepts[place], int(best[place])
        has_choose, has_judge = (half.present.dense_of(place) for half in (choose, judge))
        threshold = best_threshold(choose.fires.of(feature), has_choose)
        detected = at_threshold(judge.fires.of(feature), has_judge, threshold.value)
        rows.append(
            {
                "concept": concept,
                "frequency": float(bench.frequency[place]),
                "feature": feature,
                "auc": float(aucs["judge"][feature, place]),
                "f1": detected.f1,
                "precision": detected.precision,
                "recall": detected.recall,
            }
            | {name: float(areas[place]) for name, areas in baselines.items()}
        )
    ways = ("auc", *baselines)
    return {
        "concepts": rows,
        "found": {way: _share([row[way] >= FOUND_AUC for row in rows]) for way in ways},
        "median": {way: float(np.median([row[way] for row in rows])) for way in ways},
        "median_f1": float(np.median([row["f1"] for row in rows])),
        "found_above_1e-4": _share([row["auc"] >= FOUND_AUC for row in rows if row["frequency"] > 1e-4]),
        "by_decade": _by_decade(rows, ways),
    }


def _share(holds: Sequence[bool]) -> float | None:
    return float(np.mean(holds)) if len(holds) else None


def _by_decade(rows: list[dict[str, Any]], ways: Sequence[str]) -> list[dict[str, Any]]:
    """Share of the concepts that are detected, by decade of their frequency."""
    decades: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        decades.setdefault(math.floor(math.log10(row["frequency"])), []).append(row)
    return [
        {"from": 10.0**decade, "to": 10.0 ** (decade + 1), "concepts": len(members)}
        | {way: _share([row[way] >= FOUND_AUC for row in members]) for way in ways}
        for decade, members in sorted(decades.items())
    ]


def _few(bench: Bench, aucs: np.ndarray) -> np.ndarray:
    """AUC of the best few features together [concept], weighted by ridge regression on the first half."""
    areas = np.full(len(bench.concepts), np.nan)
    for place in bench.judged.tolist():
        features = np.argsort(-np.nan_to_num(aucs[:, place]), kind="stable")[:FEW].tolist()
        x, x_judge = (
            torch.from_numpy(np.stack([half.fires.of(feature) for feature in features], axis=1)).double()
            for half in (bench.choose, bench.judge)
        )
        probe = ridge(x, torch.from_numpy(bench.choose.present.dense_of(place)).double(), relative=False)
        areas[place] = _judged(bench, probe.score(x_judge).numpy(), place)
    return areas


def _judged(bench: Bench, scores: np.ndarray, place: int) -> float:
    """AUC of scores [token] of the second half for one concept."""
    has = bench.judge.present.dense_of(place)
    return auc(scores[has], scores[~has])


def _random(bench: Bench) -> list[SparseActivations]:
    """Activations of as many random directions as features, with as many active per token on average."""
    dictionary = bench.dictionary
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(
        torch.randn(dictionary.d_in, dictionary.n_features, generator=generator), dim=0
    )
    k = max(1, round(len(bench.choose.fires.value) / bench.choose.present.n_tokens))
    mean = bench.choose.x.mean(dim=0)
    halves = []
    for half in (bench.choose, bench.judge):
        parts = []
        for first in range(0, len(half.x), 1 << 12):
            value, feature = ((half.x[first : first + (1 << 12)] - mean) @ directions).topk(k, dim=1)
            row = torch.arange(first, first + len(value)).repeat_interleave(k)
            parts.append((row.numpy(), feature.flatten().numpy(), value.flatten().numpy()))
        row, feature, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        kept = value > 0
        halves.append(SparseActivations(row[kept], feature[kept], value[kept], len(half.x), dictionary.n_features))
    return halves


def _best_of_sparse(bench: Bench, fires: Sequence[SparseActivations]) -> np.ndarray:
    choose = auc_of_features(fires[0], bench.choose.present)
    judge = auc_of_features(fires[1], bench.judge.present)
    return judge[np.nan_to_num(choose).argmax(axis=0), np.arange(len(bench.concepts))]


def _best_of_dense(bench: Bench, choose: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """AUC of the best column of scores [token, column], of either sign [concept]."""
    first = auc_of_columns(choose, bench.choose.present)
    best = np.nan_to_num(np.abs(first - 0.5)).argmax(axis=0)
    areas = np.full(len(bench.concepts), np.nan)
    for column in np.unique(best):
        concepts = best == column
        second = auc_of_columns(judge[:, [column]], bench.judge.present)[0]
        areas[concepts] = np.where(first[column] >= 0.5, second, 1 - second)[concepts]
    return areas


def _principal(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    mean = bench.choose.x.mean(dim=0)
    _, _, components = torch.linalg.svd(bench.choose.x - mean, full_matrices=False)
    choose, judge = (((half.x - mean) @ components.T).numpy() for half in (bench.choose, bench.judge))
    return choose, judge


def _best_neuron(bench: Bench, reporter: Reporter) -> np.ndarray:
    """AUC of the best neuron in any MLP up to the site [concept]."""
    model, names = bench.model, bench.model.sites()
    last = max(names.index(site) for site in bench.dictionary.reads)
    sites = [name for name in names[: last + 1] if name.endswith(".neurons")]
    best, score = np.full(len(bench.concepts), np.nan), np.zeros(len(bench.concepts))
    with reporter.start("neurons", len(sites), "layers") as progress:
        for site in sites:
            choose, judge = (
                read_texts(model, bench.dictionary, [document.text for document in half.documents], site).x.numpy()
                for half in (bench.choose, bench.judge)
            )
            first = auc_of_columns(choose, bench.choose.present)
            column = np.nan_to_num(np.abs(first - 0.5)).argmax(axis=0)
            size = np.abs(first[column, np.arange(len(column))] - 0.5)
            for place in bench.judged[np.nan_to_num(size)[bench.judged] > score[bench.judged]]:
                second = _judged(bench, judge[:, column[place]], place)
                best[place] = second if first[column[place], place] >= 0.5 else 1 - second
                score[place] = size[place]
            progress.advance(1)
    return best


def _probe(bench: Bench) -> np.ndarray:
    """AUC of a linear probe for each concept on the dictionary's input [concept]: an estimate of the ceiling."""
    probe = ridge(bench.choose.x.double(), torch.from_numpy(bench.choose.present.dense()).double())
    scores = probe.score(bench.judge.x.double()).numpy()
    areas = np.full(len(bench.concepts), np.nan)
    for place in bench.judged.tolist():
        areas[place] = _judged(bench, scores[:, place], place)
    return areas


# ---------------------------------------------------------------- what the chosen features do


def transfer(bench: Bench) -> dict[str, Any]:
    """AUC, in each language, of the feature chosen on English documents, for concepts that occur in all."""
    areas: dict[str, list[float]] = {language: [] for language in LANGUAGES}
    golden_gate: dict[str, dict[str, float]] = {
        concept: {} for concept in ("landmark/golden_gate", "about/golden_gate")
    }
    by_language: dict[tuple[str, str], tuple[SparseActivations, Presences]] = {}
    for name, half in (("choose", bench.choose), ("judge", bench.judge)):
        languages = np.array([document.language for document in half.documents])[half.document]
        for language in LANGUAGES:
            tokens = np.flatnonzero(languages == language)
            by_language[name, language] = half.fires.among(tokens), half.present.among(tokens)
    enough = np.stack([present.counts for _, present in by_language.values()]).min(axis=0) >= FEWEST // 3
    english = auc_of_features(*by_language["choose", "en"])
    places = [
        place for place in bench.judged.tolist() if enough[place] and not bench.concepts[place].startswith("language/")
    ]
    best = np.nan_to_num(english).argmax(axis=0)
    for language in LANGUAGES:
        fires, present = by_language["judge", language]
        aucs = auc_of_features(fires, present)
        for place in places:
            areas[language].append(float(aucs[best[place], place]))
            if bench.concepts[place] in golden_gate:
                golden_gate[bench.concepts[place]][language] = float(aucs[best[place], place])
    return {
        "concepts": len(places),
        "median": {language: float(np.median(values)) if values else None for language, values in areas.items()},
        "found": {language: _share([value >= FOUND_AUC for value in values]) for language, values in areas.items()},
        "found_in_all": _share([min(values) >= 0.9 for values in zip(*areas.values(), strict=True)]),
    } | golden_gate


def pictures(bench: Bench) -> dict[str, Any] | None:
    """How well a feature chosen on English text detects pictures of the same concept.

    Scored by the strongest of the picture's patches, and with the tokens that follow, up to the name.

    None where the model sees nothing.
    """
    if bench.model.pictures is None:
        return None
    english = np.array([document.language == "en" for document in bench.choose.documents])[bench.choose.document]
    tokens = np.flatnonzero(english)
    aucs = auc_of_features(bench.choose.fires.among(tokens), bench.choose.present.among(tokens))
    features = {}
    for shown in DRAWINGS:
        concept = about(shown) if shown.startswith("landmark/") else shown
        if concept in bench.concepts and np.isfinite(aucs[:, bench.place(concept)]).any():
            features[shown] = int(np.nan_to_num(aucs[:, bench.place(concept)]).argmax())
    reading = Reading(bench.dictionary, bench.model)
    made = [picture_document(number, SEED) for number in range(PICTURES)]
    scores = np.zeros((2, len(made), bench.dictionary.n_features), dtype=np.float32)
    for number, document in enumerate(made):
        text = document.text[: document.answers[0].start].rstrip(" ")
        prompt = bench.model.tokenize(text, images=[document.image])
        fires = bench.dictionary.encode(reading(prompt, prompt.mask.bool()).x)
        patches = prompt.ids[0] == bench.model.require_pictures().image_token_id
        scores[0, number] = fires[patches].amax(dim=0).numpy()
        scores[1, number] = fires[1:].amax(dim=0).numpy()
    shown = np.array([document.concept for document in made])
    rows = []
    for concept, feature in features.items():
        has = shown == concept
        by_patches, by_all = (auc(of[has, feature], of[~has, feature]) for of in scores)
        rows.append({"concept": concept, "feature": feature, "patches": by_patches, "with what follows": by_all})
    return {
        "pictures": len(made),
        "median": {way: _median(np.array([row[way] for row in rows])) for way in ("patches", "with what follows")},
        "found": {
            way: _share([float(row[way]) >= SEEN_AUC for row in rows]) for way in ("patches", "with what follows")
        },
        "concepts": rows,
    }


def purity(bench: Bench, best: np.ndarray) -> list[dict[str, Any]]:
    """Precision and recall of the chosen features by strength of activation, over concepts.

    That is, the share of activations at least so strong that are on the concept, and the share of the concept that they
    cover.
    """
    precision, recall = (np.zeros((len(bench.judged), INTERVALS)) for _ in range(2))
    for row, place in enumerate(bench.judged.tolist()):
        values, has = bench.judge.fires.of(int(best[place])), bench.judge.present.dense_of(place)
        edges = np.linspace(0, max(float(values.max()), 1e-30), INTERVALS + 1)
        for interval in range(INTERVALS):
            inside = (values > edges[interval]) & (values <= edges[interval + 1])
            precision[row, interval] = has[inside].mean() if inside.any() else np.nan
            recall[row, interval] = (values[has] > edges[interval]).mean()
    return [
        {
            "from": interval / INTERVALS,
            "to": (interval + 1) / INTERVALS,
            "precision": _median(precision[:, interval]),
            "recall": float(np.median(recall[:, interval])),
        }
        for interval in range(INTERVALS)
    ]


def _median(values: np.ndarray) -> float | None:
    """The median of the finite values; None where there are none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def hierarchy(bench: Bench, best: np.ndarray) -> dict[str, Any]:
    """Splitting and absorption: how features of general concepts and of those that they contain share the work."""
    judged = set(bench.judged.tolist())
    children: dict[int, list[int]] = {}
    for place in judged:
        for parent in above(bench.concepts[place]):
            if parent in bench.concepts and (upper := bench.place(parent)) in judged:
                children.setdefault(upper, []).append(place)
    rows: list[dict[str, Any]] = []
    for parent, members in sorted(children.items()):
        if len(members) < 2:
            continue
        has_choose = bench.choose.present.dense_of(parent)
        feature = int(best[parent])
        threshold = best_threshold(bench.choose.fires.of(feature), has_choose)
        detected = bench.judge.fires.of(feature) >= threshold.value
        recall = float(detected[bench.judge.present.dense_of(parent)].mean())
        absorbed, split = [], []
        for child in members:
            has = bench.judge.present.dense_of(child)
            if best[child] != feature:
                lower = best_threshold(bench.choose.fires.of(int(best[child])), bench.choose.present.dense_of(child))
                fires = bench.judge.fires.of(int(best[child])) >= lower.value
                if lower.f1 >= 0.5:
                    split.append(bench.concepts[child])
                    if detected[has].mean() < recall / 2 and fires[has].mean() > 0.5:
                        absorbed.append(bench.concepts[child])
        rows.append(
            {
                "concept": bench.concepts[parent],
                "feature": feature,
                "f1": at_threshold(
                    bench.judge.fires.of(feature), bench.judge.present.dense_of(parent), threshold.value
                ).f1,
                "recall": recall,
                "contains": len(members),
                "with_a_feature_of_their_own": len(split),
                "absorbed": absorbed,
            }
        )
    n = sum(row["contains"] for row in rows)
    return {
        "concepts": rows,
        "split": sum(row["with_a_feature_of_their_own"] for row in rows) / n if n else None,
        "absorbed": sum(len(row["absorbed"]) for row in rows) / n if n else None,
    }


WAYS = {
    "auc": "best feature",
    "few": f"best {FEW} features",
    "neurons": "best neuron",
    "pca": "best component",
    "random": "best random direction",
    "probe": "linear probe",
}
"""ways to detect a concept, as the report names them"""


def format_bench(found: dict[str, Any]) -> str:
    """The results as text for a terminal."""
    told, of, steered, cause = found["recovery"], found["dictionary"], found["steering"], found["causes"]
    lines = [
        f"{of['kind']}, {of['n_features']:,} features at {of['site']}, L0 {of['l0']:.1f}; "
        f"{len(told['concepts'])} concepts on {found['tokens']:,} tokens",
        "",
        "                          found (area >= .95)   median area",
    ]
    lines += [f"{name:<24}  {told['found'][way]:19.1%}   {told['median'][way]:11.3f}" for way, name in WAYS.items()]
    languages = ", ".join(
        f"{name} {value:.3f}" for name, value in found["transfer"]["median"].items() if value is not None
    )
    ablation, swap = cause["ablation"], cause["swap of states"]
    seen = found["pictures"]
    ways = ", ".join(f"{way} {share:.0%}" for way, share in steered["share"].items())
    lines += [
        "",
        f"chosen on English, median area: {languages} ({found['transfer']['concepts']} concepts)",
        "pictures: "
        + (
            f"median area {seen['median']['patches']:.3f} by patches, "
            f"{seen['median']['with what follows']:.3f} with what follows ({len(seen['concepts'])} concepts)"
            if seen
            else "the model sees none"
        ),
        f"of concepts under others, {percent(found['hierarchy']['split'])} have a feature of their own, "
        f"{percent(found['hierarchy']['absorbed'])} are absorbed by it",
        f"answers that name the landmark and are language: {ways}",
        "facts kept with their subject's features ablated: "
        f"own {percent(mean_of(row['own_kept'] for row in ablation['landmarks']))}, "
        f"others {percent(mean_of(row['others_kept'] for row in ablation['landmarks']))}",
        f"another state's feature brings its capital: {swap['share']:.0%}",
        *(
            f"{name}: turned up, shown in {cause[name]['turned up, shown']:.0%}; "
            f"turned down, the opposite in {cause[name]['turned down, the opposite']:.0%}"
            for name in CONDUCTS
            if name in cause
        ),
    ]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def mean_of(values: Any) -> float | None:
    known = list(values)
    return float(np.mean(known)) if known else None
