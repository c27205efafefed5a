"""A conversation with a model whose features are turned."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sonde.errors import UsageError
from sonde.features.feature import Hits
from sonde.features.index import Index
from sonde.features.reader import Fired, On, Reader
from sonde.models.model import Model
from sonde.steering.edits import EditSpec, make_edits

Message = dict[str, Any]
"""role, content, and images, a list of paths, where the content has marks for pictures"""


class Session:
    """A model with the dictionary of an index, ready to answer under edits.

    One answer is made at a time; the session may be shared by threads.

    Args:
        index: an index or its folder.
        model: by default the one that the index was made with.

    Raises:
        ArtifactMissingError: the dictionary is not where it was.
        ArtifactMismatchError: dictionary and model do not fit each other.
    """

    def __init__(self, index: Index | str | Path, model: Model | None = None, device: str = "auto") -> None:
        self._reader = Reader(index, model, device)
        self.index, self.dictionary, self.model = self._reader.index, self._reader.dictionary, self._reader.model
        self._lock = threading.Lock()

    def read(self, text: str, *, unlike: str = "", on: On = "max", n: int = 20) -> tuple[Fired, Hits]:
        """What fires on a text, unedited, and the features that fire on it most; raises TextError where it is empty."""
        with self._lock:
            fired = self._reader.read(text)
            return fired, self._reader.search(fired, unlike=unlike or (), on=on, n=n)

    def answer(self, messages: Sequence[Message], edits: Sequence[EditSpec] = (), max_new_tokens: int = 60) -> str:
        """The model's answer to a conversation, under edits.

        Edits in units of the maximum use the index's own maxima.

        Raises:
            FeatureError, EditError: an edit that cannot be applied.
            ModelLacksError: no chat template or no head.
            UsageError: the conversation does not fit the model's context.
        """
        bound = make_edits(edits, self.index)
        self.model.require_head("chat")
        asked = self.model.chat_tokens(messages)
        n_tokens = asked.ids.shape[1]
        room = self.model.context_length - n_tokens
        if room < 1:
            raise UsageError(
                f"the conversation has {n_tokens:,} tokens, but the model's context holds {self.model.context_length:,}; say less"
            )
        with self._lock, self.model.edited(*bound):
            return self.model.generate(asked, min(max_new_tokens, room))
