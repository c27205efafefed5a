"""Settings are frozen dataclasses; this module reads and writes them, and the numbers people type.

A verb's dataclass is its command line, its keywords in Python, its TOML or JSON file and the record in its
manifest. Unknown keys are refused with the nearest match.
"""

import dataclasses
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from sonde.errors import SettingsError, nearest
from sonde.remote import Place, RemotePath, place

Settings = TypeVar("Settings")

_DECIMAL = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf" *({_DECIMAL})? *\.\. *({_DECIMAL})? *")
_OLD_RANGE = re.compile(rf"({_DECIMAL}):({_DECIMAL})")
_NUMBER = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([A-Za-z]*)")
_COUNT_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_COUNT_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_BYTE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTE_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Count(int):
    """A number of things: 131072, 131_072, 128Ki (binary), 34M or 1.5k (decimal).

    Raises SettingsError where a text is not a whole, non-negative number.
    """

    written: str
    """as it was typed"""

    def __new__(cls, value: str | int) -> Self:
        number = super().__new__(cls, cls._read(value))
        number.written = str(value)
        return number

    @classmethod
    def _read(cls, value: str | int) -> int:
        return _parse(value, _COUNT_UNITS, "count", "131072, 131_072, 128Ki or 34M")


class Bytes(Count):
    """A size in bytes: 500MB, 4GiB or a plain number; raises SettingsError where a text is not a size."""

    @classmethod
    def _read(cls, value: str | int) -> int:
        return _parse(value, _BYTE_UNITS, "size", "500MB or 4GiB")


def parse_range(text: str) -> tuple[float | None, float | None]:
    """Read a range, bounds included: 0.3..1, ..1 (up to 1) or 0.3.. (from 0.3), in which the open bound is None.

    Raises SettingsError where the text is not a range.
    """
    match = _RANGE.fullmatch(text)
    if match is None or match.groups() == (None, None):
        old = _OLD_RANGE.fullmatch(text)
        form = f"{old[1]}..{old[2]}" if old else "0.3..1, ..1 or 0.3.."
        raise SettingsError(f"{text!r} is not a range; write {form}")
    low, high = (None if bound is None else float(bound) for bound in match.groups())
    return low, high


def _parse(text: str | int, units: dict[str, int], what: str, examples: str) -> int:
    if isinstance(text, int):
        if text < 0:
            raise SettingsError(f"{text} is not a {what}: it is negative; write {examples}")
        return text
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise SettingsError(f"{text!r} is not a {what}; write {examples}")
    digits, scale = match[1].replace("_", ""), units[match[2]]
    whole, _, fraction = digits.partition(".")
    value, remainder = divmod(int(whole + fraction) * scale, 10 ** len(fraction))
    if remainder:
        raise SettingsError(f"{text!r} is not a whole {what}; write {examples}")
    return value


def format_count(value: int) -> str:
    """Write a count with separators, so that what was meant can be seen: 131_072."""
    return f"{value:_}"


def format_bytes(value: float) -> str:
    """Write a size in bytes in decimal units: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def from_mapping(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Make settings of class `cls` from names and plain values, as they stand in JSON, TOML or keywords.

    Raises SettingsError for an unknown name (with the nearest match), a missing one, or a wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in fields:
            raise SettingsError(f"{cls.__name__} has no setting {name!r}{nearest(name, fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise SettingsError(f"{cls.__name__} needs the setting {name!r}")
    return cls(**{name: _convert(f"{cls.__name__}.{name}", hints[name], value) for name, value in values.items()})


def to_mapping(settings: Any) -> dict[str, Any]:
    """Return plain values, ready for JSON, of a settings dataclass; inverse of `from_mapping`."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def read_settings(path: Path) -> dict[str, Any]:
    """Read the names and values of a .toml or .json file; raises SettingsError where it is neither."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not valid {path.suffix[1:].upper() or 'JSON'}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold one table of settings, not a {type(values).__name__}")
    return values


def check(condition: bool, name: str, value: object, bound: str) -> None:
    """Raise SettingsError naming the setting, the value seen and the bound, unless `condition` holds."""
    if not condition:
        raise SettingsError(f"{name} is {value!r}, but must be {bound}")


def _plain(value: Any) -> Any:
    if isinstance(value, (Path, RemotePath)):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _convert(name: str, hint: Any, value: Any) -> Any:
    """Turn a plain value into what the annotation asks for, without guessing."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if hint == Place and isinstance(value, (str, Path, RemotePath)):
        return place(value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        [hint] = [argument for argument in arguments if argument is not type(None)]
        return _convert(name, hint, value)
    if origin is typing.Literal:
        if value not in arguments:
            options = [str(option) for option in arguments]
            raise SettingsError(
                f"{name} is {value!r}, but must be one of {', '.join(options)}{nearest(str(value), options)}"
            )
        return value
    if origin is tuple:
        if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple)):
            raise SettingsError(f"{name} is {value!r}, but must be a list")
        return tuple(_convert(name, arguments[0], item) for item in value)
    if hint is Path and isinstance(value, (str, Path, RemotePath)):
        found = place(value)
        if isinstance(found, RemotePath):
            raise SettingsError(f"{name} is {found}, but must be a local path; only activations lie on object stores")
        return found
    if isinstance(hint, type) and issubclass(hint, int) and isinstance(value, str):
        return Count(value) if hint is int else hint(value)
    if isinstance(hint, type) and issubclass(hint, Count) and type(value) is int:
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise SettingsError(f"{name} is {value!r}, but must be of type {hint.__name__}")
    return value
