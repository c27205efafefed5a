"""Edits of features: data that can be written down, sent and applied.

An edit moves x along one decoder row and leaves everything else, the dictionary's error too, as it was:

    x + (v - f(x)) d

where f(x) is what the dictionary gives on the unedited x. This equals decoding all features with one of them
set to v and adding the error back (Templeton et al. 2024, "Scaling Monosemanticity", methods), because the
decoder is linear.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary, Elementwise
from sonde.errors import EditError, nearest
from sonde.features.index import Index
from sonde.features.reader import dictionary_of

Op = Literal["clamp", "add", "scale", "ablate"]
Unit = Literal["raw", "max"]
Where = Literal["all", "prompt", "answer"]
_FORMS = "feature:N=V, feature:N=Vmax, feature:N+=V, feature:N*=V or feature:N=0, with @prompt or @answer at the end"
_EDIT = re.compile(r"feature:(\d+)\s*(=|\+=|\*=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(max)?(?:@(\w+))?")


@dataclass(frozen=True)
class EditSpec:
    """One edit as data, without the dictionary that it acts through."""

    op: Op
    feature: int
    value: float = 0.0
    unit: Unit = "raw"
    where: Where = "all"

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise EditError(f"the value of an edit must be a finite number, not {self.value}")
        if self.op == "scale" and self.unit == "max":
            raise EditError("scaling takes a plain factor, not a multiple of the maximum; write feature:N*=V")

    def to_json(self) -> dict[str, Any]:
        return {"op": self.op, "feature": self.feature, "value": self.value, "unit": self.unit, "where": self.where}

    def __str__(self) -> str:
        sign = {"clamp": "=", "ablate": "=", "add": "+=", "scale": "*="}[self.op]
        unit = "max" if self.unit == "max" else ""
        where = "" if self.where == "all" else f"@{self.where}"
        return f"feature:{self.feature}{sign}{self.value:g}{unit}{where}"


def parse_spec(text: str) -> EditSpec:
    """Read an edit as it is written on the command line, such as feature:311=10max@answer.

    Raises EditError where it cannot be read.
    """
    match = _EDIT.fullmatch(text.strip())
    if match is None:
        raise EditError(f"cannot read the edit {text!r}; write {_FORMS}")
    feature, sign, value, unit, where = match.groups()
    if where is not None and where not in ("all", "prompt", "answer"):
        raise EditError(
            f"cannot read the edit {text!r}: @{where} is not @prompt or @answer{nearest(where, ('prompt', 'answer'))}"
        )
    op: Op = {"=": "clamp", "+=": "add", "*=": "scale"}[sign]  # type: ignore[assignment]
    if op == "clamp" and float(value) == 0:
        return EditSpec("ablate", int(feature), 0.0, "raw", where or "all")  # type: ignore[arg-type]
    return EditSpec(op, int(feature), float(value), "max" if unit else "raw", where or "all")  # type: ignore[arg-type]


def spec_from_json(value: Any) -> EditSpec:
    """Read an edit from its JSON form; raises EditError naming what is wrong."""
    if not isinstance(value, Mapping):
        raise EditError(f"an edit must be an object, not a {type(value).__name__}")
    known = {"op": ("clamp", "add", "scale", "ablate"), "unit": ("raw", "max"), "where": ("all", "prompt", "answer")}
    for name in value:
        if name not in ("op", "feature", "value", "unit", "where"):
            raise EditError(f"an edit has no {name!r}{nearest(str(name), ('op', 'feature', 'value', 'unit', 'where'))}")
    body = {"unit": "raw", "where": "all", "value": 0.0} | dict(value)
    for name, options in known.items():
        if body.get(name) not in options:
            raise EditError(f"an edit's {name} is {body.get(name)!r}, but must be one of {', '.join(options)}")
    if not isinstance(body.get("feature"), int) or isinstance(body["feature"], bool):
        raise EditError(f"an edit's feature is {body.get('feature')!r}, but must be a whole number")
    if not isinstance(body["value"], (int, float)) or isinstance(body["value"], bool):
        raise EditError(f"an edit's value is {body['value']!r}, but must be a number")
    return EditSpec(body["op"], body["feature"], float(body["value"]), body["unit"], body["where"])  # type: ignore[arg-type]


@dataclass(frozen=True)
class FeatureEdit(ABC):
    """An edit of one feature, ready to be applied.

    Args:
        source: the dictionary that gives the feature's activation and direction, or an index made with it,
            whose maxima are then the unit; its site is where the edit acts.
        feature: number of the feature.
        value: in raw activation, or with unit "max" in multiples of `maximum`.
        where: all tokens, those of the prompt, or those of the answer.
        rows: the rows of a batch that it acts on, from zero; all by default.
    """

    source: Dictionary | Index
    feature: int
    value: float = 0.0
    unit: Unit = "raw"
    where: Where = "all"
    rows: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.dictionary.check_feature(self.feature)
        if len(self.dictionary.writes) > 1 or self.dictionary.reads != self.dictionary.writes:
            raise EditError(
                f"the dictionary reads and writes {self.dictionary.site}; edits act through dictionaries of one site"
            )

    @cached_property
    def dictionary(self) -> Dictionary:
        return self.source if isinstance(self.source, Dictionary) else dictionary_of(self.source)

    @property
    def site(self) -> str:
        return self.dictionary.site

    @property
    def amount(self) -> float:
        """The value in raw activation."""
        if self.unit == "raw":
            return self.value
        maxima = (
            self.source.max_activation if isinstance(self.source, Dictionary) else self.source.statistics["maximum"]
        )
        maximum = float(maxima[self.feature])
        if maximum <= 0:
            raise EditError(
                f"feature {self.feature} never fired, so it has no maximum to measure by; give a plain value"
            )
        return self.value * maximum

    def __call__(self, x: Tensor) -> Tensor:
        """Move x [..., width], or [batch, position, head, width of a head], along the feature's direction."""
        wide = x.flatten(2) if x.ndim == 4 else x  # heads lie side by side in a dictionary
        wide = wide.to(self.dictionary.W_dec)  # the site may lie on another device, in another number format
        step = self.change(wide)[..., None] * self.dictionary.W_dec[self.feature]
        return x + step.to(x).reshape(x.shape)

    def change(self, x: Tensor) -> Tensor:
        """How far x [..., width] moves along the direction [...], in raw activation."""
        return self.shift(self.dictionary.activation(x, self.feature))

    @abstractmethod
    def shift(self, activation: Tensor) -> Tensor:
        """How far a stream moves on which the feature has this activation [...]."""


class Clamp(FeatureEdit):
    """Set the feature to a value, wherever it stood."""

    def shift(self, activation: Tensor) -> Tensor:
        return self.amount - activation


class Add(FeatureEdit):
    """Add to the feature, wherever it stood."""

    def change(self, x: Tensor) -> Tensor:
        return x.new_full(x.shape[:-1], self.amount)  # whatever the activation, so it is not asked for

    def shift(self, activation: Tensor) -> Tensor:
        return activation.new_full(activation.shape, self.amount)


class Scale(FeatureEdit):
    """Multiply the feature by a factor where it fires."""

    def shift(self, activation: Tensor) -> Tensor:
        return (self.value - 1) * activation


class Ablate(FeatureEdit):
    """Take the feature away where it fires."""

    def shift(self, activation: Tensor) -> Tensor:
        return -activation


class RowEdits:
    """Edits through one dictionary, each of one row of a batch, found and applied together.

    Args:
        edits: (row, edit); whatever `where` and `rows` they have, they act on all tokens of their row.
    """

    def __init__(self, edits: Sequence[tuple[int, FeatureEdit]]) -> None:
        first = edits[0][1]
        self.dictionary, self.site, self.edits = first.dictionary, first.site, [edit for _, edit in edits]
        device = self.dictionary.W_dec.device
        self.row_of = torch.tensor([row for row, _ in edits], device=device)
        self.features = torch.tensor([edit.feature for edit in self.edits], device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """Move x [batch, position, ...] along the features' directions, each row by its own edits."""
        dictionary = self.dictionary
        wide = (x.flatten(2) if x.ndim == 4 else x).to(dictionary.W_dec)
        if isinstance(dictionary, Elementwise):  # one encoder row each is enough
            pre = torch.einsum("epw,ew->pe", wide[self.row_of], dictionary.W_enc[self.features])
            activation = dictionary.act(pre + dictionary.b_enc[self.features], self.features).T
        else:  # each row is encoded once, whatever the number of its edits
            own, place = self.row_of.unique(return_inverse=True)
            activation = dictionary.encode(wide[own])[place, :, self.features]
        shift = torch.stack([edit.shift(one) for edit, one in zip(self.edits, activation, strict=True)])
        step = torch.zeros_like(wide).index_add_(
            0, self.row_of, shift[..., None] * dictionary.W_dec[self.features][:, None]
        )
        return x + step.to(x).reshape(x.shape)


OPS: dict[str, type[FeatureEdit]] = {"clamp": Clamp, "add": Add, "scale": Scale, "ablate": Ablate}


def make_edits(specs: Sequence[EditSpec], source: Dictionary | Index) -> list[FeatureEdit]:
    """Bind edits to a dictionary, or to an index and its dictionary.

    Raises:
        FeatureError: no such feature.
        EditError: two clamps (or ablations) of one feature on the same tokens.
    """
    clamped: dict[int, list[str]] = {}
    edits = []
    for spec in specs:
        if spec.op in ("clamp", "ablate"):
            others = clamped.setdefault(spec.feature, [])
            if any(spec.where == other or "all" in (spec.where, other) for other in others):
                raise EditError(f"feature {spec.feature} is set twice; clamp it once")
            others.append(spec.where)
        edits.append(OPS[spec.op](source, spec.feature, spec.value, spec.unit, spec.where))
    return edits


def parse_edit(text: str, source: Dictionary | Index) -> FeatureEdit:
    """Read one edit as written on the command line and bind it to a dictionary or an index."""
    return make_edits([parse_spec(text)], source)[0]
