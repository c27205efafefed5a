"""Settings go to JSON and back, and what people type is read or refused by name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonde.errors import SettingsError
from sonde.settings import (
    Bytes,
    Count,
    format_count,
    from_mapping,
    read_settings,
    to_mapping,
)


@dataclass(frozen=True, kw_only=True)
class Example:
    out: Path
    kind: Literal["topk", "l1"] = "topk"
    n_features: int = 16
    lr: float | None = None
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("131072", 131072),
        ("131_072", 131072),
        ("128Ki", 131072),
        ("34M", 34_000_000),
        ("32Mi", 2**25),
        ("1.5k", 1500),
        ("2B", 2 * 10**9),
    ],
)
def test_counts(text, value):
    assert Count(text) == value


@pytest.mark.parametrize(("text", "value"), [("500MB", 5 * 10**8), ("4GiB", 2**32), ("12", 12), ("0.5KiB", 512)])
def test_sizes(text, value):
    assert Bytes(text) == value


@pytest.mark.parametrize("text", ["", "x", "-5", "12q", "1.0001k", "34 M B", "1e5", "NaN", "128ki"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(SettingsError, match="is not a"):
        Count(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_counts_read_back_as_written(value):
    assert Count(format_count(value)) == value == Count(str(value))


@given(
    st.builds(
        Example,
        out=st.text("abc/", min_size=1).map(Path),
        kind=st.sampled_from(["topk", "l1"]),
        n_features=st.integers(1, 10**9),
        lr=st.none() | st.floats(1e-6, 1.0),
        names=st.lists(st.text()).map(tuple),
    )
)
def test_settings_survive_json(settings):
    assert from_mapping(Example, json.loads(json.dumps(to_mapping(settings)))) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"out": "x", "n_feature": 3}, "did you mean n_features"),
        ({}, "needs the setting 'out'"),
        ({"out": "x", "kind": "topq"}, "must be one of topk, l1; did you mean topk"),
        ({"out": "x", "n_features": "many"}, "is not a count"),
        ({"out": "x", "n_features": True}, "must be of type int"),
        ({"out": "x", "n_features": 2.5}, "must be of type int"),
        ({"out": "x", "lr": "fast"}, "must be of type float"),
        ({"out": "x", "names": "one"}, "must be a list"),
    ],
)
def test_wrong_settings_name_the_setting(values, message):
    with pytest.raises(SettingsError, match=message):
        from_mapping(Example, values)


def test_settings_files(tmp_path):
    (tmp_path / "a.toml").write_text('out = "x"\nn_features = "34M"\nlr = 1\n')
    assert from_mapping(Example, read_settings(tmp_path / "a.toml")) == Example(
        out=Path("x"), n_features=34_000_000, lr=1.0
    )
    (tmp_path / "a.json").write_text('{"out": "x"}')
    assert from_mapping(Example, read_settings(tmp_path / "a.json")) == Example(out=Path("x"))
    for name, text in (("b.toml", "out ="), ("b.json", "{"), ("c.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(SettingsError, match=name):
            from_mapping(Example, read_settings(tmp_path / name))
    with pytest.raises(SettingsError, match="cannot read"):
        read_settings(tmp_path / "missing.toml")
