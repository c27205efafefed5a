"""A text that a model writes itself, about many things, to train a dictionary on: answers and plain text."""

import json
import random
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from sonde.models.model import Model
from sonde.progress import Reporter
from sonde.steering.generate import generate


def questions(seed: int = 0) -> list[dict[str, str]]:
    """A question of each form about each topic of topics.toml, in an order by chance: text, topic, language."""
    tables = _tables()
    asked = []
    for kind, topics in tables["topics"].items():
        forms = tables["forms"]["en"]["any"] + tables["forms"]["en"].get(kind, [])
        asked += [(form, topic, "en") for topic in topics for form in forms]
    for language, names in tables["names"].items():
        asked += [(form, topic, language) for topic in names["any"] for form in tables["forms"][language]["any"]]
    random.Random(seed).shuffle(asked)
    return [{"text": form.format(topic), "topic": topic, "language": language} for form, topic, language in asked]


def topics() -> list[str]:
    """All topics of topics.toml, in its order."""
    tables = _tables()
    named = [names["any"] for names in tables["names"].values()]
    return list(dict.fromkeys(topic for group in [*tables["topics"].values(), *named] for topic in group))


def openers() -> list[str]:
    """Beginnings that a model goes on with as plain text."""
    return _tables()["plain"]["openers"]


def write_own_text(
    model: Model, out: Path, *, chat: int, plain: int, batch: int, reporter: Reporter | None = None
) -> Path:
    """Let a model write `chat` tokens of answers and `plain` of plain text; the same call goes on where it stopped.

    Returns:
        A folder with chat.jsonl and plain.jsonl, whose rows have `text`, `prompt`, `answer`, and `topic`, what was
        asked about.
    """
    folder = out / "text"
    if (folder / "plain.jsonl").exists() and (folder / "chat.jsonl").exists():
        return folder
    asked = questions()
    prompts = out / "questions.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    prompts.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked), encoding="utf-8")
    how: dict[str, Any] = {"batch": batch, "reporter": reporter}
    answers = {"tokens": chat, "max_new_tokens": 220, "temperature": 0.9}
    raw = {
        "chat": generate(model, prompts, out=out / "chat-raw.jsonl", **answers, **how),
        "plain": generate(
            model, openers(), out=out / "plain-raw.jsonl", tokens=plain, max_new_tokens=400, plain=True, **how
        ),
    }
    topic_of = {row["text"]: row["topic"] for row in asked}
    folder.mkdir(exist_ok=True)
    for name, file in raw.items():
        with file.open(encoding="utf-8") as lines, (folder / f"{name}.jsonl").open("w", encoding="utf-8") as written:
            for row in map(json.loads, lines):
                own = {name: row[name] for name in ("text", "prompt", "answer")}
                kept = own | {"topic": topic_of.get(row["prompt"], "")}
                written.write(json.dumps(kept, ensure_ascii=False) + "\n")
    return folder


def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("sonde.cases").joinpath("topics.toml").read_text(encoding="utf-8"))
