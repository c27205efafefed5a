"""The explainer that needs no model: it says in words what a feature's examples have in common and other texts have not.

Four kinds of evidence, each with how much of the feature's activation it accounts for: the words at which it fires, the words
before them, their place in the text, and the tokens that it makes more likely.
"""

import math
from collections import Counter
from typing import Any

from sonde.labels.evidence import Evidence, word_at, words_in

BY = "embedded"
ENOUGH, MOST_WORDS = 0.7, 4
"""words are named until they account for this share of the activation, and no more of them than that"""
WORTH = 0.05
"""share of the activation that a word has to account for"""
USUAL, TIMES = 0.5, 3.0
"""a word of the context is named where it stands in this share of examples, so many times that of other texts"""
LEAST = 1e-3
"""share of other texts that a word is taken to have that none of those drawn holds"""


def explain(evidence: Evidence) -> tuple[str, dict[str, Any]]:
    """A label, and the evidence for it."""
    examples = evidence.explained
    total = sum(example.value for example in examples)
    at: dict[str, float] = {}
    for example in examples:
        word = _visible(word_at(example))
        at[word] = at.get(word, 0.0) + example.value / total
    words = [(word, at[word]) for word in sorted(at, key=lambda word: -at[word])[:MOST_WORDS] if at[word] >= WORTH]
    named: list[tuple[str, float]] = []
    for word, share in words:
        if sum(share for _, share in named) < ENOUGH:
            named.append((word, share))
    told = sum(share for _, share in named)
    near = _near(evidence, {word for word, _ in words})
    first = sum(example.value for example in examples if example.position == 0) / total
    following = [token.strip() for token, _ in evidence.feature.top_logits[:3] if token.strip()]
    n_same = sum(word_at(example) in at for example in evidence.near)

    parts = []
    if told >= USUAL:
        parts.append(", ".join(f"“{word}”" for word, _ in named))
    if near:
        parts.append(("near " if parts else "words near ") + ", ".join(f"“{word}”" for word, *_ in near))
    if first >= ENOUGH:
        parts.append("at the start of a text")
    if not parts and following:
        parts.append("before " + ", ".join(f"“{token}”" for token in following))
    if not parts:
        parts.append("many words, such as " + ", ".join(f"“{word}”" for word, _ in named[:3]))
    found = {
        "words": [[word, round(share, 3)] for word, share in words],
        "near": [[word, round(share, 3), round(usual, 3)] for word, share, usual in near],
        "start of text": round(first, 3),
        "makes likely": following,
        "examples": len(examples),
        "same word, silent": n_same,
    }
    return " ".join(parts), found


def _near(evidence: Evidence, words: set[str]) -> list[tuple[str, float, float]]:
    """(word, share of examples, share of other texts) of words that stand before or after far more than elsewhere, most telling first."""
    inside = Counter(word for example in evidence.explained for word in words_in(example) - words)
    found = []
    for word, count in inside.items():
        share, usual = count / len(evidence.explained), evidence.usual.get(word, 0.0)
        if share > USUAL and count >= 3 and share >= TIMES * usual:
            found.append((word, share, usual))
    return sorted(found, key=lambda one: (-one[1] * math.log(one[1] / max(one[2], LEAST)), one[0]))[:3]


def _visible(word: str) -> str:
    """A word as it can be read: spaces and line ends alone by name."""
    return word or "white space"
