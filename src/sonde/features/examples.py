"""Examples of a feature: which of its activations are shown, and the text and pictures around each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from sonde.display import Block, Drawn, Grid, Picture, Shaded, shorten, to_text
from sonde.features.documents import IndexText, PictureSpan, locate

CONTEXT_TOKENS = 24
"""tokens shown before and after the strongest one"""
By = Literal["top", "random", "interval"]
_LOCATED_AT_ONCE = 256
"""activations whose documents are looked up together"""


class ExamplePicture(NamedTuple):
    """A picture in an example, with the feature's activation on each of its patches."""

    number: int
    """which picture of the document"""
    piece: int
    """which piece of the example it is"""
    rows: int
    columns: int
    values: tuple[float, ...]
    """activations of the patches, row by row"""

    def strongest(self, n: int = 3) -> list[tuple[int, int, float]]:
        """(row, column, activation) of the patches on which the feature fires most, counted from zero."""
        patches = sorted(range(len(self.values)), key=lambda patch: -self.values[patch])[:n]
        return [(*divmod(patch, self.columns), self.values[patch]) for patch in patches if self.values[patch] > 0]

    def describe(self) -> str:
        """Where in the picture the feature fires: <picture 1 of 6 x 6 patches: 2,3 4.10; 2,4 3.95>, from one."""
        patches = "; ".join(f"{row + 1},{column + 1} {value:.2f}" for row, column, value in self.strongest())
        return f"<picture {self.number + 1} of {self.rows} x {self.columns} patches: {patches or 'nowhere'}>"


@dataclass(frozen=True)
class Example(Drawn):
    """A stretch of a document around a token on which a feature fires."""

    document: int
    position: int
    """of the strongest token, in the document"""
    value: float
    """activation there"""
    pieces: tuple[tuple[str, float], ...]
    """(text, activation) of each token shown, in order; their texts joined are the document's own. A picture is
    one piece, its mark, with the largest activation on its patches."""
    peak: int
    """which piece is the strongest token, or holds the strongest patch"""
    pictures: tuple[ExamplePicture, ...] = ()

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    def __repr__(self) -> str:
        text = to_text([self.shaded(self.value).around_peak(6)])
        return f"Example({self.value:.2f} at {self.position} of document {self.document}: {shorten(text, 80)!r})"

    def shaded(self, maximum: float, text: IndexText | None = None) -> Shaded:
        """The example as it is drawn, shaded up to `maximum`; with its pictures where the index's text is passed."""
        if text is None:
            return Shaded(self.pieces, maximum, self.peak)
        pictures = {
            p.piece: Picture(text.picture(self.document, p.number), p.describe(), p.rows, p.columns, p.values)
            for p in self.pictures
        }
        return Shaded(self.pieces, maximum, self.peak, pictures=pictures)

    def draw(self) -> list[Block]:
        return [self.shaded(max(value for _, value in self.pieces))]

    def to_json(self) -> dict[str, Any]:
        return {
            "document": self.document,
            "position": self.position,
            "value": self.value,
            "peak": self.peak,
            "pieces": [list(piece) for piece in self.pieces],
            "pictures": [picture._asdict() | {"values": list(picture.values)} for picture in self.pictures],
        }


class Examples(list[Example], Drawn):
    """Examples of one feature, in the order in which they are to be read."""

    def draw(self) -> list[Block]:
        maximum = max((value for example in self for _, value in example.pieces), default=0.0)
        return [Grid([[f"{example.value:.2f}", example.shaded(maximum)] for example in self], right=(0,))]


def candidates(
    token: np.ndarray, value: np.ndarray, starts: np.ndarray, n: int, by: By, seed: int
) -> Iterator[tuple[int, int]]:
    """Activations of a feature to show, in their order: (which of them, its document), at most one a document.

    Args:
        token, value: of all its activations [activation], strongest first.
        starts: number of the first token of each document.
        by: top, the strongest; random, evenly from all, the same each time; interval, one from each of n equal
            intervals between the maximum and 0 (a document may then come twice).
    """
    order = np.arange(len(value))
    if by != "top":
        order = np.random.default_rng([seed, len(value)]).permutation(len(value))
    if by == "interval" and len(value):
        interval = np.minimum((1 - value[order] / max(value[0], 1e-30)) * n, n - 1).astype(int)
        _, first_of_each = np.unique(interval, return_index=True)
        order = order[first_of_each]
    seen: set[int] = set()
    for part in np.split(order, range(_LOCATED_AT_ONCE, len(order), _LOCATED_AT_ONCE)):
        documents, _ = locate(token[part], starts)
        for activation, document in zip(part.tolist(), documents.tolist(), strict=True):
            if by == "interval" or document not in seen:
                seen.add(document)
                yield activation, document


def cut_example(
    document: int,
    text: str,
    spans: np.ndarray,
    pictures: Sequence[PictureSpan],
    peak: int,
    activations: Mapping[int, float],
) -> Example:
    """The example around a token of a document; pictures are shown whole.

    Args:
        spans: (start, end) in the text of each of the document's tokens [token, 2].
        peak: position of the token in the document.
        activations: position -> the feature's activation there; 0 elsewhere.
    """
    first, last = _window(peak, len(spans), pictures)
    numbered = {picture.first: (number, picture) for number, picture in enumerate(pictures)}
    pieces: list[tuple[str, float]] = []
    shown: list[ExamplePicture] = []
    position, peak_piece = first, 0
    end, ends = int(spans[first][0]), spans[first:last, 1].tolist()
    while position < last:
        if position <= peak:
            peak_piece = len(pieces)
        # Tokens that share a letter (bytes of one) share its span: the letter goes to the first.
        start, end = end, max(end, ends[position - first])
        n_tokens = 1
        if position in numbered:
            number, picture = numbered[position]
            n_tokens = picture.n_patches
            patches = tuple(activations.get(position + patch, 0.0) for patch in range(n_tokens))
            shown.append(ExamplePicture(number, len(pieces), picture.rows, picture.columns, patches))
            pieces.append((text[start:end], max(patches)))
        else:
            pieces.append((text[start:end], activations.get(position, 0.0)))
        position += n_tokens
    return Example(document, peak, activations.get(peak, 0.0), tuple(pieces), peak_piece, tuple(shown))


def _window(peak: int, n_tokens: int, pictures: Sequence[PictureSpan]) -> tuple[int, int]:
    """First token to show, and the one after the last: around the peak, or around the picture that it is in."""
    first, last = peak, peak + 1
    for picture in pictures:
        if picture.first <= peak < picture.first + picture.n_patches:
            first, last = picture.first, picture.first + picture.n_patches
    return max(0, first - CONTEXT_TOKENS), min(n_tokens, last + CONTEXT_TOKENS)
