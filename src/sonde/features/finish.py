"""Finishing an index: what follows from the segments that tasks wrote, and from the decoder.

1. Merge the segments, some features at a time: postings, density, maximum, mean, and which features fire together.
2. From the decoder: the direct logits.
3. From the strongest examples: the words in which search looks.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from sonde.artifacts import Draft
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.reading import split_site
from sonde.errors import ModelLacksError
from sonde.features.coactivation import Coactivation
from sonde.features.database import write_search
from sonde.features.documents import DATABASE
from sonde.features.folder import COACTIVE, FEATURES, FORMAT, POSTINGS, IndexFacts
from sonde.features.index import Index
from sonde.features.postings import Fires, pack, record_type
from sonde.features.segments import Sampling, merge_segments, read_counts, read_n_activations, starts_of_features
from sonde.features.settings import IndexSettings
from sonde.manifests import Manifest, write_bytes
from sonde.models.model import Model
from sonde.tensor_files import header_bytes

RESIDUAL_SITES = ("residual", "residual_mid", "attention", "mlp", "embedding", "final")
"""sites whose vectors are added to the residual stream, so that the direct path to the logits means something"""
FEATURES_AT_ONCE = 1024
"""features whose logits are in memory together"""

Files = dict[str, dict[str, Any]]


def finish_index(
    draft: Draft[Path],
    dictionary: Dictionary,
    model: Model,
    starts: np.ndarray,
    n_tasks: int,
    settings: IndexSettings,
    memory: int,
) -> None:
    """Make an index of what all tasks wrote.

    Args:
        starts: [document + 1] number of each document's first token, and of all tokens.
        memory: bytes for what is merged at once.
    """
    out, n_tokens = draft.folder, int(starts[-1])
    statistics, files = _merge(out, n_tasks, starts, dictionary.n_features, settings, memory)
    logits = _direct_logits(model, dictionary, settings.top_logits)
    statistics |= logits
    n_activations = int(statistics["count"].sum())
    facts = IndexFacts(
        n_features=dictionary.n_features,
        tokens=n_tokens,
        documents=len(starts) - 1,
        activations=n_activations,
        dead=float((statistics["density"] == 0).mean()),
        l0=n_activations / n_tokens,
        site=dictionary.site,
        model=model.ref,
        logits=bool(logits),
        why_no_chat=model.why_no_chat(),
    ).to_json()
    write_bytes(out / FEATURES, save(statistics))
    # The index can be read from here on, and its examples give the last number of each feature.
    statistics["same_word"] = write_search(Index(out, Manifest(FORMAT, 0, {}, {}, facts, {})))
    files[FEATURES] = write_bytes(out / FEATURES, save(statistics))
    draft.finish([DATABASE], facts, files)


def _merge(
    out: Path, n_tasks: int, starts: np.ndarray, n_features: int, settings: IndexSettings, memory: int
) -> tuple[dict[str, np.ndarray], Files]:
    """Write the postings, and which features fire together; returns each feature's statistics, and the files."""
    n_tokens, sampling = int(starts[-1]), Sampling(settings.sample, settings.seed)
    if settings.sample is None:
        counts = np.zeros(n_features, dtype=np.int64), np.zeros(n_features)  # counted in the merge
        n_kept = read_n_activations(out, n_tasks)
    else:
        counts = read_counts(out, n_tasks, n_features)
        n_kept = int(sampling.n_kept(counts[0]).sum())
    merge = _Merge(sampling, *counts, n_tokens)

    def parts() -> Iterator[Any]:
        yield header_bytes({"records": (np.dtype(np.uint8), (n_kept, record_type(n_tokens).itemsize))})
        yield from merge.postings(merge_segments(out, n_tasks, memory))

    files = {
        POSTINGS: write_bytes(out / POSTINGS, parts()),
        COACTIVE: write_bytes(out / COACTIVE, merge.coactivation.to_bytes(n_features)),
    }
    return merge.statistics(starts), files


class _Merge:
    """Statistics of each feature, gathered while its activations pass.

    Args:
        count, total: [feature] number and sum of each feature's activations; gathered too, where all are kept.
    """

    def __init__(self, sampling: Sampling, count: np.ndarray, total: np.ndarray, n_tokens: int) -> None:
        self.sampling, self.count, self.total, self.n_tokens = sampling, count, total, n_tokens
        self.maximum = np.zeros(len(count), dtype=np.float32)
        self.coactivation = Coactivation(n_tokens, sampling.seed)

    def postings(self, merged: Iterator[Fires]) -> Iterator[memoryview]:
        """Yield the bytes of all postings."""
        for fires in merged:
            first = starts_of_features(fires.feature)
            features = fires.feature[first]
            self.maximum[features] = fires.value[first]
            if self.sampling.n is None and len(first):
                self.count[features] = np.diff(first, append=len(fires.feature))
                self.total[features] = np.add.reduceat(fires.value, first, dtype=np.float64)
            self.coactivation.add(fires)
            yield pack(self.sampling.keep(fires), self.maximum, self.n_tokens).view(np.uint8).data

    def statistics(self, starts: np.ndarray) -> dict[str, np.ndarray]:
        """Everything about each feature, once all activations have passed."""
        return {
            "offsets": np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.sampling.n_kept(self.count))]),
            "starts": starts,
            "count": self.count,
            "density": self.count / self.n_tokens,
            "maximum": self.maximum,
            "mean": (self.total / np.maximum(self.count, 1)).astype(np.float32),
        }


def _direct_logits(model: Model, dictionary: Dictionary, n: int) -> dict[str, np.ndarray]:
    """The n tokens that each feature makes most and least likely [feature, n]; empty where there is no direct path.

    Of several sites that a dictionary writes, the last one of the first model counts.
    """
    sites = [split_site(site) for site in dictionary.writes]
    last = max(place for place, (model_number, _) in enumerate(sites) if model_number == 1)
    if sites[last][1].split(".")[-1] not in RESIDUAL_SITES:
        return {}
    try:
        model.require_head("the direct path to the logits")
    except ModelLacksError:
        return {}
    W_dec = dictionary.W_dec.detach().split(list(dictionary.writes.values()), dim=1)[last]
    parts: dict[str, list[np.ndarray]] = {}
    for rows in W_dec.split(FEATURES_AT_ONCE):
        logits = model.unembed(rows.to(model.device, model.dtype)).float()
        logits -= logits.mean(dim=1, keepdim=True)
        for which, largest in (("top", True), ("bottom", False)):
            values, tokens = logits.topk(min(n, logits.shape[1]), dim=1, largest=largest)
            parts.setdefault(f"{which}_logit_values", []).append(values.cpu().numpy())
            parts.setdefault(f"{which}_logit_tokens", []).append(tokens.cpu().numpy().astype(np.int32))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
