"""What is asked of a model, and what comes back piece by piece."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sonde.models.model import Model, SiteEdit, Tokens
from sonde.steering.settings import AnswerSettings


@dataclass(frozen=True)
class Sampling:
    """How an answer's tokens are chosen, and where it ends."""

    max_tokens: int = 60
    temperature: float = 0.0
    """0 takes the likeliest token"""
    top_p: float = 1.0
    """sample from the likeliest tokens that have this share of the probability"""
    seed: int | None = None
    frequency_penalty: float = 0.0
    """taken from a token's logit for each time that the answer has it already"""
    presence_penalty: float = 0.0
    """taken from a token's logit once where the answer has it already"""
    stop: tuple[str, ...] = ()
    """texts that end an answer, and are left out of it"""
    top_logprobs: int = 0
    """number of likeliest tokens to report with each token"""
    strip: bool = False
    """leave out white space at both ends"""

    @classmethod
    def of(cls, settings: AnswerSettings, model: Model, max_tokens: int, *, strip: bool = False) -> "Sampling":
        """The settings, with what they leave open as the model's own generation settings say; else greedy."""
        own: Any = getattr(model.network, "generation_config", None)
        samples = bool(getattr(own, "do_sample", False))
        temperature, top_p = (getattr(own, name, None) if samples else None for name in ("temperature", "top_p"))
        usual = (1.0 if temperature is None else float(temperature)) if samples else 0.0
        return cls(
            max_tokens=max_tokens,
            temperature=usual if settings.temperature is None else settings.temperature,
            top_p=(1.0 if top_p is None else float(top_p)) if settings.top_p is None else settings.top_p,
            seed=settings.seed,
            frequency_penalty=settings.frequency_penalty,
            presence_penalty=settings.presence_penalty,
            strip=strip,
        )


@dataclass(frozen=True)
class Piece:
    """A token of an answer, or its end."""

    text: str
    """new text; may be empty while a letter is incomplete, or while it may yet turn out to be a stop"""
    token: int | None = None
    logprob: float = 0.0
    """of the model's own distribution, before penalties, temperature and top_p"""
    top: tuple[tuple[int, float], ...] = ()
    """(token, logprob) of the likeliest"""
    finish: str | None = None
    """stop or length, at the end"""
    error: Exception | None = None


@dataclass(eq=False)
class Request:
    """One answer that is asked for."""

    tokens: Tokens
    """the prompt [1, position]"""
    edits: Sequence[SiteEdit]
    sampling: Sampling
    emit: Callable[[Piece], None]
    """called on the model's thread with each piece; the last has `finish` or `error`"""
    cancelled: threading.Event = field(default_factory=threading.Event)

    def send(self, piece: Piece) -> None:
        """Pass a piece to the listener; cancels the request where the listener fails."""
        try:
            self.emit(piece)
        except Exception:
            self.cancel()

    def cancel(self) -> None:
        """End the answer before its next token."""
        self.cancelled.set()
