"""The explainer that needs no model: what a feature's examples have in common that other texts have not.

It makes patterns of the examples (`sonde.labels.patterns`): the words on which the feature fires, their form and kind,
what stands beside them, and the words and the language around them. The pattern is kept that holds for most of the
activation and seldom elsewhere. It is then tested on examples from other documents, and where it does not hold there,
the feature gets no label.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sonde.features.examples import Example
from sonde.labels.evidence import Evidence, words_in
from sonde.labels.patterns import Pattern, Token, patterns_of, shares, strongest_of, tokens_of

BY = "embedded"
COST = 4.0
"""how much of the activation a pattern must describe for each share of other tokens of which it holds"""
LENGTH = 0.005
"""the same for each word of a description, so that of two that fit alike the shorter is taken"""
LEAST_FIT = 0.3
"""fit on other documents, below which a pattern says nothing"""
USUAL, TIMES = 0.4, 3.0
"""a word of the context is telling if it is in this share of examples, and so many times as often as in other texts"""
LEAST = 1e-3
"""share of other texts that is assumed for a word which none of those drawn holds"""


def explain(evidence: Evidence) -> tuple[str, dict[str, Any]]:
    """A label for a feature, empty where no pattern describes it, and the evidence for it."""
    tokens = strongest_of(evidence.explained)
    near = _near(evidence, {token.word for token in tokens})
    details: dict[str, Any] = {
        "words": [[word, round(share, 3)] for word, share in shares(tokens, lambda token: token.word)[:4]],
        "near": [[word, round(share, 3), round(usual, 3)] for word, share, usual in near],
        "makes likely": [token.strip() for token, _ in evidence.feature.top_logits[:3] if token.strip()],
        "examples": len(tokens),
    }
    background = _background(evidence.elsewhere)
    found = _best(tokens, [word for word, *_ in near], background)
    if found is None:
        return "", details
    # On documents that the pattern was not made from; on its own where there are none.
    recall = found.recall(strongest_of(evidence.tested or evidence.explained))
    elsewhere = found.elsewhere(background)
    details |= {"holds": round(recall, 3), "holds elsewhere": round(elsewhere, 4)}
    return (found.text if fit(recall, elsewhere) >= LEAST_FIT else ""), details


def fit(recall: float, elsewhere: float) -> float:
    """How well a pattern describes a feature: at most 1, and 0 or less where it says nothing.

    Args:
        recall: the share of the activation on which it holds.
        elsewhere: the share of other tokens of which it holds.
    """
    return recall - COST * elsewhere


def _best(tokens: Sequence[Token], telling: Sequence[str], background: Sequence[Token]) -> Pattern | None:
    """The pattern of the best fit on the examples that it is made from."""
    best, best_fit = None, 0.0
    for pattern in patterns_of(tokens, telling):
        recall = pattern.recall(tokens) - LENGTH * len(pattern.text.split())
        if recall <= best_fit:  # whatever it does elsewhere
            continue
        own = fit(recall, pattern.elsewhere(background))
        if own > best_fit:
            best, best_fit = pattern, own
    return best


@lru_cache(maxsize=2)
def _background(contexts: tuple[Example, ...]) -> tuple[Token, ...]:
    """All tokens of some contexts, which are the same for every feature of an index."""
    return tuple(token for context in contexts for token in tokens_of(context))


def _near(evidence: Evidence, words: set[str]) -> list[tuple[str, float, float]]:
    """(word, share of examples, share of other texts) of words that are far more frequent in examples, best first."""
    counts = Counter(word for example in evidence.explained for word in words_in(example) - words)
    telling = []
    for word, count in counts.items():
        share, usual = count / len(evidence.explained), evidence.word_shares.get(word, 0.0)
        if share >= USUAL and count >= 3 and share >= TIMES * usual:
            telling.append((word, share, usual))
    return sorted(telling, key=lambda row: (-row[1] * math.log(row[1] / max(row[2], LEAST)), row[0]))[:3]
