"""Read new texts through an index: its model and dictionary run on a text and say which features fire."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sonde.activations.contexts import Cutter, groups
from sonde.calls import public
from sonde.devices import choose_device
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading
from sonde.display import Block, Drawn, Line, Shaded, shorten
from sonde.errors import SettingsError, TextError
from sonde.features.feature import Feature, Hits
from sonde.features.index import Index, as_index
from sonde.features.stream import stream
from sonde.models.model import Model
from sonde.models.recorded import recorded_model

On = Literal["last", "mean", "max"] | slice
"""which tokens of a text count: the last one, the mean or the maximum of all, or the mean of a slice"""


def dictionary_of(index: Index, device: torch.device | str = "auto") -> Dictionary:
    """The dictionary that an index was made with, loaded once for each device.

    Raises ArtifactMissingError if its folder is gone.
    """
    chosen = torch.empty(0, device=choose_device(str(device))).device  # "cuda" is "cuda:0" then, as weights have it
    return _load_dictionary(index, str(chosen))


@lru_cache(maxsize=8)
def _load_dictionary(index: Index, device: str) -> Dictionary:
    folder, _ = index.find_dictionary()
    assert isinstance(folder, Path)  # activations alone lie on object stores
    return load_dictionary(folder, device)


@dataclass(frozen=True)
class Fired(Drawn):
    """The activations above zero on one text."""

    pieces: tuple[str, ...]
    """the text of each token; joined, they are the text"""
    position: np.ndarray
    """[activation] number of the token"""
    feature: np.ndarray
    """[activation]"""
    value: np.ndarray
    """[activation] above zero"""
    index: Index

    def __repr__(self) -> str:
        features = len(np.unique(self.feature))
        return f"Fired({features:,} features on {len(self.pieces):,} tokens of {shorten(''.join(self.pieces), 80)!r})"

    def of(self, feature: int) -> np.ndarray:
        """One feature's activation on each token."""
        values = np.zeros(len(self.pieces), dtype=np.float32)
        mine = self.feature == feature
        values[self.position[mine]] = self.value[mine]
        return values

    def pooled(self, on: On, n_features: int) -> np.ndarray:
        """Each feature's activation pooled over tokens [n_features]; raises TextError if `on` selects no token."""
        n = len(self.pieces)
        if on == "max":
            maximum = np.zeros(n_features, dtype=np.float64)
            np.maximum.at(maximum, self.feature, self.value)
            return maximum
        tokens = range(n) if on == "mean" else range(n - 1, n) if on == "last" else range(n)[on]
        if not len(tokens):
            assert isinstance(on, slice)
            raise TextError(f"tokens {on.start}..{on.stop} are none of the {n} that the text has")
        kept = np.isin(self.position, list(tokens))
        return np.bincount(self.feature[kept], self.value[kept], minlength=n_features) / len(tokens)

    @property
    def share(self) -> np.ndarray:
        """[activation] as a share of its feature's maximum in the index; 0 of features that fire nowhere there"""
        maxima = self.index.statistics["maximum"][self.feature]
        return np.where(maxima > 0, self.value / np.maximum(maxima, 1e-30), 0)

    def strongest(self, n: int = 3) -> list[list[tuple[int, float]]]:
        """For each token the n features that fire most on it: (feature, activation as a share of its maximum)."""
        share = self.share
        tokens: list[list[tuple[int, float]]] = [[] for _ in self.pieces]
        for place in np.lexsort((-share, self.position)).tolist():
            features = tokens[int(self.position[place])]
            if len(features) < n and share[place] > 0:
                features.append((int(self.feature[place]), float(share[place])))
        return tokens

    def draw(self, feature: int | None = None, n: int = 5) -> list[Block]:
        """The text, shaded by one feature or by the strongest on each token, and the n strongest features."""
        if feature is not None:
            values, chosen = self.of(feature).tolist(), Feature.of(self.index, feature)
            here = f"at most {max(values):.2f} here" if max(values) > 0 else "does not fire here"
            title = f"{chosen.title}, {here}; its maximum in the index is {chosen.maximum:.2f}"
            pieces = list(zip(self.pieces, values, strict=True))
            return [
                Line(title),
                Shaded(pieces, max(chosen.maximum, *values), values.index(max(values)), keeps_lines=True),
            ]
        strongest = self.strongest()
        labels = self.index.labels.of([number for features in strongest for number, _ in features])
        notes, pieces = {}, []
        for token, features in enumerate(strongest):
            named = ((number, labels[number].label if number in labels else "", share) for number, share in features)
            notes[token] = "; ".join(f"{number} {label} {share:.0%}" for number, label, share in named)
            pieces.append((self.pieces[token], features[0][1] if features else 0.0))
        most = np.zeros(self.index.n_features)
        np.maximum.at(most, self.feature, self.share)
        best = np.argsort(-most, kind="stable")[:n]
        hits = Hits.of(self.index, zip(best, most[best], strict=True), "share of maximum")
        return [Shaded(pieces, 1.0, notes=notes, keeps_lines=True), *hits.draw()]


Texts = str | Fired | Sequence[str | Fired]


class Reader:
    """The model and the dictionary of an index, ready to read texts.

    Args:
        index: an index or its folder.
        model: a model or what `load_model` takes; by default the one that the index was made with.
        device: where to load that model.

    Raises:
        ArtifactMissingError: the dictionary's folder is gone.
        ArtifactMismatchError: another model has taken the place of the index's, or dictionary and model do not fit each
            other.
    """

    @public()
    def __init__(
        self, index: Index | str | Path, model: Model | str | Path | None = None, device: str = "auto"
    ) -> None:
        self.index = as_index(index)
        self.model = recorded_model(self.index.facts.model, model, of=f"the index {self.index.folder}", device=device)
        self.dictionary = dictionary_of(self.index, self.model.device)
        self._reading = Reading(self.dictionary, self.model)

    @public()
    def read(self, text: str) -> Fired:
        """Every activation above zero on a text of any length; raises TextError if it is empty."""
        cutter = Cutter(self.model)
        documents = list(cutter.tokenize([text]))
        if not documents or not documents[0].ids:
            raise TextError("the text is empty; give a few words")
        parts = []
        for read in stream(self._reading, groups(iter(documents), cutter)):
            row, feature, value = read.fires
            parts.append((read.batch.position[row], feature, value))
        position, feature, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Fired(_pieces(text, documents[0].spans), position, feature, value, self.index)

    @public()
    def search(self, texts: Texts, *, unlike: Texts = (), on: On = "max", n: int = 20) -> Hits:
        """The features that fire most on some texts and least on others, strongest first.

        Args:
            texts: each a text, or what `read` returned for it; of several, the mean counts.
            unlike: texts on which the features should not fire; their mean is subtracted.
            on: which tokens of each text count.
            n: the most features to return.

        Raises:
            TextError: a text is empty, or has none of the tokens that `on` selects.
        """
        score = self._mean(texts, on)
        if unlike:
            score -= self._mean(unlike, on)
        order = np.argsort(-score, kind="stable")[:n]
        return Hits.of(self.index, ((number, score[number]) for number in order if score[number] > 0), "activation")

    def _mean(self, texts: Texts, on: On) -> np.ndarray:
        several = [texts] if isinstance(texts, str | Fired) else texts
        fired = (self.read(text) if isinstance(text, str) else text for text in several)
        return np.mean([text.pooled(on, self.index.n_features) for text in fired], axis=0)


@dataclass(frozen=True)
class TextsRead(Drawn):
    """Texts that were read, and the features that fire on them."""

    texts: tuple[Fired, ...]
    hits: Hits
    """the features that fire most on them, strongest first"""

    def __repr__(self) -> str:
        return f"TextsRead({len(self.texts)} texts: {self.hits!r})"

    def draw(self) -> list[Block]:
        """Each text, shaded by the strongest of the features found, and these features."""
        strongest = self.hits[0].feature.number if self.hits else None
        if strongest is None:
            return [*(text.draw()[0] for text in self.texts), Line("no feature fires there")]
        return [*(block for text in self.texts for block in text.draw(strongest)), *self.hits.draw(len(self.hits))]


@public()
def read(
    index: "Index | Reader | str | Path",
    texts: Texts,
    *,
    unlike: Texts = (),
    on: On | str = "max",
    n: int = 20,
    device: str = "auto",
) -> TextsRead:
    """What fires on some texts, and the features that fire on them most, as the model reads them.

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        texts: one or several; of several, the mean counts.
        unlike: texts on which the features should not fire.
        on: which tokens count: "max", the strongest; "last"; "mean", all; or a range such as "3..7", from token 3 up
            to and without 7, counted from 0; a slice is one too.
        n: the most features to find.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.

    Raises:
        TextError: a text is empty, or has none of the tokens that `on` selects.
        SettingsError: `on` is none of these.
        ArtifactMissingError, ArtifactMismatchError: as for `Reader`.
    """
    tokens = parse_on(on)
    reader = as_reader(index, device)
    several = [texts] if isinstance(texts, str | Fired) else texts
    fired = tuple(reader.read(text) if isinstance(text, str) else text for text in several)
    return TextsRead(fired, reader.search(fired, unlike=unlike, on=tokens, n=n))


def as_reader(index: Index | Reader | str | Path, device: str = "auto") -> Reader:
    """A reader, which may be given by its index or the index's folder."""
    return index if isinstance(index, Reader) else Reader(index, device=device)


def parse_on(on: On | str) -> On:
    """Which tokens count, where a range may be text; raises SettingsError where it is not one."""
    if isinstance(on, slice) or on in ("max", "last", "mean"):
        return on  # type: ignore[return-value]
    first, dots, last = on.partition("..")
    if not dots or not all(part.lstrip("-").isdigit() or not part for part in (first, last)):
        form = on.replace(":", "..") if ":" in on else "3..7"
        raise SettingsError(f"on is {on!r}, but must be max, last, mean, or a range of tokens such as {form}")
    return slice(int(first) if first else None, int(last) if last else None)


def _pieces(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The text of each token; a character that several tokens share (its bytes) belongs to the first."""
    pieces, end = [], 0
    for _, last in spans:
        start, end = end, max(end, last)
        pieces.append(text[start:end])
    return tuple(pieces)
