"""The dictionaries whose features may be causes, and the model that they read."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.installed import built_in_dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading, split_site
from sonde.errors import ArtifactMismatchError, UsageError
from sonde.features.index import Index, load_index
from sonde.features.reader import Reader, dictionary_of
from sonde.manifests import read_manifest
from sonde.models.model import Model
from sonde.models.recorded import recorded_model
from sonde.progress import Reporter
from sonde.remote import local_path

SourceLike = Index | Reader | Dictionary | str | Path
"""an index, a reader, a dictionary, or the folder of one"""


@dataclass(frozen=True, eq=False)
class Source:
    """A dictionary whose features may be causes, and the index that names them."""

    dictionary: Dictionary
    index: Index | None

    def __post_init__(self) -> None:
        if any(split_site(site)[0] > 1 for site in self.dictionary.reads | self.dictionary.writes):
            raise ArtifactMismatchError(
                f"{self.dictionary.described} reads several models; causes are sought in one, so give another"
            )

    @property
    def site(self) -> str:
        return self.dictionary.site

    @property
    def sites(self) -> list[str]:
        """What it reads and writes."""
        return list(self.dictionary.reads | self.dictionary.writes)

    @cached_property
    def parts(self) -> dict[str, slice]:
        """Of each site that it writes, its columns in a decoder row."""
        ends = itertools.accumulate(self.dictionary.writes.values(), initial=0)
        return {site: slice(*ends) for site, ends in zip(self.dictionary.writes, itertools.pairwise(ends), strict=True)}

    @property
    def reconstructs_itself(self) -> bool:
        """Whether it reads what it writes, so that what it leaves out is its error."""
        return self.dictionary.reads == self.dictionary.writes

    def directions(self, features: Int[Tensor, " n"], site: str) -> Float[Tensor, "n width"]:
        """What features add to a site, for each unit of activation."""
        return self.dictionary.W_dec[features][:, self.parts[site]]

    def title(self, feature: int) -> str:
        """A feature's label, or else the tokens at which it fires most; "" without an index."""
        if self.index is None:
            return ""
        found = self.index.feature(feature)
        return found.label.label if found.label is not None else ", ".join(found.usual_tokens(3))


def load_sources(
    given: SourceLike | Sequence[SourceLike], model: Model | str | Path | None, device: str, reporter: Reporter
) -> tuple[list[Source], Model]:
    """The dictionaries, and the model that they were made for, or the one that is given in its place.

    Raises:
        UsageError: none is given.
        ArtifactError: a folder that is neither an index nor a dictionary, or dictionaries of different models.
    """
    several = [given] if isinstance(given, SourceLike) else list(given)
    if not several:
        raise UsageError("no index was given; give the folder of an index or of a dictionary")
    ready = next((each.model for each in several if isinstance(each, Reader)), None)
    sources = [_source(each, device) for each in several]
    for source in sources[1:]:
        first, other = sources[0].dictionary.info.model, source.dictionary.info.model
        if first is not None and other is not None and first.id != other.id:
            raise ArtifactMismatchError(
                f"{source.dictionary.described} was made for the model {other.name} (id {other.id}), and "
                f"{sources[0].dictionary.described} for {first.name} (id {first.id}); give dictionaries of one model"
            )
    dictionary = sources[0].dictionary
    of = {"of": dictionary.described, "device": device, "reporter": reporter}
    found = recorded_model(dictionary.info.model, model if model is not None else ready, **of)
    for source in sources:
        Reading(source.dictionary, found, others=())  # raises where they do not fit
    return sources, found


def _source(given: SourceLike, device: str) -> Source:
    if isinstance(given, Dictionary):
        return Source(given, None)
    if isinstance(given, Reader):
        return Source(given.dictionary, given.index)
    if isinstance(given, Index):
        return Source(dictionary_of(given, device), given)
    if built_in_dictionary(given) is None and read_manifest(local_path(given)).format == "index":
        index = load_index(given)
        return Source(dictionary_of(index, device), index)
    return Source(load_dictionary(given, device), None)
