"""Every flag that the documentation, the help or an error names is one that the parser takes."""

import re
from functools import cache
from pathlib import Path

from sonde.cli import make_app, verbs

ROOT = Path(__file__).parents[2]
EVERYWHERE = {"--help", "--version", "--settings", "--debug"}
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w-]*\.)")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [*(page for page in PAGES if page.name != "log.md"), *sorted((ROOT / "src").rglob("*.py"))]
"""all but the log, which says what was"""


@cache
def flags(verb):
    """The flags of a verb, and of the verbs below it."""
    app = make_app(verbs_say=True)[verb]
    names = {name for below in app if not below.startswith("-") for name in _own(app[below])}
    return frozenset(names | _own(app) | EVERYWHERE)


def _own(app):
    arguments = app.assemble_argument_collection() if app.default_command else []
    return {name for argument in arguments for name in argument.names if name.startswith("--")}


def test_flags_that_are_named_exist():
    paths = [path for folder in ("benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")]
    scripts = "".join(path.read_text(encoding="utf-8") for path in paths)
    known = set().union(*map(flags, verbs()))
    for path in TEXTS:
        own = set(FLAG.findall(scripts)) if path.name == "benchmarks.md" else set()
        assert set(FLAG.findall(path.read_text(encoding="utf-8"))) <= known | own, path


def test_flags_of_commands_that_are_shown_are_the_verbs_own():
    n = 0
    for path in TEXTS:
        for verb, rest in re.findall(r"sonde ([a-z]+)((?: [^\n`|;#&]*)?)", path.read_text(encoding="utf-8")):
            if verb in verbs():
                n += 1
                assert set(FLAG.findall(rest.split(" sonde ")[0])) <= flags(verb), f"{path}: sonde {verb}{rest}"
    assert n > 100


def test_what_is_on_by_default_can_be_turned_off():
    """A flag that can only say what is so anyway would do nothing."""
    app = make_app(verbs_say=True)
    for verb in verbs():
        for one in [app[verb], *(app[verb][below] for below in app[verb] if not below.startswith("-"))]:
            for argument in one.assemble_argument_collection() if one.default_command else []:
                if argument.hint is bool and argument.field_info.default is True:
                    assert any(name.startswith("--no-") for name in argument.names), f"sonde {verb} {argument.names}"
