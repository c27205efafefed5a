"""Find features by contrast: texts that have something against texts that do not.

A feature's separation is the share of tokens on which it fires in the first texts, minus the share in the
second. A feature that keeps firing as long as a topic lasts scores higher than one that marks a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sonde.activations.contexts import Cutter, Tokenized, groups
from sonde.activations.corpus import Document
from sonde.analysis.auc import auc_of_columns
from sonde.analysis.detection import Presences
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import Reading
from sonde.features.feature import Hits
from sonde.features.reader import Reader
from sonde.features.stream import stream
from sonde.models.model import Model


@dataclass(frozen=True)
class Firing:
    """How much each feature fires in each of some texts."""

    share: np.ndarray
    """[text, feature] share of the text's tokens on which the feature fires"""
    mean: np.ndarray
    """[text, feature] mean activation over the text's tokens"""


def firing(model: Model, dictionary: Dictionary, texts: Sequence[str | Document]) -> Firing:
    """How much each feature of a dictionary fires in each text."""
    cutter = Cutter(model)
    counts = np.zeros((len(texts), dictionary.n_features))
    sums = np.zeros_like(counts)
    lengths = np.zeros(len(texts))
    for read in stream(Reading(dictionary, model), groups(cutter.tokenize(texts), cutter)):
        row, feature, value = read.fires
        document = read.batch.document
        np.add.at(counts, (document[row], feature), 1)
        np.add.at(sums, (document[row], feature), value)
        np.add.at(lengths, document, 1)
    lengths = np.maximum(lengths, 1)[:, None]
    return Firing(counts / lengths, sums / lengths)


def separation(with_it: Firing, without: Firing) -> np.ndarray:
    """Mean share of tokens in the first texts minus that in the second [feature]."""
    return with_it.share.mean(axis=0) - without.share.mean(axis=0)


def separating(reader: Reader, with_it: Sequence[str], without: Sequence[str], n: int = 20) -> Hits:
    """The features whose mean activation tells some texts from others best, by the area under the ROC curve."""
    features, _ = means(reader, [*with_it, *without])
    has = np.arange(len(features)) < len(with_it)
    area = auc_of_columns(features, Presences.of(has[:, None]))[:, 0]
    order = np.argsort(-area, kind="stable")[:n]
    return Hits.of(reader.index, ((number, area[number]) for number in order), "AUC")


def means(
    reader: Reader, texts: Sequence[str], ends: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean activation of each feature [text, feature], and mean vector [text, d_in]; zeros for an empty text.

    Args:
        ends: of each text, where its words end, in characters; then there is a row for each word, not for each text.
    """
    cutter = Cutter(reader.model)
    documents = list(cutter.tokenize(texts))
    n, owners = len(texts), [np.full(len(document.ids), document.number) for document in documents]
    if ends is not None:
        n, owners = sum(map(len, ends)), _words(documents, ends)
    features = np.zeros((n, reader.dictionary.n_features), dtype=np.float32)
    vectors, lengths = np.zeros((n, reader.dictionary.d_in)), np.zeros(n)
    for read in stream(Reading(reader.dictionary, reader.model), groups(iter(documents), cutter)):
        row, feature, value = read.fires
        places = zip(read.batch.document, read.batch.position, strict=True)
        owner = np.array([owners[document][position] for document, position in places], dtype=np.int64)
        np.add.at(features, (owner[row], feature), value)
        np.add.at(vectors, owner, read.x.cpu().numpy())
        np.add.at(lengths, owner, 1)
    lengths = np.maximum(lengths, 1)[:, None]
    return features / lengths.astype(np.float32), vectors / lengths


def _words(documents: Sequence[Tokenized], ends: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each document, the number of the word in which each token ends [token], counted through all documents."""
    first = np.cumsum([0, *map(len, ends)])
    words = []
    for document, start, ends_here in zip(documents, first[:-1], ends, strict=True):
        last = np.array([end for _, end in document.spans], dtype=np.int64)
        words.append(start + np.minimum(np.searchsorted(ends_here, last), len(ends_here) - 1))
    return words
