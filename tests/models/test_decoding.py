"""Tokens one by one are the text of all of them, also where a tokenizer with byte fallback refuses to go on."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast

from sonde.activations.contexts import Cutter
from sonde.activations.corpus import Document
from sonde.models.decoding import Decoder
from sonde.models.load import wrap_model
from tests.tiny import make_network, make_tokenizer


def fallback_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's, Gemma's and Mistral's: words that begin with a mark for the space, and bytes for all else."""
    vocabulary = {"<pad>": 0, "<s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    vocabulary |= {"▁red": 258, "▁the": 259}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>")


RED, THE = 258, 259


def byte(value: int) -> int:
    return 2 + value


def pieces(ids):
    decoder = Decoder(fallback_tokenizer(), skip_special=True)
    return [decoder.step(token) for token in ids]


def test_a_stream_that_refuses_goes_on():
    ids = [THE, byte(0x41), byte(0xFF), RED, THE]
    refuses, raw = DecodeStream(skip_special_tokens=True), fallback_tokenizer().backend_tokenizer
    with pytest.raises(Exception, match="Invalid prefix"):
        for token in ids:
            refuses.step(raw, token)
    assert pieces(ids) == ["the", "A", "", "� red", " the"]


def test_letters_of_several_bytes_come_with_their_last():
    assert pieces([THE, *map(byte, "€".encode()), RED]) == ["the", "", "", "€", " red"]


def test_whatever_bytes_come_words_between_them_are_kept():
    chance = random.Random(0)
    for _ in range(300):
        ids = [chance.choice([RED, THE, byte(chance.randrange(256))]) for _ in range(12)] + [RED, THE]
        text = "".join(pieces(ids))
        assert text.endswith(" red the"), ids
        assert text.count("the") >= ids.count(THE) and text.count("red") >= ids.count(RED), ids


@pytest.mark.parametrize("make", [fallback_tokenizer, make_tokenizer])
def test_ready_tokens_of_any_bytes_are_read(make):
    tokenizer = make()
    cutter = Cutter(wrap_model(make_network("llama"), tokenizer, "m"))
    chance = random.Random(1)
    for _ in range(20):
        ids = tuple(chance.randrange(3, 258) for _ in range(30))
        [document] = cutter.tokenize([Document("", (), "here", ids)])
        assert document.ids == list(ids) and document.spans[-1][1] == len(document.document.text)
        assert all(first <= last for first, last in document.spans)
