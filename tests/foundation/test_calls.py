"""What a call is refused for, and what it is not: numpy's numbers, any path, arrays and generators for lists."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from sonde.calls import field_help, fits, public
from sonde.errors import SettingsError, UsageError
from tests.known import known


@dataclass(frozen=True, kw_only=True)
class Settings:
    out: str
    """where to
    write"""
    n: int = 3
    size: tuple[int, ...] = ()
    """of each"""


class Closes(Protocol):
    def close(self) -> None: ...


@public(Settings)
def work(thing: Path | str, *, quiet: bool = False, **settings: Any) -> dict[str, Any]:
    """Do some work.

    Args:
        thing: to work on.
    """
    return settings


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (np.int64(3), int),
        (np.float32(3), float),
        (3, float),
        (True, bool),
        (Path("x"), str | Path),
        (None, int | None),
        ("a", Literal["a", "b"]),
        (len, Callable[[str], int]),
        ({"a": 1}, Mapping[str, int]),
        (["a"], Sequence[str]),
        (("a",), Sequence[str]),
        (np.array(["a"]), Sequence[str]),
        ((letter for letter in "ab"), Sequence[str]),
        ((1, 2), tuple[int, int]),
        ((1, 2, 3), tuple[int, ...]),
        (open(__file__), Closes),
        (object(), Any),
        ([["a"], "b"], Sequence[str | Sequence[str]]),
    ],
)
def test_what_fits(value, hint):
    assert fits(value, hint)
    if hasattr(value, "close"):
        value.close()


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (3.0, int),
        ("3", int),
        (3, str),
        (3, Path),
        (None, int),
        ("c", Literal["a"]),
        (3, Callable[[], int]),
        ("abc", Sequence[str]),
        ([3], Sequence[str]),
        ({"a": 1}, Sequence[str]),
        (["a"], Mapping[str, int]),
        ((1,), tuple[int, int]),
        (3, Closes),
        (1, Literal[True]),
    ],
)
def test_what_does_not(value, hint):
    assert not fits(value, hint)


def test_settings_stand_in_the_signature_and_in_the_help():
    shown = "(thing: pathlib.Path | str, *, out: str, n: int = 3, size: tuple[int, ...] = (), quiet: bool = False)"
    assert str(inspect.signature(work)) == shown + " -> dict[str, typing.Any]"
    assert field_help(Settings) == {"out": "where to write", "size": "of each"}
    assert known(inspect.getdoc(work)).endswith("    out: where to write\n    size: of each")
    assert work("x", out="y", n=5) == {"out": "y", "n": 5}


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((), {"out": "x"}, SettingsError, "sonde.work needs thing; call it as sonde.work(thing, out=...)"),
        (("x",), {}, SettingsError, "sonde.work needs out; call it as sonde.work(thing, out=...)"),
        (("x",), {"out": "x", "siz": 3}, SettingsError, "sonde.work has no setting 'siz'; did you mean size?"),
        (("x", 3.5), {}, UsageError, "takes only thing without a name, but was also given 3.5; name it"),
        (("x",), {"thing": "x"}, UsageError, "sonde.work was given thing twice"),
        ((["x"],), {"out": "x"}, UsageError, "sonde.work: thing is a list, but must be a path"),
        (("x",), {"out": "x", "quiet": "no"}, UsageError, "quiet is a str ('no'), but must be True or False"),
    ],
)
def test_what_is_refused(arguments, keywords, error, message):
    with pytest.raises(error) as caught:
        work(*arguments, **keywords)
    assert message in str(caught.value)


def test_an_error_of_the_function_itself_is_its_own():
    @public()
    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(ZeroDivisionError):
        divide(0)
