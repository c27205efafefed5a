"""Features: found, listed in a table, shown with everything about them, and tried on a text."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query

from sonde.errors import ArtifactMissingError, FeatureError
from sonde.features.examples import By
from sonde.features.feature import Feature, Hits
from sonde.features.index import Index
from sonde.web import wire
from sonde.web.api.labels import label_names, label_view, score_views
from sonde.web.api.pictures import example_view
from sonde.web.api.sizes import kin_views
from sonde.web.served import PROBLEMS, Number, Served, ServedIndex

MAX_NUMBERS = 100_000
MAX_FOUND = 1000
"""features that a search by words or likeness gives at most"""
NEIGHBOURS = 8
router = APIRouter()


@router.get("/api/features", responses=PROBLEMS)
def get_features(served: ServedIndex, asked: Annotated[wire.AskPage, Query()]) -> wire.FeatureList:
    """Features in an order: all, those within bounds, and those that a query finds, best first."""
    numbers, more = _find(served, asked)
    rows = feature_rows(served.index, numbers[asked.offset : asked.offset + asked.limit])
    return wire.FeatureList(total=len(numbers), more=more, features=rows)


@router.get("/api/numbers", responses=PROBLEMS)
def get_numbers(served: ServedIndex, asked: Annotated[wire.AskFeatures, Query()]) -> wire.FoundNumbers:
    """The numbers alone of the features that are found, 100,000 at most."""
    numbers, more = _find(served, asked)
    return wire.FoundNumbers(numbers=numbers[:MAX_NUMBERS].tolist(), more=more or len(numbers) > MAX_NUMBERS)


@router.get("/api/features/{number}", responses=PROBLEMS)
def get_feature(
    served: ServedIndex, number: Number, examples: Annotated[int, Query(ge=1, le=100)] = 20, by: By = "top"
) -> wire.FeatureView:
    """One feature with its examples: the strongest, some at random, or from equal intervals of activation."""
    return feature_view(served.index, number, examples, by)


@router.post("/api/features/{number}/activations", responses=PROBLEMS)
def post_activations(served: ServedIndex, number: Number, asked: wire.AskActivations) -> wire.ActivationsView:
    """One feature on a text."""
    served.index.feature(number)
    with served.turn():
        fired = served.read(asked.text)
    return wire.ActivationsView(pieces=list(fired.pieces), values=fired.of(number).tolist())


def _find(served: Served, asked: wire.AskFeatures) -> tuple[np.ndarray, bool]:
    if asked.by != "text" or not asked.query.strip():
        return find_features(served.index, asked)
    with served.turn():
        activation = served.read(asked.query).pooled("max", served.index.n_features)
    return find_features(served.index, asked, activation)


def find_features(
    index: Index, asked: wire.AskFeatures, activation: np.ndarray | None = None
) -> tuple[np.ndarray, bool]:
    """The numbers of the features that are asked for, in their order, and whether the query met more than are given.

    Args:
        activation: for a query by text, how strongly each feature fires on it [feature].
    """
    ranges, query = asked.ranges(), asked.query.strip()
    numbers = _ranked(index, asked, query, activation) if query else np.arange(index.n_features)
    more = bool(query) and activation is None and len(numbers) > MAX_FOUND
    if more:
        numbers = numbers[:MAX_FOUND]
    if ranges:
        numbers = numbers[np.isin(numbers, index.numbers_where(ranges))]
    if asked.sort == "number":
        numbers = np.sort(numbers)
    elif asked.sort != "best":
        numbers = numbers[np.argsort(index.statistic(asked.sort)[numbers], kind="stable")]
    return (numbers[::-1] if asked.descending else numbers), more


def _ranked(index: Index, asked: wire.AskFeatures, query: str, activation: np.ndarray | None) -> np.ndarray:
    """Features that meet a query, best first; of a search by words or likeness, one more than are given says so."""
    if activation is not None:
        order = np.argsort(-activation, kind="stable")
        return order[activation[order] > 0]
    if asked.by == "like":
        if not query.isdecimal():
            raise FeatureError(f"{query!r} is not the number of a feature; write one from 0 to {index.n_features - 1}")
        return _nearest(index, index.directions[index.feature(int(query)).number])
    if asked.by == "vector":
        return _nearest(index, _parse_direction(query))
    numbers = [hit.feature.number for hit in index.search(query, MAX_FOUND + 1)]
    if query.isdecimal() and int(query) < index.n_features:  # a number finds the feature of that number first
        numbers = [int(query), *(number for number in numbers if number != int(query))]
    return np.array(numbers, dtype=int)


def _parse_direction(query: str) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused below
            direction = np.array(query.replace(",", " ").strip(" []").split(), dtype=np.float32)
    except ValueError as error:
        raise FeatureError(f"the direction cannot be read: {error}; write numbers with commas between them") from error
    if not np.isfinite(direction).all():
        raise FeatureError("the direction has numbers that are not finite")
    return direction


def _nearest(index: Index, direction: np.ndarray) -> np.ndarray:
    return np.array([hit.feature.number for hit in index.nearest(direction, MAX_FOUND + 1)], dtype=int)


def feature_rows(index: Index, numbers: Sequence[int] | np.ndarray) -> list[wire.FeatureRow]:
    labels = label_names(index, map(int, numbers))
    neurons = index.statistic("neuron") if index.neurons is not None else None
    rows = []
    for number in map(int, numbers):
        feature = index.feature(number)
        examples = feature.examples(1)
        rows.append(
            wire.FeatureRow(
                feature=number,
                label=labels.get(number),
                density=feature.density,
                maximum=feature.maximum,
                mean=feature.mean,
                same_word=_same_word(index, number),
                neuron=None if neurons is None else float(neurons[number]),
                example=example_view(examples[0]) if examples else None,
            )
        )
    return rows


def feature_view(index: Index, number: int, n_examples: int, by: By) -> wire.FeatureView:
    feature = index.feature(number)
    history = index.labels.history(number)
    near, together = _neighbours(feature), feature.fires_with(NEIGHBOURS)
    labels = label_names(index, (hit.feature.number for hit in (*near, *together)))
    return wire.FeatureView(
        feature=number,
        labels=[label_view(label) for label in reversed(history)],
        scores=score_views(index, number, history[-1].label if history else None),
        notes=index.labels.notes(number),
        density=feature.density,
        maximum=feature.maximum,
        mean=feature.mean,
        same_word=_same_word(index, number),
        neuron=_neuron(index, number),
        kin=kin_views(index, number),
        quantiles=feature.quantiles(),
        histogram=feature.histogram(),
        neighbours=_neighbour_views(near, labels),
        fires_with=_neighbour_views(together, labels),
        top_logits=[wire.Logit(token=token, value=value) for token, value in feature.top_logits],
        bottom_logits=[wire.Logit(token=token, value=value) for token, value in feature.bottom_logits],
        examples=[example_view(example) for example in feature.examples(n_examples, by)],
    )


def _same_word(index: Index, number: int) -> float:
    """Zero where it is not known, because the feature does not fire."""
    share = index.statistics["same_word"][number]
    return float(share) if np.isfinite(share) else 0.0


def _neuron(index: Index, number: int) -> wire.NeuronView | None:
    neurons = index.neurons
    if neurons is None or neurons.correlation[number] == 0:
        return None
    return wire.NeuronView(
        site=neurons.sites[int(neurons.site[number])],
        neuron=int(neurons.neuron[number]),
        correlation=float(neurons.correlation[number]),
    )


def _neighbours(feature: Feature) -> Hits:
    try:
        return feature.neighbours(NEIGHBOURS)
    except ArtifactMissingError:  # the dictionary is missing; the rest of the index can still be shown
        return Hits()


def _neighbour_views(hits: Hits, labels: dict[int, str]) -> list[wire.Neighbour]:
    return [
        wire.Neighbour(feature=hit.feature.number, label=labels.get(hit.feature.number), cosine=hit.score)
        for hit in hits
    ]
