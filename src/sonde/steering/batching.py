"""Many answers at once: each with its own edits and its own sampling, in one batch that others join and leave.

One thread runs the model. Between two tokens it takes in what waits: a prompt goes through the model alone, under its edits, and its cache is put
beside those of the running answers, padded on the left. Then all running answers get one token together. Edits act
on their own rows, so an answer is the one that its request would get alone.

Where a model's cache is not one that can be padded (sliding windows, states), its answers take turns.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sonde.errors import BusyError, EditError, UsageError
from sonde.models.model import Model, Tokens
from sonde.steering.edits import FeatureEdit, RowEdits

Result = TypeVar("Result")

MOST_ROWS, MOST_WAITING = 32, 64
GAP = 64
"""columns of padding that all rows share before they are cut off"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """How an answer is chosen, and where it ends."""

    max_tokens: int = 60
    temperature: float = 0.0
    """0 takes the likeliest token"""
    top_p: float = 1.0
    """share of probability of the likeliest tokens that are chosen from"""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """texts that end an answer, and are left out of it"""
    top_logprobs: int = 0
    """likeliest tokens to tell of, with each token"""
    strip: bool = False
    """leave out white space at both ends"""


@dataclass(frozen=True)
class Piece:
    """A token of an answer, or its end."""

    text: str
    """what is new; may be empty while letters are incomplete, or may yet turn out to be a stop"""
    token: int | None = None
    logprob: float = 0.0
    """of the model's own distribution, before temperature and top_p"""
    top: tuple[tuple[int, float], ...] = ()
    """(token, logprob) of the likeliest"""
    finish: str | None = None
    """stop or length, at the end"""
    error: Exception | None = None


@dataclass(eq=False)
class Request:
    """An answer that was asked for."""

    tokens: Tokens
    edits: list[FeatureEdit]
    sampling: Sampling
    emit: Callable[[Piece], None]
    """called on the model's thread with each piece; the last has `finish` or `error`"""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def tell(self, piece: Piece) -> None:
        """Hand a piece to whoever asked; one who cannot take it has gone."""
        try:
            self.emit(piece)
        except Exception:
            self.cancel()

    def cancel(self) -> None:
        """Nobody listens any more: the answer ends before its next token."""
        self.cancelled.set()


class _Row:
    """A running answer."""

    def __init__(self, request: Request, tokenizer: Any, ends: frozenset[int]) -> None:
        self.request, self.tokenizer, self.ends = request, tokenizer, ends
        self.length, self.n_answer = request.tokens.ids.shape[1], 0
        self.token = -1
        self.generator: torch.Generator | None = None
        if request.sampling.temperature > 0:
            self.generator = torch.Generator()
            seed = request.sampling.seed
            self.generator.manual_seed(seed) if seed is not None else self.generator.seed()
        self._stream, self._held, self._began = DecodeStream(skip_special_tokens=True), "", False

    def take(self, logits: Tensor) -> bool:
        """Choose the next token from logits [vocabulary], and tell of it; returns whether the answer goes on."""
        sampling = self.request.sampling
        logprobs = logits.float().log_softmax(dim=-1).cpu()
        if logprobs.isnan().any():
            raise EditError("the model's predictions are no longer finite numbers; turn features less far")
        self.token = self._choose(logprobs)
        self.n_answer += 1
        top = logprobs.topk(min(sampling.top_logprobs, len(logprobs)))
        told = {
            "token": self.token,
            "logprob": float(logprobs[self.token]),
            "top": tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)),
        }
        if self.token in self.ends:
            self.request.tell(Piece(self._flush(), finish="stop"))
            return False
        text, stopped = self._text(self._stream.step(self.tokenizer.backend_tokenizer, self.token) or "")
        finish = "stop" if stopped else "length" if self.n_answer >= sampling.max_tokens else None
        if finish == "length":
            text += self._flush()
        self.request.tell(Piece(text, finish=finish, **told))
        return finish is None

    def _choose(self, logprobs: Tensor) -> int:
        sampling = self.request.sampling
        if self.generator is None:
            return int(logprobs.argmax())
        probabilities = (logprobs / sampling.temperature).softmax(dim=-1)
        if sampling.top_p < 1:
            ranked, order = probabilities.sort(descending=True, stable=True)
            ranked[ranked.cumsum(dim=0) - ranked >= sampling.top_p] = 0
            probabilities = torch.zeros_like(probabilities).scatter_(0, order, ranked)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))

    def _text(self, new: str) -> tuple[str, bool]:
        """What can be said now of what is held back and new, and whether the answer ends here."""
        sampling, text = self.request.sampling, self._held + new
        ends = [place for stop in sampling.stop if (place := text.find(stop)) >= 0]
        if ends:
            self._held = ""
            return self._stripped(text[: min(ends)], last=True), True
        # The end of the text may be the beginning of a stop, or white space at the end of the answer.
        keep = len(text)
        for stop in sampling.stop:
            for n in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:n]):
                    keep = min(keep, len(text) - n)
                    break
        if sampling.strip:
            keep = min(keep, len(text[:keep].rstrip()))
        self._held = text[keep:]
        return self._stripped(text[:keep]), False

    def _flush(self) -> str:
        text, self._held = self._held, ""
        return self._stripped(text, last=True)

    def _stripped(self, text: str, last: bool = False) -> str:
        if self.request.sampling.strip:
            text = text if self._began else text.lstrip()
            text = text.rstrip() if last else text
        self._began = self._began or bool(text)
        return text


class _Group:
    """Answers that get their tokens together."""

    def __init__(self, row: _Row, cache: Any, mask: Tensor) -> None:
        self.rows, self.cache, self.mask = [row], cache, mask
        """mask [row, position]: where the cache holds a token of the row"""

    @property
    def may_join(self) -> bool:
        return _can_be_padded(self.cache)

    def join(self, other: "_Group") -> None:
        """Put another group's caches beneath; the shorter are padded on the left."""
        n = max(self.mask.shape[1], other.mask.shape[1])
        for own, new in zip(self.cache.layers, other.cache.layers, strict=True):
            own.keys = torch.cat([_padded(own.keys, n), _padded(new.keys, n)])
            own.values = torch.cat([_padded(own.values, n), _padded(new.values, n)])
        self.mask = torch.cat([_padded(self.mask, n, -1), _padded(other.mask, n, -1)])
        self.rows += other.rows

    def keep(self, which: list[int]) -> None:
        """Let go of all other rows, and of positions that none of these has."""
        if len(which) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in which]
        if self.rows and self.may_join:
            chosen = torch.tensor(which, device=self.mask.device)
            self.mask = self.mask[chosen]
            empty = int(self.mask.any(dim=0).int().argmax())
            empty = empty if empty >= GAP else 0
            self.mask = self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[chosen, :, empty:], layer.values[chosen, :, empty:]


class Batcher:
    """Answers requests, many at once, on a thread of its own, which alone runs the model.

    Args:
        model: with a head and a tokenizer.
        most_rows: answers that run at the same time.
        most_waiting: requests that may wait besides.
    """

    def __init__(self, model: Model, most_rows: int = MOST_ROWS, most_waiting: int = MOST_WAITING) -> None:
        self.model, self.most_rows, self.most_waiting = model, most_rows, most_waiting
        self._waiting: deque[Request] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self._groups: list[_Group] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sonde-model", daemon=True)
        self._thread.start()

    def submit(
        self, tokens: Tokens, edits: Sequence[FeatureEdit], sampling: Sampling, emit: Callable[[Piece], None]
    ) -> Request:
        """Ask for an answer to a prompt [1, position].

        Raises:
            UsageError: the prompt fills the model's context.
            BusyError: too many requests wait already.
        """
        n, room = tokens.ids.shape[1], self.model.context_length - tokens.ids.shape[1]
        if room < 1:
            raise UsageError(
                f"the conversation has {n:,} tokens, but the model's context holds {self.model.context_length:,}; say less"
            )
        limited = Sampling(**(vars(sampling) | {"max_tokens": min(sampling.max_tokens, room)}))
        request = Request(tokens, list(edits), limited, emit)
        with self._changed:
            if len(self._waiting) >= self.most_waiting:
                raise BusyError(f"{len(self._waiting)} requests wait already; ask again in a few seconds")
            self._waiting.append(request)
            self._changed.notify()
        return request

    def answer(self, tokens: Tokens, edits: Sequence[FeatureEdit], sampling: Sampling) -> list[Piece]:
        """Ask, and wait for the whole answer; raises what `submit` does, and what went wrong on the way."""
        return self.answer_all([(tokens, edits, sampling)])[0]

    def answer_all(self, asked: Sequence[tuple[Tokens, Sequence[FeatureEdit], Sampling]]) -> list[list[Piece]]:
        """Ask several things at once, and wait for all of the answers; raises what `submit` does, and what went wrong on the way."""
        found: list[list[Piece]] = [[] for _ in asked]
        ended = threading.Semaphore(0)

        def listen(pieces: list[Piece]) -> Callable[[Piece], None]:
            def emit(piece: Piece) -> None:
                pieces.append(piece)
                if piece.finish or piece.error:
                    ended.release()

            return emit

        requests: list[Request] = []
        try:
            for one, pieces in zip(asked, found, strict=True):
                requests.append(self.submit(*one, listen(pieces)))
        except BaseException:
            for request in requests:
                request.cancel()
            raise
        for _ in requests:
            ended.acquire()
        for pieces in found:
            if pieces[-1].error is not None:
                raise pieces[-1].error
        return found

    def run(self, do: Callable[[], Result]) -> Result:
        """Do something with the model between two tokens, and wait for its result."""
        future: Future = Future()
        with self._changed:
            self._calls.append((do, future))
            self._changed.notify()
        return future.result()

    def close(self) -> None:
        """End the thread; what runs ends with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._calls or self._groups or self._closed):
                    self._changed.wait()
                if self._closed:
                    left = [*self._waiting, *(row.request for group in self._groups for row in group.rows)]
                    for request in left:
                        request.tell(Piece("", error=BusyError("the server is shutting down; ask again later")))
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
            with model.edited(*request.edits):  # outside of `generate` all tokens are the prompt's
                found = network(
                    input_ids=tokens.ids, attention_mask=tokens.mask, past_key_values=cache, use_cache=True, **more
                )
            row = _Row(request, model.require_tokenizer(), _ends(model))
            goes_on = row.take(found.logits[0, -1])
            group = _Group(row, found.past_key_values, tokens.mask.bool())
        except Exception as error:
            request.tell(Piece("", error=error))
            return
        if goes_on:
            other = next((one for one in self._groups if one.may_join), None) if group.may_join else None
            if other is None:
                self._groups.append(group)
            else:
                other.join(group)

    @torch.no_grad()
    def _step(self, group: _Group) -> None:
        """One more token for each row."""
        group.keep([place for place, row in enumerate(group.rows) if not row.request.cancelled.is_set()])
        if not group.rows:
            self._groups.remove(group)
            return
        model, device = self.model, group.mask.device
        network: Any = model.network
        edits = [
            (place, edit)
            for place, row in enumerate(group.rows)
            for edit in row.request.edits
            if edit.where in ("all", "answer")
        ]
        group.mask = torch.cat([group.mask, group.mask.new_ones(len(group.rows), 1)], dim=1)
        given: dict[str, Any] = {"attention_mask": group.mask.long()}
        if model._takes_positions:
            given["position_ids"] = torch.tensor([[row.length] for row in group.rows], device=device)
        try:
            with model.edited(*_by_site(edits)):
                found = network(
                    input_ids=torch.tensor([[row.token] for row in group.rows], device=device),
                    past_key_values=group.cache,
                    use_cache=True,
                    **given,
                )
        except Exception as error:  # what these rows did must not end others
            _log.exception("a step of %d answers failed", len(group.rows))
            for row in group.rows:
                row.request.tell(Piece("", error=error))
            self._groups.remove(group)
            return
        group.cache = found.past_key_values
        going = []
        for place, (row, logits) in enumerate(zip(group.rows, found.logits[:, -1], strict=True)):
            row.length += 1
            try:
                if row.take(logits):
                    going.append(place)
            except Exception as error:
                row.request.tell(Piece("", error=error))
        group.keep(going)
        if not group.rows:
            self._groups.remove(group)


def shares_batches(config: Any) -> bool:
    """Whether answers of a model of this configuration get their tokens together; if not, they take turns."""
    return _can_be_padded(DynamicCache(config=config.get_text_config()))


def _can_be_padded(cache: Any) -> bool:
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def _by_site(edits: list[tuple[int, FeatureEdit]]) -> list[RowEdits]:
    """Edits of rows, those through one dictionary together."""
    edits = sorted(edits, key=lambda pair: id(pair[1].dictionary))
    groups = itertools.groupby(edits, key=lambda pair: id(pair[1].dictionary))
    return [RowEdits(list(own)) for _, own in groups]


def _padded(x: Tensor, n: int, dim: int = -2) -> Tensor:
    """Zeros before x along a dimension, so that it has n."""
    missing = n - x.shape[dim]
    if missing == 0:
        return x
    shape = list(x.shape)
    shape[dim] = missing
    return torch.cat([x.new_zeros(shape), x], dim=dim)


def _ends(model: Model) -> frozenset[int]:
    """Tokens that end an answer."""
    settings: Any = getattr(model.network, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    if ends is None:
        ends = model.require_tokenizer().eos_token_id
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
