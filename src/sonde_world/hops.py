"""Circuits against the truth: two-hop facts of the built-in world, whose middle is known.

A landmark is in a city, and the city in a country: asked for the landmark's country, a model that goes through the city
has features of the city at work, though the prompt does not name it. Here

1. the model answers questions of two hops; those that it gets right are cut before the first token of the answer;
2. of each concept that can be a middle, the features are chosen that tell it from others of its kind on other text;
3. each prompt is traced and pruned: does the graph hold features of the right middle, and of how many wrong ones?
   Beside it, as many random features that fire about as often;
4. features of the middle are ablated where the graph has them, and exchanged for those of another prompt's middle:
   how often does the answer go, and how often does the other answer come? Beside it, other features of the same graphs.
"""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups
from sonde.analysis.auc import auc_of_features
from sonde.analysis.detection import SparseActivations
from sonde.circuits.graph import Pruned, Scores
from sonde.circuits.interventions import validate_graph
from sonde.circuits.pool import FEWEST_VALIDATED, Feature, wilson
from sonde.circuits.replacement import Replacement, as_replacement
from sonde.circuits.trace import trace_tokens
from sonde.circuits.trace_settings import TraceSettings
from sonde.dictionaries.reading import Reading
from sonde.features.stream import stream_each
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter, Silent, default_reporter
from sonde.settings import Count
from sonde_world import facts
from sonde_world.asking import go_on_ids, question_of
from sonde_world.facts import LANGUAGES, Fact, told
from sonde_world.generate import Document, documents
from sonde_world.truth import token_truth

SEED, TOKENS, FEWEST = 3, 120_000, 20
"""documents on which features are chosen, tokens of them, and tokens on which a concept must be present"""
MIDDLES = {"landmark": ("city",), "city": ("country",), "company": ("city",), "person": ("team", "company")}
"""kind of the subject -> the relations by which a second hop can begin"""
TELLS_APART, PER_LAYER, ALIKE = 0.9, 3, 50
"""least area by which a feature tells a concept from others of its kind; features of a layer; and those that fire
about as often, of which random ones are drawn"""
ANSWER_TOKENS, RANDOM_DRAWS = 24, 10
DOSES = (1.0, 2.0, 4.0)
Node = tuple[int, int, int]
"""layer, position and number of a feature"""
Sets = dict[str, set[Feature]]
"""concept -> its features"""


@dataclass(frozen=True)
class Prompt:
    """A question of two hops up to the first token of its answer."""

    fact: Fact
    middle: str
    language: int
    ids: tuple[int, ...]
    answer: int
    """the token that the model says next, which is the right one"""


# ---------------------------------------------------------------- prompts


def middle_of(fact: Fact) -> str:
    """The concept by way of which a fact of two hops follows."""
    own = facts.FACTS[fact.subject]
    return next(own[relation].value for relation in MIDDLES[fact.subject.split("/")[0]] if relation in own)


def make_prompts(model: Model, n: int, middles: Collection[str]) -> list[Prompt]:
    """Questions that the model answers rightly, in all languages, as many of each relation as can be had.

    Args:
        middles: concepts one of which a fact has to follow by way of.
    """
    two = [fact for of in facts.FACTS.values() for fact in of.values() if fact.hops == 2 and middle_of(fact) in middles]
    asked = [(fact, language) for fact in two for language in range(len(LANGUAGES))]
    random.Random(SEED).shuffle(asked)
    by_relation: dict[tuple[str, str], list[Prompt]] = {}
    for first in range(0, len(asked), 128):
        part = asked[first : first + 128]
        for prompt in _answered(model, part):
            kind = (prompt.fact.subject.split("/")[0], prompt.fact.relation)
            by_relation.setdefault(kind, []).append(prompt)
        if sum(map(len, by_relation.values())) >= 3 * n:
            break
    found: list[Prompt] = []
    while len(found) < n and any(by_relation.values()):
        found += [rows.pop(0) for rows in by_relation.values() if rows]
    return found[:n]


def _answered(model: Model, asked: Sequence[tuple[Fact, int]]) -> Iterator[Prompt]:
    tokenizer = model.require_tokenizer()
    chats = [[{"role": "user", "content": question_of(*one)}] for one in asked]
    starts = [model.chat_tokens(chat).ids[0].tolist() for chat in chats]
    for (fact, language), start, said in zip(asked, starts, go_on_ids(starts, model, ANSWER_TOKENS), strict=True):
        place = tokenizer.decode(said).find(facts.value_name(fact, language))
        ends = [len(tokenizer.decode(said[:count])) for count in range(len(said) + 1)]
        cut = max((count for count, end in enumerate(ends) if end <= max(place - 1, 0)), default=0)
        before = tokenizer.decode([*start, *said[:cut]])
        middle = middle_of(fact)
        if place < 0 or cut == len(said) or facts.noun(middle).names[language] in before:
            continue
        yield Prompt(fact, middle, language, (*start, *said[:cut]), said[cut])


# ---------------------------------------------------------------- features of concepts


@dataclass(frozen=True)
class Found:
    """The features of each layer that stand for concepts, and how often each fires."""

    sets: Sets
    counts: list[np.ndarray]
    """of each layer [feature], tokens on which it fires"""

    def random(self, seed: int) -> Sets:
        """As many other features of the same layers, each of which fires about as often as the one it stands for."""
        chance, orders = random.Random(seed), [counts.argsort(kind="stable") for counts in self.counts]
        places = [order.argsort(kind="stable") for order in orders]
        result: Sets = {}
        for concept, own in sorted(self.sets.items()):
            result[concept] = set()
            for layer, feature in sorted(own):
                at, order = int(places[layer][feature]), orders[layer]
                low = min(max(0, at - ALIKE // 2), len(order) - ALIKE)
                near = [int(other) for other in order[low : low + ALIKE] if (layer, int(other)) not in own]
                result[concept].add((layer, chance.choice(near)))
        return result


def find_features(model: Model, replacement: Replacement, tokens: int, reporter: Reporter) -> Found:
    """For each concept that can be a middle, the features that tell it best from others of its kind."""
    chosen: list[Document] = []
    size = 0
    for document in documents(1 << 30, SEED):
        chosen.append(document)
        size += len(document.text) // 3
        if size >= tokens:
            break
    fires, spans = _read(model, replacement, [document.text for document in chosen], reporter)
    truth = token_truth(zip([document.spans for document in chosen], spans, strict=True))
    counts = truth.present.counts
    kinds = {relation for relations in MIDDLES.values() for relation in relations}
    sets: Sets = {}
    for kind in sorted(kinds):
        here = truth.tokens_of(f"{kind}/*")
        present = truth.present.among(here)
        areas = [np.nan_to_num(auc_of_features(layer.among(here), present)) for layer in fires]
        for place, concept in enumerate(truth.concepts):
            if concept.startswith(f"{kind}/") and concept != f"{kind}/*" and counts[place] >= FEWEST:
                sets[concept] = {
                    (layer, int(feature))
                    for layer, of_layer in enumerate(areas)
                    for feature in np.argsort(-of_layer[:, place], kind="stable")[:PER_LAYER]
                    if of_layer[feature, place] >= TELLS_APART
                }
    counted = [np.bincount(layer.feature, minlength=layer.n_features) for layer in fires]
    return Found({concept: own for concept, own in sets.items() if own}, counted)


def _read(
    model: Model, replacement: Replacement, texts: list[str], reporter: Reporter
) -> tuple[list[SparseActivations], list[list[tuple[int, int]]]]:
    """What fires in each layer on every token of some texts, and where their tokens are."""
    readings, cutter = [Reading(dictionary, model) for dictionary in replacement.layers], Cutter(model)
    tokenized = list(cutter.tokenize(texts))
    first = np.cumsum([0, *(len(one.spans) for one in tokenized)])
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in readings]
    with reporter.start("read", int(first[-1]), "tokens") as progress:
        for reads in stream_each(readings, groups(iter(tokenized), cutter)):
            for own, read in zip(parts, reads, strict=True):
                row, feature, value = read.fires
                own.append((first[read.batch.document[row]] + read.batch.position[row], feature, value))
            progress.advance(reads[0].n_rows)
    fires = []
    for own, dictionary in zip(parts, replacement.layers, strict=True):
        token, feature, value = (np.concatenate(column) for column in zip(*own, strict=True))
        order = np.argsort(token, kind="stable")
        fires.append(
            SparseActivations(token[order], feature[order], value[order], int(first[-1]), dictionary.n_features)
        )
    return fires, [list(one.spans) for one in tokenized]


# ---------------------------------------------------------------- graphs


@dataclass(frozen=True)
class Traced:
    """A prompt, and what is kept of its graph: a graph's edges would fill the memory."""

    prompt: Prompt
    features: list[Node]
    """of each node: layer, position and number"""
    activations: list[float]
    influence: list[float]
    kept: list[int]
    """nodes of the pruned graph"""
    scores: tuple[Scores, Scores]
    """before and after pruning"""

    @classmethod
    def of(cls, prompt: Prompt, pruned: Pruned) -> "Traced":
        graph = pruned.graph
        features = [(layer, position, feature) for layer, position, feature in graph.features.tolist()]
        influence = graph.influence[: graph.n_features].tolist()
        scores = (graph.scores, pruned.scores)
        return cls(prompt, features, graph.activations.tolist(), influence, pruned.features, scores)

    def nodes_of(self, features: set[Feature]) -> list[int]:
        """Nodes of the pruned graph, at any token, of some features."""
        return [node for node in self.kept if (self.features[node][0], self.features[node][2]) in features]

    def others(self, nodes: Sequence[int], chance: random.Random, avoid: set[Feature]) -> list[int]:
        """As many other nodes of the pruned graph, each of the same layer as far as there are any."""
        avoided = set(self.nodes_of(avoid))
        chosen: list[int] = []
        for node in nodes:
            left = [one for one in self.kept if one not in avoided and one not in chosen]
            alike = [one for one in left if self.features[one][0] == self.features[node][0]] or left
            chosen += [chance.choice(alike)] if alike else []
        return chosen

    def before_last(self) -> list[int]:
        """Nodes of the pruned graph before the last token."""
        return [node for node in self.kept if self.features[node][1] < len(self.prompt.ids) - 1]


def hold(traced: Sequence[Traced], draws: Sequence[Sets]) -> dict[str, Any]:
    """How many graphs hold features of the right middle, and how many of the middles that they hold are right.

    Args:
        draws: the sets of features, or several draws of random ones, over which it is counted.
    """
    right = wrong = first = 0
    for sets in draws:
        for one in traced:
            kind = one.prompt.middle.split("/")[0]
            found = {concept: one.nodes_of(own) for concept, own in sets.items() if concept.split("/")[0] == kind}
            weight = {concept: sum(one.influence[node] for node in nodes) for concept, nodes in found.items() if nodes}
            right += one.prompt.middle in weight
            wrong += len(weight) - (one.prompt.middle in weight)
            first += bool(weight) and max(weight, key=lambda concept: weight[concept]) == one.prompt.middle
    n = len(traced) * len(draws)
    return {
        "prompts": len(traced),
        "recall": right / max(1, n),
        "interval": wilson(right, n),
        "precision": right / max(1, right + wrong),
        "first": first / max(1, n),
        "first_interval": wilson(first, n),
    }


# ---------------------------------------------------------------- causes


def _added(
    replacement: Replacement, length: int, parts: Sequence[tuple[int, int, int, float]]
) -> dict[int, torch.Tensor]:
    """Layer -> what (layer, position, feature, change of activation) add to its MLP's output."""
    found: dict[int, torch.Tensor] = {}
    for layer, position, feature, change in parts:
        rows = replacement.layers[layer].W_dec.detach()
        found.setdefault(layer, rows.new_zeros(length, rows.shape[1]))[position] += change * rows[feature]
    return found


def _parts(one: Traced, nodes: Sequence[int], factor: float, shift: int = 0) -> list[tuple[int, int, int, float]]:
    found = []
    for node in nodes:
        layer, position, feature = one.features[node]
        found.append((layer, position + shift, feature, factor * one.activations[node]))
    return found


def _says(model: Model, replacement: Replacement, one: Traced, parts: Sequence[tuple[int, int, int, float]]) -> int:
    """The model's first choice when parts are added at their layers, and all else runs freely."""
    tokens = model.pad([list(one.prompt.ids)])
    added = _added(replacement, len(one.prompt.ids), parts)
    with model.edited(*(_Plus(f"layers.{layer}.mlp", value) for layer, value in added.items())):
        return int(model.logits(tokens)[0, -1].argmax())


@dataclass(frozen=True, eq=False)
class _Plus:
    """Adds a vector at each position."""

    site: str
    value: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.value.to(x)


def ablations(model: Model, replacement: Replacement, traced: Sequence[Traced], sets: Sets) -> dict[str, Any]:
    """How often the answer goes without the features of the middle, and without as many others of the graph."""
    chance, gone, control, n = random.Random(SEED), 0, 0, 0
    for one in traced:
        nodes = one.nodes_of(sets.get(one.prompt.middle, set()))
        if not nodes:
            continue
        n += 1
        others = one.others(nodes, chance, sets[one.prompt.middle])
        gone += _says(model, replacement, one, _parts(one, nodes, -1)) != one.prompt.answer
        control += _says(model, replacement, one, _parts(one, others, -1)) != one.prompt.answer
    return {"prompts": n} | {
        name: {"share": count / max(1, n), "interval": wilson(count, n)}
        for name, count in (("middle", gone), ("others", control))
    }


def pairs(traced: Sequence[Traced], sets: Sets) -> Iterator[tuple[Traced, Traced]]:
    """Prompts, each with the next of the same relation and language that has another middle and another answer."""
    for number, one in enumerate(traced):
        for other in [*traced[number + 1 :], *traced[:number]]:
            same = (one.prompt.fact.relation, one.prompt.language, one.prompt.fact.subject.split("/")[0])
            if same != (other.prompt.fact.relation, other.prompt.language, other.prompt.fact.subject.split("/")[0]):
                continue
            differs = one.prompt.answer != other.prompt.answer and one.prompt.middle != other.prompt.middle
            if differs and all(each.nodes_of(sets.get(each.prompt.middle, set())) for each in (one, other)):
                yield one, other
                break


def swaps(model: Model, replacement: Replacement, traced: Sequence[Traced], sets: Sets) -> dict[str, Any]:
    """How often the other answer comes when the middle's features are exchanged for another's.

    Positions are counted from the end, where prompts of one relation and language have the same words. The doses
    multiply what is put in; all are shown. Beside it as many other features of the two graphs, and as the ceiling all
    features of both pruned graphs before the last token.
    """
    chance = random.Random(SEED)
    came: dict[str, list[bool]] = {}
    for one, other in pairs(traced, sets):
        shift = len(one.prompt.ids) - len(other.prompt.ids)
        out, into = (each.nodes_of(sets[each.prompt.middle]) for each in (one, other))
        ways = {"middle": (out, into)}
        avoid = sets[one.prompt.middle] | sets[other.prompt.middle]
        ways["others"] = one.others(out, chance, avoid), other.others(into, chance, avoid)
        ways["all features"] = one.before_last(), other.before_last()
        for name, (gone, put) in ways.items():
            for dose in DOSES if name != "all features" else (1.0,):
                parts = _parts(one, gone, -1) + [
                    part for part in _parts(other, put, dose, shift) if 0 <= part[1] < len(one.prompt.ids)
                ]
                said = _says(model, replacement, one, parts)
                came.setdefault(f"{name}, {dose:g}x", []).append(said == other.prompt.answer)
    return {
        name: {"pairs": len(rows), "share": sum(rows) / len(rows), "interval": wilson(sum(rows), len(rows))}
        for name, rows in came.items()
    }


# ---------------------------------------------------------------- the whole


def hops(
    replacement: Replacement | str | Path,
    *,
    prompts: int = 120,
    tokens: int = TOKENS,
    budget: int = 1500,
    model: Model | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Two-hop facts traced in the built-in model, against the truth.

    Args:
        replacement: of the built-in model's MLPs.
        prompts: how many questions.
        tokens: of text on which features of concepts are chosen.
        budget: features that become nodes of a graph.

    Raises ArtifactMismatchError for a replacement of another model.
    """
    loaded, reporter = as_replacement(replacement, "cpu"), reporter or default_reporter()
    reader = model or load_model("world", device="cpu")
    loaded.check_fits(reader)
    found = find_features(reader, loaded, tokens, reporter)
    asked = make_prompts(reader, prompts, found.sets)
    settings, traced, checks = TraceSettings(budget=Count(budget)), [], []
    with reporter.start("trace", len(asked), "prompts") as progress:
        for prompt in asked:
            graph = trace_tokens(reader, loaded, reader.pad([list(prompt.ids)]), settings, Silent())
            pruned = graph.pruned()
            traced.append(Traced.of(prompt, pruned))
            if len(pruned.features) >= FEWEST_VALIDATED:
                checks.append(validate_graph(reader, loaded, graph, pruned.features))
            progress.advance(1)
    with reporter.start("change", 2, "experiments") as progress:
        ablated = ablations(reader, loaded, traced, found.sets)
        progress.advance(1)
        swapped = swaps(reader, loaded, traced, found.sets)
        progress.advance(1)
    untold = [one for one in traced if not told(one.prompt.fact.subject, one.prompt.fact.relation, one.prompt.language)]
    return {
        "prompts": len(traced),
        "middles": len(found.sets),
        "languages": {LANGUAGES[n]: sum(one.prompt.language == n for one in traced) for n in range(4)},
        "relations": _by_relation(traced, found.sets),
        "held": hold(traced, [found.sets]),
        "held, random features": hold(traced, [found.random(seed) for seed in range(RANDOM_DRAWS)]),
        "held, never told in the language": hold(untold, [found.sets]),
        "ablated": ablated,
        "swapped": swapped,
        "scores": _means(traced),
        "validation": {
            name: float(np.median([getattr(one, name) for one in checks]))
            for name in ("influence", "activation", "direct", "logit", "sign")
        },
    }


def _by_relation(traced: Sequence[Traced], sets: Sets) -> dict[str, Any]:
    groups_of: dict[str, list[Traced]] = {}
    for one in traced:
        kind, middle = one.prompt.fact.subject.split("/")[0], one.prompt.middle.split("/")[0]
        groups_of.setdefault(f"{kind} -> {middle} -> {one.prompt.fact.relation}", []).append(one)
    return {name: hold(rows, [sets]) for name, rows in groups_of.items()}


def _means(traced: Sequence[Traced]) -> dict[str, float]:
    """Mean scores of the graphs, before and after pruning, and what is left."""
    columns: dict[str, list[float]] = {"features": [len(one.features) for one in traced]}
    columns["features, pruned"] = [len(one.kept) for one in traced]
    for number, when in enumerate(("", ", pruned")):
        for name in ("replacement", "completeness", "completeness_all"):
            columns[name + when] = [getattr(one.scores[number], name) for one in traced]
    return {name: float(np.mean(values)) for name, values in columns.items()}


def format_hops(found: dict[str, Any]) -> str:
    """The result as text for a terminal."""
    lines = [f"{found['prompts']} questions of two hops that the model answers rightly; {found['middles']} middles", ""]
    lines.append(f"{'graphs that hold the middle':<50} share   interval         precision  strongest, interval")
    rows = {name: found[name] for name in found if name.startswith("held")} | found["relations"]
    for name, row in rows.items():
        cells = [f"{name} ({row['prompts']})".ljust(48), f"{row['recall']:6.1%}", _interval(row["interval"]).ljust(17)]
        cells += [f"{row['precision']:6.1%}".ljust(9), f"{row['first']:6.1%}", _interval(row["first_interval"])]
        lines.append("  " + "  ".join(cells))
    lines.append(f"answers that go when features are ablated ({found['ablated']['prompts']} prompts)")
    for name in ("middle", "others"):
        lines.append(_share(name, found["ablated"][name]))
    lines.append("other answers that come when features are exchanged")
    lines += [_share(f"{name} ({row['pairs']})", row) for name, row in found["swapped"].items()]
    lines.append("scores: " + ", ".join(f"{name} {value:.3g}" for name, value in found["scores"].items()))
    checks = found["validation"]
    shown = ", ".join(f"{name} {value:.3f}" for name, value in checks.items())
    lines.append(f"rank correlation with ablation, median: {shown}")
    return "\n".join(lines)


def _share(name: str, row: dict[str, Any]) -> str:
    return f"  {name:<48}  {row['share']:6.1%}  {_interval(row['interval'])}"


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"
