"""Progress of long work: a bar on a terminal or in a notebook, a plain line every few seconds elsewhere, or silence.

Functions that take long have a parameter `reporter`. By default they show a bar where a person waits, at a
terminal or a notebook, and nothing elsewhere; `reporter=Silent()` shows nothing anywhere.
"""

import html
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, TextIO

PLAIN_INTERVAL_S, NOTEBOOK_INTERVAL_S = 3.0, 0.2


class Progress(Protocol):
    """The progress of one piece of work, in units of its own."""

    def advance(self, n: float, note: str = "") -> None:
        """Note that `n` more units are done; `note` is shown beside the bar."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Reporter(Protocol):
    """Makes a Progress for each piece of work, and prints single lines."""

    def start(self, title: str, total: float | None, unit: str, done: float = 0) -> Progress: ...

    def say(self, line: str) -> None: ...


class _SilentProgress:
    def advance(self, n: float, note: str = "") -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Silent:
    """Reports nothing."""

    def start(self, title: str, total: float | None, unit: str, done: float = 0) -> Progress:
        return _SilentProgress()

    def say(self, line: str) -> None:
        pass


class _PlainProgress:
    def __init__(self, stream: TextIO, title: str, total: float | None, unit: str, done: float) -> None:
        self._stream, self._title, self._total, self._unit = stream, title, total, unit
        self._done = self._done_at_start = done
        self._began = self._printed = time.monotonic()
        self._note = ""

    def advance(self, n: float, note: str = "") -> None:
        self._done += n
        self._note = note or self._note
        now = time.monotonic()
        if now - self._printed >= PLAIN_INTERVAL_S:
            self._printed = now
            print(self._line(now), file=self._stream, flush=True)

    def _line(self, now: float) -> str:
        return progress_line(
            self._title,
            self._done,
            self._total,
            self._unit,
            self._done - self._done_at_start,
            now - self._began,
            self._note,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            spent = time.monotonic() - self._began
            note = f"  {self._note}" if self._note else ""
            print(
                f"{self._title}: {amount(self._done)} {self._unit} in {duration(spent)}{note}",
                file=self._stream,
                flush=True,
            )


class Plain:
    """Prints a line every few seconds to a stream that is not a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def start(self, title: str, total: float | None, unit: str, done: float = 0) -> Progress:
        return _PlainProgress(self._stream, title, total, unit, done)

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class _RichProgress:
    def __init__(
        self, bar: "AbstractContextManager", update: Callable[[float, str], None], finish: Callable[[], None]
    ) -> None:
        self._bar, self._update, self._finish = bar, update, finish

    def advance(self, n: float, note: str = "") -> None:
        self._update(n, note)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._bar.__exit__(kind, value, trace)


class Terminal:
    """Draws bars with rich on a terminal, on stderr."""

    def start(self, title: str, total: float | None, unit: str, done: float = 0) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        began = time.monotonic()
        bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            console=Console(stderr=True),
        )
        task = bars.add_task(title, total=total, completed=int(done), line="")
        count, last_note = done, ""

        def update(n: float, note: str) -> None:
            nonlocal count, last_note
            count, last_note = count + n, note or last_note
            line = progress_line("", count, total, unit, count - done, time.monotonic() - began, last_note)
            bars.update(task, completed=count, line=line)

        def finish() -> None:
            spent = duration(time.monotonic() - began)
            note = f"  {last_note}" if last_note else ""
            bars.update(task, completed=count, total=count or 1, line=f"{amount(count)} {unit} in {spent}{note}")

        return _RichProgress(bars, update, finish)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class _NotebookProgress:
    def __init__(self, title: str, total: float | None, unit: str, done: float) -> None:
        self._title, self._total, self._unit, self._note = title, total, unit, ""
        self._done = self._done_at_start = done
        self._began = self._drawn = time.monotonic()

    def advance(self, n: float, note: str = "") -> None:
        self._done, self._note = self._done + n, note or self._note
        if time.monotonic() - self._drawn >= NOTEBOOK_INTERVAL_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        spent = self._drawn - self._began
        done_now = self._done - self._done_at_start
        line = progress_line(self._title, self._done, self._total, self._unit, done_now, spent, self._note)
        bar = f'<progress value="{self._done}" max="{self._total}"></progress> ' if self._total else ""
        self._cell.update({"text/plain": line, "text/html": bar + html.escape(line)}, raw=True)

    def __enter__(self) -> Self:
        from IPython.display import display

        self._cell = display({"text/plain": self._title}, raw=True, display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()


class Notebook:
    """Draws bars in the output of a notebook's cell."""

    def start(self, title: str, total: float | None, unit: str, done: float = 0) -> Progress:
        return _NotebookProgress(title, total, unit, done)

    def say(self, line: str) -> None:
        print(line, flush=True)


def make_reporter() -> Reporter:
    """The reporter of the command line: bars where stderr is a terminal, plain lines elsewhere."""
    return Terminal() if sys.stderr.isatty() else Plain()


def default_reporter() -> Reporter:
    """The reporter of the library: bars in a notebook and on a terminal, silence elsewhere."""
    if "ipykernel" in sys.modules:
        return Notebook()
    return Terminal() if sys.stderr.isatty() else Silent()


def progress_line(
    title: str, done: float, total: float | None, unit: str, done_now: float, spent_s: float, note: str
) -> str:
    """One line: how much, which share, how fast, how long still."""
    rate = done_now / spent_s if spent_s > 0 else 0.0
    parts = [f"{title}: {amount(done)}" if title else amount(done)]
    if total:
        parts[0] += f" of {amount(total)}"
    parts[0] += f" {unit}"
    if total:
        parts.append(f"{done / total:.0%}")
    parts.append(speed(rate, unit))
    if total and rate > 0:
        parts.append(f"{duration(max(0.0, (total - done) / rate))} left")
    return "  ".join([*parts, note] if note else parts)


def amount(value: float) -> str:
    """A number of things as people write it: 950, 12.3k, 4.56M."""
    for limit, scale, unit in ((1e4, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if value < limit:
            return f"{value:,.0f}" if scale == 1 else f"{value / scale:.1f}{unit}"
    return f"{value / 1e9:.2f}G"


def speed(rate: float, unit: str) -> str:
    """Things a second; of slow work the time that each takes."""
    if 0 < rate < 1:
        return f"{1 / rate:.1f} s each" if rate > 1 / 60 else f"{duration(1 / rate)} each"
    return f"{rate:.1f} {unit}/s" if 0 < rate < 9.95 else f"{amount(rate)} {unit}/s"


def duration(seconds: float) -> str:
    """Seconds as people write them: 8 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
