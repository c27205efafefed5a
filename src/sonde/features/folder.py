"""An index folder, by feature number: postings, statistics, examples, text and labels. Needs no torch.

manifest.json         what it is; see docs/formats.md
postings.safetensors  every activation, by feature, strongest first; see postings.py
features.safetensors  where each feature's postings and each document's tokens begin; count, density, maximum, mean
                      [feature]; same_word; top and bottom logits, where the model has a head
coactive.safetensors  all that fires on some tokens; see coactivation.py
index.sqlite          documents with the spans of their tokens, their pictures, and the text search over features
"""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sonde.activations.corpus import Document
from sonde.dictionaries.installed import installed_with_id
from sonde.errors import ArtifactMissingError, FeatureError
from sonde.facts import ModelRef, read_facts
from sonde.features.added import FeatureMap, Neurons
from sonde.features.documents import DATABASE, IndexText, locate
from sonde.features.examples import By, Example, Examples, candidates, cut_example
from sonde.features.labels import Labels
from sonde.features.postings import record_type, tokens_of
from sonde.manifests import Artifact, Manifest, find_parent
from sonde.tensor_files import map_arrays, map_matrix

FORMAT = "index"
POSTINGS, FEATURES, COACTIVE = "postings.safetensors", "features.safetensors", "coactive.safetensors"
Range = tuple[float, float]


class Occurrences(NamedTuple):
    """Tokens on which a feature fires, strongest first."""

    document: np.ndarray
    """[activation]"""
    position: np.ndarray
    """[activation] place of the token in its document"""
    value: np.ndarray
    """[activation], right to one part in 2,000; the first is the feature's maximum itself"""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What an index's manifest says."""

    n_features: int
    tokens: int
    documents: int
    activations: int
    """above zero, of all features on all tokens"""
    dead: float
    """share of features that fire nowhere in the text"""
    l0: float
    """mean number of active features on a token"""
    site: str
    """what the dictionary was trained on"""
    model: ModelRef
    logits: bool = False
    """whether the direct logits are there"""
    why_no_chat: str | None = None
    """why the model cannot chat; None where it can"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: object) -> "IndexFacts":
        """Read the facts of a manifest; raises ArtifactDamagedError where one is missing."""
        return read_facts(cls, values, where, model=read_facts(ModelRef, values.get("model", {}), where))


class IndexFolder:
    """What an index holds of each feature, by the feature's number."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.labels = Labels(folder)
        """labels, scores and notes; `sonde label` writes them, and people do"""
        self.text = IndexText(folder / DATABASE)
        """documents, pictures, vocabulary, and search by words"""

    @cached_property
    def facts(self) -> IndexFacts:
        """What the manifest says."""
        return IndexFacts.from_json(self.manifest.facts, self.folder)

    @property
    def n_features(self) -> int:
        return self.facts.n_features

    @property
    def n_tokens(self) -> int:
        return self.facts.tokens

    @cached_property
    def statistics(self) -> dict[str, np.ndarray]:
        """count, density, maximum, mean and same_word (see `Index.where`) [feature], and the direct logits."""
        return map_arrays(self.folder / FEATURES)

    @cached_property
    def postings(self) -> np.ndarray:
        """Every activation, by feature, strongest first: records as `postings.py` has them; `fires` reads them."""
        records = map_arrays(self.folder / POSTINGS)["records"]
        return records.reshape(-1).view(record_type(self.n_tokens))

    @cached_property
    def coactive(self) -> dict[str, np.ndarray]:
        """All that fires on some tokens; `Feature.fires_with` reads it."""
        return map_arrays(self.folder / COACTIVE)

    @cached_property
    def directions(self) -> np.ndarray:
        """Decoder row of each feature [n_features, d_out]; raises ArtifactMissingError if the dictionary is gone."""
        folder, manifest = self.find_dictionary()
        assert isinstance(folder, Path)  # activations alone lie on object stores
        [name] = [name for name in manifest.files if name.endswith(".safetensors")]
        return map_matrix(folder / name, "W_dec")

    @cached_property
    def direction_lengths(self) -> np.ndarray:
        """[n_features]"""
        return np.linalg.norm(self.directions, axis=1)

    @property
    def map(self) -> FeatureMap | None:
        """The map, if `sonde map` has made one."""
        return FeatureMap.load(self.folder)

    @property
    def neurons(self) -> Neurons | None:
        """How features correlate with neurons, if `sonde neurons` has computed it."""
        return Neurons.load(self.folder)

    def find_dictionary(self) -> Artifact:
        """The dictionary that the index was made with; raises ArtifactMissingError where it has gone.

        One that is installed with sonde is found wherever sonde now is.
        """
        try:
            return find_parent(self.manifest, "dictionary", self.folder, "dictionary")
        except ArtifactMissingError:
            with contextlib.suppress(ArtifactMissingError):
                return installed_with_id(self.manifest.parents["dictionary"]["id"])
            raise

    def check_feature(self, number: int) -> int:
        """Return the feature number; raises FeatureError where the index has no such feature."""
        if not 0 <= number < self.n_features:
            raise FeatureError(f"there is no feature {number}: the index has features 0 to {self.n_features - 1}")
        return number

    def fires(self, number: int, n: int | None = None) -> Occurrences:
        """Where a feature fires, strongest first; only the n strongest, where n is given."""
        token, value = self._activations(number, n)
        document, position = self.place_of(token)
        return Occurrences(document, position, value)

    def n_kept(self, number: int) -> int:
        """Activations of a feature that the index holds; fewer than its count where only a sample was kept."""
        kept = self._slice(number)
        return kept.stop - kept.start

    def place_of(self, token: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Documents of tokens, which are numbered through the whole text, and positions in them."""
        return locate(token, self.statistics["starts"])

    def examples(self, number: int, n: int = 10, by: By = "top") -> Examples:
        """A feature's examples, at most one a document.

        Args:
            by: top, the strongest; random, evenly from all, the same each time; interval, one from each of n equal
                intervals between the maximum and 0 that has any.
        """
        token, value = self._activations(number)
        starts = self.statistics["starts"]
        # A document that stands twice in the text, word for word, would show nothing new, so it is shown once.
        examples: dict[tuple, Example] = {}
        for activation, document in candidates(token, value, starts, n, by, number):
            if len(examples) == n:
                break
            start, end = starts[document : document + 2]
            here = np.flatnonzero((token >= start) & (token < end))
            values = dict(zip((token[here] - start).tolist(), value[here].tolist(), strict=True))
            example = self._example(document, int(token[activation] - start), values)
            examples.setdefault((example.text, document if example.pictures else None), example)
        return Examples(examples.values())

    def plain_context(self, document: int, position: int) -> Example:
        """The text around a token, as an example in which nothing fires."""
        return self._example(document, position, {})

    def document(self, number: int) -> tuple[str, np.ndarray]:
        """A document's text and the spans [token, (start, end)] of its tokens in it."""
        return self.text.document(number)

    def source(self, number: int) -> Document:
        """A document to be read again: its text, and its pictures as the model saw them."""
        n_pictures = len(self.text.pictures(number))
        images = tuple(self.picture(number, picture) for picture in range(n_pictures))
        return Document(self.document(number)[0], images, f"document {number} of {self.folder}")

    def picture(self, document: int, number: int) -> bytes:
        """A picture of a document as the model saw it, as a WebP file; raises FeatureError where there is none."""
        return self.text.picture(document, number)

    def logits(self, number: int, which: str) -> list[tuple[str, float]]:
        """The tokens that a feature makes more ("top") or less ("bottom") likely, by the direct path."""
        if f"{which}_logit_values" not in self.statistics:
            return []
        ids, values = (self.statistics[f"{which}_logit_{part}"][number].tolist() for part in ("tokens", "values"))
        return [(self.text.token(token), value) for token, value in zip(ids, values, strict=True)]

    def statistic(self, name: str) -> np.ndarray:
        """density, maximum, mean, same_word or neuron [feature], as `Index.where` takes them."""
        if name != "neuron":
            return self.statistics[name]
        if self.neurons is None:
            raise ArtifactMissingError(
                f"{self.folder} has no correlations with neurons yet; sonde neurons {self.folder} makes them"
            )
        return np.abs(self.neurons.correlation)

    def numbers_where(self, ranges: Mapping[str, Range]) -> np.ndarray:
        """Numbers of the features whose statistics lie in ranges (name -> bounds, included), in rising order."""
        kept = np.ones(self.n_features, dtype=bool)
        for name, (low, high) in ranges.items():
            values = self.statistic(name)
            kept &= (values >= np.float64(low)) & (values <= np.float64(high))  # which may be beyond float32
        return np.flatnonzero(kept)

    def _slice(self, number: int) -> slice:
        offsets = self.statistics["offsets"]
        return slice(int(offsets[self.check_feature(number)]), int(offsets[number + 1]))

    def _activations(self, number: int, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of tokens in the whole text, and activations, strongest first."""
        records = self.postings[self._slice(number)][:n]
        return tokens_of(records), records["value"].astype(np.float32) * self.statistics["maximum"][number]

    def _example(self, document: int, peak: int, activations: Mapping[int, float]) -> Example:
        text, spans = self.text.document(document)
        return cut_example(document, text, spans, self.text.pictures(document), peak, activations)
