"""An exported index: files that hold all that the page shows, and nothing of this machine."""

import base64
import gzip
import json
import re

import pytest

from sonde.cli import run
from sonde.errors import ServeError
from sonde.features.index import load_index
from sonde.web import export as export_module
from sonde.web.api.features import feature_view
from sonde.web.export import export
from sonde.web.page import is_built
from tests.known import known

pytestmark = pytest.mark.skipif(not is_built(), reason="the page is not built (make page)")


def read_chunk(folder, place):
    text = (folder / f"data/features-{place}.js").read_text(encoding="utf-8")
    number, packed = known(re.fullmatch(r'sondeExport\.take\((\d+), "([^"]*)"\);\n', text)).groups()
    assert int(number) == place
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def read_index(folder):
    text = (folder / "data/index.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.sondeExport = ").removesuffix(";\n"))


def test_every_feature_is_in_the_files(walk, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "FEATURES_PER_FILE", 24)
    index = load_index(walk.index)
    page = export(index, tmp_path / "page", examples=3)
    found = read_index(tmp_path / "page")
    assert found["atOnce"] == 24 and len(found["rows"]) == 64 and found["map"] is None
    views = [view for place in range(3) for view in read_chunk(tmp_path / "page", place)]
    assert views == [feature_view(index, number, 3, "top").model_dump(mode="json") for number in range(64)]
    for row in found["rows"]:
        if row["example"]:
            value = row["example"]["pieces"][row["example"]["peak"]]["value"]
            assert value == pytest.approx(row["maximum"], rel=2e-3)
    html = page.read_text(encoding="utf-8")
    assert "module" not in html and html.index("data/index.js") < html.index("assets/")
    everything = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "page").rglob("*.js"))
    assert str(walk.root) not in everything


def test_pictures_go_with_it(pictures, tmp_path):
    export(pictures.index, tmp_path / "page")
    shown = {
        (example["document"], picture["number"])
        for view in read_chunk(tmp_path / "page", 0)
        for example in view["examples"]
        for picture in example["pictures"]
    }
    assert shown
    for document, number in shown:
        assert (tmp_path / f"page/data/picture-{document}-{number}.webp").read_bytes()[8:12] == b"WEBP"


def test_an_export_is_written_anew_and_nothing_else_is(walk, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(ServeError, match="holds something else"):
        export(walk.index, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").exists()
    assert run(["open", str(walk.index), "--export", str(tmp_path / "page"), "--examples", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page/index.html")
    (tmp_path / "page/data/features-9.js").write_text("left over")
    export(walk.index, tmp_path / "page", examples=2)
    assert not (tmp_path / "page/data/features-9.js").exists()
    assert run(["open", str(tmp_path / "nothing"), "--export", str(tmp_path / "p")]) == 2


def test_an_export_that_broke_off_is_written_anew(walk, tmp_path, monkeypatch):
    whole = export(walk.index, tmp_path / "whole", examples=1).parent
    for step in ("_copy_page", "_write_features", "_write_index"):
        with monkeypatch.context() as broken:
            broken.setattr(export_module, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                export(walk.index, tmp_path / "page", examples=1)
    export(walk.index, tmp_path / "page", examples=1)
    files = [sorted(path.relative_to(one) for path in one.rglob("*")) for one in (whole, tmp_path / "page")]
    assert files[0] == files[1]
