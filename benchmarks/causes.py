"""Which features make answers that take several facts: on the world's chains, and on a real model.

    python benchmarks/causes.py world DICTIONARY... [--prompts 240]
    python benchmarks/causes.py facts [DICTIONARY]
    python benchmarks/causes.py speed

`world`: prompts are the model's own right answers to questions of several hops, up to the answer's value, whose first
token is held against that of another value of the same relation. The truth says which concepts lie on the way (team,
city, state, ...). The features of a concept are the three that detect it best (area under the ROC curve at least 0.9)
on other documents. Counted is how often one of them is among the ten pairs with the largest effects, beside as many
features at random of those that fire on the prompt, and the features of another concept of the same kind.

`swap`: where a concept's best features fire in such a prompt (on all tokens where they fire nowhere) they are clamped
to zero, and another concept's best one is set to a multiple of its maximum. Counted is how often the other concept's
value becomes likelier than the own one; the control sets a random feature instead.

`facts`: capitals that the model answers rightly.

`speed`: 500 ablations on a prompt of 32 tokens, and a sweep of the stream's 12 layers by 16 positions beside as many
whole passes in the same batches, on a random model of GPT-2 small's size.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rounds import write, write_gpt2

import sonde
from sonde.analysis.auc import auc_of_features
from sonde.circuits.agreement import interval_of
from sonde.circuits.causes import Attribution
from sonde.circuits.passes import Run, Shift, copies
from sonde.circuits.patched import Patched
from sonde.dictionaries.topk import TopK
from sonde.models.model import Model
from sonde.models.token_text import TokenTexts
from sonde_world import facts
from sonde_world.asking import ask_many, question_of, says
from sonde_world.bench_data import Bench, prepare
from sonde_world.facts import FACTS, Fact

FEATURES_OF, LEAST_AUC = 3, 0.9
DOSES = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Chain:
    """A fact of several hops as a prompt."""

    fact: Fact
    way: dict[str, str]
    """role -> concept: the subject, what lies between, and the value"""
    row: dict[str, str]


def between(fact: Fact) -> dict[str, str]:
    """The concepts between the subject and the value of a fact, by role."""

    def value(subject: str, relation: str) -> str:
        return FACTS[subject][relation].value

    kind = fact.subject.split("/")[0]
    way: dict[str, str] = {}
    place = fact.subject
    if kind == "person":
        way["employer"] = place = next(value(place, role) for role in ("team", "company") if role in FACTS[place])
    if fact.relation in ("product",):
        return way
    if kind in ("person", "company", "landmark"):
        way["city"] = place = value(place, "city")
    if fact.relation == "capital":
        way["state"] = value(place, "state")
    elif fact.relation in ("language", "currency"):
        way["country"] = value(place, "country")
    return {role: concept for role, concept in way.items() if concept != fact.value}


def chains(model: Model, most: int, seed: int = 0) -> list[Chain]:
    """Prompts of facts of several hops that the model answers rightly, in a random order."""
    found = [fact for of in FACTS.values() for fact in of.values() if fact.hops > 1 and between(fact)]
    random.Random(seed).shuffle(found)
    values = defaultdict(list)
    for fact in found:
        values[fact.relation].append(facts.value_name(fact, 0))
    asked = found[: 2 * most]
    answers = ask_many([question_of(fact, 0) for fact in asked], model)
    made = []
    for fact, answer in zip(asked, answers, strict=True):
        name = facts.value_name(fact, 0).removeprefix("the ")
        if not says(fact, 0, answer) or f" {name}" not in answer:
            continue
        prompt = f"Human: {question_of(fact, 0)}\nAssistant: {answer[: answer.index(f' {name}')]}"
        target = next_token(model, prompt, name)
        rivals = (next_token(model, prompt, other.removeprefix("the ")) for other in values[fact.relation])
        against = next((rival for rival in rivals if rival != target), None)
        if against is not None:
            way = {"subject": fact.subject} | between(fact) | {"value": fact.value}
            made.append(Chain(fact, way, {"prompt": prompt, "target": target, "against": against}))
    print(f"{len(made)} of {len(asked)} facts of several hops are answered rightly and can be asked", flush=True)
    return made[:most]


def next_token(model: Model, prompt: str, word: str) -> str:
    """The first token of a word after a prompt."""
    whole = model.tokenizer(f"{prompt} {word}")["input_ids"]
    return TokenTexts(model.tokenizer).text(whole[len(model.tokenizer(prompt)["input_ids"])])


def detecting(bench: Bench, concepts: set[str]) -> dict[str, list[int]]:
    """Of each concept that has some, the features that detect it best, chosen on one half of the documents."""
    areas = np.nan_to_num(auc_of_features(bench.choose.fires, bench.choose.present))
    judged = np.nan_to_num(auc_of_features(bench.judge.fires, bench.judge.present))
    found = {}
    for concept in concepts & set(bench.concepts):
        place = bench.place(concept)
        best = np.argsort(-areas[:, place], kind="stable")[:FEATURES_OF]
        good = [int(feature) for feature in best if judged[feature, place] >= LEAST_AUC]
        if good:
            found[concept] = good
    return found


def hops(found: list[Attribution], chosen: list[Chain], features: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Of each role, how often a feature of its concept is among the ten largest effects, beside its controls."""
    chance = random.Random(0)
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each, chain in zip(found, chosen, strict=True):
        top, active = set(each.top_features()), list(set(zip(each.source.tolist(), each.feature.tolist(), strict=True)))
        for role, concept in chain.way.items():
            own = {(source, feature) for source, of in enumerate(features) for feature in of.get(concept, ())}
            if not own:
                continue
            kind = concept.split("/")[0]
            known = {name for of in features for name in of if name.split("/")[0] == kind}
            other = chance.choice(sorted(known - set(chain.way.values())) or [concept])
            rival = {(source, feature) for source, of in enumerate(features) for feature in of.get(other, ())}
            rows[role]["hop"].append(bool(own & top))
            rows[role]["fires"].append(bool(own & set(active)))
            rows[role]["random"].append(bool(set(chance.sample(active, min(len(own), len(active)))) & top))
            rows[role]["another"].append(bool((rival - own) & top))
    return {role: {name: vars(interval_of(values)) for name, values in row.items()} for role, row in rows.items()}


def swaps(model: Model, dictionary: Any, chosen: list[Chain], features: dict[str, list[int]]) -> dict[str, Any]:
    """How often another concept's feature in place of the own one makes the other's value likelier than the own."""
    chance = random.Random(1)
    flips: dict[str, dict[float, list[float]]] = {"other": defaultdict(list), "random": defaultdict(list)}
    for chain in chosen:
        role = {"capital": "state", "language": "country", "currency": "country"}.get(chain.fact.relation)
        if role is None or role not in chain.way or chain.way[role] not in features:
            continue
        own, kind = chain.way[role], chain.way[role].split("/")[0]
        rivals = [name for name in features if name.split("/")[0] == kind and name != own]
        pairs = [(name, value_of(name, chain.fact.relation)) for name in rivals]
        prompt, target = chain.row["prompt"], chain.row["target"]
        said = [(name, next_token(model, prompt, value)) for name, value in pairs if value]
        said = [(name, token) for name, token in said if token != target]
        if said:
            name, token = chance.choice(said)
            for way, feature in {"other": features[name][0], "random": chance.randrange(dictionary.n_features)}.items():
                for dose, flipped in swap(model, dictionary, prompt, (target, token), features[own], feature):
                    flips[way][dose].append(flipped)
    return {way: {dose: vars(interval_of(values)) for dose, values in of.items()} for way, of in flips.items()}


def value_of(concept: str, relation: str) -> str | None:
    fact = FACTS.get(concept, {}).get(relation)
    return None if fact is None else facts.value_name(fact, 0).removeprefix("the ")


@torch.no_grad()
def swap(
    model: Model, dictionary: Any, prompt: str, tokens: tuple[str, str], own: list[int], other: int
) -> Iterator[tuple[float, bool]]:
    """For each dose, whether the second token becomes likelier than the first."""
    ids = [model.tokenizer(token, add_special_tokens=False)["input_ids"][0] for token in tokens]
    run = Run(model, model.tokenize(prompt), [dictionary.site])
    x = run.values[dictionary.site][0]
    activation = dictionary.encode(x)[:, own]
    places = activation.sum(dim=1).nonzero()[:, 0]
    places = places if len(places) else torch.arange(len(x))
    for dose in DOSES:
        change = dose * dictionary.max_activation[other] * dictionary.W_dec[other]
        change = change - activation[places] @ dictionary.W_dec[own]
        logits = run.changed([Shift(dictionary.site, torch.zeros_like(places), places, change)], 1)[0]
        yield dose, bool(logits[ids[1]] > logits[ids[0]])


def world(arguments: argparse.Namespace) -> dict[str, Any]:
    model = sonde.load_model("world", device="cpu")
    chosen = chains(model, arguments.prompts)
    concepts = {concept for chain in chosen for concept in chain.way.values()}
    concepts |= {f"{kind}/{key}" for kind in ("state", "country") for key in facts.NOUNS[kind]}
    benches = [prepare(folder, tokens=arguments.tokens) for folder in arguments.dictionary]
    features = [detecting(bench, concepts) for bench in benches]
    dictionaries = [bench.dictionary for bench in benches]
    result: dict[str, Any] = {"swaps": {}}
    for bench, of in zip(benches, features, strict=True):
        result["swaps"][bench.dictionary.site] = swaps(model, bench.dictionary, chosen, of)
    found = sonde.attribute(dictionaries, prompts=[chain.row for chain in chosen], model=model)
    result |= {"pooled": found.pooled(), "hops": hops(list(found), chosen, features)}
    return result | {"sites": [dictionary.site for dictionary in dictionaries]}


CAPITALS = """France Paris|Germany Berlin|Italy Rome|Spain Madrid|Japan Tokyo|China Beijing|Russia Moscow|Egypt Cairo
Greece Athens|Portugal Lisbon|Austria Vienna|Poland Warsaw|Ireland Dublin|Norway Oslo|Sweden Stockholm|Cuba Havana
Finland Helsinki|Denmark Copenhagen|Hungary Budapest|Turkey Ankara|Iran Tehran|Iraq Baghdad|Peru Lima|Chile Santiago
England London|Scotland Edinburgh|Canada Ottawa|Kenya Nairobi|Thailand Bangkok|Vietnam Hanoi|India Delhi|Syria Damascus
California Sacramento|Texas Austin|Colorado Denver|Massachusetts Boston|Georgia Atlanta|Arizona Phoenix"""
FRAMES = ("The capital of {} is", "{}'s capital city is called")


def real(arguments: argparse.Namespace) -> dict[str, Any]:
    dictionary = sonde.load_dictionary(arguments.dictionary[0])
    model = sonde.load_model(dictionary.info.require_model().name, device="cpu")
    pairs = [pair.split(" ") for pair in CAPITALS.replace("\n", "|").split("|")]
    rows = []
    for frame in FRAMES:
        for number, (country, capital) in enumerate(pairs):
            prompt = frame.format(country)
            target, against = (next_token(model, prompt, word) for word in (capital, pairs[number - 1][1]))
            best = int(model.logits(prompt)[0, -1].argmax())
            if target != against and best == model.tokenizer(target)["input_ids"][-1]:
                rows.append({"prompt": prompt, "target": target, "against": against})
    print(f"{len(rows)} of {len(FRAMES) * len(pairs)} facts are answered rightly", flush=True)
    found = sonde.attribute(dictionary, prompts=rows[: arguments.prompts], model=model)
    return {"pooled": found.pooled(), "sites": [dictionary.site], "right": len(rows), "asked": len(FRAMES) * len(pairs)}


def speed(_: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_gpt2(Path(folder))
        model = sonde.load_model(folder, device="cpu")
    dictionary = TopK(4096, 768, k=32).at("layers.5.residual")
    with torch.no_grad():
        dictionary.W_dec.copy_(torch.nn.functional.normalize(torch.randn(4096, 768), dim=1))
        dictionary.W_enc.copy_(dictionary.W_dec)
    text = "x" * (32 - model.tokenize("").ids.shape[1])
    took: dict[str, Any] = {"threads": torch.get_num_threads()}
    run = Run(model, model.tokenize(text[:15]), [f"layers.{layer}.residual" for layer in range(12)])
    masks = torch.eye(16, dtype=torch.bool)[:, :, None]
    edits = [Patched(site, torch.zeros_like(x), masks) for site, x in run.values.items() if site != "logits"]
    model.logits(copies(run.tokens, 16))  # warm
    with timed(took, "sweep"), torch.no_grad():
        for edit in edits:
            run.changed([edit], 16)
    with timed(took, "passes from the first layer"), torch.no_grad():
        for edit in edits:
            run.changed([edit], 16, layer=0)
    with timed(took, "whole passes"):
        for edit in edits:
            with model.edited(edit):
                model.logits(copies(run.tokens, 16))
    with timed(took, "500 ablations"):
        found = sonde.attribute(dictionary, text, target="a", against="b", model=model, ablate=500)
    took["ablated"] = found[0].agreement.n
    took["share"] = took["sweep"]["cpu_s"] / took["whole passes"]["cpu_s"]
    print(took)
    return took


@contextmanager
def timed(took: dict[str, Any], name: str) -> Iterator[None]:
    """Note the CPU and wall seconds of a block."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    took[name] = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("world", "facts", "speed"))
    parser.add_argument("dictionary", nargs="*", default=["smollm2"])
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--tokens", type=int, default=60_000)
    arguments = parser.parse_args()
    result = {"what": arguments.what} | {"world": world, "facts": real, "speed": speed}[arguments.what](arguments)
    write(__file__, result)
    for name in ("pooled", "hops", "swaps"):
        for key, row in result.get(name, {}).items():
            print(name, key, row)


if __name__ == "__main__":
    sys.exit(main())
