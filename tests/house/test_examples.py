"""The scripts in examples/ run, from beginning to end."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, **smaller):
        path = tmp_path / name
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        for constant, (before, after) in smaller.items():
            assert f"{constant} = {before}\n" in text
            text = text.replace(f"{constant} = {before}\n", f"{constant} = {after}\n")
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(path))
        return capsys.readouterr().out

    return run


def test_the_first_walk(run):
    out = run("first_walk.py", **{"DOCUMENTS, FEATURES": ("1000, 512", "200, 64"), "TOKENS": ("100_000", "10_000")})
    assert "index at layers.3.residual of world" in out and "more likely" in out
    assert "as it is:" in out and "turned up:" in out


def test_features_of_an_own_model(run, walk):
    out = run("own_model.py", walk.model, walk.corpus)
    assert "features explain" in out and "index at layers.1.residual of model" in out and "Feature(" in out


def test_an_own_kind_of_dictionary(run, own_kinds):
    l0, fvu, cosine = map(float, re.findall(r"[\d.]+\d", run("own_kind.py")))
    assert l0 < 6 and fvu < 0.1 and cosine > 0.98


def test_the_documentation_shows_the_own_kind():
    code = (EXAMPLES / "own_kind.py").read_text(encoding="utf-8").partition('"""\n\n')[2]
    assert f"```python\n{code}```" in (EXAMPLES.parent / "docs/training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert 20 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60
