"""Steering a real model towards concepts, by features that texts alone chose, beside controls.

    python benchmarks/steering.py --dictionary build/topk-10 --texts build/text/chat.jsonl --device cuda

For each concept of steering.toml: the feature whose mean activation on a text tells the concept's texts from others
best on one half of the texts (AUC; the other half is reported); the feature whose clamp makes the concept's texts most
probable as answers to questions that have nothing to do with it, and a set of at most five (`sonde.effects`). Dose and
place (all tokens, or the question's) are chosen on 20 neutral questions and judged on 100 others, under temperature.
An answer is *about* the concept where it says one of its words; it *counts* where, besides, its perplexity under the
plain model is at most five times that of the plain model's own answer. Beside it: the difference of the texts' means,
and a random direction, both as long as what the feature adds, and as many random features as the set has, with their
own best dose and place; the model told so in its prompt; and the plain model. Intervals are Wilson's, 95 %. With
--predict, how well detection and effect predict what each of many features does to the answers. Appends a line to
benchmarks/results/steering.jsonl.
"""

import argparse
import json
import math
import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rounds import write
from scipy.stats import spearmanr
from torch import Tensor

import sonde
from sonde.activations.contexts import Cutter, groups
from sonde.analysis.auc import auc, auc_of_columns
from sonde.analysis.detection import Presences
from sonde.analysis.effects import Effects, Finder
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading
from sonde.features.stream import stream
from sonde.models.model import Model
from sonde.steering.dose import perplexities

HERE = Path(__file__).resolve().parent
DOSES = (0.5, 1.0, 1.5, 2.0, 3.0)
PLACES = ("all", "prompt")
MOST_SURPRISE = 5.0
N_TOKENS = 45
TEXTS, OTHERS = 60, 600
"""of each concept, and of all others, at most"""
N_EFFECT = 24
"""texts of each kind on which effects are measured, half of them to choose"""
MOST_OF_SET = 5


@dataclass(frozen=True)
class Push:
    """What is done to one answer: move what passes the site along directions."""

    directions: Tensor
    """[part, width], of length one"""
    targets: tuple[float, ...]
    """what is added along each; of a feature, what its activation becomes"""
    features: tuple[int, ...] = ()
    """whose activations are taken off first; none for directions that are only added"""
    place: str = "all"
    dose: float = 1.0


class Pushes:
    """The pushes of a batch as one edit: row i of what passes the site is moved by push i, of those at one place."""

    def __init__(self, dictionary: Dictionary, pushes: Sequence[Push | None], place: str) -> None:
        self.site, self.where, self.dictionary = dictionary.site, place, dictionary
        kept = [(row, push) for row, push in enumerate(pushes) if push is not None and push.place == place]
        device = dictionary.W_dec.device
        rows = {row: number for number, (row, _) in enumerate(kept)}
        self.row = torch.tensor(list(rows), dtype=torch.long, device=device)
        parts = [(rows[row], push, part) for row, push in kept for part in range(len(push.targets))]
        self.owner = torch.tensor([owner for owner, _, _ in parts], dtype=torch.long, device=device)
        self.feature = torch.tensor(
            [push.features[part] if push.features else -1 for _, push, part in parts], dtype=torch.long, device=device
        )
        self.target = torch.tensor([push.targets[part] for _, push, part in parts], device=device)
        self.direction = torch.cat([push.directions for _, push in kept]).to(device) if kept else None

    def __call__(self, x: Tensor) -> Tensor:
        if self.direction is None:
            return x
        wide = x[self.row].float()
        shift = self.target[:, None].expand(-1, wide.shape[1]).clone()
        own = self.feature >= 0
        if own.any():
            rows, place = self.owner[own].unique(return_inverse=True)
            for first in range(0, len(rows), 256):
                here = (place >= first) & (place < first + 256)
                activation = self.dictionary.encode(wide[rows[first : first + 256]])
                parts = own.nonzero()[:, 0][here]
                shift[parts] -= activation[place[here] - first, :, self.feature[parts]]
        step = torch.zeros_like(wide).index_add_(0, self.owner, shift[..., None] * self.direction[:, None])
        limit = self.dictionary.info.norm_limits.get(self.site, math.inf)
        step *= (wide.norm(dim=-1) <= limit)[..., None]
        changed = x.clone()
        changed[self.row] = (wide + step).to(x.dtype)
        return changed


def answers(
    model: Model,
    dictionary: Dictionary,
    prompts: Sequence[list[int]],
    pushes: Sequence[Push | None],
    temperature: float,
    batch: int,
    seed: int,
) -> list[list[int]]:
    """The tokens of an answer to each prompt, under its push."""
    found: list[list[int]] = []
    for first in range(0, len(prompts), batch):
        rows, some = prompts[first : first + batch], pushes[first : first + batch]
        tokens = model.pad(rows, side="left")
        torch.manual_seed(seed + first)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
        with model.edited(*(Pushes(dictionary, some, place) for place in PLACES)):
            ids = model.generate_ids(tokens, N_TOKENS, **sampling)
        for answer in ids[:, tokens.ids.shape[1] :].tolist():
            end = next((place for place, token in enumerate(answer) if token in model.end_tokens), len(answer))
            found.append(answer[:end])
    return found


def surprises(model: Model, prompts: Sequence[list[int]], said: Sequence[list[int]], batch: int = 64) -> list[float]:
    """The perplexity of each answer under the plain model; infinite of an empty one."""
    found: list[float | None] = []
    for first in range(0, len(prompts), batch):
        with torch.no_grad():
            found += perplexities(model, prompts[first : first + batch], said[first : first + batch])
    return [math.inf if value is None else value for value in found]


# ---------------------------------------------------------------- concepts and their features


@dataclass
class Concept:
    name: str
    words: re.Pattern[str]
    texts: list[int]
    """places of its texts among all"""
    areas: np.ndarray | None = None
    """[feature] on the half of the texts that is chosen on"""
    feature: int = -1
    judged_auc: float = 0.0
    mean: Tensor | None = None
    """[width] mean of its texts less that of others, of length one"""
    estimates: dict[str, Tensor] = field(default_factory=dict)
    """place -> the effect of each feature to first order"""
    effects: dict[str, Effects] = field(default_factory=dict)
    """place -> what clamps do there"""


@dataclass(frozen=True)
class Text:
    whole: str
    """question and answer, as the model reads them"""
    answer: str


def words_of(concept: dict[str, Any]) -> re.Pattern[str]:
    return re.compile(r"\b(" + "|".join(map(re.escape, concept["words"])) + r")\b", re.IGNORECASE)


def read_texts(file: Path, concepts: dict[str, Any], seed: int = 0) -> tuple[list[Text], list[Concept]]:
    """Texts of the concepts and of others, and which are of which concept."""
    with file.open(encoding="utf-8") as lines:  # not splitlines, which also splits at U+2028
        rows = [json.loads(line) for line in lines]
    random.Random(seed).shuffle(rows)
    texts: list[Text] = []
    found, taken = [], set()
    for name, concept in concepts.items():
        own = [row for row in rows if row["topic"] in concept["topics"]][:TEXTS]
        found.append(Concept(name, words_of(concept), list(range(len(texts), len(texts) + len(own)))))
        texts += [Text(row["text"], row["answer"]) for row in own]
        taken |= set(concept["topics"])
    texts += [Text(row["text"], row["answer"]) for row in rows if row["topic"] not in taken][:OTHERS]
    return texts, found


@torch.no_grad()
def choose_by_detection(model: Model, dictionary: Dictionary, texts: list[Text], concepts: list[Concept]) -> None:
    """Set each concept's areas, the feature that they choose, and its mean."""
    cutter = Cutter(model)
    features = torch.zeros(len(texts), dictionary.n_features)
    vectors, lengths = torch.zeros(len(texts), dictionary.d_in), torch.zeros(len(texts))
    for read in stream(Reading(dictionary, model), groups(cutter.tokenize([text.whole for text in texts]), cutter)):
        document = torch.from_numpy(read.batch.document).to(read.x.device)
        row, feature, value = read.active
        flat = document[row] * dictionary.n_features + feature
        features.view(-1).index_add_(0, flat.cpu(), value.float().cpu())
        vectors.index_add_(0, document.cpu(), read.x.float().cpu())
        lengths += torch.bincount(document.cpu(), minlength=len(texts))
    features /= lengths.clamp_min(1)[:, None]
    vectors /= lengths.clamp_min(1)[:, None]
    half = halves(len(texts))
    values = features.numpy()
    for concept in concepts:
        has = np.zeros(len(texts), dtype=bool)
        has[concept.texts] = True
        concept.areas = np.nan_to_num(auc_of_columns(values[half], Presences.of(has[half][:, None]))[:, 0], nan=0.5)
        concept.feature = int(concept.areas.argmax())
        concept.judged_auc = float(auc(values[has & ~half, concept.feature], values[~has & ~half, concept.feature]))
        with_it = torch.from_numpy(has & half)
        direction = vectors[with_it].mean(dim=0) - vectors[torch.from_numpy(~has & half)].mean(dim=0)
        concept.mean = direction / direction.norm()


def halves(n: int) -> np.ndarray:
    """Which of n texts things are chosen on."""
    return np.random.default_rng(0).permutation(n) % 2 == 0


def choose_by_effect(bench: "Bench", texts: list[Text], concepts: list[Concept], candidates: int) -> None:
    """Set what clamps do to each concept's texts, of the half that is chosen on."""
    half = halves(len(texts))
    of_concepts = {place for concept in concepts for place in concept.texts}
    others = [text.answer for place, text in enumerate(texts) if place not in of_concepts and half[place]][:N_EFFECT]
    dictionary = bench.dictionary
    for concept in concepts:
        about = [texts[place].answer for place in concept.texts if half[place]][:N_EFFECT]
        for place in PLACES:
            finder = Finder(bench.model, dictionary, dictionary.max_activation, 1.0, place, 32, bench.batch)
            concept.estimates[place] = finder.estimates(finder.answers(about[::2], others[::2])).cpu()
            areas = torch.from_numpy(concept.areas)
            concept.effects[place] = finder.find(
                about, others, (areas, areas), n=candidates, candidates=candidates, most=MOST_OF_SET
            )


# ---------------------------------------------------------------- judging


def wilson(successes: int, n: int) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson 1927)."""
    z, p = 1.96, successes / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


KINDS = ("feature", "effect", "set", "means", "random", "random set")


@dataclass(frozen=True)
class Bench:
    """What all answers are made with."""

    model: Model
    dictionary: Dictionary
    temperature: float
    batch: int
    seed: int

    def prompt(self, question: str, system: str = "") -> list[int]:
        messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": question}]
        return self.model.chat_tokens(messages).ids[0].tolist()

    def ask(self, prompts: list[list[int]], pushes: list[Push | None], judged_as: list[list[int]]) -> "Said":
        """Answers to prompts; how surprising they are is asked of the plain model, as answers to `judged_as`."""
        tokens = answers(self.model, self.dictionary, prompts, pushes, self.temperature, self.batch, self.seed)
        tokenizer = self.model.require_tokenizer()
        return Said([tokenizer.decode(each) for each in tokens], surprises(self.model, judged_as, tokens))

    def pushes(self, concept: Concept, number: int) -> dict[str, list[Push]]:
        """Of each kind, the pushes towards a concept at each dose and place."""
        assert concept.mean is not None
        generator = torch.Generator().manual_seed(self.seed * 1000 + number)
        anywhere = torch.nn.functional.normalize(torch.randn(1, self.dictionary.d_in, generator=generator))
        alive = (self.dictionary.max_activation > 0).nonzero()[:, 0].cpu()
        found: dict[str, list[Push]] = {kind: [] for kind in KINDS}
        for place in PLACES:
            effects = concept.effects[place]
            some = alive[torch.randperm(len(alive), generator=generator)[: len(effects.set.features)]].tolist()
            for dose in DOSES:
                added = (dose * float(self.dictionary.max_activation[concept.feature]),)
                found["feature"].append(self.clamp((concept.feature,), dose, place))
                found["effect"].append(self.clamp(effects[0].features, dose, place))
                found["set"].append(self.clamp(effects.set.features, dose, place))
                found["random set"].append(self.clamp(tuple(some), dose, place))
                found["means"].append(Push(concept.mean[None], added, (), place, dose))
                found["random"].append(Push(anywhere, added, (), place, dose))
        return found

    def clamp(self, features: tuple[int, ...], dose: float, place: str) -> Push:
        """Features clamped to a multiple of their maxima."""
        maxima = self.dictionary.max_activation[list(features)].tolist()
        directions = self.dictionary.W_dec[list(features)].detach().cpu()
        return Push(directions, tuple(dose * maximum for maximum in maxima), features, place, dose)


@dataclass(frozen=True)
class Said:
    """Answers, and the perplexity of each under the plain model."""

    texts: list[str]
    surprise: list[float]

    def part(self, number: int, length: int) -> "Said":
        place = slice(number * length, (number + 1) * length)
        return Said(self.texts[place], self.surprise[place])

    def judge(self, concept: Concept, plain: "Said") -> list[tuple[bool, bool]]:
        """(about, counts) of each answer, beside the plain model's to the same questions."""
        about = [bool(concept.words.search(text)) for text in self.texts]
        return [
            (is_about, is_about and own <= MOST_SURPRISE * other)
            for is_about, own, other in zip(about, self.surprise, plain.surprise, strict=True)
        ]


def choose_pushes(bench: Bench, concepts: list[Concept], questions: list[str]) -> dict[tuple[str, str], Push]:
    """The push of each kind towards each concept that counts most often on some questions."""
    jobs = [
        (concept, kind, push)
        for number, concept in enumerate(concepts)
        for kind, pushes in bench.pushes(concept, number).items()
        for push in pushes
    ]
    best: dict[tuple[str, str], tuple[int, Push]] = {}
    for (concept, kind, push), score in zip(jobs, counts_of(bench, jobs, questions), strict=True):
        if score > best.get((concept.name, kind), (-1, push))[0]:
            best[concept.name, kind] = (score, push)
    return {key: push for key, (_, push) in best.items()}


def counts_of(bench: Bench, jobs: list[tuple[Concept, str, Push]], questions: list[str]) -> list[int]:
    """In how many answers to some questions each push counts."""
    prompts = [bench.prompt(question) for question in questions]
    plain = bench.ask(prompts, [None] * len(prompts), prompts)
    every = prompts * len(jobs)
    said = bench.ask(every, [push for _, _, push in jobs for _ in questions], every)
    return [
        sum(counts for _, counts in said.part(number, len(questions)).judge(concept, plain))
        for number, (concept, _, _) in enumerate(jobs)
    ]


def prediction(bench: Bench, concepts: list[Concept], questions: list[str], n: int = 12) -> dict[str, Any]:
    """Medians over concepts of how detection and effect rank candidates beside how often their clamps count.

    The candidates of a concept are the n best by detection and the n best by effect; each is clamped on the question
    at 1 and at 2 maxima, and the better one counts.
    """
    jobs: list[tuple[Concept, str, Push]] = []
    for concept in concepts:
        assert concept.areas is not None
        by_effect = [each.features[0] for each in concept.effects["prompt"][:n]]
        chosen = dict.fromkeys([*np.argsort(-concept.areas)[:n].tolist(), *by_effect])
        jobs += [(concept, str(each), bench.clamp((each,), dose, "prompt")) for each in chosen for dose in (1.0, 2.0)]
    rates: dict[tuple[str, int], int] = {}
    for (concept, feature, _), count in zip(jobs, counts_of(bench, jobs, questions), strict=True):
        key = (concept.name, int(feature))
        rates[key] = max(rates.get(key, 0), count)
    return {"correlations": correlations(bench, concepts, rates), "rates": summary_of_rates(concepts, rates, n)}


def correlations(bench: Bench, concepts: list[Concept], rates: dict[tuple[str, int], int]) -> dict[str, float]:
    """Spearman's, within a concept, of rates with the area, the estimate and the effect; the median over concepts."""
    found: dict[str, list[float]] = {"auc": [], "estimate": [], "effect": []}
    for concept in concepts:
        own = [feature for name, feature in rates if name == concept.name]
        rate = [rates[concept.name, feature] for feature in own]
        if len(set(rate)) < 2:
            continue
        measured = {each.features[0]: each.chosen_on for each in concept.effects["prompt"]}
        assert concept.areas is not None
        values = {
            "auc": [float(concept.areas[feature]) for feature in own],
            "estimate": [float(concept.estimates["prompt"][feature]) for feature in own],
            "effect": [measured.get(feature, math.nan) for feature in own],
        }
        for name, value in values.items():
            known = [(v, r) for v, r in zip(value, rate, strict=True) if not math.isnan(v)]
            if len({r for _, r in known}) > 1:
                found[name].append(float(spearmanr(*zip(*known, strict=True)).statistic))
    return {name: round(float(np.median(values)), 3) for name, values in found.items() if values}


def summary_of_rates(concepts: list[Concept], rates: dict[tuple[str, int], int], n: int) -> dict[str, Any]:
    """The best rate among the n best by detection, and among the n best by effect, for each concept."""
    found = {}
    for concept in concepts:
        assert concept.areas is not None
        by_area = np.argsort(-concept.areas)[:n].tolist()
        by_effect = [each.features[0] for each in concept.effects["prompt"][:n]]
        found[concept.name] = {
            name: [rates[concept.name, feature] for feature in chosen]
            for name, chosen in (("by detection", by_area), ("by effect", by_effect))
        }
    return found


def main() -> None:
    chosen = arguments()
    tables = tomllib.loads((HERE / "steering.toml").read_text(encoding="utf-8"))
    on, judged = (tables["questions"][name] for name in ("chosen_on", "judged_on"))
    on, judged = on[: chosen.tune], judged[: chosen.questions]
    model = sonde.load_model(chosen.model, device=chosen.device, dtype="float32")
    bench = Bench(
        model, load_dictionary(chosen.dictionary, chosen.device), chosen.temperature, chosen.batch, chosen.seed
    )
    named = {name: tables["concepts"][name] for name in chosen.concepts or tables["concepts"]}
    if chosen.features:
        [(name, table)] = named.items()
        return judge_set(bench, Concept(name, words_of(table), []), tuple(chosen.features), on, judged)
    texts, concepts = read_texts(chosen.texts, named)
    choose_by_detection(model, bench.dictionary, texts, concepts)
    choose_by_effect(bench, texts, concepts, chosen.candidates)
    predicted = prediction(bench, concepts, on) if chosen.predict else {}
    best = choose_pushes(bench, concepts, on)

    prompts = [bench.prompt(question) for question in judged]
    plain = bench.ask(prompts, [None] * len(prompts), prompts)
    asked: list[tuple[Concept, str, list[list[int]], Push | None]] = []
    for concept in concepts:
        asked += [(concept, kind, prompts, best[concept.name, kind]) for kind in KINDS]
        order = f"You talk of nothing but {concept.name}, whatever you are asked."
        asked.append((concept, "told", [bench.prompt(question, order) for question in judged], None))
    said = bench.ask(
        [prompt for _, _, own, _ in asked for prompt in own],
        [push for _, _, _, push in asked for _ in judged],
        prompts * len(asked),
    )
    rows = report(asked, said, plain, judged, chosen.show)
    medians = {kind: float(np.median([row[kind]["counts"][0] for row in rows.values()])) for kind in (*KINDS, "told")}
    print(json.dumps({"medians": medians}))
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items()}
    write(
        __file__,
        {"settings": settings, "site": bench.dictionary.site, "medians": medians} | predicted | {"concepts": rows},
    )


def judge_set(bench: Bench, concept: Concept, features: tuple[int, ...], on: list[str], judged: list[str]) -> None:
    """A given set of features, clamped on the question at a dose that is chosen, beside as many drawn at random."""
    jobs = [(concept, "set", bench.clamp(features, dose, "prompt")) for dose in (0.8, 1.0, 1.2)]
    tuned = counts_of(bench, jobs, on)
    best = jobs[max(range(len(jobs)), key=tuned.__getitem__)][2]
    alive = (bench.dictionary.max_activation > 0).nonzero()[:, 0].cpu()
    generator = torch.Generator().manual_seed(bench.seed)
    some = tuple(alive[torch.randperm(len(alive), generator=generator)[: len(features)]].tolist())
    prompts = [bench.prompt(question) for question in judged]
    order = f"You talk of nothing but {concept.name}, whatever you are asked."
    asked: list[tuple[Concept, str, list[list[int]], Push | None]] = [
        (concept, "plain", prompts, None),
        (concept, "set", prompts, best),
        (concept, "random set", prompts, bench.clamp(some, best.dose, "prompt")),
        (concept, "told", [bench.prompt(question, order) for question in judged], None),
    ]
    by_name = Concept("name", re.compile(re.escape(concept.name.removesuffix(" Bridge")), re.IGNORECASE), [])
    rows: dict[str, Any] = {"tuned": tuned, "dose": best.dose, "features": features}
    plain: Said | None = None
    for _, kind, own, push in asked:
        said = bench.ask(own, [push] * len(own), prompts)
        plain = plain or said
        counts = sum(ok for _, ok in said.judge(concept, plain))
        names = sum(is_named for is_named, _ in said.judge(by_name, plain))
        rows[kind] = {"counts": wilson(counts, len(own)), "names": wilson(names, len(own))}
        print(json.dumps({kind: rows[kind]}), flush=True)
    write(__file__, {"concept": concept.name, "site": bench.dictionary.site} | rows)


def facts_of(concept: Concept, plain: Said) -> dict[str, Any]:
    """What is known of a concept before anything is turned."""
    assert concept.areas is not None
    areas = [round(float(concept.areas[concept.feature]), 3), round(concept.judged_auc, 3)]
    about = sum(is_about for is_about, _ in plain.judge(concept, plain)) / len(plain.texts)
    effects = {
        place: {"single": round(found[0].effect, 3), "set": [round(found.set.effect, 3), found.set.features]}
        for place, found in concept.effects.items()
    }
    return {"feature": concept.feature, "auc": areas, "effects": effects, "plain": {"about": about}}


def report(
    asked: list[tuple[Concept, str, list[list[int]], Push | None]],
    said: Said,
    plain: Said,
    questions: list[str],
    show: Path | None,
) -> dict[str, dict[str, Any]]:
    """The figures of each concept, printed; the answers go to a file."""
    rows: dict[str, dict[str, Any]] = {}
    shown = []
    for number, (concept, kind, _, push) in enumerate(asked):
        if concept.name not in rows:
            rows[concept.name] = facts_of(concept, plain)
        part = said.part(number, len(questions))
        judgement = part.judge(concept, plain)
        about, counts = (sum(values) for values in zip(*judgement, strict=True))
        figures = {"about": about / len(questions), "counts": [round(v, 3) for v in wilson(counts, len(questions))]}
        if push is not None:
            figures |= {"dose": push.dose, "place": push.place} | ({"features": push.features} if push.features else {})
        rows[concept.name][kind] = figures
        for question, text, perplexity, (_, ok) in zip(questions, part.texts, part.surprise, judgement, strict=True):
            row = {"concept": concept.name, "by": kind, "question": question, "answer": text}
            shown.append(row | {"perplexity": round(perplexity, 2), "counts": ok})
    for name, figures in rows.items():
        print(json.dumps({name: figures}), flush=True)
    if show:
        show.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shown), encoding="utf-8")
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dictionary", type=Path, required=True)
    parser.add_argument("--texts", type=Path, help="what tools/smollm2/make.py let the model write")
    parser.add_argument("--features", type=int, nargs="*", help="judge this set towards the one of --concepts alone")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--concepts", nargs="*", default=None)
    parser.add_argument("--questions", type=int, default=100, help="questions to judge on")
    parser.add_argument("--tune", type=int, default=20, help="questions to choose dose and place on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=30, help="features whose clamps are tried on texts")
    parser.add_argument("--predict", action="store_true", help="also how well detection and effect predict answers")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=Path, help="write the answers here, as .jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
