"""Labelled texts: which concepts does a single feature tell, beside a single neuron and a linear probe?

A text is its mean over tokens: of each feature's activation, and of the vector that the dictionary reads, whose dimensions are
the neurons of its site. Features and neurons are chosen, and the probe is trained, on half of the texts, and all
are judged by the area under the ROC curve on the other half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups, make_batch
from sonde.activations.shuffle import mix
from sonde.dictionaries.reading import Reading
from sonde.errors import TextError
from sonde.features.feature import Feature
from sonde.features.reader import Reader

RIDGE = 1e-3
"""of the probes, on dimensions of variance one"""
PROBE_STEPS = 50
FEWEST = 20
"""texts of a label, and without it, that it takes to judge"""


@dataclass(frozen=True)
class Told:
    """How well one concept is told on texts that nothing was chosen by."""

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


def concepts(reader: Reader, texts: Sequence[str], labels: Sequence[str]) -> list[Told]:
    """For each label that enough texts have: how well the best feature, neuron and linear probe tell those texts from the others.

    Raises TextError where no label has enough texts.
    """
    if len(texts) != len(labels):
        raise TextError(f"there are {len(texts):,} texts, but {len(labels):,} labels; give one for each")
    return _told(reader, *means(reader, texts), labels)


def word_concepts(reader: Reader, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> list[Told]:
    """The same for words with tags, such as parts of speech: a word is the mean of its tokens, in its sentence.

    Raises TextError where a sentence has not one tag for each word, or no tag has enough words.
    """
    texts, spans = [], []
    for number, (words, own) in enumerate(zip(sentences, tags, strict=True)):
        if len(words) != len(own):
            raise TextError(f"sentence {number} has {len(words)} words, but {len(own)} tags; give one for each")
        ends = np.cumsum([len(word) + 1 for word in words])
        texts.append(" ".join(words))
        spans.append(ends - 1)
    return _told(reader, *means(reader, texts, spans), [tag for own in tags for tag in own])


@torch.no_grad()
def means(
    reader: Reader, texts: Sequence[str], ends: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean activation of each feature [text, feature], and mean vector [text, d_in]; of an empty text zeros.

    Args:
        ends: of each text, where its words end; then there is a row for each word in the place of each text.
    """
    reading, cutter = Reading(reader.dictionary, reader.model), Cutter(reader.model)
    documents = list(cutter.tokenize(texts))
    # Which row each token belongs to: its text's, or that of the word in which it ends.
    if ends is None:
        n, owner = len(texts), [np.full(len(document.ids), document.number) for document in documents]
    else:
        first = np.cumsum([0, *map(len, ends)])
        n, owner = int(first[-1]), []
        for document, start, own in zip(documents, first[:-1], ends, strict=True):
            last = np.array([span[1] for span in document.spans], dtype=np.int64)
            owner.append(start + np.minimum(np.searchsorted(own, last), len(own) - 1))
    features = np.zeros((n, reader.dictionary.n_features), dtype=np.float32)
    vectors, lengths = np.zeros((n, reader.dictionary.d_in)), np.zeros(n)
    for group in groups(iter(documents), cutter):
        batch = make_batch(reader.model, group)
        x, _ = reading(batch.tokens, batch.text_mask)
        row, feature, value = (column.cpu().numpy() for column in reader.dictionary.active(x))
        place = np.array([owner[d][p] for d, p in zip(batch.document, batch.position, strict=True)], dtype=np.int64)
        np.add.at(features, (place[row], feature), value)
        np.add.at(vectors, place, x.cpu().numpy())
        np.add.at(lengths, place, 1)
    lengths = np.maximum(lengths, 1)[:, None]
    return features / lengths.astype(np.float32), vectors / lengths


def separating(
    reader: Reader, with_it: Sequence[str], without: Sequence[str], n: int = 20
) -> list[tuple[Feature, float]]:
    """Features that tell some texts from others best, with the area under the ROC curve of each alone."""
    features, _ = means(reader, [*with_it, *without])
    found = auc_of_each(features, np.arange(len(features)) < len(with_it))
    order = np.argsort(-found, kind="stable")[:n]
    return [(reader.index.feature(int(number)), float(found[number])) for number in order]


def _told(reader: Reader, features: np.ndarray, vectors: np.ndarray, labels: Sequence[str]) -> list[Told]:
    said = np.asarray(labels)
    names = [name for name in dict.fromkeys(labels) if FEWEST <= (said == name).sum() <= len(said) - FEWEST]
    if not names:
        raise TextError(f"no label has {FEWEST} texts with it and {FEWEST} without; give more texts, or fewer labels")
    with np.errstate(over="ignore"):
        chosen = mix(np.arange(len(said), dtype=np.uint64)) & np.uint64(1) == 0
    found = []
    for name in names:
        has = said == name
        by_feature, by_neuron = auc_of_each(features[chosen], has[chosen]), auc_of_each(vectors[chosen], has[chosen])
        feature, neuron = int(by_feature.argmax()), int(np.abs(by_neuron - 0.5).argmax())
        sign = 1 if by_neuron[neuron] >= 0.5 else -1
        found.append(
            Told(
                name,
                int(has.sum()),
                reader.index.feature(feature),
                float(auc_of_each(features[~chosen, feature : feature + 1], has[~chosen])[0]),
                neuron,
                float(auc_of_each(sign * vectors[~chosen, neuron : neuron + 1], has[~chosen])[0]),
                _probe_auc(vectors, has, chosen),
                _probe_auc(features, has, chosen),
            )
        )
    return found


def auc_of_each(values: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Of each column of values [text, column], the chance that a text with it has more than one without; ties count half."""
    order = np.argsort(values, axis=0, kind="stable")
    ranked = np.take_along_axis(values, order, axis=0)
    n, wanted = len(values), int(has.sum())
    places = np.arange(1, n + 1, dtype=np.float64)[:, None]
    # Equal values share the mean of their places: from the first of their run to the last.
    first = np.ones(values.shape, dtype=bool)
    first[1:] = ranked[1:] != ranked[:-1]
    begins = np.maximum.accumulate(np.where(first, places, 0), axis=0)
    last = np.ones(values.shape, dtype=bool)
    last[:-1] = first[1:]
    ends = np.minimum.accumulate(np.where(last, places, n)[::-1], axis=0)[::-1]
    rank = (begins + ends) / 2
    total = (rank * has[order]).sum(axis=0)
    return (total - wanted * (wanted + 1) / 2) / (wanted * (n - wanted))


def _probe_auc(values: np.ndarray, has: np.ndarray, chosen: np.ndarray) -> float:
    """Of a ridge logistic regression trained on the chosen texts, on the others."""
    x = torch.from_numpy(np.asarray(values, dtype=np.float32))
    mean, spread = x[chosen].mean(dim=0), x[chosen].std(dim=0)
    x = (x - mean) / spread.clamp_min(1e-6) * (spread > 0)
    target = torch.from_numpy(has.astype(np.float32))[chosen]
    weights, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = torch.nn.functional.binary_cross_entropy_with_logits(x[chosen] @ weights + bias, target)
        found = found + RIDGE * weights.square().sum()
        found.backward()
        return found

    optimiser.step(loss)
    with torch.no_grad():
        return float(auc_of_each((x[~chosen] @ weights)[:, None].numpy(), has[~chosen])[0])
