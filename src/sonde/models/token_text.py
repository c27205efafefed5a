"""The text of tokens: of one inside a text, of its bytes, and of an answer that grows token by token.

A tokenizer's decoder looks at all tokens of a text together: the first loses its leading space, bytes of a letter make
one only when all are there, and some combinations it refuses. So a token's text is what it adds to the text before.
"""

import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

UNREADABLE = "\ufffd"
"""stands for bytes that are no letter, or not yet one"""
MOST_HELD = 8
"""unreadable bytes at the end of an answer that are held back; no letter has so many"""
BEFORE = 12
"""tokens of the prompt that the answer's first may have to be decoded after, so that it begins with a whole letter"""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def decode(tokenizer: Any, ids: Sequence[int], special: bool = False) -> str:
    """The text of tokens, with U+FFFD for what the decoder refuses; `special`: with that of special tokens."""
    if not len(ids):
        return ""
    try:
        return tokenizer.decode(ids, skip_special_tokens=not special)
    except Exception:  # some decoders refuse some sequences of tokens, with errors of any kind
        return UNREADABLE if len(ids) == 1 else "".join(decode(tokenizer, [token], special) for token in ids)


class TokenTexts:
    """The texts and bytes of single tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)

    def text(self, token: int) -> str:
        """What a token adds to a text, with its leading space; U+FFFD for bytes that are no whole letter."""
        anchor, before = self._anchor
        after = decode(self._tokenizer, [*anchor, token], special=True)
        if after.startswith(before):
            return after[len(before) :]
        return decode(self._tokenizer, [token], special=True)

    def bytes(self, token: int) -> bytes:
        """The bytes that a token adds to a text in UTF-8; none for a special token, which answers leave out."""
        if token in self._special:
            return b""
        text = self.text(token)
        if UNREADABLE not in text:
            return text.encode("utf-8", "replace")
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if found := _BYTE.fullmatch(piece):
            return bytes.fromhex(found[1])
        known = _byte_letters()
        return bytes(known[letter] for letter in piece) if all(letter in known for letter in piece) else text.encode()

    def name(self, token: int) -> str:
        """A token's text, or where it is part of a letter its bytes, as \\xf0\\x9f."""
        text = self.text(token)
        if UNREADABLE not in text:
            return text
        return "".join(f"\\x{byte:02x}" for byte in self.bytes(token))

    @cached_property
    def _anchor(self) -> tuple[list[int], str]:
        """A token of plain text, after which others keep their leading space, and its text."""
        ids = self._tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        return ids, decode(self._tokenizer, ids, special=True)


class TextStream:
    """The text of an answer as its tokens come; together what decoding them after the prompt gives.

    What a decoder makes of tokens may change with those that follow. Where it no longer begins with what was sent,
    decoding begins anew at the first token that was not sent, and goes on.

    Args:
        prompt: ids of the tokens before the answer.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        tails = (list(prompt[-n:]) for n in range(1, min(BEFORE, len(prompt)) + 1))
        whole = (tail for tail in tails if (text := decode(self._tokenizer, tail)) and UNREADABLE not in text)
        self._before, self._new = next(whole, []), list[int]()
        self._known = decode(self._tokenizer, self._before)
        self._sent = ""
        """of the text of the new tokens"""

    def add(self, token: int) -> str:
        """The text that a token makes certain; empty while a letter is incomplete."""
        self._new.append(token)
        text = self._text()
        certain = text.rstrip(UNREADABLE)
        if len(text) - len(certain) > MOST_HELD:
            certain = text
        sent, self._sent = self._sent, certain
        if certain and certain == text:
            self._before, self._new, self._sent = self._new, [], ""
            self._known = decode(self._tokenizer, self._before)
        elif not text and len(self._new) > MOST_HELD:  # special tokens, which have no text
            self._new = []
        return certain[len(sent) :]

    def rest(self) -> str:
        """What was held back, at the end of the answer: U+FFFD for a letter that was not finished."""
        text, sent = self._text(), self._sent
        self._new, self._sent = [], ""
        return text[len(sent) :]

    def _text(self) -> str:
        """The text of the new tokens; begins with what was sent of it."""
        whole = decode(self._tokenizer, [*self._before, *self._new])
        text = whole[len(self._known) :] if whole.startswith(self._known) else decode(self._tokenizer, self._new)
        if not text.startswith(self._sent):
            self._before, self._known, self._new, self._sent = [], "", self._new[-1:], ""
            text = decode(self._tokenizer, self._new)
        return text


@cache
def _byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in byte-level vocabularies -> the byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
