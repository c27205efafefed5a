"""Judges: language models behind an OpenAI-compatible or Anthropic endpoint, asked within a budget and never twice.

Answers are cached by question, so a second run costs nothing, and a run that was stopped can be resumed.
"""

import contextlib
import hashlib
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from sonde.errors import JudgeError, SettingsError
from sonde.features.labels import create_database

Answer = TypeVar("Answer")

TRIES = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
TIMEOUT_S = 120.0
MOST_ANSWER_TOKENS = 800
LETTERS_PER_TOKEN = 3.0
"""fewer than in any usual text, so that the estimated cost of a question is rather too high"""
_PROVIDERS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1"),
}
_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""status codes after which the question is asked again"""


class BudgetSpent(Exception):
    """The next question might cost more than is left."""


@dataclass
class Budget:
    """What may be spent, and what has been spent; threads may share it.

    Args:
        usd, tokens: the most to spend, or None.
        price: US dollars for a million tokens of questions, and of answers.
    """

    usd: float | None = None
    tokens: int | None = None
    price: tuple[float, float] | None = None
    spent_usd: float = 0.0
    spent_tokens: int = 0
    _reserved: tuple[float, int] = (0.0, 0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cost(self, n_in: int, n_out: int) -> float:
        return (n_in * self.price[0] + n_out * self.price[1]) / 1e6 if self.price else 0.0

    def reserve(self, n_in: int, n_out: int) -> None:
        """Set aside what a question may cost at most; raises BudgetSpent if that is more than is left."""
        with self._lock:
            usd, tokens = self._reserved[0] + self.cost(n_in, n_out), self._reserved[1] + n_in + n_out
            if (self.usd is not None and self.spent_usd + usd > self.usd) or (
                self.tokens is not None and self.spent_tokens + tokens > self.tokens
            ):
                raise BudgetSpent
            self._reserved = usd, tokens

    def settle(self, n_in: int, n_out: int, used_in: int, used_out: int) -> None:
        """Release what was reserved, and count what was used."""
        with self._lock:
            self._reserved = self._reserved[0] - self.cost(n_in, n_out), self._reserved[1] - n_in - n_out
            self.spent_usd += self.cost(used_in, used_out)
            self.spent_tokens += used_in + used_out


def read_prices(path: Path, model: str) -> tuple[float, float]:
    """US dollars a million tokens of questions and of answers, from a JSON file {model: {"input": 2.5, "output": 10}}.

    Raises SettingsError if the file has no price for the model.
    """
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))[model]
        return float(entry["input"]), float(entry["output"])
    except OSError as error:
        raise SettingsError(f"--prices {path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f'{path} has no price for {model}; write {{"{model}": {{"input": USD a million tokens, '
            '"output": USD a million tokens}}'
        ) from error


class Judge:
    """One model behind an endpoint.

    Args:
        name: provider:model; the provider is openai (any server that speaks its protocol: see `base_url`) or anthropic.
        base_url: of the endpoint; by default OPENAI_BASE_URL or ANTHROPIC_BASE_URL, or the provider's own.
        cache: a SQLite file of answers.
        budget: what may be spent.

    Raises JudgeError if the provider is unknown or there is no key.
    """

    def __init__(self, name: str, cache: Path, budget: Budget | None = None, base_url: str | None = None) -> None:
        self.provider, colon, self.model = name.partition(":")
        if self.provider not in _PROVIDERS or not colon or not self.model:
            raise JudgeError(f"the judge is {name!r}, but must be openai:MODEL or anthropic:MODEL")
        key_name, url_name, default_url = _PROVIDERS[self.provider]
        self.name, self.budget = name, budget or Budget()
        self.url = (base_url or os.environ.get(url_name) or default_url).rstrip("/")
        key = os.environ.get(key_name, "")
        if not key and self.url == default_url:
            raise JudgeError(
                f"{key_name} is not set, and {self.url} needs a key; set it, or name a server of your own with "
                "--base-url"
            )
        headers = {"authorization": f"Bearer {key}"} if self.provider == "openai" and key else {}
        if self.provider == "anthropic":
            headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        self._client = httpx2.Client(headers=headers, timeout=TIMEOUT_S)
        self._cache = _Cache(cache)
        self._random = random.Random()
        self.n_asked = self.n_cached = self.n_failed = 0
        self._lock = threading.Lock()

    def ask(self, question: str, read: Callable[[Any], Answer]) -> Answer | None:
        """The judge's answer; what cannot be read is asked for once more, and then counts as failed and is None.

        Args:
            read: makes the answer from the parsed JSON; raises ValueError, KeyError or TypeError if its form is wrong.

        Raises:
            BudgetSpent: the question might cost more than is left.
            JudgeError: the endpoint refuses, or cannot be reached.
        """
        for again in ("", "\n\nYour last answer could not be read. Answer with the JSON object alone, as asked."):
            try:
                return read(_json_in(self._reply(question + again)))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                continue
        with self._lock:
            self.n_failed += 1
        return None

    def close(self) -> None:
        self._client.close()

    def _reply(self, question: str) -> str:
        key = hashlib.sha256(json.dumps([self.name, self.url, question]).encode()).hexdigest()
        with self._lock:
            self.n_asked += 1
        if (known := self._cache.get(key)) is not None:
            with self._lock:
                self.n_cached += 1
            return known
        n_in = _estimated_tokens(question)
        self.budget.reserve(n_in, MOST_ANSWER_TOKENS)
        used = (0, 0)
        try:
            text, used = self._post(question)
        finally:
            self.budget.settle(n_in, MOST_ANSWER_TOKENS, *used)
        self._cache.put(key, text)
        return text

    def _post(self, question: str) -> tuple[str, tuple[int, int]]:
        """The reply's text, and the tokens of question and answer; asks again after errors that may pass."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": MOST_ANSWER_TOKENS,
        }
        path = "/messages" if self.provider == "anthropic" else "/chat/completions"
        trouble = ""
        for number in range(TRIES):
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number) * self._random.uniform(0.5, 1.0)
            try:
                response = self._client.post(self.url + path, json=body | {"temperature": 0})
                if response.status_code == 200:
                    return _reply_of(self.provider, response.json(), question)
                trouble = f"{response.status_code} {' '.join(response.text.split())[:200]}"
                if response.status_code not in _RETRIED:
                    raise JudgeError(f"{self.url} refuses {self.name}: {trouble}")
                with contextlib.suppress(ValueError):
                    wait = max(wait, min(LONGEST_WAIT_S, float(response.headers.get("retry-after", ""))))
            except httpx2.HTTPError as error:
                trouble = f"{type(error).__name__} {error}"
            except (ValueError, KeyError, TypeError, IndexError) as error:
                trouble = f"an answer that does not follow its protocol ({type(error).__name__} {error})"
            if number + 1 < TRIES:
                time.sleep(wait)
        raise JudgeError(
            f"{self.url} gave no answer in {TRIES} attempts; the last: {trouble.strip()}; the same command resumes"
        )


class CountingJudge(Judge):
    """Asks nothing, and counts what the questions would cost at most."""

    def ask(self, question: str, read: Callable[[Any], Any]) -> None:
        n_in = _estimated_tokens(question)
        with self._lock:
            self.n_asked += 1
        self.budget.settle(0, 0, n_in, MOST_ANSWER_TOKENS)


def _estimated_tokens(text: str) -> int:
    return int(len(text) / LETTERS_PER_TOKEN) + 1


def _reply_of(provider: str, reply: Any, question: str) -> tuple[str, tuple[int, int]]:
    if provider == "anthropic":
        text = "".join(part["text"] for part in reply["content"] if part["type"] == "text")
        names = ("input_tokens", "output_tokens")
    else:
        text = reply["choices"][0]["message"]["content"] or ""
        names = ("prompt_tokens", "completion_tokens")
    usage = reply.get("usage") or {}
    estimates = (_estimated_tokens(question), _estimated_tokens(text))
    used = tuple(int(usage.get(name, estimate)) for name, estimate in zip(names, estimates, strict=True))
    return text, (used[0], used[1])


def _json_in(text: str) -> Any:
    """The first JSON object in a text; raises ValueError if there is none."""
    return json.JSONDecoder().raw_decode(text, text.index("{"))[0]


class _Cache:
    """Answers by question, in SQLite."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        create_database(path, "CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def get(self, key: str) -> str | None:
        with self._open() as database:
            row = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, key: str, answer: str) -> None:
        with self._lock, self._open() as database:
            database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))

    @contextlib.contextmanager
    def _open(self):
        database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            yield database
        finally:
            database.close()
