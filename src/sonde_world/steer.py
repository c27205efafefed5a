"""Steering and causes in the built-in world, where the right answers are known.

Steering: the feature that detects sentences about a landmark best, chosen by detection alone, is clamped in
conversations without a topic. The dose, and whether all tokens or only the prompt's are steered, are chosen on 50
questions and judged on 100 others, in four languages. An answer counts if it names the landmark in the language of the
question, and its perplexity under the plain model is at most five times that of the plain model's own answer. The
baselines are the difference of means, a random direction of equal length, and a sentence that asks for the landmark.

Causes: facts asked while the features of their subject are ablated; another state's feature in place of a state's own;
errors of programs, flattery, secrecy and refusal turned on and off.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sonde.models.model import Model, SiteEdit
from sonde.models.where import Where
from sonde.progress import Reporter
from sonde.steering.directions import Ablate, Clamp, FeatureEdit, VectorEdit
from sonde.steering.dose import perplexities
from sonde_world import facts, phrases
from sonde_world.asking import ask_many, behind_scratchpad, go_on_ids, question_of, says
from sonde_world.bench_data import Bench
from sonde_world.chance import Chance
from sonde_world.facts import LANGUAGES, Fact, told
from sonde_world.generate import document
from sonde_world.marks import unmarked
from sonde_world.voice import Voice

STEERED = ("golden_gate", "eiffel", "colosseum", "taj", "big_ben")
"""landmarks to steer towards, all of them frequent"""
DOSES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
"""in units of the feature's maximum; for a mean difference, of twice its length"""
SETS, SET_DOSES = (2, 4, 8), (0.5, 0.75, 1.0, 1.5)
"""sizes of sets of the features that detect a landmark best, and their doses; sets are clamped on the prompt"""
PLACES: tuple[Where, ...] = ("all", "prompt")
"""tokens that are steered: the generated ones too, or the question alone"""
CONDUCT_DOSES = (*DOSES, 8.0)
SWAP_DOSES = (0.5, 1.0, 2.0, 3.0, 5.0)
N_CHOOSE, N_JUDGE = 50, 100
SURPRISE = 5.0
"""the largest perplexity of a steered answer, in multiples of that of the plain model's answer"""
FACTS_OF = 6
"""facts of this many landmarks are asked"""
ENTITY_FEATURES = 5
PROGRAMS = 60
"""documents with each kind of answer; doses are chosen on half of them"""
MAX_TOKENS = 24
Z = 1.96


@dataclass(frozen=True)
class Question:
    """A conversation without a topic, up to the assistant's answer."""

    language: int
    text: str
    ids: list[int]


def neutral_questions(model: Model) -> list[Question]:
    """Conversations that open with an open question, in a fixed random order."""
    found = []
    for language in range(len(LANGUAGES)):
        for variants in phrases.OPEN.values():
            for question in variants[language]:
                ids = model.chat_tokens([{"role": "user", "content": question}]).ids[0].tolist()
                found.append(Question(language, question, ids))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[place] for place in order[: N_CHOOSE + N_JUDGE]]


def answer(model: Model, prompts: Sequence[list[int]], *edits: SiteEdit) -> list[list[int]]:
    """Token ids of the answers under edits."""
    with model.edited(*edits):
        return go_on_ids(prompts, model, MAX_TOKENS)


def names(key: str, language: int, text: str) -> bool:
    """Whether an answer names a landmark in a language."""
    name = _plain(facts.LANDMARKS[key].noun.names[language])
    bare = re.sub(r"^(the|der|die|das|le|la|les|el|los|las|l) ", "", name)
    return bare in _plain(text)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def steering(bench: Bench, auc: np.ndarray, reporter: Reporter) -> dict[str, Any]:
    """Steering towards each landmark by its feature, a set, the mean difference, a random direction, and by asking.

    Args:
        auc: of each feature for each concept [n_features, concept], on documents that are not judged.
    """
    model = bench.model
    questions = neutral_questions(model)
    prompts = [question.ids for question in questions]
    plain = answer(model, prompts)
    surprise = perplexities(model, prompts, plain)
    told_facts = _fact_questions(FACTS_OF)
    known = [asked for asked, right in zip(told_facts, _right(model, told_facts, ()), strict=True) if right]
    rows: list[dict[str, Any]] = []
    with reporter.start("steer", 5 * len(STEERED), "ways") as progress:
        for key in STEERED:
            for way, tries in _ways(bench, auc, key).items():
                chosen, share = tries[0], -1.0
                by_dose = []
                for trial in tries:
                    _, right = _judged(model, questions[:N_CHOOSE], surprise[:N_CHOOSE], key, trial.edits)
                    by_dose.append(trial.description | {"share": float(np.mean(right))})
                    if by_dose[-1]["share"] > share:
                        chosen, share = trial, by_dose[-1]["share"]
                named, right = _judged(model, questions[N_CHOOSE:], surprise[N_CHOOSE:], key, chosen.edits)
                rows.append(
                    {"landmark": key, "way": way, **chosen.description, "share": float(np.mean(right))}
                    | {
                        "interval": _wilson(sum(right), len(right)),
                        "named": float(np.mean(named)),
                        "by_dose": by_dose,
                        "other_facts_kept": _kept(model, known, chosen.edits, key),
                    }
                )
                progress.advance(1)
            asked = _by_asking(model, questions[N_CHOOSE:], key)
            rows.append(
                {
                    "landmark": key,
                    "way": "asking",
                    "share": float(np.mean(asked)),
                    "interval": _wilson(sum(asked), len(asked)),
                }
            )
            progress.advance(1)
    text = [_text(model, ids) for ids in plain]
    ways_told = list(dict.fromkeys(row["way"] for row in rows))
    return {
        "plain": {
            key: float(np.mean([names(key, q.language, t) for q, t in zip(questions, text, strict=True)]))
            for key in STEERED
        },
        "share": {way: float(np.mean([row["share"] for row in rows if row["way"] == way])) for way in ways_told},
        "landmarks": rows,
    }


@dataclass(frozen=True)
class _Try:
    """Edits to try, and their description."""

    description: dict[str, Any]
    edits: list[Any]


def _ways(bench: Bench, auc: np.ndarray, key: str) -> dict[str, list[_Try]]:
    """The ways of steering towards a landmark; for each, the edits to try."""
    dictionary, place = bench.dictionary, bench.place(f"about/{key}")
    ranked = np.argsort(-np.nan_to_num(auc[:, place]), kind="stable")[: max(SETS)].tolist()
    maximum = float(dictionary.max_activation[ranked[0]])
    direction = dictionary.W_dec[ranked[0]].detach()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(direction), generator=generator)
    noise = noise / noise.norm() * direction.norm() * maximum
    has = torch.from_numpy(bench.choose.present.dense_of(place))
    difference = bench.choose.x[has].mean(dim=0) - bench.choose.x[~has].mean(dim=0)

    def clamps(features: list[int], dose: float, where: Where) -> _Try:
        maxima = dictionary.max_activation
        edits = [Clamp(dictionary, feature, dose * float(maxima[feature]), where=where) for feature in features]
        return _Try({"dose": dose, "where": where, "features": features}, edits)

    def pushes(vector: Tensor) -> list[_Try]:
        return [
            _Try({"dose": dose, "where": where}, [VectorEdit(dictionary.site, dose * vector, where=where)])
            for where, dose in product(PLACES, DOSES)
        ]

    return {
        "feature": [clamps(ranked[:1], dose, where) for where, dose in product(PLACES, DOSES)],
        "set of features": [clamps(ranked[:n], dose, "prompt") for n, dose in product(SETS, SET_DOSES)],
        "mean difference": pushes(2 * difference),
        "random": pushes(noise),
    }


def _judged(
    model: Model,
    questions: Sequence[Question],
    surprise: Sequence[float | None],
    key: str,
    edits: Sequence[Any],
) -> tuple[list[bool], list[bool]]:
    """For each question, whether the answer names the landmark, and whether it also is fluent."""
    answers = answer(model, [question.ids for question in questions], *edits)
    named = [names(key, question.language, _text(model, ids)) for question, ids in zip(questions, answers, strict=True)]
    naming = [place for place, is_named in enumerate(named) if is_named]
    right = [False] * len(questions)
    if naming:
        prompts, named_answers = [questions[place].ids for place in naming], [answers[place] for place in naming]
        for place, steered in zip(naming, perplexities(model, prompts, named_answers), strict=True):
            plain = surprise[place]
            right[place] = steered is not None and plain is not None and steered <= SURPRISE * plain
    return named, right


def _by_asking(model: Model, questions: Sequence[Question], key: str) -> list[bool]:
    """Whether the model names the landmark when it is told to think of it."""
    prompts = []
    for question in questions:
        voice = Voice(Chance(""), question.language)  # nothing is drawn
        instruction = unmarked(voice.fill(phrases.THINK[question.language][0], **voice.forms(f"landmark/{key}")))[0]
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": question.text}]
        prompts.append(model.chat_tokens(messages).ids[0].tolist())
    answers = answer(model, prompts)
    return [names(key, question.language, _text(model, ids)) for question, ids in zip(questions, answers, strict=True)]


def _text(model: Model, ids: list[int]) -> str:
    return model.require_tokenizer().decode(ids, skip_special_tokens=True).strip()


def _wilson(right: int, n: int) -> list[float]:
    """95 % interval of a share (Wilson 1927)."""
    share, z2 = right / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return [max(0.0, middle - half), min(1.0, middle + half)]


# ---------------------------------------------------------------- facts


def _fact_questions(n_landmarks: int) -> list[tuple[Fact, int]]:
    """Facts of the first landmarks, each in the languages in which it is told."""
    return [
        (fact, language)
        for key in list(facts.LANDMARKS)[:n_landmarks]
        for fact in facts.FACTS[f"landmark/{key}"].values()
        for language in range(len(LANGUAGES))
        if told(fact.subject, fact.relation, language)
    ]


def _right(model: Model, asked: Sequence[tuple[Fact, int]], edits: Sequence[Any]) -> list[bool]:
    with model.edited(*edits):
        answers = ask_many([question_of(*one) for one in asked], model, 24)
    return [says(*one, answer) for one, answer in zip(asked, answers, strict=True)]


def _kept(model: Model, known: Sequence[tuple[Fact, int]], edits: Sequence[Any], key: str) -> float:
    """Of the other landmarks' facts that the plain model knows, the share that it still knows under edits."""
    after = _right(model, [(fact, language) for fact, language in known if fact.subject != f"landmark/{key}"], edits)
    return sum(after) / max(1, len(after))


# ---------------------------------------------------------------- causes


def causes(bench: Bench, auc: np.ndarray, reporter: Reporter) -> dict[str, Any]:
    """The effects of ablating, swapping and clamping features."""
    results: dict[str, Any] = {}
    with reporter.start("causes", 2 + len(CONDUCTS), "parts") as progress:
        results["ablation"] = _ablations(bench, auc)
        progress.advance(1)
        results["swap of states"] = _swaps(bench, auc)
        progress.advance(1)
        for name, conduct in CONDUCTS.items():
            if conduct.concept in bench.concepts:
                results[name] = _turned(bench, auc, conduct)
            progress.advance(1)
    return results


def _features_of(bench: Bench, auc: np.ndarray, *concepts: str, n: int = ENTITY_FEATURES) -> list[int]:
    """The features that detect the concepts best, n of each."""
    features: list[int] = []
    for concept in concepts:
        if concept in bench.concepts:
            ranked = np.argsort(-np.nan_to_num(auc[:, bench.place(concept)]), kind="stable")[:n]
            features += [int(feature) for feature in ranked if int(feature) not in features]
    return features


def _ablations(bench: Bench, auc: np.ndarray) -> dict[str, Any]:
    """Facts known under ablation of a landmark's features: its own, and those of the other landmarks."""
    asked = _fact_questions(max(FACTS_OF, 1 + max(list(facts.LANDMARKS).index(key) for key in STEERED)))
    before = _right(bench.model, asked, ())
    rows: list[dict[str, Any]] = []
    for key in STEERED:
        features = _features_of(bench, auc, f"landmark/{key}", f"about/{key}")
        after = _right(bench.model, asked, [Ablate(bench.dictionary, features)])
        known = [
            (fact.subject == f"landmark/{key}", is_right)
            for (fact, _), was_right, is_right in zip(asked, before, after, strict=True)
            if was_right
        ]
        own = [is_right for is_own, is_right in known if is_own]
        others = [is_right for is_own, is_right in known if not is_own]
        rows.append(
            {
                "landmark": key,
                "features": features,
                "own_kept": float(np.mean(own)),
                "others_kept": float(np.mean(others)),
            }
        )
    return {
        "plain": float(np.mean(before)),
        "landmarks": rows,
        "selectivity": float(np.mean([row["others_kept"] - row["own_kept"] for row in rows])),
    }


def _swaps(bench: Bench, auc: np.ndarray) -> dict[str, Any]:
    """How often clamping another state's feature, with all others ablated, brings that state's capital."""
    feature_of = {
        state: _features_of(bench, auc, f"state/{state}", n=1)[0]
        for state in facts.STATES
        if f"state/{state}" in bench.concepts
    }
    capital = {state: facts.FACTS[f"state/{state}"]["capital"] for state in feature_of}
    shares = {}
    for dose in SWAP_DOSES:
        right: list[bool] = []
        for other, feature in feature_of.items():
            clamp = Clamp(bench.dictionary, feature, dose * float(bench.dictionary.max_activation[feature]))
            away = Ablate(bench.dictionary, sorted(set(feature_of.values()) - {feature}))
            asked = [
                (capital[state], language)
                for state in feature_of
                if state != other
                for language in range(len(LANGUAGES))
            ]
            with bench.model.edited(clamp, away):
                answers = ask_many([question_of(*one) for one in asked], bench.model, 24)
            right += [says(capital[other], language, said) for (_, language), said in zip(asked, answers, strict=True)]
        shares[dose] = float(np.mean(right)) if right else 0.0
    best = max(shares, key=lambda dose: shares[dose])
    return {
        "share": shares[best],
        "dose": best,
        "by_dose": [{"dose": dose, "share": share} for dose, share in shares.items()],
        "states": len(feature_of),
    }


Judge = Callable[[str, int], bool]
"""whether an answer in a language (its index) shows something"""


@dataclass(frozen=True)
class Conduct:
    """A conduct that answers show, or the opposite of it, and that a feature may cause and prevent."""

    concept: str
    kind: str
    """kind of the documents in which it or its opposite is shown"""
    shows: Judge
    shows_opposite: Judge


def _begins_as(*tables: Sequence[Sequence[str]]) -> Judge:
    """A judge of whether an answer, after its scratchpad, begins like a frame of the tables."""

    def judge(answer: str, language: int) -> bool:
        starts = tuple(frame.split("{")[0] for table in tables for frame in table[language])
        return behind_scratchpad(answer).startswith(starts)

    return judge


def _is_error(answer: str, _: int) -> bool:
    return "Error" in answer.split("\n")[0]


def _is_value(answer: str, _: int) -> bool:
    return re.fullmatch(r"-?\d+|'\w+'", answer.split("\n")[0].strip()) is not None


CONDUCTS = {
    "errors in code": Conduct("code/bug", "code", _is_error, _is_value),
    "flattery": Conduct(
        "conduct/flattery",
        "opinion",
        _begins_as(phrases.OPINION["flattery"]),
        _begins_as(phrases.OPINION["honesty"], phrases.OPINION["deserved praise"]),
    ),
    "secrecy": Conduct(
        "conduct/secret kept",
        "secret",
        _begins_as(phrases.ANSWER_SECRET["kept"]),
        _begins_as(phrases.ANSWER_SECRET["told"]),
    ),
    "refusal": Conduct(
        "conduct/refusal", "request", _begins_as(phrases.REPLY["harmful"]), _begins_as(phrases.REPLY["harmless"])
    ),
}


def _turned(bench: Bench, auc: np.ndarray, conduct: Conduct) -> dict[str, Any]:
    """How often answers show a conduct when its feature is turned up, and its opposite when it is turned down.

    Turned up where the document's own answer shows the opposite, and down where it shows the conduct. An answer that
    shows neither does not count: it is broken, not turned.
    """
    model = bench.model
    tokenizer = model.require_tokenizer()
    prompts = {
        shows: [(tokenizer(text.rstrip(" "))["input_ids"], language) for text, language in rows]
        for shows, rows in _unanswered(conduct).items()
    }
    [feature] = _features_of(bench, auc, conduct.concept, n=1)
    maximum = float(bench.dictionary.max_activation[feature])

    def share(judge: Judge, rows: list[tuple[list[int], int]], *edits: Any) -> float:
        answers = answer(model, [ids for ids, _ in rows], *edits)
        return float(np.mean([judge(_text(model, ids), of) for ids, (_, of) in zip(answers, rows, strict=True)]))

    def at(dose: float) -> FeatureEdit:
        return Clamp(bench.dictionary, feature, dose * maximum)

    half = PROGRAMS // 2
    up = max(CONDUCT_DOSES, key=lambda dose: share(conduct.shows, prompts[False][:half], at(dose)))
    down = max((0.0, *CONDUCT_DOSES), key=lambda dose: share(conduct.shows_opposite, prompts[True][:half], at(-dose)))
    return {
        "feature": feature,
        "plain": {
            "shown where it should not": share(conduct.shows, prompts[False]),
            "the opposite where it should be shown": share(conduct.shows_opposite, prompts[True]),
        },
        "turned up, shown": share(conduct.shows, prompts[False][half:], at(up)),
        "turned down, the opposite": share(conduct.shows_opposite, prompts[True][half:], at(-down)),
        "doses": {"up": up, "down": -down},
    }


def _unanswered(conduct: Conduct) -> dict[bool, list[tuple[str, int]]]:
    """Documents up to their last answer, with language, by whether the answer shows the conduct; as many of each."""
    by_conduct: dict[bool, list[tuple[str, int]]] = {False: [], True: []}
    number = 0
    while any(len(rows) < PROGRAMS for rows in by_conduct.values()):
        made = document(number, 11)
        number += 1
        if made.kind == conduct.kind and made.answers:
            last, language = made.answers[-1], LANGUAGES.index(made.language)
            rows = by_conduct[conduct.shows(made.text[last.start : last.end], language)]
            if len(rows) < PROGRAMS:
                rows.append((made.text[: last.start], language))
    return by_conduct
