"""Labels with their evidence, notes and scores."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter

from sonde.features.index import Index
from sonde.features.labels import Label
from sonde.web import wire
from sonde.web.served import PROBLEMS, Number, ServedIndex

router = APIRouter()


@router.post("/api/features/{number}/label", responses=PROBLEMS)
def post_label(served: ServedIndex, number: Number, said: wire.Saying) -> wire.LabelView:
    """Give a feature a label; earlier labels are kept."""
    served.index.feature(number)
    return label_view(served.index.labels.add(number, said.text))


@router.post("/api/features/{number}/note", responses=PROBLEMS)
def post_note(served: ServedIndex, number: Number, said: wire.Saying) -> list[str]:
    """Add a note to a feature; returns all of its notes."""
    served.index.feature(number)
    served.index.labels.add_note(number, said.text)
    return served.index.labels.notes(number)


def label_names(index: Index, numbers: Iterable[int]) -> dict[int, str]:
    """The newest label of each of these features that has one, in one query."""
    return {number: label.label for number, label in index.labels.of(list(numbers)).items()}


def label_view(label: Label) -> wire.LabelView:
    return wire.LabelView(label=label.label, by=label.by, at=label.at, because=_evidence_lines(label.evidence))


def score_views(index: Index, number: int, label: str | None) -> list[wire.ScoreView]:
    """The newest score of each test, of this label or of none."""
    latest = {score.score: score for score in index.labels.scores(number) if score.label in (label, "")}
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


def _evidence_lines(evidence: dict[str, Any]) -> list[str]:
    """The evidence that `sonde label` recorded, as sentences."""
    lines = []
    if words := evidence.get("words"):
        lines.append("fires at " + ", ".join(f"{word} ({share:.0%} of its activation)" for word, share in words))
    if near := evidence.get("near"):
        shares = (f"{word} ({own:.0%} of its examples, {others:.1%} of other text)" for word, own, others in near)
        lines.append("near " + ", ".join(shares))
    if (share := evidence.get("start of text", 0)) > 0:
        lines.append(f"at the start of a text in {share:.0%} of its examples")
    if examples := evidence.get("examples"):
        lines.append(f"from {examples} examples of every strength")
    return lines
