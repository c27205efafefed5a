"""Text is read as it is, and whatever is wrong with it is one line that names file and line."""

import gzip
import itertools
import json

import pytest

from sonde.activations.corpus import Corpus, Document, held_out_share, is_held_out
from sonde.errors import TextError


def test_every_form_of_text(tmp_path):
    texts = ["the first", "le deuxième", "das dritte, mit ß"]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.txt").write_text("\n\nthe first\n \n\nle deuxième\n\ndas dritte, mit ß", encoding="utf-8")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress("the first\n\nle deuxième\n\ndas dritte, mit ß".encode()))
    for name in ("a.jsonl", "b.txt", "c.jsonl.gz", "d.txt.gz"):
        assert [d.text for d in Corpus(tmp_path / name)] == texts, name
    assert [d.text for d in Corpus(tmp_path)] == texts * 4
    assert [d.text for d in Corpus(texts)] == texts


def test_a_paragraph_keeps_its_lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n")
    assert [d.text for d in Corpus(tmp_path / "a.txt")] == ["one\ntwo", "three"]


GOOD = '{"text": "x"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "holds no text: it is empty"),
        ("a.txt", b"  \n \n", "holds no text"),
        ("a.txt", b"one\ntwo\0three\n", "binary, not text: there is a zero byte in line 2"),
        ("a.txt", b"one\n\xff\xfe\n", "line 2: not UTF-8 .byte 0xff."),
        ("a.jsonl", GOOD.encode() + b"{broken\n", r"a\.jsonl, line 2: not JSON .*--skip-bad"),
        ("a.jsonl", b'["text"]\n', "line 1: an object is wanted, not a list"),
        ("a.jsonl", b'{"texts": "x"}\n', "no field 'text'; did you mean texts"),
        ("a.jsonl", b'{"text": 5}\n', "holds a int, not text"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode(), mtime=0)[:-6], "not a whole gzip file"),
        ("a.jsonl.gz", b"plain", "not a whole gzip file"),
        ("a.csv", b"x", "not a text file that sonde reads"),
    ],
)
def test_wrong_text_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=message) as caught:
        list(Corpus(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_missing_text(tmp_path):
    with pytest.raises(TextError, match="there is no text file"):
        Corpus(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TextError, match="holds no text files"):
        Corpus(tmp_path / "empty")


def test_bad_lines_can_be_left_out_and_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(GOOD + "{broken\n" + '{"other": 1}\n' + GOOD)
    corpus = Corpus(tmp_path / "a.jsonl", skip_bad=True)
    assert [document.text for document in corpus] == ["x", "x"] and corpus.skipped == 2


def test_held_out_documents_are_a_fixed_share_and_copies_stay_together():
    texts = [Document(f"document {n}") for n in range(5000)]
    held = [is_held_out(text, 0.1, 0) for text in texts]
    assert 0.08 < sum(held) / len(held) < 0.12
    assert held == [is_held_out(text, 0.1, 0) for text in texts]
    assert held != [is_held_out(text, 0.1, 1) for text in texts]
    assert not any(is_held_out(text, 0.0, 0) for text in texts)


def test_a_small_text_holds_out_the_lowest_hash_where_none_is_held_out_by_chance():
    def held(texts: list[Document], share: float, seed: int) -> list[Document]:
        below = held_out_share(texts, share, seed)
        return [text for text in texts if is_held_out(text, below, seed)]

    texts = [Document(f"text {n}") for n in range(60)]
    seeds = [seed for seed in range(40) if not any(is_held_out(text, 0.02, seed) for text in texts)]
    assert 3 < len(seeds) < 30  # .98**60 is .3
    for seed in range(40):
        share = held_out_share(texts, 0.02, seed)
        assert (share == 0.02) == (seed not in seeds)
        assert len(held(texts, 0.02, seed)) == 1 or share == 0.02
    seed = seeds[0]
    [lowest] = held(texts, 0.02, seed)
    assert held(texts[::-1], 0.02, seed) == [lowest]
    assert held(texts[:49], 0.02, seed) == []  # 2 % of 49 is no document
    assert held(texts + [lowest], 0.02, seed) == [] and held(texts, 0.0, seed) == []
    more = itertools.chain([Document("text 60")], texts, (Document(f"text {n}") for n in itertools.count(61)))
    assert held_out_share(more, 0.02, seed) == 0.02  # read no further than the first that is held out
