"""Labelled texts: how well a single feature detects each label, beside a single neuron and a linear probe.

A text is its mean over tokens: of each feature's activation, and of the vector that the dictionary reads, whose
dimensions are the neurons of its site. Features and neurons are chosen, and the probes are fitted, on half of the
texts, and all are judged by the area under the ROC curve on the other half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sonde.activations.shuffle import mix
from sonde.analysis.auc import auc_of_columns
from sonde.analysis.contrast import means
from sonde.analysis.detection import Presences
from sonde.errors import TextError
from sonde.features.feature import Feature
from sonde.features.reader import Reader
from sonde.probes.fit import logistic

FEWEST = 20
"""texts with a label, and texts without it, that are needed to judge"""


@dataclass(frozen=True)
class ConceptScores:
    """How well one label is detected on texts that nothing was chosen or fitted on, as areas under the ROC curve."""

    label: str
    n_texts: int
    """texts, or words, that have it"""
    feature: Feature
    """the best single one"""
    feature_auc: float
    neuron: int
    """the best single dimension of what the dictionary reads, of either sign"""
    neuron_auc: float
    probe_auc: float
    """of a logistic regression on the vectors"""
    features_auc: float
    """of a logistic regression on all features' activations"""


def concepts(reader: Reader, texts: Sequence[str], labels: Sequence[str]) -> list[ConceptScores]:
    """How well the best feature, the best neuron and linear probes detect each label that enough texts have.

    Raises TextError if no label has enough texts.
    """
    if len(texts) != len(labels):
        raise TextError(f"there are {len(texts):,} texts, but {len(labels):,} labels; give one for each")
    return _scores(reader, *means(reader, texts), labels)


def word_concepts(
    reader: Reader, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]
) -> list[ConceptScores]:
    """The same for words with tags, such as parts of speech: a word is the mean of its tokens, in its sentence.

    Raises TextError if a sentence does not have one tag for each word, or no tag has enough words.
    """
    texts, ends = [], []
    for number, (words, tags_of_words) in enumerate(zip(sentences, tags, strict=True)):
        if len(words) != len(tags_of_words):
            raise TextError(
                f"sentence {number} has {len(words)} words, but {len(tags_of_words)} tags; give one for each"
            )
        texts.append(" ".join(words))
        ends.append(np.cumsum([len(word) + 1 for word in words]) - 1)
    return _scores(reader, *means(reader, texts, ends), [tag for tags_of_words in tags for tag in tags_of_words])


def _scores(reader: Reader, features: np.ndarray, vectors: np.ndarray, labels: Sequence[str]) -> list[ConceptScores]:
    """Scores from the mean activations [text, feature] and vectors [text, d_in] of labelled texts."""
    counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
    names = [label for label, count in counts.items() if FEWEST <= count <= len(labels) - FEWEST]
    if not names:
        raise TextError(f"no label has {FEWEST} texts with it and {FEWEST} without; give more texts, or fewer labels")
    has = np.asarray(labels)[:, None] == np.asarray(names)
    with np.errstate(over="ignore"):
        first = mix(np.arange(len(has), dtype=np.uint64)) & np.uint64(1) == 0
    choose, judge = Presences.of(has[first]), ~first
    by_feature, by_neuron = (auc_of_columns(values[first], choose) for values in (features, vectors))
    scores = []
    for place, name in enumerate(names):
        feature, neuron = int(by_feature[:, place].argmax()), int(np.abs(by_neuron[:, place] - 0.5).argmax())
        sign = 1 if by_neuron[neuron, place] >= 0.5 else -1
        of_label = has[:, place]
        areas = [
            _area(values, of_label[judge])
            for values in (
                features[judge, feature],
                sign * vectors[judge, neuron],
                _probe_scores(vectors, of_label, first),
                _probe_scores(features, of_label, first),
            )
        ]
        scores.append(ConceptScores(name, counts[name], reader.index.feature(feature), areas[0], neuron, *areas[1:]))
    return scores


def _probe_scores(values: np.ndarray, has: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Scores on the second half of the texts of a probe that is fitted on the first."""
    x = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return logistic(x[first], torch.from_numpy(has[first])).score(x[~first]).numpy()


def _area(scores: np.ndarray, has: np.ndarray) -> float:
    return float(auc_of_columns(scores[:, None], Presences.of(has[:, None]))[0, 0])
