"""Labelled texts: how well a single feature detects each label, beside a single neuron and a linear probe.

A text is its mean over tokens: of each feature's activation, and of the vector that the dictionary reads, whose
dimensions are the neurons of its site. Features and neurons are chosen, and the probes are fitted, on half of the
texts, and all are judged by the area under the ROC curve on the other half.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sonde.activations.corpus import Corpus
from sonde.activations.shuffle import mix
from sonde.analysis.auc import auc_of_columns
from sonde.analysis.contrast import means
from sonde.analysis.detection import Presences
from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line, shorten
from sonde.errors import TextError
from sonde.features.feature import Feature
from sonde.features.index import Index
from sonde.features.reader import Reader, as_reader
from sonde.probes.fit import logistic
from sonde.settings import Count

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


class Concepts(list[ConceptScores], Drawn):
    """How well labels are detected, each on its own."""

    def __repr__(self) -> str:
        return f"Concepts({len(self)}: {shorten(', '.join(each.label for each in self), 80)})"

    def draw(self) -> list[Block]:
        """A table of the labels, and how many of them one feature or one neuron detects."""
        header = ("label", "texts", "feature", "AUC", "neuron", "AUC", "probe", "all features", "fires mostly at")
        lines = [
            Line(f"{what} reaches 0.9 for {sum(area >= 0.9 for area in areas)} of {len(self)} concepts")
            for what, areas in (
                ("a single feature", [each.feature_auc for each in self]),
                ("a single neuron", [each.neuron_auc for each in self]),
            )
        ]
        return [Grid([_row(each) for each in self], header, right=tuple(range(1, 8))), *lines]


def _row(each: ConceptScores) -> list[str]:
    best = [str(each.feature.number), f"{each.feature_auc:.3f}", str(each.neuron), f"{each.neuron_auc:.3f}"]
    probes = [f"{each.probe_auc:.3f}", f"{each.features_auc:.3f}"]
    return [each.label, f"{each.n_texts:,}", *best, *probes, ", ".join(each.feature.usual_tokens(3))]


@public()
def concepts(
    index: Index | Reader | str | Path,
    text: str | Path | Sequence[str],
    label: str | Sequence[str] = "label",
    *,
    field: str = "text",
    n: int | str | None = None,
    device: str = "auto",
) -> Concepts:
    """How well the best feature, the best neuron and linear probes detect each label that enough texts have.

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        text: a .jsonl file of texts with labels, or its .gz; or a list of texts.
        label: the field that holds the label; of a list of texts their labels, one for each.
        field: the field that holds the text.
        n: use so many texts; all by default.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.

    Raises TextError if no label has enough texts, or a text has no label.
    """
    texts, labels = _labelled(text, label, field, None if n is None else Count(n))
    _judged(labels)  # before the model is loaded and the texts are read
    reader = as_reader(index, device)
    return _scores(reader, *means(reader, texts), labels)


def _labelled(
    text: str | Path | Sequence[str], label: str | Sequence[str], field: str, n: int | None
) -> tuple[list[str], list[str]]:
    """The first n texts, and their labels."""
    if isinstance(text, str | Path) and isinstance(label, str):
        texts, labels = ([row.text for row in itertools.islice(Corpus(text, name), n)] for name in (field, label))
        return texts, labels
    if isinstance(text, str | Path) or isinstance(label, str):
        raise TextError("a list of texts goes with a list of labels, and a file with the name of the label's field")
    if len(text) != len(label):
        raise TextError(f"there are {len(text):,} texts, but {len(label):,} labels; give one for each")
    return list(text[:n]), list(label[:n])


def word_concepts(reader: Reader, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> Concepts:
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
    all_tags = [tag for tags_of_words in tags for tag in tags_of_words]
    _judged(all_tags)  # before the texts are read
    return _scores(reader, *means(reader, texts, ends), all_tags)


def _judged(labels: Sequence[str]) -> dict[str, int]:
    """Label -> how many have it, of those that enough have and enough do not; raises TextError where there are none."""
    counts = Counter(labels)
    judged = {label: count for label, count in counts.items() if FEWEST <= count <= len(labels) - FEWEST}
    if not judged:
        [(most, count)] = counts.most_common(1) or [("", 0)]
        raise TextError(
            f"no label has {FEWEST} texts with it and {FEWEST} without: of {len(labels):,} texts, {count:,} have the "
            f"commonest, {shorten(repr(most), 40)}; give more texts, or fewer labels"
        )
    return judged


def _scores(reader: Reader, features: np.ndarray, vectors: np.ndarray, labels: list[str]) -> Concepts:
    """Scores from the mean activations [text, feature] and vectors [text, d_in] of labelled texts."""
    counts = _judged(labels)
    names = list(counts)
    has = np.asarray(labels)[:, None] == np.asarray(names)
    with np.errstate(over="ignore"):
        first = mix(np.arange(len(has), dtype=np.uint64)) & np.uint64(1) == 0
    choose, judge = Presences.of(has[first]), ~first
    by_feature, by_neuron = (auc_of_columns(values[first], choose) for values in (features, vectors))
    scores = Concepts()
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
