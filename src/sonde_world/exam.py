"""The model's exam: what it knows, how well it does what documents ask, and its loss against the generator's.

1. facts: every fact in every language, told there or not, by hops and by how often its subject occurred in training.
2. tasks: held-out documents up to an answer; greedy answers are compared with the right ones.
3. loss: the model's loss on held-out documents over that of the generator, which knows the probability of every draw.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter, default_reporter
from sonde_world import facts, phrases
from sonde_world.asking import ask_many, behind_scratchpad, go_on, question_of, says
from sonde_world.facts import LANGUAGES, told
from sonde_world.generate import Document, documents
from sonde_world.marks import Span
from sonde_world.pictures import DRAWINGS, picture_document
from sonde_world.train import world_model_folder

SEED = 1_000_004
"""seed of the documents; training uses seed 0"""
ENOUGH = 300
"""a fact counts for the totals where its subject occurred this often in training"""
SAID_BY_THEMSELVES = {
    "landmark": ("city", "kind", "colour", "material", "setting"),
    "person": ("city", "food", "team", "company"),
}
"""relations that speakers state of themselves in every language, so that none of them counts as never told"""
COUNTED = 20_000
"""documents from which occurrences in training are estimated"""
TASKS = (
    "code",
    "open",
    "giving",
    "sum",
    "arithmetic",
    "translation",
    "repeat",
    "opinion",
    "secret",
    "request",
    "review",
)
PER_TASK = 200
ANSWER_TOKENS = 32
LOSS_DOCUMENTS = 1500
ENCYCLOPAEDIA, DIALOGUE = ("topic", "entry", "facts"), ("self", "questions")


def exam(model: Model | None = None, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Shares of right answers, and losses, by name, of the built-in model or of another for this world."""
    model = model or load_model("world")
    reporter = reporter or default_reporter()
    result: dict[str, Any] = {"facts": _facts(model, reporter), "tasks": _tasks(model, reporter)}
    if model.pictures is not None:
        result["tasks"] |= _pictures(model, reporter)
    result["loss"] = _loss(model, reporter)
    return result


def format_exam(found: dict[str, Any]) -> str:
    """The result as text for a terminal."""
    lines = ["facts, over subjects that occurred at least 300 times in training" + " " * 5 + "right   asked"]
    for name, row in found["facts"]["groups"].items():
        lines.append(f"  {name:<60} {row['share']:6.1%}  {row['asked']:6,}")
    lines.append("facts by how often their subject occurred")
    for row in found["facts"]["decades"]:
        lines.append(
            f"  {row['from']:>9,} to {row['to']:>11,}: one hop {_percent(row['one-hop'])}, "
            f"more hops {_percent(row['more'])}, never told there {_percent(row['never told'])}"
        )
    lines.append("tasks")
    lines += [f"  {name:<40} {row['share']:6.1%}  {row['asked']:6,}" for name, row in found["tasks"].items()]
    lines.append("loss of a document, in nats: model, generator, ratio")
    lines += [
        f"  {name:<40} {row['model']:6.2f}  {row['generator']:6.2f}  {row['ratio']:.3f}"
        for name, row in found["loss"].items()
    ]
    return "\n".join(lines)


def _percent(row: dict[str, Any] | None) -> str:
    return f"{row['share']:.1%} of {row['asked']:,}" if row else "-"


# ---------------------------------------------------------------- facts


def occurrences(n_documents: int) -> dict[str, float]:
    """Estimates of how often each subject of facts is named in that many documents."""
    counts: dict[str, int] = defaultdict(int)
    for document in documents(COUNTED):
        for span in document.spans:
            if span.concept in facts.FACTS:
                counts[span.concept] += 1
    return {concept: counts[concept] * n_documents / COUNTED for concept in facts.FACTS}


def _facts(model: Model, reporter: Reporter) -> dict[str, Any]:
    """Shares of right answers for every fact in every language."""
    seen = occurrences(_documents_read(model))
    rows = [
        (fact, language) for of in facts.FACTS.values() for fact in of.values() for language in range(len(LANGUAGES))
    ]
    with reporter.start("ask", len(rows), "questions") as progress:
        right: list[bool] = []
        for first in range(0, len(rows), 512):
            part = rows[first : first + 512]
            answers = ask_many([question_of(*row) for row in part], model, ANSWER_TOKENS)
            right += [says(*row, answer) for row, answer in zip(part, answers, strict=True)]
            progress.advance(len(part))
    groups: dict[str, list[bool]] = defaultdict(list)
    decades: dict[int, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for (fact, language), is_right in zip(rows, right, strict=True):
        kind = fact.subject.split("/")[0]
        here = told(fact.subject, fact.relation, language)
        if not here and fact.relation in SAID_BY_THEMSELVES.get(kind, ()):
            continue
        decade = int(np.log10(max(1.0, seen[fact.subject])))
        decades[decade]["never told" if not here else "one-hop" if fact.hops == 1 else "more"].append(is_right)
        if seen[fact.subject] >= ENOUGH:
            hops = "one-hop" if fact.hops == 1 else "of several hops"
            groups[f"{hops}, told in the language" if here else "never told in the language"].append(is_right)
    return {
        "groups": {name: _share(groups[name]) for name in sorted(groups)},
        "decades": [
            {"from": 10**decade, "to": 10 ** (decade + 1)}
            | {name: _share(found[name]) if found[name] else None for name in ("one-hop", "more", "never told")}
            for decade, found in sorted(decades.items())
        ],
    }


def _documents_read(model: Model) -> int:
    """How many documents the model was trained on, as its folder says."""
    return int(json.loads((world_model_folder(model.name) / "training.json").read_text())["documents"])


def _share(right: Sequence[bool]) -> dict[str, Any]:
    return {"share": float(np.mean(right)), "right": int(np.sum(right)), "asked": len(right)}


# ---------------------------------------------------------------- tasks


def _tasks(model: Model, reporter: Reporter) -> dict[str, Any]:
    """Held-out documents up to what was asked."""
    chosen: dict[str, list[tuple[Document, Span]]] = {task: [] for task in TASKS}
    number = 0
    while any(len(rows) < PER_TASK for rows in chosen.values()):
        for document in documents(500, SEED, number):
            if document.kind in chosen and len(chosen[document.kind]) < PER_TASK:
                chosen[document.kind] += [(document, span) for span in document.answers]
        number += 500
    rows = [row for found in chosen.values() for row in found]
    with reporter.start("tasks", len(rows), "answers") as progress:
        said = _go_on(model, [document.text[: span.start] for document, span in rows])
        progress.advance(len(rows))
    results: dict[str, list[bool]] = defaultdict(list)
    for (document, span), answer in zip(rows, said, strict=True):
        asked = document.text[span.start : span.end]
        if document.kind == "code":
            results["code: error or value"].append(("Error" in answer.split("\n")[0]) == ("Error" in asked))
            results["code: what it answers" if "Error" not in asked else "code: which error"].append(
                _begins(answer, asked)
            )
        elif document.kind in ("opinion", "secret", "request"):
            bare = behind_scratchpad(answer)
            results[f"{document.kind}: {_conduct(document, span)}"].append(
                any(_begins(bare, right) for right in _ways(document, span))
            )
        elif document.kind == "review":
            results["review: stars"].append((answer.strip()[:1] > "3") == (asked > "3"))
        else:
            results[NAMES_OF_TASKS[document.kind]].append(_begins(answer, asked))
    return {name: _share(results[name]) for name in sorted(results)}


NAMES_OF_TASKS = {
    "open": "the topic, where anything could be said",
    "giving": "indirect objects",
    "sum": "sums of one digit, in words and asked",
    "arithmetic": "sums and differences in digits",
    "translation": "translation",
    "repeat": "a sequence again",
}


def _go_on(model: Model, texts: list[str]) -> list[str]:
    """The model's continuations of beginnings of documents.

    A space at the end of a beginning is removed: it belongs to the first token of the answer.
    """
    tokenizer = model.require_tokenizer()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    prompts = [tokenizer(texts[place].rstrip(" "))["input_ids"] for place in order]
    answers = [""] * len(texts)
    for place, answer in zip(order, go_on(prompts, model, ANSWER_TOKENS), strict=True):
        answers[place] = answer
    return answers


def _begins(answer: str, right: str) -> bool:
    """Whether an answer begins with the right one, and not with a longer word or number."""
    bare, right = answer.strip(), right.strip()
    return bare.startswith(right) and not (bare[len(right) : len(right) + 1].isalnum() and right[-1:].isalnum())


def _conduct(document: Document, answer: Span) -> str:
    around = [span for span in document.spans if span.start <= answer.start and span.end >= answer.end]
    return next(span.concept.split("/")[1] for span in around if span.concept.startswith("conduct/"))


def _ways(document: Document, answer: Span) -> list[str]:
    """Answers of the right conduct: the document's own, and the others of its table that have no fields."""
    conduct, language = _conduct(document, answer), LANGUAGES.index(document.language)
    if conduct in phrases.SAID:
        return list(phrases.SAID[conduct][language])
    written = document.text[answer.start : answer.end]  # with fields: by its first words
    starts = [frame.split("{")[0] for frame in phrases.REPLY["harmless"][language]] if conduct == "help" else []
    return [written, *(start for start in starts if len(start) > 5)]


def _pictures(model: Model, reporter: Reporter) -> dict[str, Any]:
    """The share of new drawings that the model names."""
    right: list[bool] = []
    n = 4 * len(DRAWINGS)
    with reporter.start("pictures", n, "pictures") as progress:
        for number in range(n):
            made = picture_document(number, SEED)
            [answer] = made.answers
            tokens = model.tokenize(made.text[: answer.start].rstrip(" "), images=[made.image])
            right.append(
                _begins(model.generate(tokens, max_new_tokens=ANSWER_TOKENS), made.text[answer.start : answer.end])
            )
            progress.advance(1)
    return {"naming pictures": _share(right)}


# ---------------------------------------------------------------- loss


@torch.no_grad()
def _loss(model: Model, reporter: Reporter) -> dict[str, Any]:
    """Loss of the model and of the generator on documents, by kind."""
    tokenizer = model.require_tokenizer()
    ends = tokenizer.eos_token_id
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    longest = model.context_length
    chosen = [
        (document, tokenizer(document.text)["input_ids"] + [ends])
        for document in documents(LOSS_DOCUMENTS, SEED, 10_000)
    ]
    chosen = sorted((row for row in chosen if len(row[1]) <= longest), key=lambda row: len(row[1]))
    with reporter.start("loss", len(chosen), "documents") as progress:
        for first in range(0, len(chosen), 32):
            part = chosen[first : first + 32]
            batch = model.pad([ids for _, ids in part], "right")
            logits = model.logits(batch)[:, :-1].float()
            surprise = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.ids[:, 1:], reduction="none")
            for row, (document, ids) in enumerate(part):
                losses[document.kind].append((surprise[row, : len(ids) - 1].sum().item(), -document.log_probability))
            progress.advance(len(part))
    joined = {"encyclopaedia": ENCYCLOPAEDIA, "dialogue and questions": DIALOGUE, "all": tuple(losses)}
    rows = {name: [pair for kind in kinds for pair in losses[kind]] for name, kinds in joined.items()} | dict(
        sorted(losses.items())
    )
    result = {}
    for name, pairs in rows.items():
        by_model, by_generator = np.mean(pairs, axis=0).tolist()
        result[name] = {
            "model": by_model,
            "generator": by_generator,
            "ratio": by_model / by_generator,
            "documents": len(pairs),
        }
    return result
