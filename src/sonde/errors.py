"""Everything that sonde raises on purpose, in one tree.

    SondeError
    |-- UsageError              a command line or a call that names or gives what is not taken there
    |-- SettingsError           a setting that is unknown, of the wrong type or out of range
    |-- CapacityError           a job that will not fit into memory, estimated before it starts
    |-- ModelError
    |   |-- ModelNotFoundError  no such folder, and the hub did not answer or does not have it
    |   |-- ModelLacksError     a tokenizer, chat template or language-model head that is not there
    |   `-- SiteError           a site that the model does not have, or that has no vector of each token
    |-- PictureError            a picture that is missing or broken, or not one for each mark in its text
    |-- TextError               text that is missing, empty, binary, broken, or lacks the field
    |-- ConversationError       a conversation that the model's chat template refuses
    |-- ActivationError         activations that are not finite, or too few
    |-- FeatureError            a feature number that the dictionary does not have
    |-- JudgeError              a judge that is not known, refuses, or answers nothing that can be read
    |-- EditError               an edit that cannot be read, or two that contradict each other
    |-- ArtifactError
    |   |-- ArtifactMissingError   a folder that is not there
    |   |-- ArtifactForeignError   a folder that is not one of ours, or of another kind or version
    |   |-- ArtifactDamagedError   an unfinished, truncated or altered artifact
    |   |-- ArtifactMismatchError  artifacts that do not fit each other
    |   |-- OutputOccupiedError    an output folder that holds something else
    |   `-- OutputBusyError        an output folder that another run is writing
    |-- StorageError            a disk that is full, a folder that cannot be written, an object store that refuses
    |-- BusyError               a server with more requests than it can hold
    `-- ServeError              a port that is taken or not allowed

A message is one line that names the thing, the value seen and the fix. `docs/errors.md` has a section for
each leaf; a test holds the two together.
"""

import difflib
from collections.abc import Iterable


class SondeError(Exception):
    """Base of all errors that sonde raises on purpose."""


class UsageError(SondeError):
    """A command line names a verb, flag or value that does not exist, or a call gives what is not taken there."""


class SettingsError(SondeError):
    """A setting is unknown, of the wrong type, or out of range."""


class CapacityError(SondeError):
    """The job needs more memory than there is."""


class ModelError(SondeError):
    """Something about a model."""


class ModelNotFoundError(ModelError):
    """The model is neither a model folder nor something the hub gives."""


class ModelLacksError(ModelError):
    """The model has no tokenizer, chat template or language-model head, and this needs one."""


class SiteError(ModelError):
    """The model has no such site, or the site has no vector of each token where those are wanted."""


class PictureError(SondeError):
    """A picture is missing or broken, or a text does not have one mark for each of its pictures."""


class TextError(SondeError):
    """Text is missing, empty, binary, not UTF-8, broken, or lacks the field."""


class ConversationError(SondeError):
    """The model's chat template refuses the conversation, or is itself broken."""


class ActivationError(SondeError):
    """Activations hold values that are not finite, or there are too few of them."""


class JudgeError(SondeError):
    """A judge is not known, cannot be reached, refuses, or answers nothing that can be read."""


class FeatureError(SondeError):
    """The dictionary has no feature of this number."""


class EditError(SondeError):
    """An edit cannot be read, or two edits contradict each other."""


class ArtifactError(SondeError):
    """Something about a folder that sonde writes and reads."""


class ArtifactMissingError(ArtifactError):
    """There is no such folder."""


class ArtifactForeignError(ArtifactError):
    """The folder is not an artifact of the kind or version that is wanted."""


class ArtifactDamagedError(ArtifactError):
    """The artifact is unfinished, truncated or altered."""


class ArtifactMismatchError(ArtifactError):
    """Two artifacts, or an artifact and a model, do not fit each other."""


class OutputOccupiedError(ArtifactError):
    """The output folder holds something else."""


class OutputBusyError(ArtifactError):
    """Another run is writing the output folder."""


class StorageError(SondeError):
    """The disk is full, the folder cannot be written, or an object store refuses."""


class ServeError(SondeError):
    """The server cannot listen where it was told to."""


class BusyError(SondeError):
    """The server has more requests than it can hold, or is shutting down."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return "; did you mean X?" for the option most like `name`, or "" where none is like it."""
    matches = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else ""
