"""The model that an artifact was made with: the one place where it is loaded again, and its content compared.

A manifest keeps a model's name and content id. The name says where to look; the id decides whether what is there is
that model. Another model in its place is an error, unless a person gave it on purpose: then it is one line.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from sonde.errors import ArtifactMismatchError, ModelNotFoundError, UsageError
from sonde.facts import ModelRef
from sonde.models.known import KNOWN
from sonde.models.load import BUILT_IN, IN_MEMORY_MODEL, load_model
from sonde.models.model import Model
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path

_COMMIT = re.compile(r"[0-9a-f]{40}")
"""the id of a model from the hub; that of a folder is shorter"""


def recorded_model(
    recorded: ModelRef | None,
    given: Model | str | Path | None = None,
    *,
    of: str,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Model:
    """The model that an artifact was made with, or the one that is given in its place.

    Args:
        recorded: what the artifact's manifest says; None where it does not say.
        given: a model, or what `load_model` takes; where it is another one, `reporter` says so in a line.
        of: the artifact, for messages, such as "the index /data/index".
        device, dtype: for what is loaded here.

    Raises:
        ModelNotFoundError: the manifest does not say which model, or it is no longer there.
        ArtifactMismatchError: another model has taken its place.
    """
    if given is not None:
        model = given if isinstance(given, Model) else load_model(given, device=device, dtype=dtype)
        if not is_same(recorded, model):
            assert recorded is not None
            (reporter or default_reporter()).say(
                f"{of} was made with the model {recorded.name} (id {recorded.id}), but {model.name} "
                f"(id {model.identity}) was given: its numbers are another model's"
            )
        return model
    if recorded is None or not recorded.name:
        raise ModelNotFoundError(f"{of} does not say which model it reads; give the model")
    model = load_model(recorded.name, device=device, dtype=dtype, revision=_revision(recorded, of))
    if not is_same(recorded, model):
        raise ArtifactMismatchError(
            f"{model.name} is not the model that {of} was made with (id {model.identity}, not {recorded.id}); put that "
            "model back, or make it again with this one"
        )
    return model


def is_same(recorded: ModelRef | None, model: Model) -> bool:
    """Whether a model has the content id of the one that was recorded, as far as both are known."""
    return recorded is None or not recorded.id or not model.identity or recorded.id == model.identity


@dataclass(frozen=True)
class SentModel:
    """What another process needs to load a model that is loaded here."""

    ref: ModelRef
    device: str
    dtype: str

    @classmethod
    def of(cls, model: Model) -> "SentModel":
        """Raises UsageError where the model is in memory only."""
        if model.name == IN_MEMORY_MODEL:
            raise UsageError(
                "a model in memory cannot be sent to workers; give the folder or the name that they can load"
            )
        return cls(model.ref, str(model.device), str(model.dtype).removeprefix("torch."))

    def load(self) -> Model:
        """The very same model; raises ArtifactMismatchError where another machine has another one of this name."""
        return recorded_model(self.ref, of="the run", device=self.device, dtype=self.dtype)


def _revision(recorded: ModelRef, of: str) -> str | None:
    """The hub's commit of a recorded model, None for a folder; raises ModelNotFoundError where a folder has gone."""
    folder = local_path(recorded.name)
    if recorded.name in BUILT_IN or recorded.name in KNOWN or folder.exists() or not recorded.id:
        return None
    if _COMMIT.fullmatch(recorded.id):
        return recorded.id
    raise ModelNotFoundError(
        f"the model that {of} was made with was the folder {recorded.name}, and there is none at {folder.absolute()}; "
        "put it back, or give the model"
    )
