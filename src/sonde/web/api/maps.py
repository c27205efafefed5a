"""The map of all features."""

import numpy as np
from fastapi import APIRouter, Response

from sonde.errors import ArtifactMissingError
from sonde.features.added import FeatureMap
from sonde.features.index import Index
from sonde.web import wire
from sonde.web.served import PROBLEMS, ServedIndex

router = APIRouter()


@router.get("/api/map", responses=PROBLEMS)
def get_map(served: ServedIndex) -> wire.MapView:
    """The clusters of the map."""
    return map_view(served.index)


@router.get(
    "/api/map/points",
    responses=PROBLEMS | {200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
)
def get_map_points(served: ServedIndex) -> Response:
    """x, y (float32), cluster (int32) and density (float32) of all features, one column after the other."""
    return Response(map_points(served.index), media_type="application/octet-stream")


def map_view(index: Index) -> wire.MapView:
    """The clusters, each at the median of its features; raises ArtifactMissingError where no map has been made."""
    layout = _layout(index)
    clusters = []
    order = np.argsort(layout.cluster, kind="stable")
    bounds = np.searchsorted(layout.cluster[order], np.arange(len(layout.names) + 1))
    for name, first, last in zip(layout.names, bounds[:-1], bounds[1:], strict=True):
        members = layout.position[order[first:last]]
        if len(members):
            x, y = np.median(members, axis=0)
            clusters.append(wire.ClusterView(name=name, x=float(x), y=float(y), count=len(members)))
    return wire.MapView(n_features=index.n_features, clusters=clusters)


def map_points(index: Index) -> bytes:
    """x, y (float32), cluster (int32) and density (float32), each [feature], one after the other; little-endian.

    Raises ArtifactMissingError where no map has been made.
    """
    layout = _layout(index)
    columns = (layout.position[:, 0], layout.position[:, 1], layout.cluster, index.statistics["density"])
    dtypes = ("<f4", "<f4", "<i4", "<f4")
    return b"".join(column.astype(dtype).tobytes() for column, dtype in zip(columns, dtypes, strict=True))


def _layout(index: Index) -> FeatureMap:
    layout = index.map
    if layout is None:
        raise ArtifactMissingError(f"{index.folder} has no map yet; sonde map {index.folder} makes it")
    return layout
