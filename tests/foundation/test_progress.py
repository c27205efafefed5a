"""Progress says how much, how fast and how long still."""

import io
import sys
import types
from typing import Any

import pytest

from sonde import progress
from sonde.devices import choose_device, choose_dtype, ensure_memory
from sonde.errors import CapacityError, SettingsError


def test_a_line_has_share_rate_and_time_left():
    line = progress.progress_line("train", 250_000, 1_000_000, "tokens", 250_000, 10, "FVU 0.1")
    assert line == "train: 250.0k of 1.0M tokens  25%  25.0k tokens/s  30 s left  FVU 0.1"
    assert "left" not in progress.progress_line("x", 5, None, "rows", 5, 1, "")


def test_a_resumed_run_counts_its_rate_from_where_it_took_up():
    line = progress.progress_line("train", 900, 1000, "tokens", 100, 10, "")
    assert "10 tokens/s" in line and "10 s left" in line


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (25_000, "25.0k rows/s"),
        (12.4, "12 rows/s"),
        (1.26, "1.3 rows/s"),
        (0.2, "5.0 s each"),
        (0.01, "1 min 40 s each"),
    ],
)
def test_slow_work_says_how_long_each_takes(rate, text):
    assert progress.speed(rate, "rows") == text


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_plain_lines_go_to_the_stream(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    stream = io.StringIO()
    reporter = progress.Plain(stream)
    with reporter.start("index", 10, "tokens") as work:
        work.advance(4, "note")
        work.advance(6)
    reporter.say("done")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("index: 4 of 10 tokens  40%") and "note" in lines[0]
    assert lines[-2].startswith("index: 10 tokens in 0 s") and lines[-1] == "done"


def test_bars_work_without_a_terminal(capsys):
    with progress.Terminal().start("index", 10, "tokens") as work:
        work.advance(10, "note")
    assert "10 tokens" in capsys.readouterr().err


def test_devices_and_dtypes():
    assert choose_device("cpu").type == "cpu"
    for name in ("gpu", "cuda:99", "xpu"):
        with pytest.raises(SettingsError, match=name):
            choose_device(name)
    with pytest.raises(SettingsError, match="did you mean bfloat16"):
        choose_dtype("bfloat")
    ensure_memory(1, "nothing", "")
    with pytest.raises(CapacityError, match=r"the job needs about 1\.0 TB, but .* are free; ask for less"):
        ensure_memory(1e12, "the job", "ask for less")


def test_a_bar_is_shown_where_a_person_waits_and_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert isinstance(progress.default_reporter(), progress.Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(progress.default_reporter(), progress.Terminal)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert isinstance(progress.default_reporter(), progress.Notebook)


def test_bars_in_a_notebook_are_one_output_that_is_drawn_again(monkeypatch):
    drawn = []
    cell = types.SimpleNamespace(update=lambda data, raw: drawn.append(data))
    ipython: Any = types.ModuleType("IPython.display")
    ipython.display = lambda data, raw, display_id: cell
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    monkeypatch.setattr(progress, "NOTEBOOK_INTERVAL_S", 0.0)
    with progress.Notebook().start("train <b>", 10, "tokens") as work:
        work.advance(4, "FVU 0.1")
    assert drawn[0]["text/plain"].startswith("train <b>: 4 of 10 tokens  40%") and "FVU 0.1" in drawn[0]["text/plain"]
    assert '<progress value="4" max="10">' in drawn[0]["text/html"] and "train &lt;b&gt;" in drawn[0]["text/html"]
