"""Edits that move what passes a site along directions: features of a dictionary, or a vector.

    with model.edited(Clamp(index, 311, 10, "max")): ...

An edit of features moves x along their decoder rows and leaves everything else, the dictionary's error too, as it was:

    x + (v - f(x)) d

where f(x) is what the dictionary gives on the unedited x. This equals decoding all features with one of them
set to v and adding the error back (Templeton et al. 2024, "Scaling Monosemanticity", methods), because the
decoder is linear. An edit along a vector d does the same, with f(x) the multiple of d that lies in x.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.calls import public
from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import EditError
from sonde.features.index import Index
from sonde.features.reader import dictionary_of
from sonde.models.where import Where, where_of
from sonde.steering.edits import Edit, Op, Unit, checked
from sonde.steering.replace import Rows, side_by_side


class DirectionEdit(ABC):
    """An edit along directions. Subclasses have `site`, `where` and `rows`."""

    @property
    @abstractmethod
    def op(self) -> Op: ...

    @property
    @abstractmethod
    def values(self) -> Float[Tensor, " direction"]:
        """The edit's value for each direction, in raw activation; of "scale" the factor."""

    @abstractmethod
    def directions(self, x: Float[Tensor, "..."]) -> Float[Tensor, "direction width"]:
        """The directions, on the device and in the number format in which an edit of x is computed."""

    @abstractmethod
    def activation(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... direction"]:
        """How much of each direction there is in x."""

    @property
    def norm_limit(self) -> float | None:
        """Longer vectors are left as they are; None to move all."""
        return None

    def __call__(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Move x [..., width], or [batch, position, head, width of a head].

        Raises EditError where the directions have another width.
        """
        directions = self.directions(x)
        wide = side_by_side(x).to(directions)  # the site may lie on another device, in another number format
        if wide.shape[-1] != directions.shape[1]:
            raise EditError(
                f"an edit moves vectors of width {directions.shape[1]}, but the site's have width {wide.shape[-1]}; "
                "use the model that it was made for"
            )
        if self.op == "add":  # whatever the activation, so it is not computed
            shift = self.values.to(wide).expand(*wide.shape[:-1], -1)
        else:
            shift = self.shift(self.activation(wide))
        step = shift * directions[0] if len(directions) == 1 else shift @ directions
        if self.norm_limit is not None:
            step *= wide.norm(dim=-1, keepdim=True) <= self.norm_limit
        return x + step.to(x).reshape(x.shape)

    def shift(self, activation: Float[Tensor, "... direction"]) -> Float[Tensor, "... direction"]:
        """By how much activations change."""
        if self.op == "clamp":
            return self.values.to(activation) - activation
        if self.op == "add":
            return self.values.to(activation).expand_as(activation)
        return (self.values - 1).to(activation) * activation if self.op == "scale" else -activation


@dataclass(frozen=True, eq=False)
class FeatureEdit(DirectionEdit):
    """An edit of one or several features of a dictionary.

    Args:
        source: the dictionary that gives the features' activations and directions, or an index made with it,
            whose maxima are then the unit "max"; the dictionary's site is where the edit acts.
        edit: of features.
        rows: of a batch, from zero; all by default.
        massive: whether it also moves massive vectors (attention sinks), of which the dictionary says nothing.

    Raises:
        FeatureError: the dictionary has no such feature.
        EditError: an edit of something else, a dictionary of several sites, or a multiple of the maximum of a feature
            that never fired.
    """

    source: Dictionary | Index
    edit: Edit
    rows: Rows = None
    massive: bool = False

    def __post_init__(self) -> None:
        dictionary = self.dictionary
        if not self.edit.numbers:
            raise EditError(f"{self.edit} edits no feature")
        for number in self.edit.numbers:
            dictionary.check_feature(number)
        if len(dictionary.writes) > 1 or dictionary.reads != dictionary.writes:
            raise EditError(
                f"the dictionary reads and writes {dictionary.site}; edits act through dictionaries of one site"
            )
        _ = self.values  # raises where there is no maximum

    @cached_property
    def dictionary(self) -> Dictionary:
        return self.source if isinstance(self.source, Dictionary) else dictionary_of(self.source)

    @property
    def op(self) -> Op:
        return self.edit.op

    @property
    def where(self) -> Where:
        return self.edit.where

    @property
    def site(self) -> str:
        return self.dictionary.site

    @cached_property
    def values(self) -> Float[Tensor, " feature"]:
        numbers = list(self.edit.numbers)
        values = torch.full((len(numbers),), self.edit.value, dtype=torch.float64)
        if self.edit.unit == "max":
            source = self.source
            maxima = source.max_activation if isinstance(source, Dictionary) else source.statistics["maximum"]
            for place, number in enumerate(numbers):
                maximum = float(maxima[number])
                if maximum <= 0:
                    raise EditError(
                        f"feature {number} never fired, so it has no maximum to multiply; give a plain value"
                    )
                values[place] *= maximum
        return values.to(self.dictionary.W_dec.device)

    @property
    def norm_limit(self) -> float | None:
        return None if self.massive else self.dictionary.info.norm_limits.get(self.site)

    def directions(self, x: Float[Tensor, "..."]) -> Float[Tensor, "feature width"]:
        number = self.edit.feature
        return self.dictionary.W_dec[list(self.edit.numbers) if number is None else slice(number, number + 1)]

    def activation(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... feature"]:
        if self.edit.feature is not None:
            return self.dictionary.activation(x, self.edit.feature)[..., None]
        return self.dictionary.encode(x)[..., list(self.edit.numbers)]


Features = int | Sequence[int]
"""number of a feature, or of several"""


OF_EDITS = ("feature", "value", "unit", "where", "rows")
"""what `Edit` and `FeatureEdit` check, with an EditError"""


@public(own=OF_EDITS)
def Clamp(
    source: Dictionary | Index,
    feature: Features,
    value: float,
    unit: Unit = "raw",
    where: Where = "all",
    rows: Rows = None,
) -> FeatureEdit:
    """An edit that sets one or several features to a value.

    Args:
        source: the dictionary of the features, or an index, whose maxima then count.
        feature: a number, or several.
        value: in `unit`.
        unit: "raw", or "max" for multiples of each feature's maximum.
        where: "all" tokens, those of the "prompt", or those of the "answer".
        rows: of a batch, from zero; all by default.

    Raises FeatureError and EditError, as `FeatureEdit` and `Edit` do.
    """
    return _of_features(source, "clamp", feature, value, unit, where, rows)


@public(own=OF_EDITS)
def Add(
    source: Dictionary | Index,
    feature: Features,
    value: float,
    unit: Unit = "raw",
    where: Where = "all",
    rows: Rows = None,
) -> FeatureEdit:
    """An edit that adds a value to one or several features, also where they do not fire.

    Arguments are as for `Clamp`.
    """
    return _of_features(source, "add", feature, value, unit, where, rows)


@public(own=OF_EDITS)
def Scale(
    source: Dictionary | Index, feature: Features, value: float, where: Where = "all", rows: Rows = None
) -> FeatureEdit:
    """An edit that multiplies one or several features by a factor where they fire; arguments are as for `Clamp`."""
    return _of_features(source, "scale", feature, value, "raw", where, rows)


@public(own=OF_EDITS)
def Ablate(source: Dictionary | Index, feature: Features, where: Where = "all", rows: Rows = None) -> FeatureEdit:
    """An edit that sets one or several features to 0; arguments are as for `Clamp`."""
    return _of_features(source, "ablate", feature, 0.0, "raw", where, rows)


def _of_features(
    source: Dictionary | Index, op: Op, feature: Features, value: float, unit: Unit, where: Where, rows: Rows
) -> FeatureEdit:
    if isinstance(feature, Sequence):
        edit = Edit(op, features=tuple(feature), value=value, unit=unit, where=where)
    else:
        edit = Edit(op, feature, value, unit, where)
    return FeatureEdit(source, edit, rows)


@dataclass(frozen=True, eq=False)
class VectorEdit(DirectionEdit):
    """Adds a vector to what passes a site; or sets, scales or removes the multiple of it that lies there.

    Args:
        site: where it acts.
        vector: [width].
        op: "add", "clamp", "scale" or "ablate", which leaves nothing along the vector.
        value: in multiples of the vector; of no meaning for "ablate".
        where: as of any edit.
        rows: of a batch, from zero; all by default.

    Raises EditError for another op or where, a value that is not finite, or a tensor of another shape.
    """

    site: str
    vector: Float[Tensor, " width"]
    op: Op = "add"
    value: float = 1.0
    where: Where = "all"
    rows: Rows = None

    def __post_init__(self) -> None:
        op, value, _ = checked(self.op, 0.0 if self.op == "ablate" else self.value)
        where_of(self)
        if self.vector.ndim != 1:
            raise EditError(f"a vector of {self.site} has one axis, not the shape {list(self.vector.shape)}")
        object.__setattr__(self, "op", op)
        object.__setattr__(self, "value", value)

    @property
    def values(self) -> Float[Tensor, " 1"]:
        return torch.tensor([self.value], dtype=torch.float64)

    def directions(self, x: Float[Tensor, "..."]) -> Float[Tensor, "1 width"]:
        return self.vector[None].to(x.device, torch.promote_types(self.vector.dtype, torch.float32))

    def activation(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... 1"]:
        vector = self.vector.to(x)
        return (x @ vector / vector.square().sum())[..., None]
