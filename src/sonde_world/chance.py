"""Chance that keeps account: every draw of a document adds to the log-probability of its text.

No draw may be without a trace in the text, or the sum would not be the text's own probability;
`tests/world/test_grammar.py` looks for such draws.
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
    """Running sums of rank^-exponent for n ranks."""
    return tuple(accumulate((rank + 1) ** -exponent for rank in range(n)))


class Chance:
    """A source of draws that all come down to two: one of n alike, and one of several by weight."""

    def __init__(self, seed: str):
        self._random = random.Random(seed).random
        self.log_probability = 0.0
        """of all draws so far, in nats"""

    def index(self, n: int) -> int:
        """One of n, all alike."""
        self.log_probability -= math.log(n)
        return int(self._random() * n)

    def weighted(self, cumulative: Sequence[float]) -> int:
        """A place in `cumulative`, the running sums of weights."""
        place = bisect_right(cumulative, self._random() * cumulative[-1], hi=len(cumulative) - 1)
        weight = cumulative[place] - (cumulative[place - 1] if place else 0.0)
        self.log_probability += math.log(weight / cumulative[-1])
        return place

    def happens(self, probability: float) -> bool:
        return self.weighted((probability, 1.0)) == 0

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends among them."""
        return least + self.index(most - least + 1)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.index(len(options))]

    def some(self, options: Sequence[T], n: int) -> list[T]:
        """n different ones, in the order in which they were drawn."""
        left = list(options)
        return [left.pop(self.index(len(left))) for _ in range(n)]

    def some_by_weight(self, cumulative: Sequence[float], n: int) -> list[int]:
        """n different places, each drawn by weight from those that are left."""
        left = [weight - before for before, weight in zip((0.0, *cumulative), cumulative, strict=False)]
        places = list(range(len(left)))
        found = []
        for _ in range(n):
            place = self.weighted(tuple(accumulate(left)))
            found.append(places.pop(place))
            left.pop(place)
        return found
