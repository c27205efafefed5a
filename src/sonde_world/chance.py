"""Random draws whose probabilities are added up to the log-probability of the text.

Every draw must leave a trace in the text, or the sum would not be the probability of the text;
`tests/world/test_grammar.py` looks for draws that do not.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


@cache
def zipf(n: int, exponent: float = 1.0) -> tuple[float, ...]:
    """Cumulative sums of rank^-exponent for n ranks."""
    return tuple(accumulate((rank + 1) ** -exponent for rank in range(n)))


class Chance:
    """A source of draws of two kinds: uniform among n, and weighted."""

    def __init__(self, seed: str):
        self._random = random.Random(seed).random
        self.log_probability = 0.0
        """sum over all draws so far, in nats"""

    def index(self, n: int) -> int:
        """An index below n, uniformly."""
        self.log_probability -= math.log(n)
        return int(self._random() * n)

    def weighted(self, cumulative: Sequence[float]) -> int:
        """An index of `cumulative`, the cumulative sums of weights."""
        place = bisect_right(cumulative, self._random() * cumulative[-1], hi=len(cumulative) - 1)
        weight = cumulative[place] - (cumulative[place - 1] if place else 0.0)
        self.log_probability += math.log(weight / cumulative[-1])
        return place

    def happens(self, probability: float) -> bool:
        return self.weighted((probability, 1.0)) == 0

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return least + self.index(most - least + 1)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.index(len(options))]

    def some(self, options: Sequence[T], n: int) -> list[T]:
        """n different options, in the order in which they were drawn."""
        left = list(options)
        return [left.pop(self.index(len(left))) for _ in range(n)]

    def some_by_weight(self, cumulative: Sequence[float], n: int) -> list[int]:
        """n different indices, each drawn by weight from those that are left."""
        left = [weight - before for before, weight in zip((0.0, *cumulative), cumulative, strict=False)]
        indices = list(range(len(left)))
        drawn = []
        for _ in range(n):
            place = self.weighted(tuple(accumulate(left)))
            drawn.append(indices.pop(place))
            left.pop(place)
        return drawn
