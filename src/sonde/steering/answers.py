"""Answers under edits, as Python returns them: strings and lists that draw themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from sonde.display import Block, Drawn, Grid, Line, shorten


class Answer(str, Drawn):
    """The model's answer: a string, which knows the edits under which it was given."""

    edits: tuple[str, ...]

    def __new__(cls, text: str, edits: Sequence[str] = ()) -> Self:
        answer = super().__new__(cls, text)
        answer.edits = tuple(edits)
        return answer

    def draw(self) -> list[Block]:
        return [Grid([[edit, "edit"] for edit in self.edits])] * bool(self.edits) + [Line(str(self))]


@dataclass(frozen=True)
class Response:
    """The answer at one dose."""

    dose: float | None
    """what the edits' values are multiplied by; None for the model as it is"""
    answer: str
    n_tokens: int
    concept: float | None
    """mean over the answer's tokens of the strongest of the edited features, when the plain model reads it, in units of
    its maximum; None where no feature is edited"""
    perplexity: float | None
    """of the answer under the plain model, after the question; None of an empty answer"""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Responses(list[Response], Drawn):
    """The answers at several doses, in their order."""

    def __repr__(self) -> str:
        doses = ", ".join("as it is" if response.dose is None else f"{response.dose:g}" for response in self)
        return f"Responses({len(self)} doses: {shorten(doses, 80)})"

    def draw(self) -> list[Block]:
        """A table of the doses: how much of the concept is in each answer, and how much the plain model is surprised."""
        rows = []
        for response in self:
            dose = "as it is" if response.dose is None else f"{response.dose:g}"
            concept = "-" if response.concept is None else f"{response.concept:.2f}"
            perplexity = "-" if response.perplexity is None else f"{response.perplexity:.3g}"
            rows.append([dose, concept, perplexity, " ".join(response.answer.split())])
        return [Grid(rows, ("dose", "concept", "perplexity", "answer"), right=(0, 1, 2))]
