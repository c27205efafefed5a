"""An edit as data: one validated value, however it is given.

    feature:311=10max@answer               a feature, set to ten times its maximum on the answer's tokens
    features:311,42=1max                   several features, each set to its own maximum
    vector:kind.safetensors+=0.1norm       a vector from a file, added with a tenth of the mean norm at its site
    neuron:layers.6.neurons/12=0           one dimension of a site, set to 0

An edit is checked when it is made, whether from Python, from text (command line, page, presets) or from JSON (presets,
server); `make_edits` makes of it what acts on a model. The page reads and prints the same text in
`frontend/src/edits.ts`; `tests/grammar.json` holds the two together.
"""

import math
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from sonde.errors import EditError, nearest
from sonde.models.where import Where, where_of

Op = Literal["clamp", "add", "scale", "ablate"]
Unit = Literal["raw", "max", "norm"]
OPS: tuple[str, ...] = get_args(Op)
SIGNS = {"clamp": "=", "ablate": "=", "add": "+=", "scale": "*="}
UNITS = {"feature": ("raw", "max"), "features": ("raw", "max"), "vector": ("raw", "norm"), "neuron": ("raw",)}
"""target -> units in which its value may be given"""
_FORMS = (
    "TARGET=V (set), TARGET+=V (add) or TARGET*=V (scale), where TARGET is feature:N, features:N,N, vector:FILE or "
    "neuron:SITE/N; V may end in max (features) or norm (vectors), and the whole in @prompt or @answer"
)
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_EDIT = re.compile(rf"([a-z]+):(.+?) *(=|\+=|\*=) *({_NUMBER}) *([a-z]*)(?:@([a-z]+))?")
_FILE = re.compile(r"(?! ).*[^+* ]")
_NEURON = re.compile(r"(.+)/([0-9]+)")


@dataclass(frozen=True)
class Edit:
    """What is done to a feature, a set of features, a vector's direction, or one dimension of a site (a "neuron").

    Exactly one of `feature`, `features`, `vector` and `neuron` is given. Setting to 0 is kept as "ablate".

    Args:
        op: "clamp" sets, "add" adds, "scale" multiplies, "ablate" sets to 0.
        feature: number of a feature of the dictionary.
        value: in `unit`; of "scale" the factor.
        unit: "raw"; of features also "max", multiples of each feature's maximum; of vectors also "norm", multiples of
            the mean norm of the site's activations.
        where: "all" tokens, those of the "prompt", or those of the "answer".
        features: numbers of several features, each of which is edited.
        vector: a file written by `save_vector`.
        neuron: a site and the number of one of its dimensions, as layers.6.neurons/12.

    Raises:
        EditError: a field that is none of these, or fields that do not go together.
    """

    op: Op
    feature: int | None = None
    value: float = 0.0
    unit: Unit = "raw"
    where: Where = "all"
    features: tuple[int, ...] | None = None
    vector: str | None = None
    neuron: str | None = None

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def __post_init__(self) -> None:
        op, value, unit = checked(self.op, self.value, self.unit)
        where_of(self)
        kind = self.kind
        if unit not in UNITS[kind]:
            owners = " or ".join(name for name, units in UNITS.items() if unit in units)
            raise EditError(
                f"an edit's unit is {unit!r}, which goes with {owners}, not with {kind}; give a plain value"
            )
        for name, found in ({"op": op, "value": value, "unit": unit} | self._checked_target(kind)).items():
            object.__setattr__(self, name, found)

    @property
    def kind(self) -> str:
        """Which of the targets is given: feature, features, vector or neuron."""
        given = [name for name in UNITS if getattr(self, name) is not None]
        if len(given) != 1:
            raise EditError(f"an edit has one target of {', '.join(UNITS)}; this has {' and '.join(given) or 'none'}")
        return given[0]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the features that are edited; none of another target."""
        return (self.features or ()) if self.feature is None else (self.feature,)

    @property
    def dimension(self) -> tuple[str, int]:
        """Site and number of the dimension that is edited; of a neuron."""
        site, number = _NEURON.fullmatch(self.neuron or "").groups()  # type: ignore[union-attr]
        return site, int(number)

    @property
    def parts(self) -> tuple[str, ...]:
        """Each single thing that is edited, as text."""
        return tuple(f"feature:{number}" for number in self.numbers) or (self.target,)

    @property
    def target(self) -> str:
        """The target as text, such as feature:311."""
        kind = self.kind
        return f"{kind}:{','.join(map(str, self.numbers)) if kind == 'features' else getattr(self, kind)}"

    def __str__(self) -> str:
        """The edit as `parse` reads it."""
        unit = "" if self.unit == "raw" else self.unit
        where = "" if self.where == "all" else f"@{self.where}"
        return f"{self.target}{SIGNS[self.op]}{format_number(self.value)}{unit}{where}"

    def to_json(self) -> dict[str, Any]:
        """The edit as a JSON object: op, the target, value, unit, where."""
        kind = self.kind
        target = list(self.numbers) if kind == "features" else getattr(self, kind)
        return {"op": self.op, kind: target, "value": self.value, "unit": self.unit, "where": self.where}

    @classmethod
    def from_json(cls, value: Any) -> "Edit":
        """Read an edit from its JSON object; raises EditError naming what is wrong."""
        if not isinstance(value, Mapping):
            raise EditError(f"an edit must be an object, not a {type(value).__name__}")
        known = [field.name for field in fields(cls)]
        for name in value:
            if name not in known:
                raise EditError(f"an edit has no {name!r}{nearest(str(name), known)}")
        given: dict[str, Any] = {"op": None} | dict(value)
        return cls(**given)

    @classmethod
    def parse(cls, text: str) -> "Edit":
        """Read an edit as people write it, such as feature:311=10max@answer; raises EditError naming what is wrong."""
        match = _EDIT.fullmatch(text.strip())
        if match is None:
            raise EditError(f"cannot read the edit {text!r}; write {_FORMS}")
        kind, target, sign, value, unit, where = match.groups()
        given: dict[str, Any] = {"op": {"=": "clamp", "+=": "add", "*=": "scale"}[sign], "value": float(value)}
        given |= {"unit": unit or "raw", "where": where or "all"}
        try:
            return cls(**given, **_parse_target(kind, target))
        except EditError as error:
            raise EditError(f"cannot read the edit {text!r}: {error}") from None

    def _checked_target(self, kind: str) -> dict[str, Any]:
        """The fields of the target as they are kept: whole numbers, no feature twice, a set of one as that feature."""
        if kind == "feature":
            return {"feature": whole_number("feature", self.feature)}
        if kind == "vector":
            name = str(self.vector) if isinstance(self.vector, (str, Path)) else ""
            if not _FILE.fullmatch(name):
                raise EditError(
                    f"an edit's vector is {self.vector!r}, but must be a file's name that ends in no +, * or space"
                )
            return {"vector": name}
        if kind == "neuron":
            if not isinstance(self.neuron, str) or not _NEURON.fullmatch(self.neuron):
                raise EditError(
                    f"an edit's neuron is {self.neuron!r}, but must be a site and a number: layers.6.neurons/12"
                )
            return {}
        if isinstance(self.features, str) or not isinstance(self.features, Iterable):
            raise EditError(f"an edit's features are {self.features!r}, but must be a list of whole numbers")
        numbers = tuple(whole_number("feature", number) for number in self.features)
        twice = [number for place, number in enumerate(numbers) if number in numbers[:place]]
        if twice or not numbers:
            raise EditError(f"an edit's features name {twice[0]} twice" if twice else "an edit's features are none")
        return {"feature": numbers[0], "features": None} if len(numbers) == 1 else {"features": numbers}


EditLike = Edit | str | Mapping[str, Any]
"""an edit, its text, or its JSON object"""


def read_edit(given: EditLike) -> Edit:
    """The edit that is given as itself, as text or as a JSON object; raises EditError where it is none."""
    if isinstance(given, Edit):
        return given
    return Edit.parse(given) if isinstance(given, str) else Edit.from_json(given)


def as_list(edits: Any) -> list[Any]:
    """Edits, of which one alone may be given without a list."""
    return [edits] if isinstance(edits, (Edit, str, Mapping)) or callable(edits) else list(edits)


def checked(op: Any, value: Any, unit: Any = "raw") -> tuple[Op, float, Unit]:
    """Operation, value and unit as they are kept; raises EditError where one is wrong, or they do not go together."""
    for name, given, options in (("op", op, OPS), ("unit", unit, get_args(Unit))):
        if given not in options:
            hint = nearest(str(given), options)
            raise EditError(f"an edit's {name} is {given!r}, but must be one of {', '.join(options)}{hint}")
    if isinstance(value, (bool, str)):
        raise EditError(f"an edit's value is {value!r}, but must be a number")
    try:
        value = float(value) + 0.0  # without the sign of zero
    except (TypeError, ValueError, OverflowError):
        raise EditError(f"an edit's value is {value!r}, but must be a number") from None
    if not math.isfinite(value):
        raise EditError(f"an edit's value is {value}, but must be a finite number")
    if op == "scale" and unit != "raw":
        raise EditError(f"scaling takes a plain factor, not one in units of {unit}; write TARGET*=V")
    if op == "ablate" and value != 0:
        raise EditError(f"an edit ablates, which sets to 0, and has the value {value:g}; clamp sets to a value")
    return ("ablate", 0.0, "raw") if op in ("clamp", "ablate") and value == 0 else (op, value, unit)


def whole_number(name: str, value: Any) -> int:
    """A whole number from 0; raises EditError naming it where it is none."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise EditError(f"an edit's {name} is {value!r}, but must be a whole number from 0")
    return number


def check_together(edits: Iterable[Edit]) -> None:
    """Raise EditError where two edits set the same thing on the same tokens."""
    places: dict[str, list[str]] = {}
    for edit in edits:
        for part in edit.parts if edit.op in ("clamp", "ablate") else ():
            others = places.setdefault(part, [])
            if any(edit.where == other or "all" in (edit.where, other) for other in others):
                raise EditError(f"{part.replace(':', ' ', 1)} is set twice; set it once")
            others.append(edit.where)


def format_number(value: float) -> str:
    """The shortest decimal that reads back as the same number, as JavaScript prints it."""
    text = repr(value)
    if "e" in text and 1e-6 <= abs(value) < 1e21:
        text = format(Decimal(text), "f")
    return re.sub(r"e([-+])0", r"e\1", text).removesuffix(".0")


def _parse_target(kind: str, target: str) -> dict[str, Any]:
    """The field of `Edit` that a target's text stands for."""
    if kind not in UNITS:
        raise EditError(f"there is no target {kind!r}{nearest(kind, UNITS)}; write {_FORMS}")
    if kind in ("vector", "neuron"):
        return {kind: target}
    numbers = [number.strip(" ") for number in target.split(",")]
    if not all(re.fullmatch("[0-9]+", number) for number in numbers) or (kind == "feature" and len(numbers) > 1):
        raise EditError(f"{target!r} is not the number of a feature; write feature:N or features:N,N")
    return {kind: int(numbers[0])} if kind == "feature" else {kind: tuple(map(int, numbers))}
