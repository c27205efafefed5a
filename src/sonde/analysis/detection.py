"""How well single features detect concepts, token by token, on texts of which every token's concepts are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonde.activations.contexts import Cutter, groups
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import Reading
from sonde.features.stream import stream
from sonde.models.model import Model


@dataclass(frozen=True)
class Presences:
    """Which concepts are present on which tokens."""

    token: np.ndarray
    """[presence] ascending"""
    concept: np.ndarray
    """[presence]"""
    n_tokens: int
    n_concepts: int

    @classmethod
    def of(cls, has: np.ndarray) -> "Presences":
        """The presences in an array [token, concept] of whether each concept is present."""
        token, concept = np.nonzero(has)
        return cls(token, concept, *has.shape)

    @property
    def counts(self) -> np.ndarray:
        """[concept] tokens on which each is present."""
        return np.bincount(self.concept, minlength=self.n_concepts)

    def among(self, tokens: np.ndarray) -> "Presences":
        """The same for some of the tokens [token, ascending], which are numbered from zero."""
        token, kept = _renumbered(self.token, tokens, self.n_tokens)
        return Presences(token, self.concept[kept], len(tokens), self.n_concepts)

    def dense_of(self, concept: int) -> np.ndarray:
        """[token] whether a concept is present."""
        has = np.zeros(self.n_tokens, dtype=bool)
        has[self.token[self.concept == concept]] = True
        return has

    def dense(self) -> np.ndarray:
        """[token, concept] whether each concept is present."""
        has = np.zeros((self.n_tokens, self.n_concepts), dtype=bool)
        has[self.token, self.concept] = True
        return has


@dataclass(frozen=True)
class SparseActivations:
    """The activations above zero on some tokens."""

    token: np.ndarray
    """[activation] ascending"""
    feature: np.ndarray
    """[activation]"""
    value: np.ndarray
    """[activation] above zero"""
    n_tokens: int
    n_features: int

    def among(self, tokens: np.ndarray) -> "SparseActivations":
        """The same for some of the tokens [token, ascending], which are numbered from zero."""
        token, kept = _renumbered(self.token, tokens, self.n_tokens)
        return SparseActivations(token, self.feature[kept], self.value[kept], len(tokens), self.n_features)

    def of(self, feature: int) -> np.ndarray:
        """One feature's activation on each token."""
        values = np.zeros(self.n_tokens, dtype=np.float32)
        mine = self.feature == feature
        values[self.token[mine]] = self.value[mine]
        return values


def _renumbered(token: np.ndarray, tokens: np.ndarray, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The places in `tokens` of those entries of `token` that are in it, and which entries these are."""
    place = np.full(n_tokens, -1)
    place[tokens] = np.arange(len(tokens))
    kept = place[token] >= 0
    return place[token[kept]], kept


@dataclass(frozen=True)
class TextVectors:
    """A model's vectors on every token of some texts, one text after the other."""

    spans: list[list[tuple[int, int]]]
    """of each text, the start and end of each token, in characters"""
    x: Float[Tensor, "token width"]

    @property
    def document(self) -> np.ndarray:
        """[token] number of its text."""
        return np.repeat(np.arange(len(self.spans)), [len(spans) for spans in self.spans])


def read_texts(model: Model, dictionary: Dictionary, texts: Sequence[str], site: str | None = None) -> TextVectors:
    """The vectors that a dictionary reads on every token of some texts, or those at another site, in float32.

    A token whose vector is massive, of which the dictionary says nothing, counts as an average one.
    """
    reading, cutter = Reading(dictionary, model), Cutter(model)
    documents = list(cutter.tokenize(texts))
    spans = [list(document.spans) for document in documents]
    first = np.cumsum([0, *map(len, spans)])
    x = torch.zeros(0, 0)
    ordinary = torch.zeros(int(first[-1]), dtype=torch.bool)
    for read in stream(reading, groups(iter(documents), cutter), [site] if site else []):
        rows = (read.sites[site] if site else read.x).float().cpu()
        x = x if len(x) else torch.zeros(int(first[-1]), rows.shape[1])
        place = torch.from_numpy(first[read.batch.document] + read.batch.position)
        x[place], ordinary[place] = rows, True
    if not ordinary.all():
        x[~ordinary] = x[ordinary].mean(dim=0)
    return TextVectors(spans, x)


@torch.no_grad()
def activations(
    dictionary: Dictionary, x: Float[Tensor, "token d_in"], rows_at_once: int = 1 << 13
) -> SparseActivations:
    """The activations above zero on the vectors of some tokens."""
    parts = []
    for first in range(0, len(x), rows_at_once):
        rows = x[first : first + rows_at_once].to(dictionary.W_enc)
        row, feature, value = (column.cpu().numpy() for column in dictionary.active(rows))
        order = np.argsort(row, kind="stable")
        parts.append((row[order] + first, feature[order], value[order]))
    token, feature, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return SparseActivations(token, feature, value, len(x), dictionary.n_features)


@dataclass(frozen=True)
class Threshold:
    """A threshold of a score, and how well scores at or above it detect a concept."""

    value: float
    f1: float
    precision: float
    recall: float


def best_threshold(scores: np.ndarray, has: np.ndarray) -> Threshold:
    """The threshold above zero of scores [token] with the largest F1; infinity if no score is above zero."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    if not len(order) or not has.any():
        return Threshold(float("inf"), 0.0, 0.0, 0.0)
    right = np.cumsum(has[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + has.sum())
    f1[:-1][scores[order][:-1] == scores[order][1:]] = 0  # equal scores are on the same side of any threshold
    best = int(f1.argmax())
    return at_threshold(scores, has, float(scores[order[best]]))


def at_threshold(scores: np.ndarray, has: np.ndarray, value: float) -> Threshold:
    """How well a threshold of scores [token] detects a concept."""
    above = scores >= value
    right, n_above, n = int((above & has).sum()), int(above.sum()), int(has.sum())
    f1 = 2 * right / (n_above + n) if n_above + n else 0.0
    return Threshold(value, f1, right / n_above if n_above else 0.0, right / n if n else 0.0)
