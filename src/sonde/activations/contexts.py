"""From documents to contexts: token ids that fit the model, cut from a document, each with its own special tokens.

The patches of a picture stand where its mark stood in the text, and are positions of the document like tokens.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sonde.activations.corpus import Document, as_document
from sonde.errors import ModelLacksError, PictureError
from sonde.models.model import Model, Tokens
from sonde.models.pictures import Expanded, Picture

TOKENIZE_AT_ONCE = 256
BATCH_TOKENS = 8192
CONTEXTS_AT_ONCE = 512
"""contexts that wait to be grouped with others of their length"""
TOKENS_AT_ONCE = 1 << 17
"""the same in tokens, which bounds what pictures take: about as much as their patches' vectors"""


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
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Tokenized:
    """One document and its tokens; the patches of a picture are tokens too."""

    number: int
    document: Document
    ids: list[int]
    spans: list[tuple[int, int]]
    """where each token stands in the text: first letter, and the one after the last; of a patch, its mark's"""
    pictures: tuple[tuple[int, Picture], ...] = ()
    """each picture, and the position of its first patch"""


class Cutter:
    """Cuts documents into contexts of a model.

    Args:
        length: longest context in tokens, special tokens included; None for the model's own, at most 512.
    """

    def __init__(self, model: Model, length: int | None = None) -> None:
        self.model = model
        self.tokenizer = model.need_tokenizer()
        if not self.tokenizer.is_fast:  # a slow one cannot say where in the text a token stands
            raise ModelLacksError(f"{model.name} has no fast tokenizer (tokenizer.json), which reading text needs")
        self.length = min(length or 512, model.context_length)
        self.before, self.after = _special_tokens(self.tokenizer)
        self.room = self.length - len(self.before) - len(self.after)
        assert self.room > 0, "a context must have room for text"

    def tokenize(self, documents: Iterable[str | Document]) -> Iterator[Tokenized]:
        """Tokenize whole documents, without special tokens, many at once; they are numbered from zero.

        Raises PictureError, naming the document, where its pictures cannot be read or do not match its marks.
        """
        numbered = enumerate(map(as_document, documents))
        while some := list(itertools.islice(numbered, TOKENIZE_AT_ONCE)):
            expanded = [self._expand(document) for _, document in some]
            encoded = self.tokenizer(
                [text.text for text, _ in expanded],
                add_special_tokens=False,
                return_offsets_mapping=True,
                verbose=False,
            )
            rows = zip(some, expanded, encoded["input_ids"], encoded["offset_mapping"], strict=True)
            for (number, document), (text, pictures), ids, spans in rows:
                if not pictures:
                    yield Tokenized(number, document, ids, spans)
                    continue
                places = [text.place(*span) for span in spans]
                owners = [owner for *_, owner in places]
                firsts = [owners.index(number) for number in range(len(pictures))]
                spans = [(start, end) for start, end, _ in places]
                yield Tokenized(number, document, ids, spans, tuple(zip(firsts, pictures, strict=True)))

    def _expand(self, document: Document) -> tuple[Expanded, list[Picture]]:
        """A document's text with one mark for each patch, and its pictures."""
        if document.images or self.model.pictures is not None:
            reader = self.model.need_pictures()
            try:
                pictures = [reader.read(image) for image in document.images]
            except PictureError as error:
                raise PictureError(f"{document.place}: {error}") from error
            return reader.expand(document.text, pictures, document.place), pictures
        return Expanded(document.text), []

    def cut(self, document: Tokenized) -> list[Context]:
        """Cut a document into contexts, no picture in two; raises PictureError where one is longer than a context."""
        contexts = []
        start = 0
        while start < len(document.ids):
            end = min(start + self.room, len(document.ids))
            for first, picture in document.pictures:
                if first < end < first + picture.n_patches:
                    end = first
            if end <= start:
                raise PictureError(
                    f"{document.document.place}: a picture has {document.pictures[0][1].n_patches} patches, but a context "
                    f"has room for {self.room} tokens; choose a longer --context"
                )
            pictures = tuple(picture for first, picture in document.pictures if start <= first < end)
            ids = [*self.before, *document.ids[start:end], *self.after]
            contexts.append(Context(document.number, start, ids, len(self.before), end - start, pictures))
            start = end
        return contexts


def groups(documents: Iterable[Tokenized], cutter: Cutter, limit: int | None = None) -> Iterator[list[Context]]:
    """Batches of contexts, in the order of the documents but for those close by, until `limit` tokens are reached."""
    waiting: list[Context] = []
    n_tokens = n_batched = 0
    for document in documents:
        waiting += cutter.cut(document)
        n_tokens += len(document.ids)
        if limit and n_tokens >= limit:
            break
        if len(waiting) >= CONTEXTS_AT_ONCE or n_tokens - n_batched >= TOKENS_AT_ONCE:
            yield from batches(waiting, BATCH_TOKENS)
            waiting, n_batched = [], n_tokens
    yield from batches(waiting, BATCH_TOKENS)


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
    """[batch, position]: true at tokens of the text and patches of pictures, false at special tokens and padding"""
    token: np.ndarray
    """[row] token ids of the text, in the order of `text_mask`"""
    document: np.ndarray
    position: np.ndarray
    """place in the document; of special tokens, where they are kept, below zero"""
    is_first: np.ndarray
    """[row] whether it is the first row of its context"""


def make_batch(model: Model, contexts: list[Context], special: bool = False, drop_first: int = 0) -> Batch:
    """Pad contexts into one batch.

    Args:
        special: count special tokens to the text, at positions below zero.
        drop_first: leave out this many rows at the start of each context.
    """
    pictures = [picture for context in contexts for picture in context.pictures]
    tokens = model.pad([context.ids for context in contexts], pictures=pictures)
    mask = torch.zeros(tokens.ids.shape, dtype=torch.bool)
    ids, document, position, is_first = [], [], [], []
    for row, context in enumerate(contexts):
        places = _positions(context)
        first = (0 if special else context.n_before) + drop_first
        last = len(context.ids) if special else context.n_before + context.n_text
        kept = slice(min(first, last), last)
        mask[row, kept] = True
        ids.append(np.array(context.ids[kept], dtype=np.int32))
        position.append(places[kept])
        document.append(np.full(len(ids[-1]), context.document, dtype=np.int64))
        is_first.append(np.arange(len(ids[-1])) == 0)
    columns = (np.concatenate(column) for column in (ids, document, position, is_first))
    return Batch(tokens, mask.to(model.device), *columns)


def _positions(context: Context) -> np.ndarray:
    """Place of each token in its document; of the special ones a number below zero that no other has."""
    places = np.arange(len(context.ids), dtype=np.int64) - context.n_before + context.start
    number = np.arange(len(context.ids))
    is_special = (number < context.n_before) | (number >= context.n_before + context.n_text)
    # A context has fewer special tokens than eight, and no two contexts of a document start at one place.
    places[is_special] = -1 - 8 * context.start - np.arange(is_special.sum())
    return places
