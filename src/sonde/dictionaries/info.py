"""What a dictionary knows about itself beside its weights: on the object, and in its manifest. Needs no torch."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sonde.errors import ModelNotFoundError
from sonde.facts import ModelRef, TextFacts, read_facts
from sonde.manifests import Artifact


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a dictionary reconstructs training rows, as `train` measures it."""

    rows: int
    fvu: float
    """share of variance that is left unexplained; of several sites, their mean"""
    l0: float
    """mean number of active features on a row"""
    dead: float
    """share of features that fire on none of these rows"""
    fvu_by_site: dict[str, float] = field(default_factory=dict)
    """of each site, where several are written"""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "fvu_by_site" or value}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a dictionary was trained."""

    steps: int
    batch_size: int
    lr: float
    """peak learning rate"""
    parents: dict[str, str] = field(default_factory=dict)
    """role -> content id of the activations; none where rows came live from a model"""


@dataclass(frozen=True, kw_only=True)
class DictionaryInfo:
    """What a dictionary is, what it reads and writes, and where it is from, as far as that is known."""

    kind: str
    kind_settings: dict[str, Any]
    """settings of the kind that its weights do not show, such as k"""
    n_features: int
    reads: dict[str, int]
    """site -> width; the vectors of these sites, side by side, are its input x"""
    writes: dict[str, int]
    """site -> width; the vectors of these sites, side by side, are what it reconstructs, y"""
    norm_limits: dict[str, float] = field(default_factory=dict)
    """site -> norm above which a vector is massive: left out of training, and the dictionary says nothing of it"""
    model: ModelRef | None = None
    other_models: tuple[ModelRef, ...] = ()
    """of a crosscoder of several models, whose sites are "1:...", "2:..." """
    text: TextFacts | None = None
    quality: Quality | None = None
    provenance: Provenance | None = None

    @property
    def d_in(self) -> int:
        return sum(self.reads.values())

    @property
    def d_out(self) -> int:
        return sum(self.writes.values())

    @property
    def site(self) -> str:
        """What it was trained on: a site, several, or what is read -> what is written."""
        read, written = ", ".join(self.reads), ", ".join(self.writes)
        return read if self.reads == self.writes else f"{read} -> {written}"

    def require_model(self) -> ModelRef:
        """The (first) model that it was trained on; raises ModelNotFoundError where it is not known."""
        if self.model is None:
            raise ModelNotFoundError("the dictionary does not say which model it reads; give the model")
        return self.model

    def to_facts(self) -> dict[str, Any]:
        """The facts of a dictionary's manifest, which keeps parents elsewhere."""
        facts: dict[str, Any] = {"kind": self.kind, "kind_settings": self.kind_settings}
        facts |= {"n_features": self.n_features, "d_in": self.d_in, "d_out": self.d_out}
        if self.provenance is not None:
            facts |= {name: getattr(self.provenance, name) for name in ("steps", "batch_size", "lr")}
        if self.quality is not None:
            facts["training_rows"] = self.quality.to_json()
        facts |= {"reads": self.reads, "writes": self.writes, "text": self.text.to_json() if self.text else None}
        if self.norm_limits:
            facts["norm_limits"] = self.norm_limits
        if self.model is not None:
            facts["model"] = self.model.to_json()
        if self.other_models:
            facts["other_models"] = [model.to_json() for model in self.other_models]
        return facts

    @classmethod
    def of(cls, artifact: Artifact) -> "DictionaryInfo":
        """What the manifest of a dictionary says; raises ArtifactDamagedError where it lacks something."""
        where, manifest = artifact
        facts = manifest.facts
        known: dict[str, Any] = {
            "other_models": tuple(read_facts(ModelRef, model, where) for model in facts.get("other_models", ()))
        }
        if facts.get("model") is not None:
            known["model"] = read_facts(ModelRef, facts["model"], where)
        if facts.get("text") is not None:
            known["text"] = read_facts(TextFacts, facts["text"], where, live="live" in manifest.settings)
        if "training_rows" in facts:
            known["quality"] = read_facts(Quality, facts["training_rows"], where)
        if "steps" in facts:
            parents = {role: parent["id"] for role, parent in manifest.parents.items()}
            known["provenance"] = read_facts(Provenance, facts, where, parents=parents)
        return read_facts(cls, facts, where, **known)
