"""Token by token an answer's text is what its tokens decode to, and each token has its own bytes."""

import random
from typing import Any

import pytest

from sonde.models.token_text import UNREADABLE, TextStream, TokenTexts
from tests.tiny import make_pieces, make_tokenizer, make_words

MAKERS = {"bytes": make_tokenizer, "pieces with bytes as fallback": make_pieces, "words and their parts": make_words}


def streamed(tokenizer, prompt, answer):
    stream = TextStream(tokenizer, prompt)
    return "".join([*map(stream.add, answer), stream.rest()])


def after(tokenizer, prompt, answer):
    whole = tokenizer.decode([*prompt, *answer], skip_special_tokens=True)
    return whole.removeprefix(tokenizer.decode(prompt, skip_special_tokens=True))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("text", ["the red bridge stands by the bay", "a bridge 🌉 é\u2028日本, ok", "", "…"])
def test_a_text_cut_anywhere_goes_on_as_the_whole(kind, text):
    tokenizer = MAKERS[kind]()
    ids = tokenizer("the" + " " + text)["input_ids"]
    first = len(tokenizer("the")["input_ids"])
    for cut in range(first, len(ids)):
        if UNREADABLE in tokenizer.decode(ids[:cut]):
            continue
        assert streamed(tokenizer, ids[:cut], ids[cut:]) == after(tokenizer, ids[:cut], ids[cut:])


@pytest.mark.parametrize("kind", MAKERS)
def test_any_tokens_in_any_order_are_streamed_without_an_error(kind):
    """The readable letters are those of the whole; how many U+FFFD stand for what is none may differ."""
    tokenizer, rng = MAKERS[kind](), random.Random(3)
    letters = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    for _ in range(150):
        answer = rng.choices(rng.sample(range(len(tokenizer)), 12), k=rng.randrange(1, 30))
        found = streamed(tokenizer, [letters[-1]], answer)
        if kind == "bytes":  # no letter depends on those before it
            assert found == after(tokenizer, [letters[-1]], answer)
        assert len(found) <= 8 * len(answer)


def test_many_unreadable_bytes_are_sent_before_the_end():
    tokenizer: Any = make_tokenizer()
    stream, byte = TextStream(tokenizer), tokenizer.convert_tokens_to_ids("ÿ")  # 0xFF is in no letter
    sent = [stream.add(byte) for _ in range(50)]
    assert len("".join(sent)) > 30 and "".join(sent) + stream.rest() == UNREADABLE * 50


def test_a_decoder_that_raises_is_not_asked_for_the_same_again():
    """The answer goes on after it with U+FFFD in place of what could not be decoded."""

    class Refusing:
        all_special_ids = ()

        def decode(self, ids, **_):
            if 7 in ids:
                raise ValueError("Invalid prefix encountered")
            return "".join(chr(97 + one) for one in ids)

    assert streamed(Refusing(), [1], [0, 7, 1, 2]) == "a\ufffdbc"


@pytest.mark.parametrize("kind", ["bytes", "pieces with bytes as fallback"])
def test_the_bytes_of_tokens_are_those_of_their_text(kind):
    tokenizer = MAKERS[kind]()
    texts = TokenTexts(tokenizer)
    for text in ("a🌉b", "the red bridge", "é\u2028", "\ufffd"):
        ids = tokenizer("a " + text, add_special_tokens=False)["input_ids"]
        joined = b"".join(map(texts.bytes, ids)).decode()
        assert joined.lstrip(" ") == "a " + text
    assert texts.bytes(tokenizer.eos_token_id) == b"" and texts.text(tokenizer.eos_token_id) == "</s>"


def test_part_of_a_letter_is_named_by_its_bytes():
    tokenizer = make_tokenizer()
    texts = TokenTexts(tokenizer)
    names = [texts.name(token) for token in tokenizer("x🌉", add_special_tokens=False)["input_ids"]]
    assert names == ["x", r"\xf0", r"\x9f", r"\x8c", r"\x89"]


def test_a_piece_keeps_its_leading_space_wherever_it_is_shown():
    tokenizer: Any = make_pieces()
    parts: Any = make_words()
    pieces, words = TokenTexts(tokenizer), TokenTexts(parts)
    assert pieces.text(tokenizer.convert_tokens_to_ids("\u2581red")) == " red"
    assert words.text(parts.convert_tokens_to_ids("red")) == " red"
    assert words.text(parts.convert_tokens_to_ids("##s")) == "s"
