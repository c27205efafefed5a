"""Bind edits as data to what they act through.

with model.edited(*make_edits(["feature:311=2max"], index)): ...
"""

from collections.abc import Sequence
from typing import Any

from sonde.calls import public
from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import EditError
from sonde.features.index import Index
from sonde.models.model import SiteEdit
from sonde.steering.directions import FeatureEdit, VectorEdit
from sonde.steering.edits import Edit, EditLike, as_list, check_together, read_edit
from sonde.steering.replace import NeuronEdit
from sonde.steering.vectors import find_vector, load_vector

AnyEdit = EditLike | SiteEdit
"""an edit as data, or one that acts on a model"""


@public(own=("edits",))
def make_edits(
    edits: AnyEdit | Sequence[AnyEdit], source: Dictionary | Index | None = None, *, confined: bool = False
) -> list[SiteEdit]:
    """Bind edits to a dictionary, or to an index and its dictionary, so that they can act on a model.

    Args:
        edits: one or several, as values, texts or JSON objects; what acts on a model already is taken as it is.
        source: the dictionary of the features. Vector files are also looked for in an index's folder.
        confined: look for vector files in the index's folder alone.

    Raises:
        FeatureError: no such feature.
        EditError: an edit that is none, two that set the same thing on the same tokens, a vector file that is missing.
    """
    ready: list[Any] = [edit if callable(edit) else read_edit(edit) for edit in as_list(edits)]
    check_together(edit for edit in ready if isinstance(edit, Edit))
    return [_bind(edit, source, confined) if isinstance(edit, Edit) else edit for edit in ready]


def _bind(edit: Edit, source: Dictionary | Index | None, confined: bool) -> SiteEdit:
    if edit.neuron is not None:
        return NeuronEdit(*edit.dimension, edit.op, edit.value, edit.where)
    if edit.vector is not None:
        return _bind_vector(edit, source, confined)
    if source is None:
        raise EditError(f"{edit} is of a feature; give the dictionary or the index whose feature it is")
    return FeatureEdit(source, edit)


def _bind_vector(edit: Edit, source: Dictionary | Index | None, confined: bool) -> VectorEdit:
    path = find_vector(edit.vector or "", source.folder if isinstance(source, Index) else None, confined)
    file, unit = load_vector(path), 1.0
    if edit.unit == "norm":
        if file.norm is None:
            raise EditError(
                f"{path} does not say the norm of its site's activations; give a plain value, or save it with a norm"
            )
        unit = file.norm / float(file.vector.norm())
    return VectorEdit(file.site, file.vector, edit.op, edit.value * unit, edit.where)
