"""Answers, and errors, in the words of OpenAI's protocol."""

import codecs
import time
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Any

from sonde.models.model import Model
from sonde.models.token_text import TokenTexts
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
        self.texts, self.logprobs = TokenTexts(model.require_tokenizer()), logprobs
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
        return {"token": self.texts.name(token), "logprob": logprob, "bytes": list(self.texts.bytes(token))}


class TextFormat(AnswerFormat):
    prefix, stream_object, object = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: Model, name: str, logprobs: bool) -> None:
        super().__init__(model, name, logprobs)
        self._letters: defaultdict[int, _Letters] = defaultdict(_Letters)
        """choice -> how far its text is, as offsets go on from chunk to chunk"""

    def choice(self, number: int, pieces: list[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        logprobs = self._logprobs(number, pieces)
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": pieces[-1].finish}

    def chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        logprobs = self._logprobs(number, [piece])
        return {"index": number, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish}

    def _logprobs(self, number: int, pieces: list[Piece]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        chosen = [(piece.token, piece) for piece in pieces if piece.token is not None]
        return {
            "tokens": [self._name(token) for token, _ in chosen],
            "token_logprobs": [piece.logprob for _, piece in chosen],
            "top_logprobs": [self._top(token, piece) for token, piece in chosen],
            "text_offset": [self._letters[number].add(self.texts.bytes(token)) for token, _ in chosen],
        }

    def _name(self, token: int) -> str:
        """A token's text; where it is part of a letter its bytes, as the protocol writes them here."""
        name = self.texts.name(token)
        return f"bytes:{name}" if name != self.texts.text(token) else name

    def _top(self, chosen: int, piece: Piece) -> dict[str, float]:
        """Name of each of the likeliest tokens and of the chosen one -> logprob.

        Of tokens with equal text the chosen one, or else the likeliest, has it for its name; others are token_id:N.
        """
        top: dict[str, float] = {}
        names = {self._name(chosen): chosen}
        for token, logprob in piece.top:
            name = self._name(token)
            top[name if names.setdefault(name, token) == token else f"token_id:{token}"] = logprob
        return {self._name(chosen): piece.logprob} | top


class _Letters:
    """Counts the letters of a text that comes in bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._n = 0

    def add(self, new: bytes) -> int:
        """The number of letters before these bytes."""
        before = self._n
        self._n += len(self._decoder.decode(new))
        return before
