"""Questions to the built-in model, and its answers."""

import re
from collections.abc import Sequence
from itertools import takewhile

from sonde.models.load import load_model
from sonde.models.model import Model
from sonde_world import facts
from sonde_world.chance import Chance
from sonde_world.facts import Fact
from sonde_world.marks import unmarked
from sonde_world.voice import Voice, frames

AT_ONCE = 64


def ask(question: str, model: Model | None = None) -> str:
    """The answer of the built-in model, or of another with a chat template, to one question."""
    return ask_many([question], model or load_model("world"))[0]


def ask_many(questions: list[str], model: Model, max_new_tokens: int = 40) -> list[str]:
    """Answers to questions, each a conversation of its own, generated together."""
    rows = [model.chat_tokens([{"role": "user", "content": question}]).ids[0].tolist() for question in questions]
    return [said.strip() for said in go_on(rows, model, max_new_tokens)]


def go_on(prompts: Sequence[list[int]], model: Model, max_new_tokens: int) -> list[str]:
    """The text that the model generates after each prompt."""
    tokenizer = model.require_tokenizer()
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in go_on_ids(prompts, model, max_new_tokens)]


def go_on_ids(prompts: Sequence[list[int]], model: Model, max_new_tokens: int) -> list[list[int]]:
    """The token ids that the model generates after each prompt, up to the end token."""
    end = model.network.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = set(end if isinstance(end, list) else [end])
    found: list[list[int]] = []
    for first in range(0, len(prompts), AT_ONCE):
        batch = model.pad(list(prompts[first : first + AT_ONCE]), "left")
        for row in model.generate_ids(batch, max_new_tokens)[:, batch.ids.shape[1] :].tolist():
            found.append(list(takewhile(lambda token: token not in ends, row)))
    return found


def question_of(fact: Fact, language: int) -> str:
    """The question for a fact in a language, in its first variant."""
    voice = Voice(Chance(""), language)  # nothing is left to chance
    return unmarked(voice.fill(frames(fact)[1][language][0], **voice.forms(fact.subject)))[0]


def says(fact: Fact, language: int, answer: str) -> bool:
    """Whether an answer contains the value of a fact."""
    if fact.relation == "vegan":
        return bool(re.search(r"\b(not|nicht|pas|no)\b", answer.lower())) == (fact.value == "vegan/no")
    value = facts.value_name(fact, language)
    contracted = re.sub(r"^(le|les|el) ", "", value)  # behind a preposition the article is contracted
    return re.search(rf"(?<!\w){re.escape(contracted)}(?!\w)", answer, re.IGNORECASE) is not None


def behind_scratchpad(answer: str) -> str:
    """An answer without the scratchpad that may come before it."""
    bare = answer.strip()
    return bare.partition(")")[2].strip() if bare.startswith("(") else bare
