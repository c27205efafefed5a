"""How well single features tell where concepts are present, token by token, where that is known.

The area under the ROC curve of a feature for a concept is the chance that it is higher on a token of the concept than on another, ties counting half. For
features that are silent on most tokens all areas come out of two sums over the activations alone: with P tokens of the concept and N others, m activations of
the feature, p of them on tokens of the concept and those at ranks r from the strongest, the pairs that are told rightly are

    p N - sum(r) + p (p - 1) / 2 + (P - p) (N - (m - p)) / 2
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sonde.activations.contexts import Batch, Cutter, groups, make_batch
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import Reading
from sonde.models.model import Model

FEATURES_AT_ONCE = 256
PAIRS_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class Presences:
    """Which concepts are present on which tokens."""

    token: np.ndarray
    """[presence] rising"""
    concept: np.ndarray
    """[presence]"""
    n_tokens: int
    n_concepts: int

    @property
    def counts(self) -> np.ndarray:
        """[concept] tokens on which each is present."""
        return np.bincount(self.concept, minlength=self.n_concepts)

    def among(self, tokens: np.ndarray) -> "Presences":
        """The same of some tokens alone [token, rising], which are numbered anew."""
        place = np.full(self.n_tokens, -1)
        place[tokens] = np.arange(len(tokens))
        kept = place[self.token] >= 0
        return Presences(place[self.token[kept]], self.concept[kept], len(tokens), self.n_concepts)

    def dense_of(self, concept: int) -> np.ndarray:
        """[token] whether a concept is present."""
        found = np.zeros(self.n_tokens, dtype=bool)
        found[self.token[self.concept == concept]] = True
        return found

    def dense(self) -> np.ndarray:
        """[token, concept] of truth values."""
        found = np.zeros((self.n_tokens, self.n_concepts), dtype=bool)
        found[self.token, self.concept] = True
        return found


@dataclass(frozen=True)
class Activations:
    """What fires on some tokens."""

    token: np.ndarray
    """[activation] rising"""
    feature: np.ndarray
    """[activation]"""
    value: np.ndarray
    """[activation] above zero"""
    n_tokens: int
    n_features: int

    def among(self, tokens: np.ndarray) -> "Activations":
        """The same of some tokens alone [token, rising], which are numbered anew."""
        place = np.full(self.n_tokens, -1)
        place[tokens] = np.arange(len(tokens))
        kept = place[self.token] >= 0
        return Activations(place[self.token[kept]], self.feature[kept], self.value[kept], len(tokens), self.n_features)

    def of(self, feature: int) -> np.ndarray:
        """One feature on each token."""
        values = np.zeros(self.n_tokens, dtype=np.float32)
        own = self.feature == feature
        values[self.token[own]] = self.value[own]
        return values


@dataclass(frozen=True)
class Texts:
    """Texts as the model reads them."""

    spans: list[list[tuple[int, int]]]
    """of each text, where its tokens lie in it, in characters"""
    x: torch.Tensor
    """[token, d_in] what the dictionary reads, one text after the other"""

    @property
    def document(self) -> np.ndarray:
        """[token] number of its text."""
        return np.repeat(np.arange(len(self.spans)), [len(own) for own in self.spans])


def read_texts(model: Model, dictionary: Dictionary, texts: Sequence[str]) -> Texts:
    """What passes a dictionary's site on every token of some texts."""
    reading = Reading(dictionary, model)
    return read_tokens(model, texts, lambda batch: reading(batch.tokens, batch.text_mask).x)


@torch.no_grad()
def read_tokens(model: Model, texts: Sequence[str], read: Callable[[Batch], torch.Tensor]) -> Texts:
    """The same by any way of reading a batch, which gives a row for each token of its text."""
    cutter = Cutter(model)
    documents = list(cutter.tokenize(texts))
    spans = [list(document.spans) for document in documents]
    first = np.cumsum([0, *map(len, spans)])
    x = torch.zeros(0, 0)
    for group in groups(iter(documents), cutter):
        batch = make_batch(model, group)
        rows = read(batch).float().cpu()
        x = x if len(x) else torch.zeros(int(first[-1]), rows.shape[1])
        x[torch.from_numpy(first[batch.document] + batch.position)] = rows
    return Texts(spans, x)


@torch.no_grad()
def activations(dictionary: Dictionary, x: torch.Tensor, rows_at_once: int = 1 << 13) -> Activations:
    """What fires on tokens [token, d_in]."""
    parts = []
    for first in range(0, len(x), rows_at_once):
        rows = x[first : first + rows_at_once].to(dictionary.W_enc)
        row, feature, value = (part.cpu().numpy() for part in dictionary.active(rows))
        order = np.argsort(row, kind="stable")
        parts.append((row[order] + first, feature[order], value[order]))
    token, feature, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Activations(token, feature, value, len(x), dictionary.n_features)


def auc_of_features(fires: Activations, present: Presences) -> np.ndarray:
    """The area under the ROC curve [feature, concept] of every feature for every concept; nan for a concept that is on no token, or on all."""
    order = np.lexsort((-fires.value, fires.feature))
    feature, token = fires.feature[order], fires.token[order]
    starts = np.searchsorted(feature, np.arange(fires.n_features + 1))
    rank = np.arange(len(feature)) - starts[feature]
    offsets = np.searchsorted(present.token, np.arange(present.n_tokens + 1))
    held = (offsets[1:] - offsets[:-1])[token]
    p, ranks = np.zeros((2, fires.n_features, present.n_concepts))
    first = 0
    while first < fires.n_features:
        last = min(first + FEATURES_AT_ONCE, fires.n_features)
        pairs = np.cumsum(held[starts[first] : starts[last]])
        while last > first + 1 and len(pairs) and pairs[-1] > PAIRS_AT_ONCE:  # fewer features, where they fire often
            last = first + (last - first) // 2
            pairs = pairs[: starts[last] - starts[first]]
        here = slice(starts[first], starts[last])
        n = held[here]
        which = np.repeat(offsets[token[here]] - np.cumsum(n) + n, n) + np.arange(n.sum())
        key = np.repeat(feature[here] - first, n) * present.n_concepts + present.concept[which]
        size, shape = (last - first) * present.n_concepts, (last - first, present.n_concepts)
        p[first:last] = np.bincount(key, minlength=size).reshape(shape)
        ranks[first:last] = np.bincount(key, np.repeat(rank[here], n), minlength=size).reshape(shape)
        first = last
    m = np.diff(starts)[:, None]
    positive = present.counts[None].astype(np.float64)
    negative = present.n_tokens - positive
    right = p * negative - ranks + p * (p - 1) / 2 + (positive - p) * (negative - (m - p)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return right / (positive * negative)


def auc_of_scores(scores: np.ndarray, present: Presences) -> np.ndarray:
    """The same [column, concept] for scores [token, column] that are anything on any token; ties are broken by chance of order."""
    order = np.argsort(present.concept, kind="stable")
    token, concept = present.token[order], present.concept[order]
    positive = present.counts.astype(np.float64)
    found = np.empty((scores.shape[1], present.n_concepts))
    rank = np.empty(present.n_tokens)
    for first in range(0, scores.shape[1], 32):
        some = torch.from_numpy(np.ascontiguousarray(scores[:, first : first + 32].T))
        for column, order in enumerate(some.sort(dim=1, stable=True).indices.numpy(), start=first):
            rank[order] = np.arange(1, present.n_tokens + 1)
            found[column] = np.bincount(concept, rank[token], minlength=present.n_concepts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (found - positive * (positive + 1) / 2) / (positive * (present.n_tokens - positive))


@dataclass(frozen=True)
class Threshold:
    """Where a score tells a concept best, by F1."""

    value: float
    """the concept is said to be present above or at it"""
    f1: float
    precision: float
    recall: float


def best_threshold(scores: np.ndarray, has: np.ndarray) -> Threshold:
    """The threshold of scores [token] above zero at which F1 is largest; of scores that are nowhere above zero, infinity."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    if not len(order) or not has.any():
        return Threshold(float("inf"), 0.0, 0.0, 0.0)
    right = np.cumsum(has[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + has.sum())
    # Equal scores are said to be present together.
    f1[:-1][scores[order][:-1] == scores[order][1:]] = 0
    best = int(f1.argmax())
    return at_threshold(scores, has, float(scores[order[best]]))


def at_threshold(scores: np.ndarray, has: np.ndarray, value: float) -> Threshold:
    """How well a threshold tells a concept."""
    said = scores >= value
    right, n_said, n = int((said & has).sum()), int(said.sum()), int(has.sum())
    f1 = 2 * right / (n_said + n) if n_said + n else 0.0
    return Threshold(value, f1, right / n_said if n_said else 0.0, right / n if n else 0.0)
