"""Edits of the rows of a batch, in which each row has its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import Elementwise
from sonde.models.model import SiteEdit
from sonde.steering.directions import FeatureEdit
from sonde.steering.replace import side_by_side


def edits_of_rows(edits: Sequence[tuple[int, SiteEdit]]) -> list[SiteEdit]:
    """Edits (row, edit) as edits of the batch; those of features through one dictionary are computed together.

    Whatever `where` and `rows` they have, they act on all tokens of their row.
    """
    of_features = [(row, edit) for row, edit in edits if isinstance(edit, FeatureEdit)]
    of_features.sort(key=lambda pair: id(pair[1].dictionary))
    together = [list(pairs) for _, pairs in groupby(of_features, key=lambda pair: id(pair[1].dictionary))]
    others = [RowEdit(edit, (row,)) for row, edit in edits if not isinstance(edit, FeatureEdit)]
    return [*map(RowFeatureEdits, together), *others]


@dataclass(frozen=True)
class RowEdit:
    """An edit of one row of a batch."""

    edit: SiteEdit
    rows: tuple[int]

    @property
    def site(self) -> str:
        return self.edit.site

    def __call__(self, x: Float[Tensor, "batch position ..."]) -> Float[Tensor, "batch position ..."]:
        [row] = self.rows
        changed = x.clone()
        changed[row : row + 1] = self.edit(x[row : row + 1])
        return changed


class RowFeatureEdits:
    """Edits of features of one dictionary, each of one row of a batch, computed together."""

    def __init__(self, edits: Sequence[tuple[int, FeatureEdit]]) -> None:
        self.edits = [edit for _, edit in edits]
        self.dictionary, self.site = self.edits[0].dictionary, self.edits[0].site
        device = self.dictionary.W_dec.device
        self.sizes = [len(edit.edit.numbers) for edit in self.edits]
        self.row_of = torch.tensor([row for row, edit in edits for _ in edit.edit.numbers], device=device)
        """[feature] the row in which each feature is edited"""
        limits = [edit.norm_limit for edit in self.edits for _ in edit.edit.numbers]
        self.limits = None
        if any(limit is not None for limit in limits):
            self.limits = torch.tensor([float("inf") if limit is None else limit for limit in limits], device=device)
        """[feature] longer vectors are left as they are; None to move all"""
        self.features = torch.tensor([number for edit in self.edits for number in edit.edit.numbers], device=device)

    def __call__(self, x: Float[Tensor, "batch position ..."]) -> Float[Tensor, "batch position ..."]:
        """Move x [batch, position, ...] along the features' directions, each row by its own edits."""
        dictionary = self.dictionary
        wide = side_by_side(x).to(dictionary.W_dec)
        if isinstance(dictionary, Elementwise):  # one encoder row each is enough
            pre = torch.einsum("epw,ew->pe", wide[self.row_of], dictionary.W_enc[self.features])
            activation = dictionary.act(pre + dictionary.b_enc[self.features], self.features)
        else:  # each row is encoded once, whatever the number of its edits
            own, place = self.row_of.unique(return_inverse=True)
            activation = dictionary.encode(wide[own])[place, :, self.features].T
        parts = activation.split(self.sizes, dim=-1)
        shift = torch.cat([edit.shift(part) for edit, part in zip(self.edits, parts, strict=True)], dim=-1).T
        if self.limits is not None:
            shift = shift * (wide.norm(dim=-1)[self.row_of] <= self.limits[:, None])
        step = torch.zeros_like(wide).index_add_(
            0, self.row_of, shift[..., None] * dictionary.W_dec[self.features][:, None]
        )
        return x + step.to(x).reshape(x.shape)
