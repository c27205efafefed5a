"""The protocol of OpenAI's API, spoken by a model whose features can be turned.

Clients of that API work unchanged. A request may carry `edits`, and a preset of the index is a model of its own, as
world#golden-gate, for clients that know nothing of edits. Source of the shapes: OpenAI's API reference, chat completions and completions.
"""

import asyncio
import base64
import binascii
import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from sonde.errors import ModelError, ModelLacksError, SondeError, UsageError
from sonde.features.index import Index
from sonde.models.load import load_config
from sonde.models.model import Model, SiteEdit, Tokens
from sonde.steering.apply import make_edits
from sonde.steering.batching import Batcher
from sonde.steering.edits import Edit
from sonde.steering.group import shares_batches
from sonde.steering.presets import load_presets
from sonde.steering.request import Piece, Sampling
from sonde.web.wire import MAX_CHARACTERS, MAX_EDITS, MAX_MESSAGES

MOST_TOKENS, MOST_CHOICES = 4096, 8
DISCONNECT_EVERY_S = 0.5
IGNORED = {
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
}  # fmt: skip
"""parameters that change nothing here"""
NEUTRAL = {"presence_penalty": 0, "frequency_penalty": 0, "response_format": {"type": "text"}, "tool_choice": "none",
           "logit_bias": {}, "tools": [], "modalities": ["text"], "best_of": 1, "echo": False, "suffix": ""}  # fmt: skip
"""parameters that are taken with these values alone, which ask for nothing"""


class ModelUnknown(SondeError):
    """The request names a model that is not served."""


class ImageUrl(BaseModel):
    url: str
    """data:image/png;base64,... ; nothing is fetched"""


class Part(BaseModel):
    type: str
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    image_url: ImageUrl | None = None


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_CHARACTERS)] | list[Part]


class StreamOptions(BaseModel):
    include_usage: bool = False


class _Asked(BaseModel):
    """What both kinds of completion take."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """the model's name, or name#preset; the model itself where it is left out"""
    edits: Annotated[list[Edit | str], Field(max_length=MAX_EDITS)] = []
    """ours: what is edited, as objects, or as written on the command line (feature:311=10max@answer)"""
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def sampling(self, max_tokens: int, top_logprobs: int, strip: bool) -> Sampling:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(
            max_tokens, temperature, self.top_p or 1.0, self.seed, tuple(filter(None, stop)), top_logprobs, strip
        )


class ChatRequest(_Asked):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int | None, Field(ge=1, le=MOST_TOKENS)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=MOST_TOKENS)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None


class CompletionRequest(_Asked):
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    max_tokens: Annotated[int | None, Field(ge=1, le=MOST_TOKENS)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None


def add_protocol(app: FastAPI, index: Index, loaded: Callable[[], tuple[Model, Batcher]]) -> None:
    """Add the protocol's paths; `loaded` gives the model, and what answers with it."""
    name = Path(index.manifest.facts["model"]["name"]).name if index.manifest.facts else "model"
    began = int(time.time())

    @lru_cache(maxsize=1)
    def batched() -> bool | None:
        try:
            return shares_batches(load_config(index.manifest.facts["model"]["name"]))
        except ModelError:  # it is not here; the list is, all the same
            return None

    def prepared(asked: _Asked, purpose: str) -> tuple[Model, Batcher, list[SiteEdit]]:
        """The model, what answers with it, and the request's edits; raises what is wrong with the request."""
        _refuse_unsupported(asked)
        model, batcher = loaded()
        edits = make_edits([*_preset(index, name, asked.model), *asked.edits], index, confined=True)
        model.need_head(purpose)
        return model, batcher, edits

    @app.get("/v1/models")
    def list_models() -> dict[str, Any]:
        """The model, and each preset of the index as a model of its own. `batched`: whether answers share batches, or take turns."""
        names = [name, *(f"{name}#{preset}" for preset in load_presets(index.folder))]
        told = {"object": "model", "created": began, "owned_by": "sonde", "batched": batched()}
        return {"object": "list", "data": [{"id": one} | told for one in names]}

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Any:
        """An answer to a conversation, under edits."""
        model, batcher, edits = await asyncio.to_thread(prepared, asked, "chat")
        tokens = await asyncio.to_thread(lambda: model.chat([_message(message, model) for message in asked.messages]))
        most = asked.max_completion_tokens or asked.max_tokens or MOST_TOKENS
        sampling = asked.sampling(most, (asked.top_logprobs or 0) if asked.logprobs else 0, strip=True)
        shape = _Chat(model, asked.model or name, bool(asked.logprobs))
        return await _respond(shape, batcher, tokens, edits, sampling, asked, request)

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest, request: Request) -> Any:
        """What follows a text, under edits."""
        model, batcher, edits = await asyncio.to_thread(prepared, asked, "completions")
        tokens = await asyncio.to_thread(model.tokenize, asked.prompt)
        sampling = asked.sampling(asked.max_tokens or 16, asked.logprobs or 0, strip=False)
        shape = _Completion(model, asked.model or name, asked.logprobs is not None)
        return await _respond(shape, batcher, tokens, edits, sampling, asked, request)


def error_body(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict:
    """An error in the protocol's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _preset(index: Index, name: str, model: str) -> list[Edit]:
    """The edits that a model's name stands for; raises ModelUnknown."""
    base, _, preset = (model or name).partition("#")
    presets = load_presets(index.folder)
    if base != name or (preset and preset not in presets):
        known = ", ".join([name, *(f"{name}#{one}" for one in presets)])
        raise ModelUnknown(f"there is no model {model!r} here; there are {known}")
    return presets[preset] if preset else []


def _refuse_unsupported(asked: _Asked) -> None:
    """Raise UsageError for a parameter that would have to change the answer, and cannot here."""
    for parameter, value in (asked.model_extra or {}).items():
        if value is None or parameter in IGNORED or (parameter in NEUTRAL and value == NEUTRAL[parameter]):
            continue
        raise UsageError(f"the parameter {parameter!r} is not supported here; leave it out")


def _message(message: ChatMessage, model: Model) -> dict[str, Any]:
    """A message as the model's template takes it, with a mark where a picture stands."""
    parts = [Part(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    said: list[str] = []
    images: list[bytes] = []
    for part in parts:
        if part.type == "text":
            said.append(part.text)
        elif part.type == "image_url" and part.image_url is not None:
            said.append(model.need_pictures().mark)
            images.append(_sent(part.image_url.url))
        else:
            raise ModelLacksError(f"content of type {part.type!r} is not supported here; send text or image_url")
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": "\n".join(said), "images": images}


def _sent(url: str) -> bytes:
    """The bytes of a picture that came with the request."""
    head, _, data = url.partition(";base64,")
    if not head.startswith("data:image/") or not data:
        raise UsageError(f"{url[:60]!r} is not fetched; send the picture itself as data:image/png;base64,...")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise UsageError(f"the picture's base64 cannot be read: {error}") from error


class _Shape(ABC):
    """How one kind of answer is put into the protocol's words."""

    prefix = stream_object = whole_object = ""

    def __init__(self, model: Model, name: str, logprobs: bool) -> None:
        self.tokenizer, self.logprobs = model.need_tokenizer(), logprobs
        self.head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}

    @abstractmethod
    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        """A whole answer."""

    @abstractmethod
    def part(self, number: int, piece: Piece) -> dict[str, Any]:
        """A piece of a streamed one."""

    def opening(self, number: int) -> dict[str, Any] | None:
        """What a stream begins with, if anything."""
        return None

    def token(self, token: int) -> str:
        return self.tokenizer.decode([token])


class _Chat(_Shape):
    prefix, stream_object, whole_object = "chatcmpl", "chat.completion.chunk", "chat.completion"

    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None}
        return {"index": number, "message": message, "logprobs": self._told(pieces), "finish_reason": pieces[-1].finish}

    def opening(self, number: int) -> dict[str, Any]:
        return {"index": number, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def part(self, number: int, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        return {"index": number, "delta": delta, "logprobs": self._told([piece]), "finish_reason": piece.finish}

    def _told(self, pieces: list[Piece]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        content = []
        for piece in pieces:
            if piece.token is not None:
                top = [self._one(token, logprob) for token, logprob in piece.top]
                content.append(self._one(piece.token, piece.logprob) | {"top_logprobs": top})
        return {"content": content, "refusal": None}

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.token(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


class _Completion(_Shape):
    prefix, stream_object, whole_object = "cmpl", "text_completion", "text_completion"

    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        return {"index": number, "text": text, "logprobs": self._told(pieces), "finish_reason": pieces[-1].finish}

    def part(self, number: int, piece: Piece) -> dict[str, Any]:
        return {"index": number, "text": piece.text, "logprobs": self._told([piece]), "finish_reason": piece.finish}

    def _told(self, pieces: list[Piece]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        chosen = [piece for piece in pieces if piece.token is not None]
        tokens = [self.token(piece.token) for piece in chosen if piece.token is not None]
        offsets = [sum(len(text) for text in tokens[:place]) for place in range(len(tokens))]
        top = [{self.token(token): logprob for token, logprob in piece.top} for piece in chosen]
        return {
            "tokens": tokens,
            "token_logprobs": [p.logprob for p in chosen],
            "top_logprobs": top,
            "text_offset": offsets,
        }


async def _respond(
    shape: _Shape,
    batcher: Batcher,
    tokens: Tokens,
    edits: list[SiteEdit],
    sampling: Sampling,
    asked: _Asked,
    request: Request,
) -> Any:
    """Submit as many requests as there are choices, and answer whole or as a stream."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue()  # type: asyncio.AbstractEventLoop, asyncio.Queue

    def listen(number: int) -> Callable[[Piece], None]:
        def emit(piece: Piece) -> None:
            loop.call_soon_threadsafe(told.put_nowait, (number, piece))

        return emit

    n = asked.n or 1
    running: list[Any] = []
    try:
        for number in range(n):
            seed = None if sampling.seed is None else sampling.seed + number
            own = Sampling(**(vars(sampling) | {"seed": seed}))
            running.append(batcher.submit(tokens, edits, own, listen(number)))
    except SondeError:
        _cancel(running)
        raise
    if asked.stream:
        wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
        parts = _stream(shape, told, running, tokens.ids.shape[1], wants_usage)
        return StreamingResponse(parts, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    pieces: list[list[Piece]] = [[] for _ in range(n)]
    left = n
    try:
        while left:
            try:
                number, piece = await asyncio.wait_for(told.get(), DISCONNECT_EVERY_S)
            except TimeoutError:
                if await request.is_disconnected():
                    return {}
                continue
            if piece.error is not None:
                raise piece.error
            pieces[number].append(piece)
            left -= piece.finish is not None
    finally:
        _cancel(running)
    n_answer = sum(piece.token is not None for own in pieces for piece in own)
    choices = [shape.choice(number, own) for number, own in enumerate(pieces)]
    usage = _usage(tokens.ids.shape[1], n_answer)
    return shape.head | {"object": shape.whole_object, "choices": choices, "usage": usage}


async def _stream(
    shape: _Shape, told: asyncio.Queue, running: list[Any], n_prompt: int, wants_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events of an answer; a client that is gone ends it."""

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps(shape.head | {'object': shape.stream_object, 'choices': choices} | more, ensure_ascii=False)}\n\n"

    left, n_answer = len(running), 0
    try:
        for number in range(left):
            if (opening := shape.opening(number)) is not None:
                yield event([opening])
        while left:
            number, piece = await told.get()
            if piece.error is not None:
                yield f"data: {json.dumps(error_body(str(piece.error), 'server_error'))}\n\n"
                return
            n_answer += piece.token is not None
            left -= piece.finish is not None
            if piece.text or piece.finish or shape.logprobs:
                yield event([shape.part(number, piece)])
        if wants_usage:
            yield event([], usage=_usage(n_prompt, n_answer))
        yield "data: [DONE]\n\n"
    finally:
        _cancel(running)


def _cancel(running: list[Any]) -> None:
    for one in running:
        one.cancel()


def _usage(n_prompt: int, n_answer: int) -> dict[str, int]:
    return {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}
