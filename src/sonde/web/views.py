"""An index as the page shows it: what is in the folders, in the types of the wire. Needs no model."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sonde.analysis.measure import MEASUREMENT
from sonde.analysis.splitting import Child, Splitting, siblings, splitting
from sonde.errors import ArtifactError, ArtifactMissingError, FeatureError
from sonde.features.index import By, Example, Feature, Index, load_index
from sonde.features.labels import Label
from sonde.manifests import find_parent
from sonde.steering.presets import load_presets
from sonde.web import wire

FOUND = 1000
"""features that a search by words or likeness gives at most"""
CURVE_POINTS = 200
DECADES_PER_BIN = 0.25
FEATURED, LOOKED_AT = 6, 200
WORTH_SEEING = {"density": (1e-4, 2e-2), "same_word": (0.0, 0.6)}
"""features that are neither rare nor common, and of more than one word"""
MOST_PRODUCTS = 1 << 42
"""multiplications that finding parents and children may take: some seconds"""


def index_info(index: Index) -> wire.IndexInfo:
    facts = index.manifest.facts
    _, dictionary = find_parent(index.manifest, "dictionary", index.folder, "dictionary")
    reason = facts.get("why_no_chat")  # indexes of the first days do not say; their chat does
    model = Path(facts["model"]["name"])
    return wire.IndexInfo(
        model=model.name if model.is_absolute() else str(model),
        site=facts["site"],
        kind=dictionary.facts["kind"],
        n_features=index.n_features,
        tokens=facts["tokens"],
        documents=facts["documents"],
        l0=facts["l0"],
        dead=facts["dead"],
        fvu=dictionary.facts["training_rows"]["fvu"],
        text=Path(index.manifest.settings["text"]).name,
        folder=str(index.folder.resolve()),
        labelled=index.labels.n_labelled,
        has_map=index.map is not None,
        has_neurons=index.neurons is not None,
        sizes=[
            wire.SizeView(name=one.folder.resolve().name, n_features=one.n_features, here=one is index)
            for one in family(index)
        ],
        can_chat=reason is None,
        why_no_chat=reason,
    )


@lru_cache(maxsize=16)
def family(index: Index) -> tuple[Index, ...]:
    """An index and its siblings, the smallest first; alone where it has none."""
    return tuple(sorted([index, *siblings(index)], key=lambda one: one.n_features))


def start_view(index: Index) -> wire.StartView:
    return wire.StartView(
        figures=_figures(index), curve=_curve(index), densities=_densities(index), featured=_featured(index)
    )


def _figures(index: Index) -> list[wire.Figure]:
    """Quality on held-out documents where it was measured, on training rows where not."""
    folder, dictionary = find_parent(index.manifest, "dictionary", index.folder, "dictionary")
    facts = dictionary.facts["training_rows"]
    said = f"on {facts['rows']:,} training rows"
    recovered: dict[str, float | None] = {}
    try:
        measured = json.loads((Path(str(folder)) / MEASUREMENT).read_text(encoding="utf-8"))
        facts, recovered = measured, measured["loss_recovered"]
        said = f"on {measured['tokens']:,} tokens of documents that it never saw"
    except (OSError, ValueError, KeyError):
        pass
    rows = [
        ("Variance explained", 1 - facts["fvu"], True, f"by the features, of what passes the site, {said}"),
        ("Features on a token", facts["l0"], False, "fire at once, on average (L0)"),
        ("Dead features", index.manifest.facts["dead"], True, "fire nowhere in the text of this index"),
    ]
    if recovered.get("zero") is not None:
        says = "of what is lost where the site is set to zero, when reconstructions stand in for what passes it"
        rows.insert(1, ("Loss recovered", recovered["zero"], True, says))
    return [wire.Figure(name=name, value=value, is_share=share, says=says) for name, value, share, says in rows]


def _curve(index: Index) -> list[wire.CurvePoint]:
    """How training went, as far as it was written down."""
    folder, _ = find_parent(index.manifest, "dictionary", index.folder, "dictionary")
    try:
        lines = (Path(str(folder)) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        points = [wire.CurvePoint(**{name: row[name] for name in wire.CurvePoint.model_fields}) for row in rows]
    except (OSError, ValueError, KeyError):
        return []
    places = np.unique(np.linspace(0, len(points) - 1, CURVE_POINTS).round().astype(int)) if points else []
    return [points[place] for place in places]


def _densities(index: Index) -> list[wire.DensityBin]:
    density = index.statistics["density"]
    fires = density[density > 0]
    if not len(fires):
        return []
    place = np.floor(np.log10(fires) / DECADES_PER_BIN).astype(int)
    bounds = range(int(place.min()), int(place.max()) + 1)
    return [
        wire.DensityBin(
            low=10 ** (at * DECADES_PER_BIN), high=10 ** ((at + 1) * DECADES_PER_BIN), count=int((place == at).sum())
        )
        for at in bounds
    ]


def _featured(index: Index) -> list[wire.FeatureRow]:
    """Those of presets, and those of several words that fire most strongly, no two alike."""
    chosen = list(
        dict.fromkeys(
            number for edits in load_presets(index.folder).values() for edit in edits for number in edit.numbers
        )
    )
    numbers = index.numbers_where(WORTH_SEEING)
    if len(numbers) < FEATURED:
        numbers = np.flatnonzero(index.statistics["count"] > 0)
    strongest = numbers[np.argsort(-index.statistics["maximum"][numbers], kind="stable")]
    for number in strongest[:LOOKED_AT].tolist():
        if len(chosen) >= FEATURED:
            break
        words = all(len(token) > 2 for token in index.feature(number).usual_tokens())
        if words and number not in chosen and not any(_are_alike(index, number, other) for other in chosen):
            chosen.append(number)
    return feature_rows(index, chosen[:FEATURED])


def _are_alike(index: Index, one: int, other: int) -> bool:
    tokens = (set(index.feature(number).usual_tokens()) for number in (one, other))
    return bool(set.intersection(*tokens))


def found_features(index: Index, asked: wire.AskFeatures, fires_on: np.ndarray | None = None) -> np.ndarray:
    """The numbers of the features that are asked for, in their order.

    Args:
        fires_on: of a query by text, how strongly each feature fires on it [feature].
    """
    ranges, query = asked.ranges(), asked.query.strip()
    numbers = _ranked(index, asked, query, fires_on) if query else np.arange(index.n_features)
    if ranges:
        numbers = numbers[np.isin(numbers, index.numbers_where(ranges))]
    if asked.sort == "number":
        numbers = np.sort(numbers)
    elif asked.sort != "best":
        numbers = numbers[np.argsort(index.statistic(asked.sort)[numbers], kind="stable")]
    return numbers[::-1] if asked.descending else numbers


def _ranked(index: Index, asked: wire.AskFeatures, query: str, fires_on: np.ndarray | None) -> np.ndarray:
    """Features that meet a query, best first."""
    if fires_on is not None:
        order = np.argsort(-fires_on, kind="stable")
        return order[fires_on[order] > 0]
    if asked.by == "like":
        if not query.isdecimal():
            raise FeatureError(f"{query!r} is not the number of a feature; write one from 0 to {index.n_features - 1}")
        return _nearest(index, index.directions[index.feature(int(query)).number])
    if asked.by == "vector":
        try:
            direction = np.array(query.replace(",", " ").strip(" []").split(), dtype=np.float32)
        except ValueError as error:
            raise FeatureError(
                f"the direction cannot be read: {error}; write numbers with commas between them"
            ) from error
        if not np.isfinite(direction).all():
            raise FeatureError("the direction has numbers that are not finite")
        return _nearest(index, direction)
    found = [feature.number for feature, _ in index.search(query, FOUND)]
    if query.isdecimal() and int(query) < index.n_features:  # who types a number means that feature
        found = [int(query), *(number for number in found if number != int(query))]
    return np.array(found, dtype=int)


def _nearest(index: Index, direction: np.ndarray) -> np.ndarray:
    return np.array([feature.number for feature, _ in index.nearest(direction, FOUND)], dtype=int)


def feature_rows(index: Index, numbers: Sequence[int] | np.ndarray) -> list[wire.FeatureRow]:
    labels = index.labels.of([int(number) for number in numbers])
    neurons = index.statistic("neuron") if index.neurons is not None else None
    rows = []
    for number in map(int, numbers):
        feature = index.feature(number)
        examples = feature.examples(1)
        rows.append(
            wire.FeatureRow(
                feature=number,
                label=labels[number].label if number in labels else None,
                density=feature.density,
                maximum=feature.maximum,
                mean=feature.mean,
                same_word=_number(index.statistics["same_word"][number]),
                neuron=None if neurons is None else float(neurons[number]),
                example=example_view(examples[0]) if examples else None,
            )
        )
    return rows


def feature_view(index: Index, number: int, n_examples: int, by: By) -> wire.FeatureView:
    feature = index.feature(number)
    neurons = index.neurons
    return wire.FeatureView(
        feature=number,
        labels=[label_view(one) for one in reversed(index.labels.history(number))],
        scores=_scores(feature),
        notes=index.labels.notes(number),
        density=feature.density,
        maximum=feature.maximum,
        mean=feature.mean,
        same_word=_number(index.statistics["same_word"][number]),
        neuron=None
        if neurons is None or neurons.correlation[number] == 0
        else wire.NeuronView(
            site=neurons.sites[int(neurons.site[number])],
            neuron=int(neurons.neuron[number]),
            correlation=float(neurons.correlation[number]),
        ),
        kin=_kin(index, number),
        quantiles=feature.quantiles(),
        histogram=feature.histogram(),
        neighbours=_neighbours(feature),
        fires_with=[_neighbour(other, cosine) for other, cosine in feature.fires_with(8)],
        top_logits=[wire.Logit(token=token, value=value) for token, value in feature.top_logits],
        bottom_logits=[wire.Logit(token=token, value=value) for token, value in feature.bottom_logits],
        examples=[example_view(example) for example in feature.examples(n_examples, by)],
    )


def map_view(index: Index) -> wire.MapView:
    """Raises ArtifactMissingError where no map has been made."""
    found = index.map
    if found is None:
        raise ArtifactMissingError(f"{index.folder} has no map yet; sonde map {index.folder} makes it")
    clusters = []
    order = np.argsort(found.cluster, kind="stable")
    bounds = np.searchsorted(found.cluster[order], np.arange(len(found.names) + 1))
    for name, first, last in zip(found.names, bounds[:-1], bounds[1:], strict=True):
        own = found.position[order[first:last]]
        if len(own):
            x, y = np.median(own, axis=0)
            clusters.append(wire.ClusterView(name=name, x=float(x), y=float(y), count=len(own)))
    return wire.MapView(n_features=index.n_features, clusters=clusters)


def map_points(index: Index) -> bytes:
    """x, y (float32), cluster (int32) and density (float32), each [feature], one after the other; little-endian."""
    found = index.map
    assert found is not None, "map_view was asked first"
    columns = (found.position[:, 0], found.position[:, 1], found.cluster, index.statistics["density"])
    kinds = ("<f4", "<f4", "<i4", "<f4")
    return b"".join(column.astype(kind).tobytes() for column, kind in zip(columns, kinds, strict=True))


def label_view(label: Label) -> wire.LabelView:
    return wire.LabelView(label=label.label, by=label.by, at=label.at, because=_because(label.evidence))


def _because(evidence: dict[str, Any]) -> list[str]:
    """What `sonde label` wrote down of why, as people read it."""
    lines = []
    if words := evidence.get("words"):
        lines.append("fires at " + ", ".join(f"{word} ({share:.0%} of its activation)" for word, share in words))
    if near := evidence.get("near"):
        said = (f"{word} ({own:.0%} of its examples, {others:.1%} of other text)" for word, own, others in near)
        lines.append("near " + ", ".join(said))
    if (share := evidence.get("start of text", 0)) > 0:
        lines.append(f"at the start of a text in {share:.0%} of its examples")
    if examples := evidence.get("examples"):
        lines.append(f"from {examples} examples of every strength")
    return lines


def label_of(feature: Feature) -> str | None:
    said = feature.label
    return said.label if said is not None else None


def example_view(example: Example) -> wire.ExampleView:
    return wire.ExampleView(
        document=example.document,
        position=example.position,
        value=example.value,
        peak=example.peak,
        pieces=[wire.Piece(text=text, value=value) for text, value in example.pieces],
        pictures=[
            wire.PictureView(number=p.number, piece=p.piece, rows=p.rows, columns=p.columns, values=list(p.values))
            for p in example.pictures
        ],
    )


def _neighbours(feature: Feature) -> list[wire.Neighbour]:
    try:
        found = feature.neighbours(8)
    except ArtifactMissingError:  # the dictionary has gone, and the rest of the index is whole
        return []
    return [_neighbour(other, cosine) for other, cosine in found]


def _neighbour(other: Feature, cosine: float) -> wire.Neighbour:
    return wire.Neighbour(feature=other.number, label=label_of(other), cosine=cosine)


def _kin(index: Index, number: int) -> list[wire.KinView]:
    """The feature of the next smaller dictionary that this one divides, and those of the next larger that divide it."""
    sizes = [one for one in family(index) if one is index or one.n_features != index.n_features]
    place = sizes.index(index)
    found = []
    if place > 0 and (tree := _splitting(sizes[place - 1].folder, index.folder)):
        parent = tree.parent(number)
        found += [_kin_view("parent", sizes[place - 1], parent)] if parent else []
    if place + 1 < len(sizes) and (tree := _splitting(index.folder, sizes[place + 1].folder)):
        found += [_kin_view("child", sizes[place + 1], child) for child in tree.children.get(number, [])[:12]]
    return found


def _kin_view(relation, size: Index, kin: Child) -> wire.KinView:
    return wire.KinView(
        relation=relation,
        size=size.folder.resolve().name,
        feature=kin.feature.number,
        label=label_of(kin.feature),
        usual=kin.feature.usual_tokens(),
        cosine=kin.cosine,
        contained=kin.contained,
    )


@lru_cache(maxsize=8)
def _splitting(small: Path, large: Path) -> Splitting | None:
    """Computed once; not where it would take long, or where a dictionary has gone."""
    try:
        one, other = load_index(small), load_index(large)
        if one.n_features * other.n_features * one.directions.shape[1] > MOST_PRODUCTS:
            return None
        return splitting(one, other)
    except ArtifactError:
        return None


def _scores(feature: Feature) -> list[wire.ScoreView]:
    """The newest of each test, of the label that the feature has now or of none."""
    now = (label_of(feature), "")
    latest = {score.score: score for score in feature.index.labels.scores(feature.number) if score.label in now}
    return [
        wire.ScoreView(
            score=score.score,
            value=score.value,
            chance=score.details.get("chance"),
            control=score.details.get("another feature's label"),
            by=score.by,
        )
        for score in latest.values()
    ]


def _number(value: float) -> float:
    """Zero for what is not known, of features that do not fire."""
    return float(value) if np.isfinite(value) else 0.0
