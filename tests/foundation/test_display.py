"""Blocks are drawn as HTML and as text; `show` chooses by where it runs."""

import re
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

import sonde
from sonde.display import Bars, Block, Drawn, Grid, Line, Shaded, print_blocks, shorten, table, to_html, to_text
from sonde.errors import ArtifactMissingError

PIECES = [("The", 0.0), (" <b>", 2.0), (" gate", 8.0), ("\n", 0.0), ("end", 4.0)]


def test_tokens_are_shaded_by_their_share_of_the_maximum():
    html = Shaded(PIECES, maximum=8.0, peak=2).html()
    spans = re.findall(
        r'<span title="([\d.]+)" style="background:rgba\(255,145,0,([\d.]+)\)[^"]*">([^<]*)</span>', html
    )
    assert spans == [("2.00", "0.17", " &lt;b&gt;"), ("8.00", "0.70", " gate"), ("4.00", "0.35", "end")]
    assert html.count("border-bottom") == 1 and re.sub("<[^>]*>", "", html) == "The &lt;b&gt; gate end"
    assert "rgba(255,145,0,0.70)" in Shaded([("x", 99.0)], maximum=8.0).html()  # above the maximum is no darker
    assert 'title="311: &quot;x&quot;"' in Shaded([("x", 1.0)], 1.0, notes={0: '311: "x"'}).html()


def test_text_marks_the_strongest_token_and_keeps_to_a_line():
    shaded = Shaded(PIECES, maximum=8.0, peak=2)
    assert to_text([shaded]) == "The <b>[ gate] end"
    assert to_text([Shaded(PIECES, 8.0, 2, keeps_lines=True)]) == "The <b>[ gate]\nend"
    assert to_text([shaded.around_peak(1)]) == "<b>[ gate] "
    assert to_text([Line("a", strong=True), Line("b")]) == "a\nb"


def test_a_table_is_aligned_and_ends_in_a_shaded_text():
    grid = Grid([["1", "a", Shaded(PIECES[1:3], 8.0, 1)], ["10", "bc", "nothing"]], ("n", "name", "text"), right=(0,))
    assert to_text([grid]).splitlines() == [" n  name  text", " 1  a      <b>[ gate]", "10  bc    nothing"]
    assert (
        grid.html().count("<tr") == 3 and grid.html().count("<th") == 3 and grid.html().count("text-align:right") == 3
    )
    assert to_text([Grid([["a\nb  c", ""]])]) == "a b  c" and to_text([Grid([])]) == ""
    assert table([["a", "1"], ["bb", "22"]], right=(1,)) == "a    1\nbb  22"


def test_bars_have_the_heights_of_logarithms():
    bars = Bars([0, 1, 3, 15], "0", "8.00")
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"><title>', bars.html())]
    assert heights == [0.0, 9.5, 19.0, 38.0]
    assert to_text([bars]) == "0  ▂▄█ 8.00" and to_text([Bars([0, 0], "0", "1")]) == "0    1"


@dataclass
class Thing(Drawn):
    def draw(self, word: str = "nothing") -> list[Block]:
        return [Line(word, strong=True), Shaded(PIECES, 8.0, 2)]


def test_show_prints_without_a_notebook_and_draws_in_one(monkeypatch, capsys, walk):
    sonde.show(Thing(), word="bridge")
    sonde.show({"a": 1})
    assert capsys.readouterr().out == "bridge\nThe <b>[ gate] end\n{'a': 1}\n"
    with pytest.raises(TypeError):
        sonde.show(Thing(), colour="red")
    drawn = []
    display = SimpleNamespace(display=lambda shown, raw=False: drawn.append((shown, raw)))
    python = SimpleNamespace(get_ipython=lambda: None, display=display)
    monkeypatch.setitem(sys.modules, "IPython", python)  # imported, but not running
    sonde.show(Thing())
    assert capsys.readouterr().out.startswith("nothing\n") and not drawn
    python.get_ipython = lambda: "a shell"
    sonde.show(Thing(), word="<script>")
    sonde.show([1, 2])
    sonde.show(walk.index)
    (bundle, raw), plain, (contents, _) = drawn
    assert raw and set(bundle) == {"text/html", "text/plain"} and plain == ([1, 2], False)
    assert "&lt;script&gt;" in bundle["text/html"] and "<script" not in bundle["text/html"]
    assert "setting: seed" in contents["text/plain"] and capsys.readouterr().out == ""
    assert Thing()._repr_html_() == to_html(Thing().draw())


def test_show_of_a_folder_is_its_contents(walk, capsys):
    sonde.show(walk.acts, verify=True)
    out = capsys.readouterr().out
    assert "format" in out and "order_checksum" in out and "all checksums right" in out
    with pytest.raises(ArtifactMissingError, match="does not exist"):
        sonde.show("nowhere")


def test_colours_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    print_blocks([Shaded(PIECES, 8.0, 2)])
    assert "\x1b[48;2;220;110;20m gate" in capsys.readouterr().out


def test_shorten():
    assert shorten("a  b\nc", 10) == "a b c" and shorten("x" * 30, 10) == "xxxxxxx..."
