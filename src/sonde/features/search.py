"""Search: features by words, by likeness to a feature, or by statistics."""

import math
from pathlib import Path

from sonde.calls import public
from sonde.errors import SettingsError, UsageError
from sonde.features.feature import Hit, Hits
from sonde.features.folder import Range
from sonde.features.index import Index, as_index
from sonde.settings import check, parse_range

Bounds = str | tuple[float | None, float | None]
"""a range, bounds included: 1e-4..1e-2, ..1e-3 or 0.3.., or its two ends, of which None is open"""


@public()
def search(
    index: Index | str | Path,
    words: str = "",
    *,
    like: int | None = None,
    density: Bounds | None = None,
    maximum: Bounds | None = None,
    mean: Bounds | None = None,
    same_word: Bounds | None = None,
    neuron: Bounds | None = None,
    n: int = 20,
) -> Hits:
    """Features by words in their labels, notes or examples, by likeness to a feature, or by statistics.

    Args:
        index: an index or its folder.
        words: words that label, notes or examples must hold; the best hits come first.
        like: a feature whose neighbours by decoder cosine are wanted.
        density: range of the share of tokens on which it fires, such as "1e-4..1e-2" or (1e-4, 1e-2); (0, 0) for
            dead features. What is found by statistics comes in the order of its number.
        maximum: range of the largest activation.
        mean: range of the mean activation where it fires.
        same_word: range of the share of the strongest examples that fire at one word.
        neuron: range of the correlation with the neuron that is most like it, after `sonde.neurons`.
        n: the most features to return.

    Raises:
        UsageError: not one thing to search by.
        FeatureError: `like` is not a feature of the index.
        SettingsError: a range that cannot be read.
        ArtifactMissingError: `neuron` before `sonde.neurons`.
    """
    found = as_index(index)
    check(n > 0, "n", n, "above 0")
    given = {"density": density, "maximum": maximum, "mean": mean, "same_word": same_word, "neuron": neuron}
    ranges = {name: _range(name, bounds) for name, bounds in given.items() if bounds is not None}
    if sum(map(bool, (words.strip(), like is not None, ranges))) != 1:
        raise UsageError(
            "say what to search by, and one thing only: words, a feature to be like, or ranges, such as density "
            "1e-4..1e-2"
        )
    if words.strip():
        return found.search(words, n)
    if like is not None:
        return found.feature(like).neighbours(n)
    by = next(iter(ranges))
    numbers = found.numbers_where(ranges)[:n].tolist()
    scores = found.statistic(by)
    return Hits((Hit(found.feature(number), float(scores[number])) for number in numbers), by)


def _range(name: str, bounds: Bounds) -> Range:
    """The two ends of a range, open ones infinite; raises SettingsError naming the statistic."""
    try:
        low, high = parse_range(bounds) if isinstance(bounds, str) else bounds
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from error
    return -math.inf if low is None else low, math.inf if high is None else high
