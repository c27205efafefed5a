"""The map: features in a plane, those whose decoder rows point the same way near each other, in clusters with names.

Layout: UMAP (McInnes et al. 2018, arXiv 1802.03426) by the cosine of decoder rows. Clusters: HDBSCAN (Campello et al. 2013) on the layout. Both are
imported when a map is made, and only then.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from sonde.errors import ArtifactMismatchError, UsageError
from sonde.features.added import MAP, FeatureMap
from sonde.features.index import Index, load_index
from sonde.manifests import write_bytes, write_json
from sonde.progress import Reporter, Silent

NEIGHBOURS, SMALLEST_CLUSTER, NAME_WORDS = 15, 8, 3
FEWEST = 16
"""features that it takes to lay out"""
_WORD = re.compile(r"[^\W\d_]{2,}", re.UNICODE)
_SAID_OF_ALL = {"near", "words", "before", "at", "the", "start", "of", "text", "many", "such", "as", "white", "space"}
"""words of the embedded explainer itself"""


def feature_map(
    indexes: Sequence[Index | str | Path], *, seed: int = 0, reporter: Reporter | None = None
) -> list[FeatureMap]:
    """Lay out the features that fire, of one index or of several together, and write each index's map beside it.

    Args:
        indexes: of one site, so that decoder rows can be compared.

    Raises:
        UsageError: umap-learn or scikit-learn is not installed, or too few features fire.
        ArtifactMismatchError: decoder rows of different widths.
    """
    found = [index if isinstance(index, Index) else load_index(index) for index in indexes]
    try:
        import umap
        from sklearn.cluster import HDBSCAN
    except ImportError as error:
        raise UsageError("a map needs umap-learn and scikit-learn: pip install 'sonde[map]'") from error
    widths = {index.directions.shape[1] for index in found}
    if len(widths) > 1:
        raise ArtifactMismatchError(
            f"decoder rows have different widths ({', '.join(map(str, sorted(widths)))}); map one site at a time"
        )
    fires = [np.flatnonzero(index.statistics["count"] > 0) for index in found]
    rows = np.concatenate([index.directions[numbers] for index, numbers in zip(found, fires, strict=True)]).astype(
        np.float32
    )
    if len(rows) < FEWEST:
        raise UsageError(f"only {len(rows)} features fire, and a map needs {FEWEST}")
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    reporter = reporter or Silent()
    with reporter.start("map", len(rows), "features") as progress:
        layout = umap.UMAP(
            n_neighbors=min(NEIGHBOURS, len(rows) - 1),
            metric="cosine",
            random_state=seed,
            n_jobs=1,
            init="random" if len(rows) < 64 else "spectral",
        ).fit_transform(rows)
        progress.advance(len(rows))
    cluster = HDBSCAN(min_cluster_size=SMALLEST_CLUSTER, cluster_selection_method="leaf", copy=True).fit_predict(layout)
    names = _names(found, fires, cluster)
    maps, first = [], 0
    for index, numbers in zip(found, fires, strict=True):
        last = first + len(numbers)
        position = np.full((index.n_features, 2), np.nan, dtype=np.float32)
        own = np.full(index.n_features, -1, dtype=np.int32)
        position[numbers], own[numbers] = layout[first:last], cluster[first:last]
        write_bytes(index.folder / MAP, save({"position": position, "cluster": own}))
        write_json((index.folder / MAP).with_suffix(".json"), {"clusters": names, "seed": seed, "with": len(found) - 1})
        maps.append(FeatureMap(position, own, tuple(names)))
        first = last
    return maps


def _names(indexes: list[Index], fires: list[np.ndarray], cluster: np.ndarray) -> list[str]:
    """For each cluster, words that its features' labels, or the tokens at which they fire, have more often than others' do."""
    said = [words for index, numbers in zip(indexes, fires, strict=True) for words in _words_of(index, numbers)]
    everywhere = Counter(word for words in said for word in words)
    names = []
    for number in range(int(cluster.max()) + 1):
        own = Counter(word for words, at in zip(said, cluster, strict=True) if at == number for word in words)
        n = int((cluster == number).sum())
        best = sorted(own, key=lambda word: (-(own[word] ** 2) / everywhere[word], word))
        kept = [word for word in best if own[word] > 1 or n < 3][:NAME_WORDS]
        names.append(", ".join(kept) or f"cluster {number + 1}")
    return names


def _words_of(index: Index, numbers: np.ndarray) -> list[set[str]]:
    labels = index.labels.all()
    found = []
    for number in numbers.tolist():
        text = labels[number].label if number in labels else " ".join(index.feature(number).usual_tokens())
        found.append({word.lower() for word in _WORD.findall(text)} - _SAID_OF_ALL)
    return found
