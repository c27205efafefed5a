"""Find features by contrast: texts that have something against texts that have not.

A feature's separation is the share of tokens on which it fires in the first texts, less the share in the
second. A feature that keeps firing as long as a topic lasts scores higher than one that marks a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups, make_batch
from sonde.activations.corpus import Document
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import Reading
from sonde.models.model import Model


@dataclass(frozen=True)
class Firing:
    """How much each feature fires in each of some texts."""

    share: np.ndarray
    """[text, feature] share of the text's tokens on which the feature fires"""
    mean: np.ndarray
    """[text, feature] mean activation over the text's tokens"""


@torch.no_grad()
def firing(model: Model, dictionary: Dictionary, texts: Sequence[str | Document]) -> Firing:
    """Run texts through model and dictionary, and sum up each text."""
    cutter, reading = Cutter(model), Reading(dictionary, model)
    counts = np.zeros((len(texts), dictionary.n_features))
    sums = np.zeros_like(counts)
    lengths = np.zeros(len(texts))
    for group in groups(cutter.tokenize(texts), cutter):
        batch = make_batch(model, group)
        x, _ = reading(batch.tokens, batch.text_mask)
        row, feature, value = (part.cpu().numpy() for part in dictionary.active(x))
        np.add.at(counts, (batch.document[row], feature), 1)
        np.add.at(sums, (batch.document[row], feature), value)
        np.add.at(lengths, batch.document, 1)
    lengths = np.maximum(lengths, 1)[:, None]
    return Firing(counts / lengths, sums / lengths)


def separation(with_it: Firing, without: Firing) -> np.ndarray:
    """Mean share of tokens in the first texts less that in the second [feature]."""
    return with_it.share.mean(axis=0) - without.share.mean(axis=0)


def auc(with_it: np.ndarray, without: np.ndarray) -> float:
    """Chance that a value of the first exceeds one of the second, ties counting half."""
    above = (with_it[:, None] > without[None, :]).mean()
    equal = (with_it[:, None] == without[None, :]).mean()
    return float(above + equal / 2)
