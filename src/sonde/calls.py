"""Calls of sonde's functions: each shows all that it takes, and a wrong call is one line that names the fix.

`@public(TrainSettings)` above a function that ends in `**settings` gives it a signature and a help with every setting,
and has each call checked before it begins: names, what is missing, and the types of the function's own parameters. The
values of settings are checked by their dataclass.
"""

import ast
import collections.abc
import dataclasses
import inspect
import itertools
import numbers
import os
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sonde.errors import SettingsError, UsageError, nearest

Function = TypeVar("Function", bound=Callable[..., Any])

_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_LOOKED_AT = 16
"""elements of a list whose types are looked at"""
_ABSTRACT = {int: numbers.Integral, float: numbers.Real, complex: numbers.Complex, Path: os.PathLike}
"""what stands for a type in a call: a number of numpy's is a number"""


def public(
    settings: type | None = None, *, name: str = "", optional: tuple[str, ...] = (), own: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Make a function that people call: with a full signature, a help that lists its settings, and checked calls.

    Args:
        settings: the dataclass whose fields the function takes as `**settings`.
        name: what it is called in `sonde`, where that is not its own name.
        optional: settings that this function can do without though the dataclass cannot.
        own: parameters that the function checks itself, with errors of its own.
    """

    def decorate(function: Function) -> Function:
        called = f"sonde.{name}" if name else _name_of(function)
        signature = _with_settings(inspect.signature(function), settings, optional)

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                _refuse_names(called, signature, args, kwargs)
            for parameter, value in bound.arguments.items():
                hint = None if parameter in own else _hints(function).get(parameter)
                if hint is not None and not fits(value, hint) and signature.parameters[parameter].kind in _CHECKED:
                    _refuse_type(called, signature, _hints(function), parameter, bound.arguments)
            return function(*args, **kwargs)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        if name:
            checked.__name__ = checked.__qualname__ = name
        if settings is not None:
            checked.__doc__ = inspect.cleandoc(function.__doc__ or "") + _settings_help(settings, signature)
        return checked  # type: ignore[return-value]

    return decorate


_CHECKED = (*_BY_PLACE, Parameter.KEYWORD_ONLY)


def _name_of(function: Callable[..., Any]) -> str:
    """sonde.train of a function, sonde.Reader of a constructor, Index.search of a method."""
    owner, _, own = function.__qualname__.rpartition(".")
    if own == "__init__":
        return f"sonde.{owner}"
    return f"{owner}.{own}" if owner else f"sonde.{own}"


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's own parameters, without that of `**settings`."""
    hints = typing.get_type_hints(function)
    return {name: hint for name, hint in hints.items() if name != "return"}


# ---------------------------------------------------------------- what a function takes


def _with_settings(signature: Signature, settings: type | None, optional: tuple[str, ...]) -> Signature:
    """The signature with each setting in place of `**settings`, after what is given without a name."""
    if settings is None:
        return signature
    own = [each for each in signature.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    known = {each.name for each in own}
    keywords = next((each.annotation for each in signature.parameters.values() if each not in own), None)
    added = [each for each in _parameters(settings, keywords, optional) if each.name not in known]
    first = [each for each in own if each.kind is not Parameter.KEYWORD_ONLY]
    return signature.replace(parameters=[*first, *added, *own[len(first) :]])


def _parameters(settings: type, keywords: Any, optional: tuple[str, ...]) -> Iterator[Parameter]:
    """The fields of a settings class as parameters; those that are optional here show `...` as their default.

    Args:
        keywords: `Unpack` of the TypedDict that says what may be given for each; else the fields' own types are shown.
    """
    written = typing.get_type_hints(*typing.get_args(keywords)) if typing.get_args(keywords) else {}
    for field in dataclasses.fields(settings):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is dataclasses.MISSING:
            default = ... if field.name in optional else Parameter.empty
        annotation = written.get(field.name, field.type)
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _settings_help(settings: type, signature: Signature) -> str:
    """The settings, each with its line of help, as the end of a docstring."""
    lines = (f"    {name}: {text}" for name, text in field_help(settings).items() if name in signature.parameters)
    return f"\n\nSettings (the fields of `{settings.__name__}`):\n" + "\n".join(lines)


def field_help(settings: type) -> dict[str, str]:
    """Each field of a settings class -> the text under it, on one line; nothing where the source is not at hand."""
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    except (OSError, TypeError):
        return {}
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return texts


# ---------------------------------------------------------------- what fits


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what a type says, as far as can be seen without running through it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return fits(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(value is argument or (type(value) is type(argument) and value == argument) for argument in arguments)
    if origin is collections.abc.Callable:
        return callable(value)
    if isinstance(origin, type):
        return _fits_collection(value, origin, arguments)
    if hint is None or hint is type(None):
        return value is None
    if getattr(hint, "_is_protocol", False):
        members = (name for name in vars(hint) if not name.startswith("_") or name == "__call__")
        return all(hasattr(value, name) for name in members)
    if hint is Any or not isinstance(hint, type):
        return True
    hint = getattr(hint, "array_type", hint)  # of jaxtyping's arrays; functions check axes and formats themselves
    if isinstance(value, bool) and hint in (int, float):
        return False
    return isinstance(value, _ABSTRACT.get(hint, hint))


def _fits_collection(value: Any, origin: type, arguments: tuple[Any, ...]) -> bool:
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if not issubclass(origin, collections.abc.Iterable):
        return isinstance(value, origin)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, collections.abc.Iterable):
        return False
    if not isinstance(value, (list, tuple)) or not arguments:
        return True  # an array, a column of a table, a generator
    if origin is tuple and arguments[-1] is not ...:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(each, arguments[0]) for each in value[:_LOOKED_AT])


# ---------------------------------------------------------------- what is said of a wrong call


def _refuse_names(called: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NoReturn:
    """Raise for a name that is unknown, given twice or missing, or for too many values without a name."""
    shown = {name: each for name, each in signature.parameters.items() if name != "self"}
    takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in shown.values())
    places = [name for name, each in signature.parameters.items() if each.kind in _BY_PLACE]
    for name in kwargs:
        if name not in shown and not takes_any:
            hint = nearest(name, shown) or f"; help({called}) lists all"
            raise SettingsError(f"{called} has no setting {name!r}{hint}")
    if len(args) > len(places):
        own = [name for name in places if name != "self"]
        extra = _described(args[len(places)])
        takes = f"takes only {_listed(own)} without a name" if own else "takes everything by name"
        raise UsageError(f"{called} {takes}, but was also given {extra}; name it, as in {_example(called, shown)}")
    given = set(places[: len(args)])
    for name in kwargs:
        if name in given:
            raise UsageError(f"{called} was given {name} twice, by its place and by its name; leave one out")
    missing = [name for name in shown if name not in given | set(kwargs) and _is_needed(shown[name])]
    raise SettingsError(f"{called} needs {_listed(missing)}; call it as {_example(called, shown)}")


def _refuse_type(
    called: str, signature: Signature, hints: dict[str, Any], name: str, given: Mapping[str, Any]
) -> NoReturn:
    """Raise for a value of a type that its parameter does not take; says where it goes, or what was meant for it."""
    value = given[name]
    shown = {other: each for other, each in signature.parameters.items() if other != "self"}
    message = f"{called}: {name} is {_described(value)}, but must be {_listed(_wanted(hints[name]), 'or')}"
    goes = next((other for other in hints if other in shown and _is_meant(value, hints[other])), None)
    if goes is not None:
        message += f"; {_described(value)} is what {goes} takes: {_example(called, shown, goes)}"
    meant = next((other for other in given if other in shown and _is_meant(given[other], hints[name])), None)
    if goes is None and meant is not None:
        message += f"; {meant} is {_described(given[meant])}, so call it as {_example(called, shown, name)}"
    raise UsageError(message)


def _is_meant(value: Any, hint: Any) -> bool:
    """Whether a type names the class of a value, as Model does of a model; never for what Python itself has."""
    if typing.get_args(hint):
        return any(_is_meant(value, argument) for argument in typing.get_args(hint))
    ours = isinstance(hint, type) and hint.__module__.startswith("sonde") and not getattr(hint, "_is_protocol", False)
    return ours and isinstance(value, hint)


def _is_needed(parameter: Parameter) -> bool:
    kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and parameter.kind not in kinds


def _example(called: str, parameters: Mapping[str, Parameter], also: str = "") -> str:
    """A call with all that is needed: sonde.train(activations, n_features=..., out=...)."""
    places = [name for name, each in parameters.items() if each.kind in _BY_PLACE and _is_needed(each)]
    named = [
        name
        for name, each in parameters.items()
        if name not in places and each.kind is not Parameter.VAR_KEYWORD and (_is_needed(each) or name == also)
    ]
    return f"{called}({', '.join([*places, *(f'{name}=...' for name in named)])})"


def _described(value: Any) -> str:
    """A value as an error names it: its kind, and a short text or number itself."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    text = repr(value) if isinstance(value, (str, os.PathLike)) else ""
    article = "an" if type(value).__name__[0].lower() in "aeiou" else "a"
    kind = f"{article} {type(value).__name__}"
    return f"{kind} ({text if len(text) < 60 else text[:57] + '...'})" if text else kind


def _wanted(hint: Any) -> list[str]:
    """The names of what a type takes, for an error; none where it takes anything."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        names = list(dict.fromkeys(name for argument in arguments for name in _wanted(argument)))
        return [name for name in names if name != "a str" or "a path" not in names]
    if origin is typing.Literal:
        return [repr(argument) for argument in arguments]
    if origin is collections.abc.Callable:
        return ["a function"]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["a mapping"]
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        if origin is tuple and arguments[-1] is not ...:
            return ["(" + ", ".join(_listed(_wanted(argument), "or") for argument in arguments) + ")"]
        names = [name for argument in arguments[:1] for name in _wanted(argument)]
        return ["a list of " + (_listed([name.removeprefix("a ") for name in names], "or") or "values")]
    if hint is None or hint is type(None):
        return ["None"]
    hint = getattr(hint, "array_type", hint)
    names = {"RemotePath": "a URL", "Path": "a path", "str": "a str", "int": "a whole number"}
    names |= {"float": "a number", "bool": "True or False"}
    return [names.get(hint.__name__, hint.__name__)] if isinstance(hint, type) and hint is not Any else []


def _listed(names: list[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
