"""The explainer that needs no model: it describes what a feature's examples have in common and other texts do not.

Four kinds of evidence, each with how much of the feature's activation it accounts for: the words on which it fires, the
words near them, their place in the text, and the tokens that it makes more likely.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sonde.labels.evidence import Evidence, word_at, words_in

BY = "embedded"
ENOUGH, MOST_WORDS = 0.7, 4
"""words are named until they account for this share of the activation, and at most this many"""
WORTH = 0.05
"""share of the activation that a word must account for to be named"""
USUAL, TIMES = 0.5, 3.0
"""a word of the context is named if it is in this share of examples, and so many times as often as in other texts"""
LEAST = 1e-3
"""share of other texts that is assumed for a word which none of those drawn holds"""


def explain(evidence: Evidence) -> tuple[str, dict[str, Any]]:
    """A label for a feature, and the evidence for it."""
    examples = evidence.explained
    total = sum(example.value for example in examples)
    shares: dict[str, float] = {}
    for example in examples:
        word = word_at(example) or "white space"
        shares[word] = shares.get(word, 0.0) + example.value / total
    most = [(word, shares[word]) for word in sorted(shares, key=lambda word: -shares[word])[:MOST_WORDS]]
    words = [(word, share) for word, share in most if share >= WORTH]
    near = _near(evidence, {word for word, _ in words})
    first = sum(example.value for example in examples if example.position == 0) / total
    following = [token.strip() for token, _ in evidence.feature.top_logits[:3] if token.strip()]
    details = {
        "words": [[word, round(share, 3)] for word, share in words],
        "near": [[word, round(share, 3), round(usual, 3)] for word, share, usual in near],
        "start of text": round(first, 3),
        "makes likely": following,
        "examples": len(examples),
        "same word, silent": sum(word_at(example) in shares for example in evidence.near),
    }
    return _label(words, [word for word, *_ in near], first, following), details


def _label(words: list[tuple[str, float]], near: list[str], first: float, following: list[str]) -> str:
    """A label from words with their shares, words near them, the share at the start of a text, and likely tokens."""
    named: list[tuple[str, float]] = []
    for word, share in words:
        if sum(share for _, share in named) < ENOUGH:
            named.append((word, share))
    parts = []
    if sum(share for _, share in named) >= USUAL:
        parts.append(_quoted(word for word, _ in named))
    if near:
        parts.append(("near " if parts else "words near ") + _quoted(near))
    if first >= ENOUGH:
        parts.append("at the start of a text")
    if not parts and following:
        parts.append("before " + _quoted(following))
    if not parts:
        parts.append("many words, such as " + _quoted(word for word, _ in named[:3]))
    return " ".join(parts)


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"“{word}”" for word in words)


def _near(evidence: Evidence, words: set[str]) -> list[tuple[str, float, float]]:
    """(word, share of examples, share of other texts) of words that are far more frequent in examples, best first."""
    counts = Counter(word for example in evidence.explained for word in words_in(example) - words)
    telling = []
    for word, count in counts.items():
        share, usual = count / len(evidence.explained), evidence.word_shares.get(word, 0.0)
        if share > USUAL and count >= 3 and share >= TIMES * usual:
            telling.append((word, share, usual))
    return sorted(telling, key=lambda row: (-row[1] * math.log(row[1] / max(row[2], LEAST)), row[0]))[:3]
