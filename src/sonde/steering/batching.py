"""Many answers at once: each with its own edits and its own sampling, in one batch that others join and leave.

1. A request (`request.py`) waits until there is room.
2. Its prompt goes through the model alone, under its edits. It becomes a row (`row.py`) and takes its first token.
3. The row joins a group (`group.py`): its cache is put beside those of the running answers, padded on the left.
4. All rows of a group get one token together. Edits act on their own rows, so an answer is the one that its request
   would get alone. A row that has ended leaves.

One thread runs the model while there is something to do. Where a model's cache is not one that can be padded (sliding
windows, states), each answer is a group of its own, and they take turns.
"""

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import torch
from transformers import DynamicCache

from sonde.errors import BusyError, UsageError
from sonde.models.model import Model, SiteEdit, Tokens
from sonde.models.where import acts_on
from sonde.steering.group import Group
from sonde.steering.request import Piece, Request, Sampling
from sonde.steering.row import Row
from sonde.steering.row_edits import edits_of_rows

Result = TypeVar("Result")

MOST_ROWS, MOST_WAITING = 32, 64
_log = logging.getLogger(__name__)
_batchers: weakref.WeakSet["Batcher"] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that is inside the model while the interpreter ends would abort the process."""
    for batcher in list(_batchers):
        batcher.close()


class Batcher:
    """Answers requests, many at once, on a thread that alone runs the model.

    Args:
        model: with a head and a tokenizer.
        most_rows: answers that run at the same time.
        most_waiting: requests that may wait besides.
    """

    def __init__(self, model: Model, most_rows: int = MOST_ROWS, most_waiting: int = MOST_WAITING) -> None:
        self.model, self.most_rows, self.most_waiting = model, most_rows, most_waiting
        self._waiting: deque[Request] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self._groups: list[Group] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        """there while there is something to do, so that an idle batcher holds no model"""
        self._closed = False
        _batchers.add(self)

    def submit(
        self, tokens: Tokens, edits: Sequence[SiteEdit], sampling: Sampling, emit: Callable[[Piece], None]
    ) -> Request:
        """Ask for an answer to a prompt [1, position].

        Args:
            edits: which act on this answer alone.
            emit: called on the model's thread with each piece; the last has `finish` or `error`.

        Raises:
            UsageError: the prompt has no tokens, or fills the model's context.
            BusyError: too many requests wait already.
        """
        n, room = tokens.ids.shape[1], self.model.context_length - tokens.ids.shape[1]
        if not tokens.mask.any():
            raise UsageError("the prompt has no tokens; write what the model is to continue")
        if room < 1:
            raise UsageError(
                f"the conversation has {n:,} tokens, but the model's context holds {self.model.context_length:,}; "
                "say less"
            )
        request = Request(tokens, edits, replace(sampling, max_tokens=min(sampling.max_tokens, room)), emit)
        with self._lock:
            if len(self._waiting) >= self.most_waiting:
                raise BusyError(f"{len(self._waiting)} requests wait already; ask again in a few seconds")
            self._waiting.append(request)
            self._wake()
        return request

    def answer(self, tokens: Tokens, edits: Sequence[SiteEdit], sampling: Sampling) -> list[Piece]:
        """Ask, and wait for the whole answer; raises what `submit` does, and what goes wrong on the way."""
        return self.answer_all([(tokens, edits, sampling)])[0]

    def answer_all(self, asked: Sequence[tuple[Tokens, Sequence[SiteEdit], Sampling]]) -> list[list[Piece]]:
        """Ask for several answers at once, and wait for all; raises what `submit` does and what goes wrong later."""
        answers: list[list[Piece]] = [[] for _ in asked]
        ended = threading.Semaphore(0)

        def listen(pieces: list[Piece]) -> Callable[[Piece], None]:
            def emit(piece: Piece) -> None:
                pieces.append(piece)
                if piece.finish or piece.error:
                    ended.release()

            return emit

        requests: list[Request] = []
        try:
            for question, pieces in zip(asked, answers, strict=True):
                requests.append(self.submit(*question, listen(pieces)))
            for _ in requests:
                ended.acquire()
        except BaseException:
            for request in requests:
                request.cancel()
            raise
        for pieces in answers:
            if pieces[-1].error is not None:
                raise pieces[-1].error
        return answers

    def run(self, do: Callable[[], Result]) -> Result:
        """Do something with the model between two tokens, and wait for its result."""
        future: Future = Future()
        with self._lock:
            self._calls.append((do, future))
            self._wake()
        return future.result()

    def close(self) -> None:
        """End what runs and what waits, with an error."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sonde-model", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    self._end_all()
                if not (self._waiting or self._calls or self._groups):
                    self._thread = None
                    return
                calls = [self._calls.popleft() for _ in range(len(self._calls))]
                n_rows = sum(len(group.rows) for group in self._groups)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self.most_rows - n_rows))]
            for do, future in calls:
                try:
                    future.set_result(do())
                except BaseException as error:
                    future.set_exception(error)
            for request in taken:
                self._begin(request)
            for group in list(self._groups):
                self._step(group)

    def _end_all(self) -> None:
        for request in [*self._waiting, *(row.request for group in self._groups for row in group.rows)]:
            request.send(Piece("", error=BusyError("the server is shutting down; ask again later")))
        self._waiting.clear()
        self._groups.clear()

    @torch.no_grad()
    def _begin(self, request: Request) -> None:
        """Run a prompt, take the first token, and join the others."""
        if request.cancelled.is_set():
            return
        tokens, model = request.tokens, self.model
        network: Any = model.network
        try:
            more = {} if tokens.pixels is None else {"pixel_values": tokens.pixels}
            cache = DynamicCache(config=network.config)
            with model.edited(*request.edits):  # outside of generation all tokens are the prompt's
                output = network(
                    input_ids=tokens.ids, attention_mask=tokens.mask, past_key_values=cache, use_cache=True, **more
                )
            row = Row(request, model.require_tokenizer(), model.end_tokens)
            goes_on = row.take(output.logits[0, -1])
        except Exception as error:
            request.send(Piece("", error=error))
            return
        if goes_on:
            self._join(Group(row, output.past_key_values, tokens.mask.bool()))

    def _join(self, group: Group) -> None:
        other = next((other for other in self._groups if other.may_join), None) if group.may_join else None
        if other is None:
            self._groups.append(group)
        else:
            other.join(group)

    @torch.no_grad()
    def _step(self, group: Group) -> None:
        """One more token for each row."""
        self._keep(group, [place for place, row in enumerate(group.rows) if not row.request.cancelled.is_set()])
        if not group.rows:
            return
        model = self.model
        network: Any = model.network
        edits = [
            (place, edit)
            for place, row in enumerate(group.rows)
            for edit in row.request.edits
            if acts_on(edit, range(row.length, row.length + 1), row.n_prompt)
        ]
        try:
            with model.edited(*edits_of_rows(edits)), model.answering(len(group.rows)):
                output = network(**group.inputs(model._takes_positions), past_key_values=group.cache, use_cache=True)
        except Exception as error:  # what these rows did must not end others
            _log.exception("a step of %d answers failed", len(group.rows))
            for row in group.rows:
                row.request.send(Piece("", error=error))
            self._groups.remove(group)
            return
        group.cache = output.past_key_values
        going = []
        for place, (row, logits) in enumerate(zip(group.rows, output.logits[:, -1], strict=True)):
            row.length += 1
            try:
                if row.take(logits):
                    going.append(place)
            except Exception as error:
                row.request.send(Piece("", error=error))
        self._keep(group, going)

    def _keep(self, group: Group, kept: list[int]) -> None:
        group.keep(kept)
        if not group.rows:
            self._groups.remove(group)
