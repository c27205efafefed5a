"""The protocol's paths."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse

from sonde.models.model import SiteEdit
from sonde.steering.apply import make_edits
from sonde.steering.edits import Edit
from sonde.steering.presets import load_presets
from sonde.steering.request import Piece
from sonde.web.openai.answers import AnswerFormat, ChatFormat, TextFormat, error_body, usage
from sonde.web.openai.requests import ChatRequest, CompletionRequest, CompletionSettings, ModelUnknown
from sonde.web.openai.running import Running
from sonde.web.served import Served, ServedIndex

SPOKEN = ("GET /v1/models", "GET /v1/models/NAME", "POST /v1/chat/completions", "POST /v1/completions")
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
router = APIRouter()


@router.get("/v1/models")
def list_models(served: ServedIndex) -> dict[str, Any]:
    """The model, and each preset as a model of its own; `batched`: whether answers share batches or take turns."""
    return {"object": "list", "data": [_model_facts(served, name) for name in _model_names(served)]}


@router.get("/v1/models/{name:path}")
def get_model(served: ServedIndex, name: str) -> dict[str, Any]:
    """One model of those that `/v1/models` lists."""
    _preset(served, name)
    return _model_facts(served, name)


@router.post("/v1/chat/completions")
async def chat(served: ServedIndex, asked: ChatRequest, request: Request) -> Any:
    """An answer to a conversation, under edits."""
    edits = await asyncio.to_thread(_prepare, served, asked, "chat")
    model = served.model
    tokens = await asyncio.to_thread(
        lambda: model.chat_tokens([message.for_template(model) for message in asked.messages])
    )
    answers = ChatFormat(model, asked.model or served.model_name, bool(asked.logprobs))
    running = Running(served.batcher, [tokens], edits, asked.sampling, asked.n or 1)
    return await _respond(answers, running, asked, request)


@router.post("/v1/completions")
async def complete(served: ServedIndex, asked: CompletionRequest, request: Request) -> Any:
    """What follows a text, or each of several, under edits."""
    edits = await asyncio.to_thread(_prepare, served, asked, "completions")
    prompts = await asyncio.to_thread(asked.tokens, served.model)
    answers = TextFormat(served.model, asked.model or served.model_name, asked.logprobs is not None)
    running = Running(served.batcher, prompts, edits, asked.sampling, asked.n or 1)
    return await _respond(answers, running, asked, request)


@router.api_route("/v1/{path:path}", methods=METHODS, include_in_schema=False)
def nothing_here(path: str, request: Request) -> None:
    """What of the protocol is not spoken here."""
    raise HTTPException(404, f"not supported here; there are {', '.join(SPOKEN)}")


def _prepare(served: Served, asked: CompletionSettings, purpose: str) -> list[SiteEdit]:
    """Load the model; returns the edits of the request and of its preset, or raises what is wrong with the request."""
    asked.refuse_unsupported()
    model = served.model
    edits = make_edits([*_preset(served, asked.model), *asked.edits], served.index, confined=True)
    model.require_head(purpose)
    return edits


def _preset(served: Served, asked: str) -> list[Edit]:
    """The edits that a model's name stands for, which may have a # of its own; raises ModelUnknown."""
    if asked in ("", served.model_name):
        return []
    presets = {f"{served.model_name}#{name}": edits for name, edits in load_presets(served.index.folder).items()}
    if asked not in presets:
        raise ModelUnknown(f"there is no model {asked!r} here; there are {', '.join([served.model_name, *presets])}")
    return presets[asked]


def _model_facts(served: Served, name: str) -> dict[str, Any]:
    facts = {"object": "model", "created": served.started, "owned_by": "sonde", "batched": served.shares_batches}
    return {"id": name} | facts


def _model_names(served: Served) -> list[str]:
    name = served.model_name
    return [name, *(f"{name}#{preset}" for preset in load_presets(served.index.folder))]


async def _respond(answers: AnswerFormat, running: Running, asked: CompletionSettings, request: Request) -> Any:
    """All answers in one body, or as a stream of events."""
    if asked.stream:
        events = _stream(answers, running, asked.wants_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    pieces: list[list[Piece]] = [[] for _ in range(running.n)]
    with running:
        async for number, piece in running.pieces(request.is_disconnected):
            if piece.error is not None:
                raise piece.error
            pieces[number].append(piece)
    if running.n_unfinished:  # the client has gone
        return {}
    choices = [answers.choice(number, chosen) for number, chosen in enumerate(pieces)]
    tokens = usage(running.n_prompt, running.n_answer)
    return answers.head | {"object": answers.object, "choices": choices, "usage": tokens}


async def _stream(answers: AnswerFormat, running: Running, wants_usage: bool) -> AsyncIterator[str]:
    """Server-sent events of the answers; a client that is gone ends them."""

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        data = answers.head | {"object": answers.stream_object, "choices": choices} | more
        return f"data: {json.dumps(data)}\n\n"  # in ASCII, as clients split at U+2028 and others too

    with running:
        for number in range(running.n):
            if (opening := answers.opening(number)) is not None:
                yield event([opening])
        async for number, piece in running.pieces():
            if piece.error is not None:
                yield f"data: {json.dumps(error_body(str(piece.error), 'server_error'))}\n\n"
                return
            if piece.text or piece.finish or answers.logprobs:
                yield event([answers.chunk(number, piece)])
        if wants_usage:
            yield event([], usage=usage(running.n_prompt, running.n_answer))
        yield "data: [DONE]\n\n"
