"""Edits that act on a model: `with model.edited(Clamp(index, 311, 10, "max")): ...`

An edit of features moves x along their decoder rows and leaves everything else, the dictionary's error too, as it was:

    x + (v - f(x)) d

where f(x) is what the dictionary gives on the unedited x. This equals decoding all features with one of them
set to v and adding the error back (Templeton et al. 2024, "Scaling Monosemanticity", methods), because the
decoder is linear. An edit along a vector d does the same, with f(x) the multiple of d that lies in x. An edit of a neuron writes
one dimension of x, and `Replace` all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import EditError
from sonde.features.index import Index
from sonde.features.reader import dictionary_of
from sonde.models.model import SiteEdit
from sonde.models.where import Where, where_of
from sonde.steering.edits import Edit, EditLike, Op, Unit, check_together, checked, read_edit
from sonde.steering.vectors import find_vector, load_vector

Rows = tuple[int, ...] | None
"""rows of a batch that an edit acts on, from zero; None for all"""


class DirectionEdit(ABC):
    """An edit that moves x along directions, by how much of each x has.

    Subclasses have `op`, `value`, `site`, `where` and `rows`.
    """

    @property
    @abstractmethod
    def op(self) -> Op: ...

    @property
    @abstractmethod
    def value(self) -> float: ...

    @abstractmethod
    def directions(self, x: Tensor) -> Float[Tensor, "direction width"]:
        """The directions, on the device and in the number format in which an edit of x is computed."""

    @property
    @abstractmethod
    def amounts(self) -> Float[Tensor, " direction"]:
        """The value of each direction, in raw activation."""

    @abstractmethod
    def activation(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... direction"]:
        """How much of each direction there is."""

    def __call__(self, x: Tensor) -> Tensor:
        """Move x [..., width], or [batch, position, head, width of a head]."""
        directions = self.directions(x)
        wide = side_by_side(x).to(directions)  # the site may lie on another device, in another number format
        if self.op == "add":  # whatever the activation, so it is not asked for
            shift = self.amounts.to(wide).expand(*wide.shape[:-1], -1)
        else:
            shift = self.shift(self.activation(wide))
        step = shift * directions[0] if len(directions) == 1 else shift @ directions
        return x + step.to(x).reshape(x.shape)

    def shift(self, activation: Float[Tensor, "... direction"]) -> Float[Tensor, "... direction"]:
        """How far a stream moves that has these activations."""
        if self.op == "clamp":
            return self.amounts.to(activation) - activation
        if self.op == "add":
            return self.amounts.to(activation).expand_as(activation)
        return (self.value - 1) * activation if self.op == "scale" else -activation


@dataclass(frozen=True, eq=False)
class FeatureEdit(DirectionEdit):
    """An edit of one or several features of a dictionary.

    Args:
        source: the dictionary that gives the features' activations and directions, or an index made with it,
            whose maxima are then the unit "max"; the dictionary's site is where the edit acts.
        edit: of features.

    Raises:
        FeatureError: the dictionary has no such feature.
        EditError: a dictionary of several sites, or a multiple of the maximum of a feature that never fired.
    """

    source: Dictionary | Index
    edit: Edit
    rows: Rows = None

    def __post_init__(self) -> None:
        dictionary = self.dictionary
        for number in self.edit.numbers:
            dictionary.check_feature(number)
        if len(dictionary.writes) > 1 or dictionary.reads != dictionary.writes:
            raise EditError(
                f"the dictionary reads and writes {dictionary.site}; edits act through dictionaries of one site"
            )
        _ = self.amounts  # says at once where there is no maximum

    @cached_property
    def dictionary(self) -> Dictionary:
        return self.source if isinstance(self.source, Dictionary) else dictionary_of(self.source)

    @property
    def op(self) -> Op:
        return self.edit.op

    @property
    def value(self) -> float:
        return self.edit.value

    @property
    def where(self) -> Where:
        return self.edit.where

    @property
    def site(self) -> str:
        return self.dictionary.site

    def directions(self, x: Tensor) -> Float[Tensor, "feature width"]:
        number = self.edit.feature
        return self.dictionary.W_dec[list(self.edit.numbers) if number is None else slice(number, number + 1)]

    @cached_property
    def amounts(self) -> Float[Tensor, " feature"]:
        numbers = list(self.edit.numbers)
        amounts = torch.full((len(numbers),), self.value, dtype=torch.float64)
        if self.edit.unit == "max":
            source = self.source
            maxima = source.max_activation if isinstance(source, Dictionary) else source.statistics["maximum"]
            for place, number in enumerate(numbers):
                maximum = float(maxima[number])
                if maximum <= 0:
                    raise EditError(
                        f"feature {number} never fired, so it has no maximum to measure by; give a plain value"
                    )
                amounts[place] *= maximum
        return amounts.to(self.dictionary.W_dec.device)

    def activation(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... feature"]:
        if self.edit.feature is not None:
            return self.dictionary.activation(x, self.edit.feature)[..., None]
        return self.dictionary.encode(x)[..., list(self.edit.numbers)]


def Clamp(
    source: Dictionary | Index,
    feature: int | Sequence[int],
    value: float,
    unit: Unit = "raw",
    where: Where = "all",
    rows: Rows = None,
) -> FeatureEdit:
    """Set one or several features to a value, wherever they stood; see `FeatureEdit` and `Edit` for what may be given."""
    return _of_features(source, "clamp", feature, value, unit, where, rows)


def Add(
    source: Dictionary | Index,
    feature: int | Sequence[int],
    value: float,
    unit: Unit = "raw",
    where: Where = "all",
    rows: Rows = None,
) -> FeatureEdit:
    """Add to one or several features, wherever they stood."""
    return _of_features(source, "add", feature, value, unit, where, rows)


def Scale(
    source: Dictionary | Index, feature: int | Sequence[int], value: float, where: Where = "all", rows: Rows = None
) -> FeatureEdit:
    """Multiply one or several features by a factor where they fire."""
    return _of_features(source, "scale", feature, value, "raw", where, rows)


def Ablate(
    source: Dictionary | Index, feature: int | Sequence[int], where: Where = "all", rows: Rows = None
) -> FeatureEdit:
    """Take one or several features away where they fire."""
    return _of_features(source, "ablate", feature, 0.0, "raw", where, rows)


def _of_features(
    source: Dictionary | Index, op: Op, feature: int | Sequence[int], value: float, unit: Unit, where: Where, rows: Rows
) -> FeatureEdit:
    target = {"features": tuple(feature)} if isinstance(feature, Sequence) else {"feature": feature}
    return FeatureEdit(source, Edit(op, value=value, unit=unit, where=where, **target), rows)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class VectorEdit(DirectionEdit):
    """Adds a vector to what passes a site; or sets, scales or takes away the multiple of it that lies there.

    Args:
        site: where it acts.
        vector: [width].
        op: "add", "clamp", "scale" or "ablate", which leaves nothing along the vector.
        value: in multiples of the vector.
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
        object.__setattr__(self, "op", op)
        object.__setattr__(self, "value", value)

    def directions(self, x: Tensor) -> Float[Tensor, "1 width"]:
        return self.vector[None].to(x.device, torch.promote_types(self.vector.dtype, torch.float32))

    @property
    def amounts(self) -> Float[Tensor, " 1"]:
        return torch.tensor([self.value], dtype=torch.float64)

    def activation(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... 1"]:
        vector = self.vector.to(x)
        return (x @ vector / vector.square().sum())[..., None]


@dataclass(frozen=True, eq=False)
class NeuronEdit:
    """Sets, adds to, scales or ablates one dimension of a site, such as a neuron of an MLP; heads lie side by side."""

    site: str
    dimension: int
    op: Op
    value: float = 0.0
    where: Where = "all"
    rows: Rows = None

    def __post_init__(self) -> None:
        edit = Edit(self.op, neuron=f"{self.site}/{self.dimension}", value=self.value, where=self.where)
        object.__setattr__(self, "op", edit.op)

    def __call__(self, x: Tensor) -> Tensor:
        wide = side_by_side(x).clone()
        if self.dimension >= wide.shape[-1]:
            raise EditError(
                f"{self.site} has no dimension {self.dimension}: it has dimensions 0 to {wide.shape[-1] - 1}"
            )
        own = wide[..., self.dimension]
        own.copy_({"add": own + self.value, "scale": own * self.value}.get(self.op, torch.full_like(own, self.value)))
        return wide.reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Replace:
    """Puts another value in the place of what passes a site: a patch from another run, a reconstruction, zero, a mean.

    Args:
        site: where it acts.
        value: one vector [width] for every token; or a value of each token of the prompt, [batch or 1, position, ...] as
            `model.read` gives it; or, with a mask, [token, width] of those tokens alone, in their order.
        mask: [batch or 1, position] tokens of the prompt that are replaced; all by default.
        where: as of any edit. Values and masks by position stand for the prompt, so that "all" is then "prompt".

    Raises:
        EditError: a value or a mask by position for the answer.
    """

    site: str
    value: Tensor
    mask: Bool[Tensor, "batch position"] | None = None
    where: Where = "all"
    rows: Rows = None

    def __post_init__(self) -> None:
        where_of(self)
        if self.mask is None and self.value.ndim == 2:
            shape = list(self.value.shape)
            raise EditError(
                f"a value {shape} of {self.site} has no axis of a batch; give {[1, *shape]}, or a mask of its tokens"
            )
        if self.mask is not None or self.value.ndim > 1:
            if self.where == "answer":
                raise EditError(
                    f"a value of {self.site} by position stands for the prompt; for the answer give one vector"
                )
            object.__setattr__(self, "where", "prompt")

    def __call__(self, x: Tensor) -> Tensor:
        wide, value = side_by_side(x), self.value.to(x)
        if value.ndim > 2:
            value = side_by_side(value)
        try:
            return self._replaced(wide, value).reshape(x.shape)
        except (RuntimeError, IndexError) as error:
            shapes = [list(part.shape) for part in (value, self.mask, x) if part is not None]
            raise EditError(f"a value of {self.site} does not fit: {' '.join(map(str, shapes))}") from error

    def _replaced(self, wide: Tensor, value: Tensor) -> Tensor:
        """The prompt's tokens come first; those of the answer, if there are any, are left."""
        replaced = wide.clone()
        if self.mask is None and value.ndim == 1:
            replaced[:] = value
            return replaced
        mask = torch.ones(value.shape[:2], dtype=torch.bool) if self.mask is None else self.mask
        prompt = replaced[:, : mask.shape[1]]
        mask = mask.to(wide.device).expand(prompt.shape[:2])
        prompt[mask] = value.expand(prompt.shape)[mask] if value.ndim == 3 else value
        return replaced


def side_by_side(x: Tensor) -> Tensor:
    """x with heads [batch, position, head, width of a head] laid side by side, as dictionaries read them."""
    return x.flatten(2) if x.ndim == 4 else x


def make_edits(
    edits: Sequence[EditLike | SiteEdit], source: Dictionary | Index | None = None, *, confined: bool = False
) -> list[SiteEdit]:
    """Bind edits to a dictionary, or to an index and its dictionary, so that they can act on a model.

    Args:
        edits: as values, texts or JSON objects; what acts on a model already is taken as it is.
        source: what features are of. Vector files are also looked for in an index's folder.
        confined: look for vector files in the index's folder alone.

    Raises:
        FeatureError: no such feature.
        EditError: an edit that is none, two that set the same thing on the same tokens, a vector file that is not there.
    """
    ready = [edit if callable(edit) else read_edit(edit) for edit in edits]
    check_together(edit for edit in ready if isinstance(edit, Edit))
    return [_bind(edit, source, confined) if isinstance(edit, Edit) else edit for edit in ready]


def _bind(edit: Edit, source: Dictionary | Index | None, confined: bool) -> SiteEdit:
    if edit.neuron is not None:
        return NeuronEdit(*edit.dimension, edit.op, edit.value, edit.where)
    if edit.vector is not None:
        path = find_vector(edit.vector, source.folder if isinstance(source, Index) else None, confined)
        found = load_vector(path)
        if edit.unit == "norm" and found.norm is None:
            raise EditError(
                f"{path} does not say the norm of its site's activations; give a plain value, or save it with one"
            )
        unit = float(found.norm / found.vector.norm()) if edit.unit == "norm" and found.norm else 1.0
        return VectorEdit(found.site, found.vector, edit.op, edit.value * unit, edit.where)
    if source is None:
        raise EditError(f"{edit} is of a feature; give the dictionary or the index whose feature it is")
    return FeatureEdit(source, edit)
