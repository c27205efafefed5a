"""The files of examples/ run, are short, and stand in the documentation where it shows them."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, own_kinds):
    monkeypatch.chdir(tmp_path)
    assert 20 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60
    names = runpy.run_path(str(path))
    if path.stem == "own_kind":
        assert names["cosine"] > 0.98 and names["quality"]["fvu"] < 0.1 and names["quality"]["l0"] < 6
        assert names["dictionary"].kind == "tail" and type(names["dictionary"]) is names["Tail"]


def test_the_documentation_shows_the_example_of_a_kind():
    code = (ROOT / "examples/own_kind.py").read_text(encoding="utf-8").partition('"""\n\n')[2]
    assert f"```python\n{code}```" in (ROOT / "docs/training.md").read_text(encoding="utf-8")
