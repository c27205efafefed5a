"""The contexts that a feature is explained by, and those that explanations are tested on."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sonde.activations.shuffle import mix
from sonde.features.examples import Example
from sonde.features.feature import Feature
from sonde.features.index import Index

N_EXPLAINED, N_TESTED = 10, 10
POOL = 400
"""contexts drawn from all of the text for all features, among which are those where a feature is silent"""
ELSEWHERE = 150
"""of these, on all of whose tokens descriptions are tried"""
MARK = "<<", ">>"
_WORD = re.compile(r"[^\W\d_]{2,}|\d+", re.UNICODE)
MARKED_ABOVE = 0.3
"""tokens are marked whose activation is at least this share of the strongest in the context"""


@dataclass(frozen=True)
class Evidence:
    """Contexts of one feature. No document is used both to explain it and to test explanations."""

    feature: Feature
    explained: tuple[Example, ...]
    """half the strongest, half from equal intervals of activation"""
    tested: tuple[Example, ...]
    """from equal intervals of activation, strongest first"""
    near: tuple[Example, ...]
    """near misses: a word on which it fires elsewhere, where it does not fire"""
    silent: tuple[Example, ...]
    """contexts in which it does not fire, at random; for tests"""
    word_shares: Mapping[str, float]
    """word -> share of contexts drawn from all of the text that hold it"""
    elsewhere: tuple[Example, ...] = ()
    """contexts drawn from all of the text, the same for every feature"""


class Gatherer:
    """Gathers evidence from an index; random draws depend on the seed alone."""

    def __init__(self, index: Index, seed: int = 0) -> None:
        self.index, self.seed = index, seed

    def gather(self, number: int) -> Evidence:
        """The evidence of one feature."""
        feature = self.index.feature(number)
        spread = [*feature.examples(3 * N_TESTED, by="interval"), *feature.examples(3 * N_TESTED, by="random")]
        explained = [e for e in feature.examples(2 * N_EXPLAINED) if not self._is_for_tests(e)][: N_EXPLAINED // 2]
        explained = _one_a_document([*explained, *(e for e in spread if not self._is_for_tests(e))])[:N_EXPLAINED]
        tested = _one_a_document([example for example in spread if self._is_for_tests(example)])
        tested.sort(key=lambda example: -example.value)
        words = {word_at(example) for example in explained}
        rng = np.random.default_rng([self.seed, number])
        fires_in = set(self.index.fires(number).document.tolist())
        silent = [place for place in rng.permutation(len(self._pool)) if self._pool[place].document not in fires_in]
        near = [
            _centred(self._pool[place], min(self._word_places[place][word] for word in here))
            for place in silent
            if (here := words & self._word_places[place].keys())
        ]
        return Evidence(
            feature,
            tuple(explained),
            tuple(_evenly(tested, N_TESTED)),
            tuple(near[:N_TESTED]),
            tuple(self._pool[place] for place in silent[:N_TESTED]),
            self._word_shares,
            self._elsewhere,
        )

    def _is_for_tests(self, example: Example) -> bool:
        with np.errstate(over="ignore"):
            return bool(mix(np.uint64(example.document) + np.uint64(self.seed + 1)) & np.uint64(1))

    @cached_property
    def _word_places(self) -> list[dict[str, int]]:
        """For each context of the pool, its words and the number of the first piece of each."""
        return [
            {
                word_of(example, place): place
                for place in range(len(example.pieces) - 1, -1, -1)
                if example.pieces[place][0].strip()
            }
            for example in self._pool
        ]

    @cached_property
    def _word_shares(self) -> dict[str, float]:
        counts = Counter(word for example in self._pool for word in words_in(example))
        return {word: count / len(self._pool) for word, count in counts.items()}

    @cached_property
    def _elsewhere(self) -> tuple[Example, ...]:
        return tuple(self._pool[:ELSEWHERE])

    @cached_property
    def _pool(self) -> list[Example]:
        """Contexts drawn evenly from all of the text, one a document."""
        rng = np.random.default_rng(self.seed)
        token = np.unique(rng.integers(self.index.n_tokens, size=4 * POOL))
        document, position = self.index.place_of(rng.permutation(token))
        _, first = np.unique(document, return_index=True)
        first = np.sort(first)[:POOL]
        return [self.index.plain_context(int(document[place]), int(position[place])) for place in first]


def word_at(example: Example) -> str:
    """The word on which an example fires most, in lower case: its token, and those joined to it by letters."""
    return word_of(example, example.peak)


def word_of(example: Example, place: int) -> str:
    """The word that holds a piece of an example, in lower case."""
    texts = [text for text, _ in example.pieces]
    first, last = place, place + 1
    while first > 0 and texts[first][:1].isalnum() and texts[first - 1][-1:].isalnum():
        first -= 1
    while last < len(texts) and texts[last - 1][-1:].isalnum() and texts[last][:1].isalnum():
        last += 1
    return "".join(texts[first:last]).strip().lower()


def words_in(example: Example) -> set[str]:
    """All words and numbers of an example, in lower case."""
    return {word.lower() for word in _WORD.findall(example.text)}


def shown(example: Example, marked: Sequence[int] = ()) -> str:
    """An example on one line, with some of its pieces between marks."""
    text = ""
    for place, (piece, _) in enumerate(example.pieces):
        if place in marked:
            bare = piece.lstrip()
            text += piece[: len(piece) - len(bare)] + MARK[0] + bare + MARK[1]
        else:
            text += piece
    return " ".join(text.replace(MARK[1] + MARK[0], "").split())


def strong_places(example: Example) -> list[int]:
    """The numbers of the pieces on which the feature fires strongly."""
    maximum = max(value for _, value in example.pieces)
    return [place for place, (_, value) in enumerate(example.pieces) if value > 0 and value >= MARKED_ABOVE * maximum]


def _centred(example: Example, place: int) -> Example:
    """The same context with another of its pieces as its peak."""
    return Example(example.document, example.position - example.peak + place, 0.0, example.pieces, place)


def _one_a_document(examples: Sequence[Example]) -> list[Example]:
    """The first example of each document."""
    return list({example.document: example for example in reversed(examples)}.values())[::-1]


def _evenly(examples: list[Example], n: int) -> list[Example]:
    """At most n examples, spread evenly from the strongest to the weakest."""
    if len(examples) <= n:
        return examples
    return [examples[place] for place in np.linspace(0, len(examples) - 1, n).round().astype(int)]
