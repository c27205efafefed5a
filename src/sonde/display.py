"""Drawing: what an object shows of itself, as HTML in a notebook and as text in a terminal.

A class says once what it shows, as a list of blocks (`Drawn.draw`). The HTML has inline styles only, no script and no
address outside it, and colours that can be read on light and on dark pages.
"""

import base64
import copy
import html
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self

_PAGE = "font:13px/1.5 system-ui,sans-serif;max-width:64em;text-align:left;overflow-x:auto"
_TABLE = "border-collapse:collapse;border:0;margin:4px 0;color:inherit;font:inherit"
_CELL = (
    "border:0;border-top:1px solid rgba(128,128,128,.25);padding:3px 12px 3px 0;vertical-align:top;"
    "white-space:pre-wrap;background:none"
)
_FAINT = "opacity:.65"
_ORANGE = "255,145,0"
_DARKEST = 0.7
"""opacity of the shade at the maximum: black and white text can both be read on it"""
_BARS = " ▁▂▃▄▅▆▇█"


class Segment(NamedTuple):
    """A piece of text for a terminal."""

    text: str
    shade: float = 0.0
    """from 0 to 1"""
    strong: bool = False


class Block(Protocol):
    """A part of a drawing."""

    def html(self) -> str: ...

    def segments(self) -> Iterator[Segment]: ...


@dataclass(frozen=True)
class Line:
    """A line of text."""

    text: str
    strong: bool = False

    def html(self) -> str:
        return f'<div style="font-weight:{600 if self.strong else 400};white-space:pre-wrap">{escape(self.text)}</div>'

    def segments(self) -> Iterator[Segment]:
        yield Segment(self.text, strong=self.strong)


@dataclass(frozen=True)
class Picture:
    """A picture with an activation on each of its patches."""

    image: bytes
    """a WebP file"""
    name: str
    """the text for it in a terminal"""
    rows: int
    columns: int
    values: Sequence[float]
    """of the patches, row by row"""

    def html(self, maximum: float) -> str:
        """The picture, 96 pixels wide and high, with its patches shaded."""
        width, height = 100 / self.columns, 100 / self.rows
        patches = "".join(
            f'<rect x="{patch % self.columns * width:.2f}" y="{patch // self.columns * height:.2f}" '
            f'width="{width:.2f}" height="{height:.2f}" style="fill:{_shade(value, maximum)}"/>'
            for patch, value in enumerate(self.values)
            if value > 0
        )
        box, size = "position:absolute;left:0;top:0", "width:96px;height:96px;margin:0"
        return (
            f'<span title="{escape(self.name)}" '
            f'style="display:inline-block;position:relative;{size};vertical-align:top">'
            f'<img alt="" src="data:image/webp;base64,{base64.b64encode(self.image).decode()}" style="{box};{size}">'
            f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" style="{box};{size}">{patches}</svg></span>'
        )


@dataclass(frozen=True)
class Shaded:
    """A text whose tokens are shaded by an activation."""

    pieces: Sequence[tuple[str, float]]
    """(text, activation) of each token"""
    maximum: float
    """the activation of the darkest shade"""
    peak: int | None = None
    """the piece to mark: underlined, or in brackets where there are no colours"""
    notes: Mapping[int, str] = field(default_factory=dict)
    """piece -> the text shown where the mouse is over it; by default its activation"""
    pictures: Mapping[int, Picture] = field(default_factory=dict)
    """piece -> the picture that it is"""
    keeps_lines: bool = False
    """whether the line breaks of the text are kept"""

    def around_peak(self, n: int) -> "Shaded":
        """The peak, with n pieces before it and n after; without white space at the beginning."""
        peak = self.peak or 0
        first, last = max(0, peak - n), peak + n + 1
        while first < peak and not self.pieces[first][0].strip():
            first += 1
        pictures = {piece - first: picture for piece, picture in self.pictures.items() if first <= piece < last}
        shown = self.pieces[first:last]
        shown = [(shown[0][0].lstrip(), shown[0][1]), *shown[1:]]
        return replace(self, pieces=shown, peak=peak - first, pictures=pictures)

    def html(self) -> str:
        pieces = "".join(self._piece(number, text, value) for number, (text, value) in enumerate(self.pieces))
        return f'<span style="white-space:pre-wrap;overflow-wrap:anywhere">{pieces}</span>'

    def _piece(self, number: int, text: str, value: float) -> str:
        if number in self.pictures:
            return self.pictures[number].html(self.maximum)
        text = escape(self._shown(text))
        note = self.notes.get(number, f"{value:.2f}" if value > 0 else "")
        if not note:
            return text
        mark = f";border-bottom:2px solid rgb({_ORANGE})" if number == self.peak else ""
        style = f"background:{_shade(value, self.maximum)};border-radius:2px{mark}"
        return f'<span title="{escape(note)}" style="{style}">{text}</span>'

    def segments(self) -> Iterator[Segment]:
        for number, (text, value) in enumerate(self.pieces):
            picture = self.pictures.get(number)
            text = picture.name if picture else self._shown(text)
            yield Segment(text, _strength(value, self.maximum), number == self.peak)

    def _shown(self, text: str) -> str:
        return text if self.keeps_lines else " ".join(text.splitlines()) or " "


@dataclass(frozen=True)
class Grid:
    """A table. A shaded text may stand in the last column."""

    rows: Sequence[Sequence[str | Shaded]]
    header: Sequence[str] = ()
    right: tuple[int, ...] = ()
    """columns that are flush right"""

    def html(self) -> str:
        head = [self._row("th", self.header)] if self.header else []
        rows = [*head, *(self._row("td", row) for row in self.rows)]
        return f'<table style="{_TABLE}">{"".join(rows)}</table>'

    def _row(self, tag: str, row: Sequence[str | Shaded]) -> str:
        cells = []
        for column, cell in enumerate(row):
            style = f"{_CELL};text-align:{'right' if column in self.right else 'left'}"
            if tag == "th" or (column == 0 and not self.header):
                style += f";font-weight:400;white-space:nowrap;{_FAINT}"
            cells.append(f'<{tag} style="{style}">{escape(cell) if isinstance(cell, str) else cell.html()}</{tag}>')
        return f'<tr style="background:none">{"".join(cells)}</tr>'

    def segments(self) -> Iterator[Segment]:
        rows = [*([self.header] if self.header else []), *self.rows]
        texts = [["" if isinstance(cell, Shaded) else " ".join(cell.splitlines()) for cell in row] for row in rows]
        for number, (row, cells) in enumerate(zip(rows, _aligned(texts, self.right), strict=True)):
            yield Segment("\n" * (number > 0))
            if isinstance(row[-1], Shaded):
                yield Segment("  ".join(cells[:-1]) + "  ")
                yield from row[-1].segments()
            else:
                yield Segment("  ".join(cells).rstrip())


@dataclass(frozen=True)
class Bars:
    """A histogram; heights are logarithms of the counts."""

    counts: Sequence[int]
    low: str
    """the lower bound of the first bar"""
    high: str

    def _heights(self) -> list[float]:
        most = math.log1p(max(self.counts, default=0)) or 1.0
        return [math.log1p(count) / most for count in self.counts]

    def html(self) -> str:
        bars = "".join(
            f'<rect x="{10 * place}" y="{40 - 38 * height:.1f}" width="9" height="{38 * height:.1f}">'
            f"<title>{count:,}</title></rect>"
            for place, (count, height) in enumerate(zip(self.counts, self._heights(), strict=True))
        )
        size = f'viewBox="0 0 {10 * len(self.counts)} 40" width="{10 * len(self.counts)}" height="40"'
        bars = f'<svg {size} style="fill:rgb({_ORANGE});vertical-align:bottom;margin:0 6px">{bars}</svg>'
        title = "how many activations are in each interval; heights are logarithms"
        return f'<div title="{title}" style="margin:4px 0">{escape(self.low)}{bars}{escape(self.high)}</div>'

    def segments(self) -> Iterator[Segment]:
        bars = "".join(_BARS[math.ceil(height * (len(_BARS) - 1))] for height in self._heights())
        yield Segment(f"{self.low} {bars} {self.high}")


class Drawn:
    """A thing that notebooks and `sonde.show` can draw."""

    draw: Callable[..., list[Block]]
    """what to show, from top to bottom; its keyword arguments are the options of `show`"""

    options: ClassVar[Mapping[str, Any]] = {}
    """those with which it is drawn where no others are given"""

    def shown(self, **options: Any) -> Self:
        """The same, drawn with these options where no others are given."""
        drawn = copy.copy(self)
        object.__setattr__(drawn, "options", options)  # also of a frozen dataclass
        return drawn

    def drawing(self, **options: Any) -> list[Block]:
        """What `draw` shows with its own options and these."""
        return self.draw(**{**self.options, **options})

    def _repr_html_(self) -> str:
        return to_html(self.drawing())


def to_html(blocks: Iterable[Block]) -> str:
    """Blocks as HTML that stands alone."""
    return f'<div style="{_PAGE}">{"".join(block.html() for block in blocks)}</div>'


def to_text(blocks: Iterable[Block]) -> str:
    """Blocks as plain text; the strongest token of a shaded text is in brackets."""
    lines = []
    for block in blocks:
        texts = (f"[{text}]" if strong and shade > 0 else text for text, shade, strong in block.segments())
        lines.append("".join(texts))
    return "\n".join(lines)


def print_blocks(blocks: Sequence[Block]) -> None:
    """Print blocks, with colours where stdout is a terminal."""
    if not sys.stdout.isatty():
        print(to_text(blocks))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for block in blocks:
        line = Text()
        for text, shade, strong in block.segments():
            colour = f"on rgb({int(90 + 130 * shade)},{int(70 + 40 * shade)},20)" if shade > 0 else ""
            line.append(text, style=colour or ("bold" if strong else ""))
        console.print(line)


def table(rows: Sequence[Sequence[str]], right: tuple[int, ...] = ()) -> str:
    """Columns as wide as their longest cell; those named in `right` are flush right."""
    return "\n".join("  ".join(cells).rstrip() for cells in _aligned(rows, right))


def shorten(text: str, length: int) -> str:
    """A text on one line, cut to so many characters."""
    text = _one_line(text)
    return text if len(text) <= length else text[: length - 3] + "..."


def escape(text: str) -> str:
    """Text as it stands in HTML, between tags and in attributes."""
    return html.escape(text, quote=True)


def _aligned(rows: Sequence[Sequence[str]], right: tuple[int, ...]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in enumerate(pairs)]
        for pairs in (zip(row, widths, strict=True) for row in rows)
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _strength(value: float, maximum: float) -> float:
    """An activation as a share of the maximum, from 0 to 1."""
    return min(1.0, max(0.0, value) / max(maximum, 1e-30))


def _shade(value: float, maximum: float) -> str:
    """The colour behind a token."""
    return f"rgba({_ORANGE},{_DARKEST * _strength(value, maximum):.2f})"
