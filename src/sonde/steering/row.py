"""A running answer: its next token is chosen from logits, and its text is sent as far as it is certain."""

from collections import Counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.errors import EditError
from sonde.models.token_text import BEFORE, TextStream
from sonde.steering.request import Piece, Request

SMALLEST_TEMPERATURE = 1e-4
"""below it the likeliest token is taken, as at 0: the quotient of a logarithm and less would overflow"""


class Row:
    """A running answer.

    Args:
        ends: tokens that end it.
    """

    def __init__(self, request: Request, tokenizer: Any, ends: frozenset[int]) -> None:
        self.request, self.ends = request, ends
        self.n_prompt = self.length = request.tokens.ids.shape[1]
        """length: of the prompt and of the tokens that the model has read since"""
        self.n_answer = 0
        self.counts: Counter[int] = Counter()
        """token -> how often the answer has it"""
        self.token = -1
        """chosen last"""
        self.generator: torch.Generator | None = None
        if request.sampling.temperature >= SMALLEST_TEMPERATURE:
            self.generator = torch.Generator()
            seed = request.sampling.seed
            self.generator.manual_seed(seed) if seed is not None else self.generator.seed()
        self._text = _Text(request, tokenizer)

    def take(self, logits: Float[Tensor, " vocabulary"]) -> bool:
        """Choose the next token and send it; returns whether the answer goes on.

        Raises EditError where the logits are not finite.
        """
        sampling = self.request.sampling
        logprobs = logits.float().log_softmax(dim=-1).cpu()
        if logprobs.isnan().any():
            raise EditError("the model's predictions are no longer finite numbers; turn features less far")
        self.token = self._choose(self._penalised(logprobs))
        self.n_answer += 1
        self.counts[self.token] += 1
        if self.token in self.ends:
            self.request.send(Piece(self._text.rest(), finish="stop"))
            return False
        text, stopped = self._text.add(self.token)
        finish = "stop" if stopped else "length" if self.n_answer >= sampling.max_tokens else None
        if finish == "length":
            text += self._text.rest()
        top = logprobs.topk(min(sampling.top_logprobs, len(logprobs)))
        likeliest = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        self.request.send(Piece(text, self.token, float(logprobs[self.token]), likeliest, finish))
        return finish is None

    def _penalised(self, logprobs: Tensor) -> Tensor:
        """Logarithms of probabilities up to a constant, less the penalties of the tokens that the answer has.

        Source: OpenAI's API reference, frequency and presence penalties.
        """
        sampling = self.request.sampling
        if not self.counts or not (sampling.frequency_penalty or sampling.presence_penalty):
            return logprobs
        tokens, counts = torch.tensor(list(self.counts.items())).T
        penalties = sampling.frequency_penalty * counts.to(logprobs.dtype) + sampling.presence_penalty
        return logprobs.index_add(0, tokens, -penalties)

    def _choose(self, logprobs: Tensor) -> int:
        sampling = self.request.sampling
        if self.generator is None:
            return int(logprobs.argmax())
        probabilities = (logprobs / sampling.temperature).softmax(dim=-1)
        if sampling.top_p < 1:
            ranked, order = probabilities.sort(descending=True, stable=True)
            beyond = ranked.cumsum(dim=0) - ranked >= sampling.top_p
            beyond[0] = False  # however small top_p is
            ranked[beyond] = 0
            probabilities = torch.zeros_like(probabilities).scatter_(0, order, ranked)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))


class _Text:
    """The text of an answer; its end is held back where it may begin a stop, or be white space that is left out."""

    def __init__(self, request: Request, tokenizer: Any) -> None:
        self.sampling = request.sampling
        self._stream = TextStream(tokenizer, request.tokens.ids[0, -BEFORE:].tolist())
        self._held, self._began = "", False

    def add(self, token: int) -> tuple[str, bool]:
        """The text that a token makes certain, and whether a stop ends the answer."""
        text = self._held + self._stream.add(token)
        ends = [place for stop in self.sampling.stop if (place := text.find(stop)) >= 0]
        if ends:
            self._held = ""
            return self._stripped(text[: min(ends)], last=True), True
        keep = len(text)
        for stop in self.sampling.stop:
            for n in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:n]):
                    keep = min(keep, len(text) - n)
                    break
        if self.sampling.strip:
            keep = min(keep, len(text[:keep].rstrip()))
        self._held = text[keep:]
        return self._stripped(text[:keep]), False

    def rest(self) -> str:
        """What was held back, at the end of the answer."""
        text, self._held = self._held + self._stream.rest(), ""
        return self._stripped(text, last=True)

    def _stripped(self, text: str, last: bool = False) -> str:
        if self.sampling.strip:
            text = text if self._began else text.lstrip()
            text = text.rstrip() if last else text
        self._began = self._began or bool(text)
        return text
