"""What can be said of a token without a model: its word, its form, what stands beside it, and what the text is about.

A pattern is a description that a program can check at every token, so that it can be tested on text that it was not
made from: on how much of a feature's activation it holds, and how often it holds elsewhere.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sonde.features.examples import Example
from sonde.labels.evidence import word_of, words_in

MOST_WORDS = 4
"""words that a description names, at most"""
NAMED, BESIDE = 0.05, 0.1
"""shares of the activation that a word must account for to be named: the token's own, and one beside it"""
LIKELY = 0.4
"""share of the activation below which a pattern is not looked at further"""
STEM, ENDING = 4, 3
"""letters that words share at their beginning, or at their end"""
FUNCTION_WORDS = {
    "French": frozenset("le la les des une est dans pour que qui pas sur avec il elle vous nous du et au ce".split()),
    "German": frozenset("der die das und ist nicht ein eine mit von den dem zu auf für sie ich wir im des".split()),
    "Spanish": frozenset("el los las una es por para que con del se su un en como más pero al lo y".split()),
    "Portuguese": frozenset("o os as uma é por para que com do da se em um como mais mas ao não e".split()),
    "Italian": frozenset("il lo gli una è per che con del della si in un come più ma al non e di".split()),
}
ENOUGH_FUNCTION_WORDS = 4
SCRIPTS = {
    "Cyrillic": "[\u0400-\u04ff]",
    "Greek": "[\u0370-\u03ff]",
    "Arabic": "[\u0600-\u06ff]",
    "Hebrew": "[\u0590-\u05ff]",
    "Chinese or Japanese": "[\u3040-\u30ff\u4e00-\u9fff]",
    "Korean": "[\uac00-\ud7af]",
    "Devanagari": "[\u0900-\u097f]",
}


@dataclass(frozen=True)
class Context:
    """The text around a token."""

    text: str
    words: frozenset[str]
    """in lower case"""


@dataclass(frozen=True)
class Token:
    """A token, and what patterns ask of it."""

    piece: str
    word: str
    """the word that holds it, in lower case"""
    before: str
    """the word, or the sign, before that word; empty at the beginning"""
    after: str
    goes_on: bool
    """whether it goes on with the word before it"""
    is_begun: bool
    """whether the next token goes on with it"""
    begins_text: bool
    begins_sentence: bool
    context: Context
    value: float = 0.0
    """the feature's activation"""


def tokens_of(example: Example) -> list[Token]:
    """All tokens of an example."""
    context = Context(example.text, frozenset(words_in(example)))
    return [_token(example, place, context) for place in range(len(example.pieces))]


def strongest_of(examples: Iterable[Example]) -> list[Token]:
    """The strongest token of each example."""
    return [_token(example, example.peak, Context(example.text, frozenset(words_in(example)))) for example in examples]


def _token(example: Example, place: int, context: Context) -> Token:
    pieces = [text for text, _ in example.pieces]
    first, last = place, place + 1
    while _joined(pieces, first):
        first -= 1
    while last < len(pieces) and _joined(pieces, last):
        last += 1
    earlier = pieces[first - 1] if first else ""
    return Token(
        piece=pieces[place],
        word=_named(example, place),
        before=_named(example, first - 1) if first else "",
        after=_named(example, last) if last < len(pieces) else "",
        goes_on=_joined(pieces, place),
        is_begun=place + 1 < len(pieces) and _joined(pieces, place + 1),
        begins_text=example.position - example.peak + place == 0,
        begins_sentence=first == place and bool(earlier) and earlier.rstrip(" ")[-1:] in (".", "!", "?", "\n", ":"),
        context=context,
        value=example.value if place == example.peak else 0.0,
    )


def _joined(pieces: Sequence[str], place: int) -> bool:
    """Whether a piece goes on with the word of the one before it."""
    return place > 0 and pieces[place][:1].isalnum() and pieces[place - 1][-1:].isalnum()


def _named(example: Example, place: int) -> str:
    return word_of(example, place) or ("line break" if "\n" in example.pieces[place][0] else "white space")


@dataclass(frozen=True)
class Pattern:
    """A description of tokens that can be checked."""

    text: str
    holds: Callable[[Token], bool]

    def within(self, other: "Pattern") -> "Pattern":
        """Tokens of which both hold."""
        return Pattern(f"{self.text} {other.text}", lambda token: self.holds(token) and other.holds(token))

    def recall(self, tokens: Sequence[Token]) -> float:
        """The share of a feature's activation, at its strongest tokens, on which it holds."""
        total = sum(token.value for token in tokens)
        return sum(token.value for token in tokens if self.holds(token)) / total if total else 0.0

    def elsewhere(self, tokens: Sequence[Token]) -> float:
        """The share of other tokens of which it holds."""
        return sum(map(self.holds, tokens)) / max(1, len(tokens))


def patterns_of(tokens: Sequence[Token], telling: Sequence[str]) -> Iterator[Pattern]:
    """What might be said of the strongest tokens of a feature.

    Args:
        telling: words that are far more frequent around them than in other texts, the most telling first.
    """
    about = [*(_near(telling[:n]) for n in range(1, len(telling) + 1)), *_LANGUAGES]
    about = [pattern for pattern in about if pattern.recall(tokens) >= LIKELY]
    at = [*_words(tokens), *_alike(tokens), *_beside(tokens), *_KINDS]
    at = [pattern for pattern in at if pattern.recall(tokens) >= LIKELY]
    yield from at
    yield from (Pattern(f"words {pattern.text}", pattern.holds) for pattern in about)
    yield from (one.within(other) for one in at for other in about)


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f"“{word}”" for word in words)


# ---------------------------------------------------------------- its word


def shares(tokens: Sequence[Token], what: Callable[[Token], str]) -> list[tuple[str, float]]:
    """What tokens have, with the share of the activation, the largest first."""
    total = sum(token.value for token in tokens)
    found: dict[str, float] = {}
    for token in tokens:
        found[what(token)] = found.get(what(token), 0.0) + token.value / total
    return sorted(found.items(), key=lambda row: (-row[1], row[0]))


def _words(tokens: Sequence[Token]) -> list[Pattern]:
    """The commonest word, the two commonest, ..."""
    seen = Counter(token.word for token in tokens)
    found = shares(tokens, lambda token: token.word)
    named = [word for word, share in found if share >= NAMED and seen[word] >= min(2, len(tokens) / 5)][:MOST_WORDS]
    return [_one_of("", named[:n], lambda token: token.word) for n in range(1, len(named) + 1)]


def _beside(tokens: Sequence[Token]) -> list[Pattern]:
    """The commonest words before, and after."""
    found = []
    for text, what in (("after ", lambda token: token.before), ("before ", lambda token: token.after)):
        seen = Counter(map(what, tokens))
        named = [word for word, share in shares(tokens, what) if word and share >= BESIDE and seen[word] >= 2]
        named = named[:MOST_WORDS]
        found += [_one_of(text, named[:n], what) for n in range(1, len(named) + 1)]
    return found


def _one_of(text: str, words: Sequence[str], what: Callable[[Token], str]) -> Pattern:
    kept = frozenset(words)
    return Pattern(text + quoted(words), lambda token: what(token) in kept)


def _alike(tokens: Sequence[Token]) -> list[Pattern]:
    """Words that begin, or end, in the same way."""
    by_word = {word: share for word, share in shares(tokens, lambda token: token.word) if word.isalpha()}
    found = []
    for size, turn in ((STEM, 1), (ENDING, -1)):
        common: Counter[str] = Counter()
        for word, share in by_word.items():
            common[word[::turn][:size]] += share  # type: ignore[assignment]
        for part, share in common.most_common(1):
            own = [word[::turn] for word in by_word if word[::turn].startswith(part)]
            if share >= LIKELY and len(own) > 1 and len(part) == size:
                found.append(_begins(_shared(own)) if turn == 1 else _ends(_shared(own)[::-1]))
    return found


def _shared(words: Sequence[str]) -> str:
    """The longest beginning that words share."""
    first, last = min(words), max(words)
    n = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:n]


def _begins(part: str) -> Pattern:
    return Pattern(f"words that begin with {quoted([part])}", lambda token: token.word.startswith(part))


def _ends(part: str) -> Pattern:
    return Pattern(
        f"words that end in {quoted([part])}", lambda token: token.word.endswith(part) and len(token.word) > len(part)
    )


# ---------------------------------------------------------------- its kind


def _is(pattern: str) -> Callable[[Token], bool]:
    compiled = re.compile(pattern)
    return lambda token: compiled.fullmatch(token.piece.strip(" ")) is not None


def _is_name(token: Token) -> bool:
    text = token.piece.strip()
    return text[:1].isupper() and len(text) > 1 and not token.begins_sentence and not token.begins_text


_KINDS = (
    Pattern("at the start of a text", lambda token: token.begins_text),
    Pattern("line breaks", lambda token: "\n" in token.piece),
    Pattern("numbers", _is(r"\d+")),
    Pattern("full stops", _is(r"\.")),
    Pattern("commas", _is(",")),
    Pattern("question and exclamation marks", _is("[?!]+")),
    Pattern("quotation marks", _is("[\"'“”‘’«»„]+")),
    Pattern("brackets", _is(r"[()\[\]{}<>]+")),
    Pattern("signs and punctuation", _is(r"[^\w\s]+")),
    Pattern("words in capitals", _is("[A-Z]{2,}")),
    Pattern("names, and other capitalised words", _is_name),
    Pattern("first words of sentences", lambda token: token.begins_sentence),
    Pattern("pieces inside a word", lambda token: token.goes_on),
    Pattern("first pieces of longer words", lambda token: token.is_begun and not token.goes_on),
    Pattern("single letters", _is(r"[^\W\d_]")),
)


# ---------------------------------------------------------------- what the text is about


def _near(words: Sequence[str]) -> Pattern:
    kept = frozenset(words)
    return Pattern(f"near {quoted(words)}", lambda token: not kept.isdisjoint(token.context.words - {token.word}))


def _in_language(words: frozenset[str]) -> Callable[[Token], bool]:
    return lambda token: len(words & token.context.words) >= ENOUGH_FUNCTION_WORDS


def _in_script(letters: str) -> Callable[[Token], bool]:
    compiled = re.compile(letters)
    return lambda token: compiled.search(token.context.text) is not None


_CODE = re.compile(r"\bdef \w+\(|\breturn\b.*[\[\](){}=]|^import \w|[;{}]\s*$|\w+\(\w*\)\s*[:{]|```", re.M)
_LANGUAGES = (
    *(Pattern(f"in {language} text", _in_language(words)) for language, words in FUNCTION_WORDS.items()),
    *(Pattern(f"in {script} letters", _in_script(letters)) for script, letters in SCRIPTS.items()),
    Pattern("in program code", lambda token: _CODE.search(token.context.text) is not None),
)
