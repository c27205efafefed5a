"""The house keeps its own rules: errors documented, start-up light, text ASCII, docs that run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sonde import errors
from sonde.models import families

ROOT = Path(__file__).parents[2]


def leaves() -> list[str]:
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.SondeError) and not value.__subclasses__()
    ]
    return sorted(error.__name__ for error in found)


def test_every_error_is_documented_and_drawn_in_the_tree():
    documented = re.findall(r"^## (\w+)", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == leaves()
    for name in leaves():
        assert name in errors.__doc__


def test_importing_sonde_and_its_help_import_no_torch():
    code = (
        "import sys, sonde.cli; code = sonde.cli.run(['--help']); "
        "print(code, *(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 False False False"


def test_reading_an_index_imports_no_torch():
    code = "import sys, sonde.features.index; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_no_file_names_a_path_of_this_machine_or_a_registry():
    marks = re.compile(
        "|".join(["/wo" + "rk/", "/ro" + "ot/", "py" + r"pi\.org", "npm" + r"js\.org", "python" + "hosted"])
    )
    skipped = {".venv", ".git", "node_modules", "static", "sonde-demo", "sonde-demo-world", ".bench"}
    for path in ROOT.rglob("*"):
        if (
            path.is_file()
            and not skipped & set(path.relative_to(ROOT).parts)
            and path.suffix in (".py", ".c", ".md", ".toml", ".json", ".ts", ".svelte", ".sh", ".txt")
        ):
            found = marks.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert not found, f"{path} names {found[0]}"


def python_blocks() -> list:
    blocks = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
            blocks.append(pytest.param(path, block, id=f"{path.name}-{number}"))
    return blocks


@pytest.mark.parametrize(("path", "block"), python_blocks())
def test_python_in_the_documentation_runs(path, block, tmp_path, monkeypatch, own_kinds):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))  # a page adds one
    exec(compile(block, str(path), "exec"), {"__name__": "__docs__"})


def test_relative_links_in_the_documentation_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_keywords_that_editors_complete_are_the_fields_of_the_settings():
    """After a change of a settings class: python tools/keywords.py"""
    check = subprocess.run([sys.executable, ROOT / "tools/keywords.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
