"""Texts that are read now: the features that fire on them, and where."""

from fastapi import APIRouter

from sonde.features.feature import Hit
from sonde.features.reader import Fired
from sonde.web import wire
from sonde.web.api.labels import label_names
from sonde.web.served import PROBLEMS, Served, ServedIndex

STRONGEST = 3
"""features named at each token"""
router = APIRouter()


@router.post("/api/read", responses=PROBLEMS)
def post_read(served: ServedIndex, asked: wire.AskReading) -> wire.ReadingView:
    """The features that fire most on a text, and where on it; and on another text, if there is one."""
    with served.turn():
        return _reading(served, asked)


def _reading(served: Served, asked: wire.AskReading) -> wire.ReadingView:
    index, reader = served.index, served.reader
    text = served.read(asked.text)
    other = served.read(asked.unlike) if asked.unlike.strip() else None
    strongest = [
        [wire.TokenHit(feature=feature, value=share) for feature, share in features]
        for features in text.strongest(STRONGEST)
    ]
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
