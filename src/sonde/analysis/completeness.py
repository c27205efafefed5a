"""Completeness: which of some concepts have a feature, and how often a text must hold a concept before it gets one.

The paper's protocol (Templeton et al. 2024, "Scaling Monosemanticity", feature completeness): a prompt that ends with the concept, the five
features that fire most on its last token, and somebody who says whether one of them stands for it: here its label, or else the
tokens of its strongest examples, or whoever is asked. Presence against the logarithm of frequency is a sigmoid.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sonde.features.feature import Feature
from sonde.features.reader import Reader

TOP = 5
PROMPT = "This is about {concept}"
_WORD = re.compile(r"\w+", re.UNICODE)
Decide = Callable[[Feature, str], bool]
"""whether a feature stands for a concept"""


@dataclass(frozen=True)
class Presence:
    concept: str
    frequency: float
    """of a million words of the text, how many are the concept's"""
    feature: Feature | None
    """the strongest that stands for it"""


@dataclass(frozen=True)
class Completeness:
    found: list[Presence]
    slope: float
    """of the sigmoid in log10 of frequency"""
    threshold: float
    """frequency, per million words, at which half of the concepts have a feature; nan where all have one, or none"""

    @property
    def share(self) -> float:
        """Of the concepts that the text holds, those that have a feature."""
        known = [presence.feature is not None for presence in self.found if presence.frequency > 0]
        return float(np.mean(known)) if known else 0.0


def completeness(
    reader: Reader, concepts: Sequence[str], *, prompt: str = PROMPT, decide: Decide | None = None
) -> Completeness:
    """Look for a feature for each concept.

    Args:
        prompt: with {concept} at its end.
        decide: whether a feature stands for a concept; by default where its label, or a token at which it fires most, has
            every word of it.
    """
    decide = decide or stands_for
    frequency = _frequencies(reader, concepts)
    found = []
    for concept in concepts:
        fired = reader.read(prompt.format(concept=concept))
        hits = reader.search([fired], on="last", n=TOP)
        feature = next((hit.feature for hit in hits if decide(hit.feature, concept)), None)
        found.append(Presence(concept, frequency[concept], feature))
    slope, threshold = _sigmoid([p for p in found if p.frequency > 0])
    return Completeness(found, slope, threshold)


def stands_for(feature: Feature, concept: str) -> bool:
    """Whether a feature's label, or the words of its strongest examples, name a concept."""
    said = feature.label.label if feature.label is not None else ""
    words = set(_words(said)) | {word for example in feature.examples(5) for word in _words(_at(example))}
    return set(_words(concept)) <= words


def _at(example) -> str:
    """What stands from a little before the strongest token to its end, as one text."""
    before = "".join(text for text, _ in example.pieces[max(0, example.peak - 6) : example.peak + 1])
    after = "".join(text for text, _ in example.pieces[example.peak + 1 : example.peak + 3])
    return before + re.split(r"\W", after, maxsplit=1)[0]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _frequencies(reader: Reader, concepts: Sequence[str]) -> dict[str, float]:
    """Occurrences of each concept, of a million words of the index's text."""
    counts, total = dict.fromkeys(concepts, 0), 0
    wanted = {concept: " " + " ".join(_words(concept)) + " " for concept in concepts}
    for number in range(reader.index.facts.documents):
        words = _words(reader.index.document(number)[0])
        total += len(words)
        text = " " + "  ".join(words) + " "  # a space of its own on each side of each word
        joined = " " + " ".join(words) + " "
        for concept, phrase in wanted.items():
            counts[concept] += text.count(phrase) if phrase.count(" ") == 2 else joined.count(phrase)
    return {concept: 1e6 * n / max(1, total) for concept, n in counts.items()}


def _sigmoid(found: list[Presence]) -> tuple[float, float]:
    """Slope and threshold of presence against log10 of frequency, by ridge logistic regression."""
    has = np.array([presence.feature is not None for presence in found], dtype=float)
    if len(found) < 3 or has.all() or not has.any():
        return 0.0, float("nan")
    x = np.log10([presence.frequency for presence in found])
    design, weights = np.stack([x, np.ones_like(x)], axis=1), np.zeros(2)
    ridge = np.diag([1e-2, 0.0])
    for _ in range(50):  # Newton's method
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - has) + ridge @ weights
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + ridge + 1e-9 * np.eye(2)
        weights = weights - np.linalg.solve(hessian, gradient)
    slope, offset = weights
    return float(slope), float(10 ** (-offset / slope)) if abs(slope) > 1e-6 else float("nan")
