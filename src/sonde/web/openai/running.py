"""The answers that are generated for one request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Self

from sonde.errors import SondeError
from sonde.models.model import SiteEdit, Tokens
from sonde.steering.batching import Batcher
from sonde.steering.request import Piece, Sampling
from sonde.steering.request import Request as BatchRequest

DISCONNECT_EVERY_S = 0.5


class Running:
    """One answer for each choice that was asked for; leaving the `with` cancels what is not finished.

    Args:
        prompts: each a batch of one [1, position]; the choices of the first come first.
        n: choices of each prompt; each has a seed of its own.
    """

    def __init__(
        self, batcher: Batcher, prompts: Sequence[Tokens], edits: Sequence[SiteEdit], sampling: Sampling, n: int
    ) -> None:
        self.n = self.n_unfinished = n * len(prompts)
        self.n_prompt, self.n_answer = sum(prompt.ids.shape[1] for prompt in prompts), 0
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Piece]]()
        self._requests: list[BatchRequest] = []
        try:
            for number in range(self.n):
                seed = None if sampling.seed is None else sampling.seed + number % n
                asked = prompts[number // n], edits, replace(sampling, seed=seed)
                request = batcher.submit(*asked, self._receiver(number))
                self._requests.append(request)
        except SondeError:
            self.cancel()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        for request in self._requests:
            request.cancel()

    async def pieces(
        self, is_disconnected: Callable[[], Awaitable[bool]] | None = None
    ) -> AsyncIterator[tuple[int, Piece]]:
        """(choice, piece), as they are generated; ends early after an error, or when the client has gone."""
        timeout = DISCONNECT_EVERY_S if is_disconnected else None
        while self.n_unfinished:
            try:
                number, piece = await asyncio.wait_for(self._queue.get(), timeout)
            except TimeoutError:
                if is_disconnected and await is_disconnected():
                    return
                continue
            self.n_answer += piece.token is not None
            self.n_unfinished -= piece.finish is not None
            yield number, piece
            if piece.error is not None:
                return

    def _receiver(self, number: int) -> Callable[[Piece], None]:
        """What the model's thread calls with each piece of a choice."""

        def receive(piece: Piece) -> None:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (number, piece))

        return receive
