"""Which features fire on a text that is given now: the index's model and dictionary, run on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups, make_batch
from sonde.devices import choose_device
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading
from sonde.errors import TextError
from sonde.features.feature import Hits
from sonde.features.index import Index, load_index
from sonde.manifests import find_parent
from sonde.models.load import load_model
from sonde.models.model import Model

On = Literal["last", "mean", "max"] | slice
"""which tokens of a text count: the last, the mean or the largest of all, or the mean of a stretch"""


def dictionary_of(index: Index, device: torch.device | str = "auto") -> Dictionary:
    """The dictionary that an index was made with, loaded once for each device.

    Raises ArtifactMissingError where it has gone.
    """
    chosen = torch.empty(0, device=choose_device(str(device))).device  # "cuda" is "cuda:0" then, as weights have it
    return _load_dictionary(index, str(chosen))


@lru_cache(maxsize=8)
def _load_dictionary(index: Index, device: str) -> Dictionary:
    folder, _ = find_parent(index.manifest, "dictionary", index.folder, "dictionary")
    assert isinstance(folder, Path)  # activations alone lie on object stores
    return load_dictionary(folder, device)


@dataclass(frozen=True)
class Fired:
    """What fires on one text."""

    pieces: tuple[str, ...]
    """text of each token; joined they are the text"""
    position: np.ndarray
    """[activation] which token"""
    feature: np.ndarray
    """[activation]"""
    value: np.ndarray
    """[activation] above zero"""

    def of(self, feature: int) -> np.ndarray:
        """One feature's activation on each token."""
        values = np.zeros(len(self.pieces), dtype=np.float32)
        own = self.feature == feature
        values[self.position[own]] = self.value[own]
        return values

    def summed_up(self, on: On, n_features: int) -> np.ndarray:
        """One number for each feature [n_features]; raises TextError where no token is meant."""
        n = len(self.pieces)
        if on == "max":
            most = np.zeros(n_features, dtype=np.float64)
            np.maximum.at(most, self.feature, self.value)
            return most
        tokens = range(n) if on == "mean" else range(n - 1, n) if on == "last" else range(n)[on]
        if not len(tokens):
            raise TextError(f"tokens {on.start}:{on.stop} are none of the {n} that the text has")  # type: ignore[union-attr]
        kept = np.isin(self.position, list(tokens))
        return np.bincount(self.feature[kept], self.value[kept], minlength=n_features) / len(tokens)


Texts = str | Fired | Sequence[str | Fired]


class Reader:
    """The model and the dictionary of an index, ready to read texts.

    Args:
        index: an index or its folder.
        model: by default the one that the index was made with.

    Raises:
        ArtifactMissingError: the dictionary is not where it was.
        ArtifactMismatchError: dictionary and model do not fit each other.
    """

    def __init__(self, index: Index | str | Path, model: Model | None = None, device: str = "auto") -> None:
        self.index = index if isinstance(index, Index) else load_index(index)
        self.model = model or load_model(self.index.manifest.facts["model"]["name"], device=device)
        self.dictionary = dictionary_of(self.index, self.model.device)
        self._reading = Reading(self.dictionary, self.model)

    @torch.no_grad()
    def read(self, text: str) -> Fired:
        """Everything that fires on a text, however long; raises TextError where it is empty."""
        cutter = Cutter(self.model)
        documents = list(cutter.tokenize([text]))
        if not documents or not documents[0].ids:
            raise TextError("the text is empty; give a few words")
        parts = []
        for group in groups(iter(documents), cutter):
            batch = make_batch(self.model, group)
            x, _ = self._reading(batch.tokens, batch.text_mask)
            row, feature, value = (part.cpu().numpy() for part in self.dictionary.active(x))
            parts.append((batch.position[row], feature, value))
        position, feature, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Fired(_pieces(text, documents[0].spans), position, feature, value)

    def search(self, texts: Texts, *, unlike: Texts = (), on: On = "max", n: int = 20) -> Hits:
        """The features that fire most on texts, by activation less that on texts that they should be unlike.

        What was read already may stand for a text. Raises TextError where a text is empty.
        """
        score = self._mean(texts, on)
        if unlike:
            score -= self._mean(unlike, on)
        order = np.argsort(-score, kind="stable")[:n]
        return Hits.of(self.index, ((number, score[number]) for number in order if score[number] > 0), "activation")

    def _mean(self, texts: Texts, on: On) -> np.ndarray:
        given = [texts] if isinstance(texts, str | Fired) else texts
        fired = (self.read(text) if isinstance(text, str) else text for text in given)
        return np.mean([one.summed_up(on, self.index.n_features) for one in fired], axis=0)


def _pieces(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The text of each token; tokens that share a letter (bytes of one) leave it to the first."""
    pieces, end = [], 0
    for _, last in spans:
        start, end = end, max(end, last)
        pieces.append(text[start:end])
    return tuple(pieces)
