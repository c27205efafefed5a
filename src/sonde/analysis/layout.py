"""The map: features in a plane, those whose decoder rows point the same way near each other, in clusters with names.

Layout: UMAP (McInnes et al. 2018, arXiv 1802.03426) by the cosine of decoder rows. Clusters: HDBSCAN (Campello et al.
2013) on the layout. Both are imported when a map is made, and only then.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from safetensors.numpy import save

from sonde.calls import public
from sonde.errors import ArtifactMismatchError, UsageError
from sonde.features.added import MAP, FeatureMap, FeatureMaps
from sonde.features.index import Index, as_index
from sonde.locks import locked
from sonde.manifests import storage_errors, write_bytes, write_json
from sonde.progress import Reporter, default_reporter

NEIGHBOURS, SMALLEST_CLUSTER, NAME_WORDS = 15, 8, 3
FEWEST = 16
"""features that a layout needs"""
_WORD = re.compile(r"[^\W\d_]{2,}", re.UNICODE)
_COMMON = {"near", "words", "before", "at", "the", "start", "of", "text", "many", "such", "as", "white", "space"}
"""words of the embedded explainer itself"""


@overload
def feature_map(
    indexes: Index | str | Path, *, seed: int = 0, n: int = 20, reporter: Reporter | None = None
) -> FeatureMap: ...
@overload
def feature_map(
    indexes: Sequence[Index | str | Path], *, seed: int = 0, n: int = 20, reporter: Reporter | None = None
) -> FeatureMaps: ...
@public(name="map")
def feature_map(
    indexes: Index | str | Path | Sequence[Index | str | Path],
    *,
    seed: int = 0,
    n: int = 20,
    reporter: Reporter | None = None,
) -> FeatureMap | FeatureMaps:
    """Lay out the features that fire, of one index or of several together, and write each index's map beside it.

    Args:
        indexes: an index or its folder; several must be of one site, so that decoder rows can be compared.
        seed: decides the layout.
        n: clusters to show, the largest.
        reporter: shows progress.

    Raises:
        UsageError: umap-learn or scikit-learn is not installed, or too few features fire.
        ArtifactMismatchError: decoder rows of different widths.
    """
    is_one = isinstance(indexes, Index | str | Path)
    loaded = [as_index(index) for index in ([indexes] if isinstance(indexes, Index | str | Path) else indexes)]
    fires = [np.flatnonzero(index.statistics["count"] > 0) for index in loaded]
    layout, cluster = _lay_out(_directions(loaded, fires), seed, reporter or default_reporter())
    names = _names(loaded, fires, cluster)
    maps, first = FeatureMaps(), 0
    for index, numbers in zip(loaded, fires, strict=True):
        last = first + len(numbers)
        position = np.full((index.n_features, 2), np.nan, dtype=np.float32)
        clusters = np.full(index.n_features, -1, dtype=np.int32)
        position[numbers], clusters[numbers] = layout[first:last], cluster[first:last]
        path, facts = index.folder / MAP, {"clusters": names, "seed": seed, "with": len(loaded) - 1}
        with storage_errors(path), locked(index.folder):
            write_bytes(path, save({"position": position, "cluster": clusters}))
            write_json(path.with_suffix(".json"), facts)
        maps.append(FeatureMap(position, clusters, tuple(names)))
        first = last
    return maps[0].shown(n=n) if is_one else maps.shown(n=n)


def _directions(indexes: list[Index], fires: list[np.ndarray]) -> np.ndarray:
    """The decoder rows, at length one, of the features that fire [feature, width]."""
    widths = {index.directions.shape[1] for index in indexes}
    if len(widths) > 1:
        listed = ", ".join(map(str, sorted(widths)))
        raise ArtifactMismatchError(f"decoder rows have different widths ({listed}); map one site at a time")
    rows = np.concatenate([index.directions[numbers] for index, numbers in zip(indexes, fires, strict=True)])
    rows = rows.astype(np.float32)
    if len(rows) < FEWEST:
        raise UsageError(f"only {len(rows)} features fire, and a map needs {FEWEST}")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def _lay_out(rows: np.ndarray, seed: int, reporter: Reporter) -> tuple[np.ndarray, np.ndarray]:
    """Positions of rows in a plane [row, 2], and the cluster of each [row], or -1."""
    try:
        import umap
        from sklearn.cluster import HDBSCAN
    except ImportError as error:
        raise UsageError("a map needs umap-learn and scikit-learn: pip install 'sonde[map]'") from error
    with reporter.start("map", len(rows), "features") as progress:
        layout = umap.UMAP(
            n_neighbors=min(NEIGHBOURS, len(rows) - 1),
            metric="cosine",
            random_state=seed,
            n_jobs=1,
            init="random" if len(rows) < 64 else "spectral",
        ).fit_transform(rows)
        progress.advance(len(rows))
    clusters = HDBSCAN(min_cluster_size=SMALLEST_CLUSTER, cluster_selection_method="leaf", copy=True)
    return layout, clusters.fit_predict(layout)


def _names(indexes: list[Index], fires: list[np.ndarray], cluster: np.ndarray) -> list[str]:
    """For each cluster, words that its features' labels, or the tokens on which they fire, have more than others'."""
    words_of = [words for index, numbers in zip(indexes, fires, strict=True) for words in _words(index, numbers)]
    everywhere = Counter(word for words in words_of for word in words)
    names = []
    for number in range(int(cluster.max()) + 1):
        inside = Counter(word for words, at in zip(words_of, cluster, strict=True) if at == number for word in words)
        n = int((cluster == number).sum())
        best = sorted(inside, key=lambda word: (-(inside[word] ** 2) / everywhere[word], word))
        kept = [word for word in best if inside[word] > 1 or n < 3][:NAME_WORDS]
        names.append(", ".join(kept) or f"cluster {number + 1}")
    return names


def _words(index: Index, numbers: np.ndarray) -> list[set[str]]:
    """For each feature, the words of its label, or of the tokens on which it usually fires."""
    labels = index.labels.all()
    texts = [
        labels[number].label if number in labels else " ".join(index.feature(number).usual_tokens())
        for number in numbers.tolist()
    ]
    return [{word.lower() for word in _WORD.findall(text)} - _COMMON for text in texts]
