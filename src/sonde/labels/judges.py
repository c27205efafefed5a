"""Judges: language models behind an OpenAI-compatible or Anthropic endpoint, asked within a budget and never twice.

Answers are cached by question, so a second run costs nothing, and a run that was stopped can be resumed.
"""

import contextlib
import hashlib
import json
import os
import random
import re
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
from sonde.labels.replies import FIRST_WORDS, UNREADABLE, Said, estimated_tokens, objects_in, read_reply, words_of

Answer = TypeVar("Answer")

TRIES = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
TIMEOUT_S = 120.0
ANSWER_TOKENS = 800
"""longest answer, unless the settings say another"""
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
        entry = json.loads(path.read_text(encoding="utf-8-sig"))[model]
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
        answer_tokens: longest answer.

    Raises JudgeError if the provider is unknown, there is no key, or address or key cannot be sent.
    """

    def __init__(
        self,
        name: str,
        cache: Path,
        budget: Budget | None = None,
        base_url: str | None = None,
        answer_tokens: int = ANSWER_TOKENS,
    ) -> None:
        self.provider, colon, self.model = name.partition(":")
        if self.provider not in _PROVIDERS or not colon or not self.model:
            raise JudgeError(f"the judge is {name!r}, but must be openai:MODEL or anthropic:MODEL")
        self.name, self.budget, self.answer_tokens = name, budget or Budget(), answer_tokens
        self.url, headers = _address(self.provider, base_url)
        self._client = httpx2.Client(headers=headers, timeout=TIMEOUT_S)
        self._cache = _Cache(cache)
        self._random = random.Random()
        self._parameters: dict[str, Any] = {"max_tokens": answer_tokens, "temperature": 0}
        """of each question; some models refuse some of them"""
        self.n_asked = self.n_cached = self.n_failed = 0
        self.first_unread = ""
        """the first words of the first answer that could not be read"""
        self._lock = threading.Lock()

    def ask(self, question: str, read: Callable[[Any], Answer]) -> Answer | None:
        """The judge's answer; what cannot be read is asked for once more, and then counts as failed and is None.

        Args:
            read: makes the answer from the parsed JSON; raises ValueError, KeyError or TypeError if its form is wrong.

        Raises:
            BudgetSpent: the question might cost more than is left.
            JudgeError: the endpoint refuses, or cannot be reached.
        """
        said = Said("", (0, 0))
        for again in ("", "\n\nYour last answer could not be read. Answer with the JSON object alone, as asked."):
            key, said = self._reply(question + again)
            for value in objects_in(said.text):
                with contextlib.suppress(*UNREADABLE):
                    answer = read(value)
                    self._cache.put(key, said.text)
                    return answer
        with self._lock:
            self.n_failed += 1
            self.first_unread = self.first_unread or self._describe(said)
        return None

    def close(self) -> None:
        self._client.close()

    def _describe(self, said: Said) -> str:
        """The first words of an answer, and whether it was cut off."""
        words = " ".join(said.text.split())
        shown = repr(words[:FIRST_WORDS]) + ("..." if len(words) > FIRST_WORDS else "") if words else "nothing"
        if not said.cut:
            return shown
        return f"{shown}, cut off at {self.answer_tokens:,} tokens (--answer-tokens allows more)"

    def _reply(self, question: str) -> tuple[str, Said]:
        """The question's key in the cache, and what the judge says, now or before."""
        parts = [self.name, self.url, question]
        parts += [str(self.answer_tokens)] if self.answer_tokens != ANSWER_TOKENS else []
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        with self._lock:
            self.n_asked += 1
        if (known := self._cache.get(key)) is not None:
            with self._lock:
                self.n_cached += 1
            return key, Said(known, (0, 0))
        n_in = estimated_tokens(question)
        self.budget.reserve(n_in, self.answer_tokens)
        used = (0, 0)
        try:
            said = self._post(question)
            used = said.used
        finally:
            self.budget.settle(n_in, self.answer_tokens, *used)
        return key, said

    def _post(self, question: str) -> Said:
        """What the judge says; asks again after errors that may pass."""
        trouble = ""
        for number in range(TRIES):
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number) * self._random.uniform(0.5, 1.0)
            words = ""
            try:
                response = self._send(question)
                words = words_of(response)
                if response.status_code == 200:
                    return read_reply(self.provider, response.json(), question)
                trouble = f"{response.status_code} {words}"
                if response.status_code not in _RETRIED:
                    raise JudgeError(f"{self.url} refuses {self.name}: {trouble}{_hint(response.status_code)}")
                with contextlib.suppress(ValueError):
                    wait = max(wait, min(LONGEST_WAIT_S, float(response.headers.get("retry-after", ""))))
            except httpx2.HTTPError as error:
                trouble = f"{type(error).__name__} {error}"
            except UNREADABLE:
                trouble = f"an answer that does not follow its protocol: {words or 'nothing'}"
            if number + 1 < TRIES:
                time.sleep(wait)
        raise JudgeError(
            f"{self.url} gave no answer in {TRIES} attempts; the last: {trouble.strip()}; the same command resumes"
        )

    def _send(self, question: str) -> httpx2.Response:
        """The response to a question, which is sent again at once without what this model refuses."""
        path = "/messages" if self.provider == "anthropic" else "/chat/completions"
        asked = {"model": self.model, "messages": [{"role": "user", "content": question}]}
        while True:
            with self._lock:
                parameters = dict(self._parameters)
            response = self._client.post(self.url + path, json=asked | parameters)
            if response.status_code not in (400, 422) or not self._adapt(parameters, response.text):
                return response

    def _adapt(self, sent: dict[str, Any], refusal: str) -> bool:
        """Change the parameters of all further questions as a refusal wants; false where it wants something else."""
        with self._lock:
            if "temperature" in sent and "temperature" in refusal:
                self._parameters.pop("temperature", None)
            elif "max_tokens" in sent and _REFUSES_MAX_TOKENS.search(refusal) and self.provider == "openai":
                self._parameters.pop("max_tokens", None)
                self._parameters["max_completion_tokens"] = self.answer_tokens
            else:
                return False
        return True


_REFUSES_MAX_TOKENS = re.compile(r"max_completion_tokens|max_tokens(?!.*(too large|at most|exceed|less than))", re.S)


class CountingJudge(Judge):
    """Asks nothing, and counts what the questions would cost at most."""

    def ask(self, question: str, read: Callable[[Any], Any]) -> None:
        n_in = estimated_tokens(question)
        with self._lock:
            self.n_asked += 1
        self.budget.settle(0, 0, n_in, self.answer_tokens)


def _address(provider: str, base_url: str | None) -> tuple[str, dict[str, str]]:
    """Where a judge is, and the headers with which it is asked; raises JudgeError."""
    key_name, url_name, default_url = _PROVIDERS[provider]
    url = (base_url or os.environ.get(url_name) or default_url).rstrip("/")
    try:
        parsed = httpx2.URL(url)
        valid = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (httpx2.InvalidURL, ValueError):
        valid = False
    if not valid:
        raise JudgeError(f"{url!r} is no address of a judge; write it as http://127.0.0.1:8000/v1")
    key = os.environ.get(key_name, "").strip()
    if not key and url == default_url:
        raise JudgeError(
            f"{key_name} is not set, and {url} needs a key; set it, or name a server of your own with --base-url"
        )
    if not key.isascii() or not key.isprintable():
        raise JudgeError(f"{key_name} has letters that no key has; copy it anew")
    if provider == "anthropic":
        return url, {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return url, {"authorization": f"Bearer {key}"} if key else {}


def _hint(status: int) -> str:
    """What may help after a status."""
    if status == 404:
        return "; look whether the model is there, and whether --base-url is the whole address, such as http://HOST/v1"
    return ""


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
