"""Answers, and errors, in the words of OpenAI's protocol."""

import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from sonde.models.model import Model
from sonde.steering.request import Piece


def error_body(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage(n_prompt: int, n_answer: int) -> dict[str, int]:
    """Tokens of the prompt and of all answers."""
    return {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}


class AnswerFormat(ABC):
    """How one kind of completion writes its answers.

    Args:
        name: of the model, as the request gave it.
        logprobs: whether the logarithm of each token's probability is wanted.
    """

    prefix = stream_object = object = ""

    def __init__(self, model: Model, name: str, logprobs: bool) -> None:
        self.tokenizer, self.logprobs = model.require_tokenizer(), logprobs
        self.head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}

    @abstractmethod
    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        """One finished answer."""

    @abstractmethod
    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        """A piece of a streamed answer."""

    def opening(self, number: int) -> dict[str, Any] | None:
        """The chunk that a streamed answer begins with, if any."""
        return None

    def token(self, token: int) -> str:
        return self.tokenizer.decode([token])


class ChatFormat(AnswerFormat):
    prefix, stream_object, object = "chatcmpl", "chat.completion.chunk", "chat.completion"

    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None}
        logprobs = self._logprobs(pieces)
        return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": pieces[-1].finish}

    def opening(self, number: int) -> dict[str, Any]:
        return {"index": number, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        return {"index": number, "delta": delta, "logprobs": self._logprobs([piece]), "finish_reason": piece.finish}

    def _logprobs(self, pieces: list[Piece]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        content = []
        for piece in pieces:
            if piece.token is not None:
                top = [self._logprob(token, logprob) for token, logprob in piece.top]
                content.append(self._logprob(piece.token, piece.logprob) | {"top_logprobs": top})
        return {"content": content, "refusal": None}

    def _logprob(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.token(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


class TextFormat(AnswerFormat):
    prefix, stream_object, object = "cmpl", "text_completion", "text_completion"

    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        return {"index": number, "text": text, "logprobs": self._logprobs(pieces), "finish_reason": pieces[-1].finish}

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        return {"index": number, "text": piece.text, "logprobs": self._logprobs([piece]), "finish_reason": piece.finish}

    def _logprobs(self, pieces: list[Piece]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        chosen = [(piece.token, piece) for piece in pieces if piece.token is not None]
        tokens = [self.token(token) for token, _ in chosen]
        return {
            "tokens": tokens,
            "token_logprobs": [piece.logprob for _, piece in chosen],
            "top_logprobs": [{self.token(token): logprob for token, logprob in piece.top} for _, piece in chosen],
            "text_offset": [sum(len(text) for text in tokens[:place]) for place in range(len(tokens))],
        }
