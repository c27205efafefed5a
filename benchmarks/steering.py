"""Steering a real model towards concepts, by features that detection alone chose, beside controls.

    python benchmarks/steering.py --dictionary build/topk-10 --texts build/text/chat.jsonl --device cuda

For each concept of steering.toml: the feature whose mean activation on a text tells the concept's texts from others
best on one half of the texts (AUC; the other half is reported). Its dose and place (all tokens, or the question's) are
chosen on 20 neutral questions and judged on 100 others, under temperature. An answer is *about* the concept where it
says one of its words; it *counts* where, besides, its perplexity under the plain model is at most five times that of
the plain model's own answer. Beside it: the difference of the texts' means, and a random direction, both as long
as what the feature adds, with their own best dose and place; the model told so in its prompt; and the plain model.
Intervals are Wilson's, 95 %. Appends a line to benchmarks/results/steering.jsonl.
"""

import argparse
import json
import math
import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rounds import write
from torch import Tensor

import sonde
from sonde.activations.contexts import Cutter, groups
from sonde.analysis.auc import auc, auc_of_columns
from sonde.analysis.detection import Presences
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


@dataclass(frozen=True)
class Push:
    """What is done to one answer: move what passes the site along a direction."""

    direction: Tensor
    """[width], of length one"""
    target: float
    """what is added; of a feature, what its activation becomes"""
    feature: int = -1
    """whose activation is taken off first; -1 for a direction that is only added"""
    place: str = "all"


class Pushes:
    """The pushes of a batch as one edit: row i of what passes the site is moved by push i, of those at one place."""

    def __init__(self, dictionary: Dictionary, pushes: Sequence[Push | None], place: str) -> None:
        self.site, self.where, self.dictionary = dictionary.site, place, dictionary
        kept = [(row, push) for row, push in enumerate(pushes) if push is not None and push.place == place]
        device = dictionary.W_dec.device
        self.row = torch.tensor([row for row, _ in kept], dtype=torch.long, device=device)
        self.feature = torch.tensor([push.feature for _, push in kept], device=device)
        self.target = torch.tensor([push.target for _, push in kept], device=device)
        self.direction = torch.stack([push.direction for _, push in kept]).to(device) if kept else None

    def __call__(self, x: Tensor) -> Tensor:
        if self.direction is None:
            return x
        wide = x[self.row].float()
        shift = self.target[:, None].expand(wide.shape[:2]).clone()
        own = self.feature >= 0
        if own.any():
            activation = self.dictionary.encode(wide[own].flatten(0, 1)).view(int(own.sum()), wide.shape[1], -1)
            shift[own] -= activation.gather(2, self.feature[own][:, None, None].expand(-1, wide.shape[1], 1))[..., 0]
        limit = self.dictionary.info.norm_limits.get(self.site, math.inf)
        shift *= wide.norm(dim=-1) <= limit
        changed = x.clone()
        changed[self.row] = (wide + shift[..., None] * self.direction[:, None]).to(x.dtype)
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
    feature: int = -1
    chosen_auc: float = 0.0
    judged_auc: float = 0.0
    mean: Tensor | None = None
    """[width] mean of its texts less that of others, of length one"""


def read_texts(file: Path, concepts: dict[str, Any], seed: int = 0) -> tuple[list[str], list[Concept]]:
    """Texts of the concepts and of others, and which are of which concept."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    random.Random(seed).shuffle(rows)
    texts: list[str] = []
    found, taken = [], set()
    for name, concept in concepts.items():
        own = [row for row in rows if row["topic"] in concept["topics"]][:TEXTS]
        words = re.compile(r"\b(" + "|".join(map(re.escape, concept["words"])) + r")\b", re.IGNORECASE)
        found.append(Concept(name, words, list(range(len(texts), len(texts) + len(own)))))
        texts += [row["text"] for row in own]
        taken |= set(concept["topics"])
    texts += [row["text"] for row in rows if row["topic"] not in taken][:OTHERS]
    return texts, found


@torch.no_grad()
def choose_features(model: Model, dictionary: Dictionary, texts: list[str], concepts: list[Concept]) -> float:
    """Set each concept's feature, its areas and its mean; returns the mean norm of the vectors."""
    cutter = Cutter(model)
    features = torch.zeros(len(texts), dictionary.n_features)
    vectors, lengths = torch.zeros(len(texts), dictionary.d_in), torch.zeros(len(texts))
    for read in stream(Reading(dictionary, model), groups(cutter.tokenize(texts), cutter)):
        document = torch.from_numpy(read.batch.document).to(read.x.device)
        row, feature, value = read.active
        flat = document[row] * dictionary.n_features + feature
        features.view(-1).index_add_(0, flat.cpu(), value.float().cpu())
        vectors.index_add_(0, document.cpu(), read.x.float().cpu())
        lengths += torch.bincount(document.cpu(), minlength=len(texts))
    features /= lengths.clamp_min(1)[:, None]
    vectors /= lengths.clamp_min(1)[:, None]
    half = np.random.default_rng(0).permutation(len(texts)) % 2 == 0
    values = features.numpy()
    for concept in concepts:
        has = np.zeros(len(texts), dtype=bool)
        has[concept.texts] = True
        areas = np.nan_to_num(auc_of_columns(values[half], Presences.of(has[half][:, None]))[:, 0], nan=0.5)
        concept.feature = int(areas.argmax())
        concept.chosen_auc = float(areas[concept.feature])
        concept.judged_auc = float(auc(values[has & ~half, concept.feature], values[~has & ~half, concept.feature]))
        with_it = torch.from_numpy(has & half)
        direction = vectors[with_it].mean(dim=0) - vectors[torch.from_numpy(~has & half)].mean(dim=0)
        concept.mean = direction / direction.norm()
    return float(vectors.norm(dim=1).mean())


# ---------------------------------------------------------------- judging


def wilson(successes: int, n: int) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson 1927)."""
    z, p = 1.96, successes / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


KINDS = ("feature", "means", "random")


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

    def pushes(self, concept: Concept, direction: Tensor) -> dict[str, list[Push]]:
        """Of each kind, the pushes towards a concept at each dose and place; `direction` is the random one."""
        assert concept.mean is not None
        own = self.dictionary.W_dec[concept.feature].detach().cpu()
        kinds = dict(zip(KINDS, ((own, concept.feature), (concept.mean, -1), (direction, -1)), strict=True))
        top = self.top(concept)
        return {
            kind: [Push(towards, dose * top, feature, place) for place in PLACES for dose in DOSES]
            for kind, (towards, feature) in kinds.items()
        }

    def top(self, concept: Concept) -> float:
        return float(self.dictionary.max_activation[concept.feature])


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
    generator = torch.Generator().manual_seed(bench.seed)
    randoms = torch.nn.functional.normalize(torch.randn(len(concepts), bench.dictionary.d_in, generator=generator))
    jobs = [
        (concept, kind, push)
        for concept, direction in zip(concepts, randoms, strict=True)
        for kind, pushes in bench.pushes(concept, direction).items()
        for push in pushes
    ]
    prompts = [bench.prompt(question) for question in questions]
    plain = bench.ask(prompts, [None] * len(prompts), prompts)
    every = prompts * len(jobs)
    said = bench.ask(every, [push for _, _, push in jobs for _ in questions], every)
    best: dict[tuple[str, str], tuple[int, Push]] = {}
    for number, (concept, kind, push) in enumerate(jobs):
        score = sum(counts for _, counts in said.part(number, len(questions)).judge(concept, plain))
        if score > best.get((concept.name, kind), (-1, push))[0]:
            best[concept.name, kind] = (score, push)
    return {key: push for key, (_, push) in best.items()}


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
    texts, concepts = read_texts(chosen.texts, named)
    choose_features(model, bench.dictionary, texts, concepts)
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
    rows = report(bench, asked, said, plain, judged, chosen.show)
    medians = {kind: float(np.median([row[kind]["counts"][0] for row in rows.values()])) for kind in (*KINDS, "told")}
    print(json.dumps({"medians": medians}))
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items()}
    write(__file__, {"settings": settings, "site": bench.dictionary.site, "medians": medians, "concepts": rows})


def report(
    bench: Bench,
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
            areas = [round(concept.chosen_auc, 3), round(concept.judged_auc, 3)]
            about = sum(is_about for is_about, _ in plain.judge(concept, plain)) / len(questions)
            rows[concept.name] = {"feature": concept.feature, "auc": areas, "plain": {"about": about}}
        part = said.part(number, len(questions))
        judgement = part.judge(concept, plain)
        about, counts = (sum(values) for values in zip(*judgement, strict=True))
        figures = {"about": about / len(questions), "counts": [round(v, 3) for v in wilson(counts, len(questions))]}
        if push is not None:
            figures |= {"dose": round(push.target / bench.top(concept), 2), "place": push.place}
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
    parser.add_argument("--texts", type=Path, required=True, help="what tools/smollm2/make.py let the model write")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--concepts", nargs="*", default=None)
    parser.add_argument("--questions", type=int, default=100, help="questions to judge on")
    parser.add_argument("--tune", type=int, default=20, help="questions to choose dose and place on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=Path, help="write the answers here, as .jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
