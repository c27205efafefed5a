"""From documents to contexts: stretches of token ids that fit the model, each with its own special tokens.

The patches of a picture take the place of its mark in the text, and are positions of the document like tokens.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sonde.activations.corpus import Document, as_document
from sonde.errors import ModelLacksError, PictureError, TextError
from sonde.models.decoding import Decoder
from sonde.models.model import Model, Tokens
from sonde.models.pictures import Expanded, Picture

TOKENIZE_AT_ONCE = 256
BATCH_TOKENS = 8192
CONTEXTS_AT_ONCE = 512
"""contexts that are gathered before they are grouped by length"""
MOST_SPECIAL = 16
"""upper bound of the special tokens around a stretch of text, in any model"""
TOKENS_AT_ONCE = 1 << 17
"""the same in tokens, which bounds the memory of pictures: about as much as their patches' vectors"""


@dataclass(frozen=True)
class Context:
    """One sequence for the model: a stretch of one document, or of several."""

    ids: list[int]
    """with special tokens"""
    document: np.ndarray
    """[len(ids)] int64, the document of each token"""
    position: np.ndarray
    """[len(ids)] int64, each token's position in its document; of special tokens a unique number below zero"""
    pictures: tuple[Picture, ...] = ()

    @property
    def n_text(self) -> int:
        """Number of tokens of the text, without special tokens."""
        return int((self.position >= 0).sum())


@dataclass(frozen=True)
class Tokenized:
    """A document and its tokens; the patches of a picture count as tokens."""

    number: int
    document: Document
    ids: list[int]
    spans: list[tuple[int, int]]
    """(start, end) of each token in the text, in characters; of a patch, that of its picture's mark"""
    pictures: tuple[tuple[int, Picture], ...] = ()
    """the position of each picture's first patch, and the picture"""


class Cutter:
    """Cuts documents into contexts of a model.

    Args:
        length: longest context in tokens, special tokens included; None for the model's own, at most 512.
        pack: fill each context with document after document, as in pretraining, so that they attend to each other.
            Otherwise a context is of one document.
    """

    def __init__(self, model: Model, length: int | None = None, pack: bool = False) -> None:
        self.model = model
        self.pack = pack
        self.tokenizer = model.require_tokenizer()
        if not self.tokenizer.is_fast:  # a slow one does not give the spans of tokens
            raise ModelLacksError(f"{model.name} has no fast tokenizer (tokenizer.json), which reading text needs")
        self.length = min(length or 512, model.context_length)
        self.before, self.after = _special_tokens(self.tokenizer)
        self.between = [*self.after, *self.before]
        if not self.between and self.tokenizer.eos_token_id is not None:
            self.between = [self.tokenizer.eos_token_id]
        self.room = self.length - len(self.before) - len(self.after)
        assert self.room > 0, "a context must have room for text"
        assert len(self.before) + len(self.after) + len(self.between) < MOST_SPECIAL
        self.special = _special_ids(self.tokenizer) - {model.pictures.image_token_id if model.pictures else None}

    def tokenize(self, documents: Iterable[str | Document]) -> Iterator[Tokenized]:
        """Yield whole documents as tokens, without special tokens; documents are numbered from zero.

        Raises:
            PictureError, naming the document, where its pictures cannot be read or do not match its marks.
            TextError, naming the document, where it is not text, or has tokens that are not in the model's vocabulary.
        """
        numbered = ((number, as_document(document)) for number, document in enumerate(documents))
        while chunk := list(itertools.islice(numbered, TOKENIZE_AT_ONCE)):
            expanded = [self._expand(document) for _, document in chunk]
            encoded = self.tokenizer(
                [text.text for text, _ in expanded],
                add_special_tokens=False,
                return_offsets_mapping=True,
                verbose=False,
            )
            rows = zip(chunk, expanded, encoded["input_ids"], encoded["offset_mapping"], strict=True)
            for (number, document), (text, pictures), ids, spans in rows:
                if document.ids is not None:
                    yield self._ready(number, document)
                    continue
                self._refuse_unknown(document, ids)
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
            reader = self.model.require_pictures()
            try:
                pictures = [reader.read(image) for image in document.images]
            except PictureError as error:
                raise PictureError(f"{document.place}: {error}") from error
            return reader.expand(document.text, pictures, document.place), pictures
        return Expanded(document.text), []

    def _ready(self, number: int, document: Document) -> Tokenized:
        """A document that was given as token ids, without padding at its end, and its decoded text."""
        ids = list(document.ids or ())
        while ids and ids[-1] == self.tokenizer.pad_token_id:  # an encoder would attend to it
            ids.pop()
        self._refuse_unknown(document, ids)
        text, spans = "", []
        decoder = Decoder(self.tokenizer, skip_special=False)
        for token in ids:
            start = len(text)
            text += decoder.step(token)
            spans.append((start, len(text)))
        return Tokenized(number, replace(document, text=text), ids, spans)

    def _refuse_unknown(self, document: Document, ids: list[int]) -> None:
        """Raise TextError for tokens that the model has no embedding for."""
        try:
            self.model.require_known(ids)
        except TextError as error:
            raise TextError(f"{document.place}: {error}") from error

    def contexts(self, documents: Iterable[Tokenized]) -> Iterator[Context]:
        """Yield contexts cut from the documents, or filled with several documents where `pack` is set.

        Ready tokens go through the model unchanged. A picture is never split: raises PictureError where one has more
        patches than a context has room for.
        """
        pieces: list[tuple[int, int, list[int]]] = []
        n = 0
        for document in documents:
            if document.document.ids is not None:
                yield from self._unchanged(document)
                continue
            if not self.pack or document.pictures:
                yield from self._cut(document)
                continue
            start = 0
            while start < len(document.ids):
                between = len(self.between) if pieces else 0
                end = min(start + self.room - n - between, len(document.ids))
                if end > start:
                    pieces.append((document.number, start, document.ids[start:end]))
                    n += between + end - start
                    start = end
                else:
                    yield self._context(pieces)
                    pieces, n = [], 0
        if pieces:
            yield self._context(pieces)

    def _cut(self, document: Tokenized) -> Iterator[Context]:
        start = 0
        while start < len(document.ids):
            end = min(start + self.room, len(document.ids))
            for first, picture in document.pictures:
                if first < end < first + picture.n_patches:
                    end = first
            if end <= start:
                raise PictureError(
                    f"{document.document.place}: a picture has {document.pictures[0][1].n_patches} patches, "
                    f"but a context has room for {self.room} tokens; choose a longer --context"
                )
            pictures = tuple(picture for first, picture in document.pictures if start <= first < end)
            yield self._context([(document.number, start, document.ids[start:end])], pictures)
            start = end

    def _unchanged(self, document: Tokenized) -> Iterator[Context]:
        """The contexts of ready tokens, which bring their own special tokens."""
        for start in range(0, len(document.ids), self.length):
            ids = document.ids[start : start + self.length]
            places = np.arange(start, start + len(ids))
            position = np.where([token in self.special for token in ids], -1 - places, places)
            yield Context(ids, np.full(len(ids), document.number), position)

    def _context(self, pieces: list[tuple[int, int, list[int]]], pictures: tuple[Picture, ...] = ()) -> Context:
        """A context of stretches of documents (number, start, ids), with special tokens around them."""
        ids: list[int] = []
        document, position = [], []
        for place, (number, start, piece) in enumerate(pieces):
            before = self.between if place else self.before
            after = self.after if place == len(pieces) - 1 else []
            ids += [*before, *piece, *after]
            document.append(np.full(len(before) + len(piece) + len(after), number))
            special = -1 - MOST_SPECIAL * start - np.arange(len(before) + len(after))
            text = np.arange(start, start + len(piece))
            if not self.special.isdisjoint(piece):  # special tokens that are written in the text
                text = np.where([token in self.special for token in piece], -MOST_SPECIAL * (text + 1), text)
            position += [special[: len(before)], text, special[len(before) :]]
        return Context(ids, np.concatenate(document), np.concatenate(position), pictures)


def groups(
    documents: Iterable[Tokenized],
    cutter: Cutter,
    limit: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    at_once: int = TOKENS_AT_ONCE,
) -> Iterator[list[Context]]:
    """Yield batches of contexts, roughly in the order of the documents, until `limit` tokens are reached.

    Args:
        batch_tokens: most tokens of a batch, padding included, unless one context has more.
        at_once: tokens that are gathered before their contexts are ordered by length, the shortest first.
    """
    waiting: list[Context] = []
    n_waiting = 0
    for context in cutter.contexts(_until(documents, limit)):
        waiting.append(context)
        n_waiting += len(context.ids)
        if len(waiting) >= CONTEXTS_AT_ONCE or n_waiting >= at_once:
            yield from batches(waiting, batch_tokens)
            waiting, n_waiting = [], 0
    yield from batches(waiting, batch_tokens)


def _until(documents: Iterable[Tokenized], limit: int | None) -> Iterator[Tokenized]:
    n_tokens = 0
    for document in documents:
        yield document
        n_tokens += len(document.ids)
        if limit and n_tokens >= limit:
            return


def _special_ids(tokenizer: Any) -> set[int | None]:
    """The special tokens of a tokenizer, wherever they stand: also those that no setting names, as Llama 3 has them.

    The token for what the tokenizer does not know is none, as it stands for text.
    """
    ids = set(tokenizer.all_special_ids)
    ids |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    names = ("bos", "eos", "sep", "pad", "cls", "mask")
    others = {getattr(tokenizer, f"{name}_token_id", None) for name in names}
    return ids - ({tokenizer.unk_token_id} - others)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer adds before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def batches(contexts: list[Context], max_tokens: int) -> list[list[Context]]:
    """Contexts grouped by length, so that there is little padding; a pure function of the contexts."""
    ordered = sorted(contexts, key=lambda context: (len(context.ids), context.document[0], abs(context.position).max()))
    groups: list[list[Context]] = []
    for context in ordered:
        if groups and len(context.ids) * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(context)
        else:
            groups.append([context])
    return groups


@dataclass(frozen=True)
class Batch:
    """Contexts as tensors, and the positions of their text."""

    tokens: Tokens
    text_mask: Tensor
    """[batch, position]: true at tokens of the text and patches of pictures, false at special tokens and padding"""
    token: np.ndarray
    """[row] token ids of the text, in the order of `text_mask`"""
    document: np.ndarray
    position: np.ndarray
    """[row] position in the document; below zero for special tokens, where these are kept"""
    is_first: np.ndarray
    """[row] whether it is the first row of its context"""

    def only(self, kept: Bool[Tensor, " row"]) -> "Batch":
        """The batch with some of its rows; the others count as tokens that are not of the text."""
        mask = self.text_mask.clone()
        mask[self.text_mask] = kept.to(mask.device)
        columns = {name: getattr(self, name)[kept.cpu().numpy()] for name in _COLUMNS}
        return replace(self, text_mask=mask, **columns)


_COLUMNS = ("token", "document", "position", "is_first")


def make_batch(model: Model, contexts: list[Context], special: bool = False, drop_first: int = 0) -> Batch:
    """Contexts, padded into one batch.

    Args:
        special: make rows of special tokens too, at positions below zero.
        drop_first: leave out this many rows at the start of each context.
    """
    pictures = [picture for context in contexts for picture in context.pictures]
    tokens = model.pad([context.ids for context in contexts], pictures=pictures)
    mask = torch.zeros(tokens.ids.shape, dtype=torch.bool)
    parts = []
    for row, context in enumerate(contexts):
        kept = _kept(context, special, drop_first)
        mask[row, kept] = True
        ids = np.array(context.ids, dtype=np.int32)[kept]
        parts.append((ids, context.document[kept], context.position[kept], np.arange(len(kept)) == 0))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Batch(tokens, mask.to(model.device), *columns)


def n_rows(context: Context, special: bool, drop_first: int) -> int:
    """How many rows of a batch a context makes."""
    return len(_kept(context, special, drop_first))


def _kept(context: Context, special: bool, drop_first: int) -> np.ndarray:
    """The indices of the tokens of a context that become rows."""
    return np.flatnonzero(special | (context.position >= 0))[drop_first:]
