"""Dictionaries of several sizes that were indexed on one text, and how their features divide each other."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from sonde.analysis.splitting import Child, Splitting, siblings, splitting
from sonde.errors import ArtifactError
from sonde.features.index import Index, load_index
from sonde.web import wire
from sonde.web.api.labels import label_names

MAX_PRODUCTS = 1 << 42
"""multiplications that finding parents and children may take: some seconds"""
MAX_CHILDREN = 12


@lru_cache(maxsize=16)
def all_sizes(index: Index) -> tuple[Index, ...]:
    """An index and its siblings, the smallest first; alone where it has none."""
    return tuple(sorted([index, *siblings(index)], key=lambda size: size.n_features))


def size_views(index: Index) -> list[wire.SizeView]:
    return [
        wire.SizeView(name=size.folder.resolve().name, n_features=size.n_features, here=size is index)
        for size in all_sizes(index)
    ]


def kin_views(index: Index, number: int) -> list[wire.KinView]:
    """The feature of the next smaller dictionary that this one divides, and those of the next larger that divide it."""
    sizes = [size for size in all_sizes(index) if size is index or size.n_features != index.n_features]
    place = sizes.index(index)
    kin = []
    if place > 0 and (tree := _tree(sizes[place - 1].folder, index.folder)):
        parent = tree.parent(number)
        kin += _views("parent", sizes[place - 1], [parent] if parent else [])
    if place + 1 < len(sizes) and (tree := _tree(index.folder, sizes[place + 1].folder)):
        kin += _views("child", sizes[place + 1], tree.children.get(number, [])[:MAX_CHILDREN])
    return kin


def _views(relation: Literal["parent", "child"], size: Index, kin: list[Child]) -> list[wire.KinView]:
    labels = label_names(size, (relative.feature.number for relative in kin))
    return [
        wire.KinView(
            relation=relation,
            size=size.folder.resolve().name,
            feature=relative.feature.number,
            label=labels.get(relative.feature.number),
            usual=relative.feature.usual_tokens(),
            cosine=relative.cosine,
            contained=relative.contained,
        )
        for relative in kin
    ]


@lru_cache(maxsize=8)
def _tree(small: Path, large: Path) -> Splitting | None:
    """Parents and children, computed once; None where it would take long, or where a dictionary is missing."""
    try:
        smaller, larger = load_index(small), load_index(large)
        if smaller.n_features * larger.n_features * smaller.directions.shape[1] > MAX_PRODUCTS:
            return None
        return splitting(smaller, larger)
    except ArtifactError:
        return None
