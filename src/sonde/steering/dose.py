"""Dose and response: what a model answers as it is edited more and more strongly, and where it breaks.

Each answer is read once more by the model without edits. Its perplexity of the answer shows where the answer is no
longer language, and how strongly the edited features fire on it shows how much of the concept is in it. A model that
repeats itself finds its own loops likely, so that the share of repetition stands beside the perplexity.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from sonde.dictionaries.reading import Reading
from sonde.display import Block, Drawn, Grid, shorten
from sonde.errors import EditError
from sonde.features.reader import Reader
from sonde.models.model import Model, Tokens
from sonde.steering.apply import make_edits
from sonde.steering.batching import Batcher
from sonde.steering.edits import Edit, EditLike, as_list, read_edit
from sonde.steering.request import Sampling
from sonde.steering.settings import AnswerSettings

DOSES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
REPEATED = 3
"""consecutive tokens that count as repeated where the answer had them before"""


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
    repetition: float | None
    """share of the answer's runs of three tokens that occurred before in it; None where it has no such run"""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Responses(list[Response], Drawn):
    """The answers at several doses, in their order."""

    def __repr__(self) -> str:
        doses = ", ".join("as it is" if response.dose is None else f"{response.dose:g}" for response in self)
        return f"Responses({len(self)} doses: {shorten(doses, 80)})"

    def draw(self) -> list[Block]:
        """A table of the doses: how much of the concept is in the answers, their perplexity, and repetition."""
        rows = []
        for response in self:
            dose = "as it is" if response.dose is None else f"{response.dose:g}"
            concept = "-" if response.concept is None else f"{response.concept:.2f}"
            perplexity = "-" if response.perplexity is None else f"{response.perplexity:.3g}"
            repetition = "-" if response.repetition is None else f"{response.repetition:.0%}"
            rows.append([dose, concept, perplexity, repetition, " ".join(response.answer.split())])
        return [Grid(rows, ("dose", "concept", "perplexity", "repeated", "answer"), right=(0, 1, 2, 3))]


def dose_response(
    reader: Reader,
    batcher: Batcher,
    edits: EditLike | Sequence[EditLike],
    prompt: Tokens,
    *,
    doses: Sequence[float] = DOSES,
    max_tokens: int = 40,
    settings: AnswerSettings = AnswerSettings(),
    confined: bool = False,
) -> Responses:
    """Answer a prompt as the model is, and with the edits at each dose, all at once, with the same seed.

    Args:
        edits: their values are multiplied by each dose; a factor's distance from 1 is.
        prompt: a batch of one, such as `model.chat` gives.
        confined: as of `make_edits`.

    Raises:
        EditError: no edits, or ones that cannot be applied.
        FeatureError, UsageError, BusyError: as for any answer.
    """
    values = [read_edit(edit) for edit in as_list(edits)]
    if not values:
        raise EditError("nothing is edited; give an edit such as feature:311=1max")
    sampling = Sampling.of(settings, reader.model, max_tokens, strip=True)
    at_doses: list[tuple[float | None, list[Edit]]] = [(None, [])]
    at_doses += [(dose, [_at_dose(edit, dose) for edit in values]) for dose in doses]
    asked = [(prompt, make_edits(edits, reader.index, confined=confined), sampling) for _, edits in at_doses]
    answers = batcher.answer_all(asked)
    ids = [[piece.token for piece in pieces if piece.token is not None] for pieces in answers]
    features = sorted({number for edit in values for number in edit.numbers})
    with torch.no_grad():
        read = batcher.run(lambda: _read_again(reader, prompt.ids[0].tolist(), ids, features))
    return Responses(
        Response(dose, "".join(piece.text for piece in pieces), len(tokens), concept, perplexity, repetition(tokens))
        for (dose, _), pieces, tokens, (concept, perplexity) in zip(at_doses, answers, ids, read, strict=True)
    )


def _at_dose(edit: Edit, dose: float) -> Edit:
    return replace(edit, value=1 + (edit.value - 1) * dose if edit.op == "scale" else edit.value * dose)


def repetition(tokens: Sequence[int]) -> float | None:
    """The share of an answer's runs of three tokens that occurred before in it; None where it has no such run."""
    runs = [tuple(tokens[place : place + REPEATED]) for place in range(len(tokens) - REPEATED + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else None


def perplexities(model: Model, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[float | None]:
    """The perplexity under a model of each answer (token ids) after its prompt; None of an empty one."""
    batch, is_answer = _with_answers(model, prompts, answers)
    log_p = model.logits(batch)[:, :-1].float().log_softmax(dim=-1)
    surprise = -log_p.gather(2, batch.ids[:, 1:, None])[..., 0]
    return [
        float(surprise[row][is_answer[row, 1:]].mean().exp()) if answer else None for row, answer in enumerate(answers)
    ]


def _with_answers(
    model: Model, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> tuple[Tokens, Bool[Tensor, "answer position"]]:
    """Prompts with their answers as one batch, and a mask of the answers' tokens."""
    batch = model.pad([prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])
    is_answer = batch.mask.bool()
    for row, prompt in enumerate(prompts):
        is_answer[row, : len(prompt)] = False
    return batch, is_answer


def _read_again(
    reader: Reader, prompt: list[int], answers: list[list[int]], features: list[int]
) -> list[tuple[float | None, float | None]]:
    """(concept, perplexity) of each answer, as the model without edits reads it."""
    model, dictionary = reader.model, reader.dictionary
    prompts = [prompt] * len(answers)
    concepts: list[float | None] = [None] * len(answers)
    if features:
        batch, is_answer = _with_answers(model, prompts, answers)
        reading = Reading(dictionary, model)
        x = reading(batch, is_answer).x
        ordinary = reading.ordinary({reader.dictionary.site: x})
        maxima = torch.as_tensor(reader.index.statistics["maximum"][features]).clamp_min(1e-30)
        strongest = (dictionary.encode(x)[:, features].cpu() / maxima).max(dim=1).values
        if ordinary is not None:
            strongest = strongest * ordinary.cpu()
        rows = is_answer.nonzero()[:, 0].cpu()
        concepts = [float(strongest[rows == row].mean()) if answer else 0.0 for row, answer in enumerate(answers)]
    return list(zip(concepts, perplexities(model, prompts, answers), strict=True))
