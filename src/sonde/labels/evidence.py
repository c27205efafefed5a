"""What a feature is explained by, and what an explanation is tested on."""

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
"""contexts drawn from all the text, the same for all features, in which quiet ones are looked for"""
MARK = "<<", ">>"
_WORD = re.compile(r"[^\W\d_]{2,}|\d+", re.UNICODE)
MARKED_ABOVE = 0.3
"""of the strongest activation shown: tokens that are marked"""


@dataclass(frozen=True)
class Evidence:
    """Contexts of one feature. No document is both in what it is explained by and in what explanations are tested on."""

    feature: Feature
    explained: tuple[Example, ...]
    """half the strongest, half from equal intervals of activation"""
    tested: tuple[Example, ...]
    """from equal intervals of activation, strongest first"""
    near: tuple[Example, ...]
    """near misses: a word at which it fires, where it does not"""
    quiet: tuple[Example, ...]
    """where it does not fire, at random; for tests"""
    usual: Mapping[str, float]
    """of contexts drawn from all the text, the share that holds a word"""


class Gatherer:
    """Gathers evidence from an index; what is drawn at random is drawn the same each time."""

    def __init__(self, index: Index, seed: int = 0) -> None:
        self.index, self.seed = index, seed

    def of(self, number: int) -> Evidence:
        feature = self.index.feature(number)
        strongest = feature.examples(2 * N_EXPLAINED)
        spread = [*feature.examples(3 * N_TESTED, by="interval"), *feature.examples(3 * N_TESTED, by="random")]
        mine = [example for example in strongest if not self._is_for_tests(example)][: N_EXPLAINED // 2]
        mine = _once([*mine, *(example for example in spread if not self._is_for_tests(example))])[:N_EXPLAINED]
        tested = _once([example for example in spread if self._is_for_tests(example)])
        tested.sort(key=lambda example: -example.value)
        words = {word_at(example) for example in mine}
        rng = np.random.default_rng([self.seed, number])
        fires_in = set(self.index.fires(number).document.tolist())
        silent = [place for place in rng.permutation(len(self._pool)) if self._pool[place].document not in fires_in]
        quiet = [self._pool[place] for place in silent]
        near = [
            _moved(self._pool[place], min(self._word_places[place][word] for word in here))
            for place in silent
            if (here := words & self._word_places[place].keys())
        ]
        return Evidence(
            feature,
            tuple(mine),
            tuple(_spread(tested, N_TESTED)),
            tuple(near[:N_TESTED]),
            tuple(quiet[:N_TESTED]),
            self._usual,
        )

    def _is_for_tests(self, example: Example) -> bool:
        with np.errstate(over="ignore"):
            return bool(mix(np.uint64(example.document) + np.uint64(self.seed + 1)) & np.uint64(1))

    @cached_property
    def _word_places(self) -> list[dict[str, int]]:
        """For each context of the pool, its words and the first piece that each is at."""
        return [
            {
                word_of(example, place): place
                for place in range(len(example.pieces) - 1, -1, -1)
                if example.pieces[place][0].strip()
            }
            for example in self._pool
        ]

    @cached_property
    def _usual(self) -> dict[str, float]:
        counts = Counter(word for example in self._pool for word in words_in(example))
        return {word: count / len(self._pool) for word, count in counts.items()}

    @cached_property
    def _pool(self) -> list[Example]:
        """Contexts drawn evenly from all the text, one a document."""
        rng = np.random.default_rng(self.seed)
        token = np.unique(rng.integers(self.index.n_tokens, size=4 * POOL))
        document, position = self.index.place_of(rng.permutation(token))
        _, first = np.unique(document, return_index=True)
        first = np.sort(first)[:POOL]
        return [self.index.plain_context(int(document[place]), int(position[place])) for place in first]


def word_at(example: Example) -> str:
    """The word at which an example fires most, in lower case: its token, and those joined to it by letters."""
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
    """An example on one line, with these pieces between marks."""
    chosen, text = set(marked), ""
    for place, (piece, _) in enumerate(example.pieces):
        if place in chosen:
            bare = piece.lstrip()
            text += piece[: len(piece) - len(bare)] + MARK[0] + bare + MARK[1]
        else:
            text += piece
    return " ".join(text.replace(MARK[1] + MARK[0], "").split())


def strong_places(example: Example) -> list[int]:
    """The pieces of an example on which the feature fires strongly."""
    most = max(value for _, value in example.pieces)
    return [place for place, (_, value) in enumerate(example.pieces) if value > 0 and value >= MARKED_ABOVE * most]


def _moved(example: Example, place: int) -> Example:
    """The same context with another of its pieces as the middle."""
    return Example(example.document, example.position - example.peak + place, 0.0, example.pieces, place)


def _once(examples: Sequence[Example]) -> list[Example]:
    """The first of each document."""
    return list({example.document: example for example in reversed(examples)}.values())[::-1]


def _spread(examples: list[Example], n: int) -> list[Example]:
    """At most n, evenly from the strongest to the weakest."""
    if len(examples) <= n:
        return examples
    return [examples[place] for place in np.linspace(0, len(examples) - 1, n).round().astype(int)]
