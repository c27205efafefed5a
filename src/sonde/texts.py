"""Text from outside: files with or without a byte order mark, and strings that are no Unicode text."""

from pathlib import Path

from sonde.errors import TextError
from sonde.remote import local_path

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""of UTF-8, which some editors write; it is no part of the text"""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def without_mark(start: bytes, where: object) -> bytes:
    """The first bytes of a file without its byte order mark; raises TextError where the mark is UTF-16's."""
    if start.startswith(_UTF_16):
        raise TextError(f"{where} is UTF-16, not UTF-8; convert the file to UTF-8")
    return start.removeprefix(BYTE_ORDER_MARK)


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file, without their ends; raises TextError where it is missing or not UTF-8."""
    # Not str.splitlines, which also splits at characters that JSON may hold, such as U+2028.
    return [line.removesuffix("\r") for line in read_text(path).removesuffix("\n").split("\n")]


def read_text(path: str | Path) -> str:
    """What a UTF-8 file says; raises TextError where it is missing or not UTF-8."""
    try:
        return without_mark(local_path(path).read_bytes(), path).decode("utf-8")
    except OSError as error:
        raise TextError(f"{path} cannot be read as text ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}); convert the file to UTF-8"
        ) from error


def escaped(text: str) -> str:
    """JSON in which halves of characters, as bytes of a path that are no UTF-8, are JSON's own escapes of them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def require_unicode(text: str, where: str) -> None:
    """Raise TextError for a string with half of a surrogate pair, which no tokenizer, file or database can hold.

    Such strings come of text that was cut in UTF-16, and of arguments with bytes that are no UTF-8.
    """
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"{where} holds {text[error.start]!r}, half a character: it was cut in the middle, or is no UTF-8; mend it"
        ) from error
