"""The text of ready tokens, one step a token; that of answers, which depends on the prompt, is in `token_text`."""

from typing import Any

from tokenizers.decoders import DecodeStream

from sonde.models.token_text import UNREADABLE


class Decoder:
    """Decodes tokens one by one; a character of several tokens comes with its last.

    Args:
        tokenizer: a fast tokenizer of transformers.
        skip_special: leave out special tokens.
    """

    def __init__(self, tokenizer: Any, skip_special: bool) -> None:
        self._tokenizer, self._skip_special = tokenizer.backend_tokenizer, skip_special
        self._stream = DecodeStream(skip_special_tokens=skip_special)
        self._last: list[int] = []

    def step(self, token: int) -> str:
        """The text that a token makes certain.

        Tokenizers with byte fallback (Llama 2, Gemma, Mistral) decode a run of bytes as a whole, so that a byte which
        begins no character changes the text of those before it, which has been given out. Decoding then starts anew at
        this token, and U+FFFD stands for the bytes.
        """
        before, self._last = self._last, [token]
        try:
            return self._step(token)
        except Exception as error:  # tokenizers raises nothing narrower
            if not _is_refusal(error):
                raise
        try:
            self._stream = DecodeStream(before, self._skip_special)  # so that the token is read as what follows
            text = self._step(token)  # with U+FFFD for the last byte, or without
            return text if text.startswith(UNREADABLE) else UNREADABLE + text
        except Exception as error:
            if not _is_refusal(error):
                raise
            self._stream = DecodeStream(skip_special_tokens=self._skip_special)
            return UNREADABLE

    def _step(self, token: int) -> str:
        return self._stream.step(self._tokenizer, token) or ""


def _is_refusal(error: Exception) -> bool:
    return "Invalid prefix" in str(error)
