"""Texts that are read now: the features that fire on them, and where."""

import numpy as np
from fastapi import APIRouter

from sonde.features.feature import Hit
from sonde.features.index import Index
from sonde.features.reader import Fired
from sonde.web import wire
from sonde.web.api.labels import label_names
from sonde.web.served import PROBLEMS, ServedIndex

STRONGEST = 3
"""features named at each token"""
router = APIRouter()


@router.post("/api/read", responses=PROBLEMS)
def post_read(served: ServedIndex, asked: wire.AskReading) -> wire.ReadingView:
    """The features that fire most on a text, and where on it; and on another text, if there is one."""
    index, reader = served.index, served.reader
    text = served.read(asked.text)
    other = served.read(asked.unlike) if asked.unlike.strip() else None
    strongest = _strongest(index, text)
    shown = {hit.feature for hits in strongest for hit in hits}
    hits = reader.search(text, unlike=other or (), on=asked.on, n=asked.n)
    other_hits = reader.search(other, unlike=text, on=asked.on, n=asked.n) if other else []
    labels = label_names(index, shown | {hit.feature.number for hit in (*hits, *other_hits)})
    return wire.ReadingView(
        pieces=list(text.pieces),
        strongest=strongest,
        names={number: label for number, label in labels.items() if number in shown},
        features=[_hit_view(hit, text, other, labels) for hit in hits],
        other_pieces=list(other.pieces) if other else [],
        other_features=[_hit_view(hit, other, text, labels) for hit in other_hits] if other else [],
    )


def _hit_view(hit: Hit, text: Fired, other: Fired | None, labels: dict[int, str]) -> wire.HitView:
    number = hit.feature.number
    return wire.HitView(
        feature=number,
        score=hit.score,
        maximum=hit.feature.maximum,
        values=text.of(number).tolist(),
        other_values=other.of(number).tolist() if other else [],
        label=labels.get(number),
        usual=hit.feature.usual_tokens(),
    )


def _strongest(index: Index, fired: Fired) -> list[list[wire.TokenHit]]:
    """For each token, the features that fire most on it, in units of their maxima."""
    maxima = index.statistics["maximum"][fired.feature]
    relative = np.where(maxima > 0, fired.value / np.maximum(maxima, 1e-30), 0)
    hits: list[list[wire.TokenHit]] = [[] for _ in fired.pieces]
    for place in np.lexsort((-relative, fired.position)).tolist():
        here = hits[int(fired.position[place])]
        if len(here) < STRONGEST and relative[place] > 0:
            here.append(wire.TokenHit(feature=int(fired.feature[place]), value=float(relative[place])))
    return hits
