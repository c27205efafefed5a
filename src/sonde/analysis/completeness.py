"""Completeness: which of some concepts have a feature, and how frequent a concept must be in a text to get one.

The protocol of Templeton et al. 2024, "Scaling Monosemanticity", feature completeness: a prompt that ends with the
concept, the five features that fire most on its last token, and a judgement whether one of them stands for it: here by
its label and the tokens of its strongest examples, or by any other function. Presence is fitted against the logarithm
of frequency by a sigmoid.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import TextError
from sonde.features.examples import Example
from sonde.features.feature import Feature
from sonde.features.index import Index
from sonde.features.reader import Reader, as_reader
from sonde.texts import read_lines

TOP = 5
PROMPT = "This is about {concept}"
_WORD = re.compile(r"\w+", re.UNICODE)
Decide = Callable[[Feature, str], bool]
"""whether a feature stands for a concept"""


@dataclass(frozen=True)
class Presence:
    concept: str
    frequency: float
    """occurrences of the concept in a million words of the text"""
    feature: Feature | None
    """the strongest that stands for it"""


@dataclass(frozen=True)
class Completeness(Drawn):
    presences: list[Presence]
    slope: float
    """of the sigmoid in log10 of frequency"""
    threshold: float
    """frequency, per million words, at which half of the concepts have a feature; nan where all have one, or none"""

    @property
    def share(self) -> float:
        """Of the concepts that are in the text, the share that has a feature."""
        known = [presence.feature is not None for presence in self.presences if presence.frequency > 0]
        return float(np.mean(known)) if known else 0.0

    def __repr__(self) -> str:
        return f"Completeness({self.share:.0%} of {len(self.presences):,} concepts)"

    def draw(self) -> list[Block]:
        """The concepts, the most frequent first, with their features."""
        rows = [
            [each.concept, f"{each.frequency:,.1f}", "-" if each.feature is None else str(each.feature.number)]
            for each in sorted(self.presences, key=lambda each: -each.frequency)
        ]
        said = (
            f"{self.share:.0%} of the concepts that the text holds have a feature; half of them do from "
            f"{self.threshold:,.1f} in a million words on"
        )
        return [Grid(rows, ("concept", "of a million words", "feature"), right=(1, 2)), Line(said)]


@public()
def completeness(
    index: Index | Reader | str | Path,
    concepts: str | Path | Sequence[str],
    *,
    prompt: str = PROMPT,
    device: str = "auto",
    decide: Decide | None = None,
) -> Completeness:
    """Look for a feature for each of some concepts, and how frequent a concept must be in the text to have one.

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        concepts: a list of them, or a text file with one on each line.
        prompt: a text that ends with {concept}; the five features that fire most on its last token are looked at.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.
        decide: whether a feature stands for a concept; by default whether its label and the tokens on which it fires
            most have every word of it.

    Raises TextError where the file cannot be read or has no lines, or the prompt has no {concept}.
    """
    is_file = isinstance(concepts, str | Path)
    names = [line.strip() for line in read_lines(concepts) if line.strip()] if is_file else list(concepts)
    if not names or "{concept}" not in prompt:
        lacking = "there are no concepts to look for; give one a line" if not names else ""
        raise TextError(lacking or f"the prompt {prompt!r} has no {{concept}} in it, such as {PROMPT!r}")
    reader, decide = as_reader(index, device), decide or stands_for
    frequency = _frequencies(reader, names)
    presences = []
    for concept in names:
        hits = reader.search(prompt.format(concept=concept), on="last", n=TOP)
        feature = next((hit.feature for hit in hits if decide(hit.feature, concept)), None)
        presences.append(Presence(concept, frequency[concept], feature))
    slope, threshold = _sigmoid([presence for presence in presences if presence.frequency > 0])
    return Completeness(presences, slope, threshold)


def stands_for(feature: Feature, concept: str) -> bool:
    """Whether a feature's label and the words at its strongest examples together have every word of a concept."""
    label = feature.label.label if feature.label is not None else ""
    words = set(_words(label)) | {word for example in feature.examples(5) for word in _words(_at_peak(example))}
    return set(_words(concept)) <= words


def _at_peak(example: Example) -> str:
    """The text from a little before the strongest token to the end of its word."""
    before = "".join(text for text, _ in example.pieces[max(0, example.peak - 6) : example.peak + 1])
    after = "".join(text for text, _ in example.pieces[example.peak + 1 : example.peak + 3])
    return before + re.split(r"\W", after, maxsplit=1)[0]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _frequencies(reader: Reader, concepts: Sequence[str]) -> dict[str, float]:
    """Occurrences of each concept in a million words of the index's text."""
    counts, total = dict.fromkeys(concepts, 0), 0
    phrases = {concept: " " + " ".join(_words(concept)) + " " for concept in concepts}
    for number in range(reader.index.facts.documents):
        words = _words(reader.index.document(number)[0])
        total += len(words)
        apart = " " + "  ".join(words) + " "  # a space of its own on each side of each word
        joined = " " + " ".join(words) + " "
        for concept, phrase in phrases.items():
            counts[concept] += apart.count(phrase) if phrase.count(" ") == 2 else joined.count(phrase)
    return {concept: 1e6 * n / max(1, total) for concept, n in counts.items()}


def _sigmoid(presences: list[Presence]) -> tuple[float, float]:
    """Slope and threshold of presence against log10 of frequency, by ridge logistic regression."""
    has = np.array([presence.feature is not None for presence in presences], dtype=float)
    if len(presences) < 3 or has.all() or not has.any():
        return 0.0, float("nan")
    x = np.log10([presence.frequency for presence in presences])
    design, weights = np.stack([x, np.ones_like(x)], axis=1), np.zeros(2)
    ridge = np.diag([1e-2, 0.0])
    for _ in range(50):  # Newton's method
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - has) + ridge @ weights
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + ridge + 1e-9 * np.eye(2)
        weights = weights - np.linalg.solve(hessian, gradient)
    slope, offset = weights
    return float(slope), float(10 ** (-offset / slope)) if abs(slope) > 1e-6 else float("nan")
