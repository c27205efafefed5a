"""An index as it is served: what its requests share, and how routes get it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi import Path as PathParameter

from sonde.errors import BusyError, ModelError
from sonde.features.index import Index
from sonde.features.reader import Fired, Reader
from sonde.models.load import load_config
from sonde.models.model import Model
from sonde.models.recorded import recorded_model
from sonde.steering.batching import Batcher
from sonde.steering.group import shares_batches
from sonde.web.wire import Problem

MOST_WAITING = 24
"""requests that wait for the model on threads, of which a server has 40: others must be left for what needs no model"""
READINGS_KEPT = 16
"""texts whose activations are kept, as the page asks for several things about one text"""


class ModelLoader:
    """Loads the model of an index when a request first needs it; looking at features needs none."""

    def __init__(self, index: Index, device: str) -> None:
        self._index, self._device = index, device
        self._loaded: tuple[Model, Batcher] | None = None
        self._lock, self._turns = threading.Lock(), threading.BoundedSemaphore(MOST_WAITING)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a place of requests that wait for the model on threads; raises BusyError where all are taken."""
        if not self._turns.acquire(blocking=False):
            raise BusyError(f"{MOST_WAITING} requests wait already; ask again in a few seconds")
        try:
            yield
        finally:
            self._turns.release()

    def __call__(self) -> tuple[Model, Batcher]:
        """The model, and the batcher through which everything that runs it must go."""
        with self._lock:
            if self._loaded is None:
                of = f"the index {self._index.folder}"
                model = recorded_model(self._index.facts.model, of=of, device=self._device)
                self._loaded = model, Batcher(model)
            return self._loaded


class Served:
    """An index with its model, the reader of texts, and the texts that were read last.

    Args:
        loader: shared by indexes of one model.
    """

    def __init__(self, index: Index, loader: ModelLoader) -> None:
        self.index, self._loader, self.turn = index, loader, loader.turn
        self.started = int(time.time())
        self.read = lru_cache(maxsize=READINGS_KEPT)(self._read)

    @property
    def model(self) -> Model:
        return self._loader()[0]

    @property
    def batcher(self) -> Batcher:
        return self._loader()[1]

    @property
    def model_name(self) -> str:
        return Path(self.index.facts.model.name).name or self.index.facts.model.short_name

    @cached_property
    def shares_batches(self) -> bool | None:
        """Whether answers of this model are generated in one batch; None where the model is not there."""
        try:
            return shares_batches(load_config(self.index.facts.model.name))
        except ModelError:
            return None

    @cached_property
    def reader(self) -> Reader:
        model, batcher = self._loader()
        return batcher.run(lambda: Reader(self.index, model))

    def _read(self, text: str) -> Fired:
        """What fires on a text; `read` is the same with a cache."""
        reader = self.reader
        return self.batcher.run(lambda: reader.read(text))


async def _served_index(request: Request) -> Served:
    return request.app.state.served


ServedIndex = Annotated[Served, Depends(_served_index)]
"""the index of the app that a request has reached"""
Number = Annotated[int, PathParameter(ge=0, le=2**31)]
PROBLEMS: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 404, 413, 422, 429)}
"""the errors that routes answer with"""
