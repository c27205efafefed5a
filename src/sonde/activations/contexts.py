"""From documents to contexts: token ids that fit the model, cut from a document, each with its own special tokens."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sonde.errors import ModelLacksError
from sonde.models.model import Model, Tokens

TOKENIZE_AT_ONCE = 256


@dataclass(frozen=True)
class Context:
    """A stretch of one document that goes through the model at once."""

    document: int
    start: int
    """position of its first token in the document, special tokens not counted"""
    ids: list[int]
    """with special tokens"""
    n_before: int
    """special tokens before the text"""
    n_text: int


@dataclass(frozen=True)
class Tokenized:
    """One document and its tokens."""

    number: int
    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    """where each token stands in the text: first letter, and the one after the last"""


class Cutter:
    """Cuts documents into contexts of a model.

    Args:
        length: longest context in tokens, special tokens included; None for the model's own, at most 512.
    """

    def __init__(self, model: Model, length: int | None = None) -> None:
        self.tokenizer = model.need_tokenizer()
        if not self.tokenizer.is_fast:  # a slow one cannot say where in the text a token stands
            raise ModelLacksError(f"{model.name} has no fast tokenizer (tokenizer.json), which reading text needs")
        self.length = min(length or 512, model.context_length)
        self.before, self.after = _special_tokens(self.tokenizer)
        self.room = self.length - len(self.before) - len(self.after)
        assert self.room > 0, "a context must have room for text"

    def tokenize(self, texts: Iterable[str]) -> Iterator["Tokenized"]:
        """Tokenize whole documents, without special tokens, many at once; they are numbered from zero."""
        numbered = enumerate(texts)
        while some := list(itertools.islice(numbered, TOKENIZE_AT_ONCE)):
            encoded = self.tokenizer(
                [text for _, text in some], add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            for (number, text), ids, spans in zip(some, encoded["input_ids"], encoded["offset_mapping"], strict=True):
                yield Tokenized(number, text, ids, spans)

    def cut(self, document: int, ids: list[int]) -> list[Context]:
        """Cut one document's ids into contexts."""
        contexts = []
        for start in range(0, len(ids), self.room):
            piece = ids[start : start + self.room]
            contexts.append(Context(document, start, [*self.before, *piece, *self.after], len(self.before), len(piece)))
        return contexts


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def batches(contexts: list[Context], max_tokens: int) -> list[list[Context]]:
    """Group contexts of like length, so that little is padded; a pure function of the contexts."""
    ordered = sorted(contexts, key=lambda context: (len(context.ids), context.document, context.start))
    groups: list[list[Context]] = []
    for context in ordered:
        if groups and len(context.ids) * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(context)
        else:
            groups.append([context])
    return groups


@dataclass(frozen=True)
class Batch:
    """Contexts as tensors, and where their text is."""

    tokens: Tokens
    text_mask: Tensor
    """[batch, position]: true at tokens of the text, false at special tokens and padding"""
    token: np.ndarray
    """[row] token ids of the text, in the order of `text_mask`"""
    document: np.ndarray
    position: np.ndarray


def make_batch(model: Model, contexts: list[Context]) -> Batch:
    """Pad contexts into one batch."""
    tokens = model.pad([context.ids for context in contexts])
    mask = torch.zeros(tokens.ids.shape, dtype=torch.bool)
    for row, context in enumerate(contexts):
        mask[row, context.n_before : context.n_before + context.n_text] = True
    ids = [np.array(c.ids[c.n_before : c.n_before + c.n_text], dtype=np.int32) for c in contexts]
    document = [np.full(c.n_text, c.document, dtype=np.int64) for c in contexts]
    position = [np.arange(c.start, c.start + c.n_text, dtype=np.int64) for c in contexts]
    return Batch(tokens, mask.to(model.device), np.concatenate(ids), np.concatenate(document), np.concatenate(position))
