"""What users bring: lists of many things, byte order marks, special tokens in texts, no rows, large and odd numbers."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sonde
from sonde.activations.contexts import Cutter
from sonde.activations.corpus import Corpus, Document
from sonde.activations.live import Live
from sonde.activations.rows import Layout
from sonde.dictionaries.topk import TopK
from sonde.errors import ActivationError, SiteError, StorageError, TextError
from sonde.models.load import wrap_model
from sonde.texts import read_lines, read_text
from tests.tiny import make_model, make_network, make_tokenizer, texts

SITE = "layers.1.residual"
MARK = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def model():
    return make_model()


# ------------------------------------------------------------------ lists


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (None, r"None \(NoneType\)"),
        (b"abc", r"b'abc' \(bytes\)"),
        (3.5, r"3.5 \(float\)"),
        (7, r"7 \(int\)"),
        ([1.5], r"\[1.5\] \(list\)"),
        ([True], r"\[True\] \(list\)"),
        ({"body": "x"}, r"no field 'text' \(it has body\)"),
        ({"text": None}, r"None \(NoneType\)"),
        ({"text": [3], "images": ["a.png"]}, "token ids with pictures"),
        ("half \ud83d", r"holds '\\ud83d', half a character"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(model, tmp_path, element, said):
    brought = [*texts(3), element]
    for read in (
        lambda: list(Corpus(brought)),
        lambda: sonde.harvest(model, brought, site=SITE, out=tmp_path / "a"),
        lambda: Live(model, brought, site=SITE).n_rows,
    ):
        with pytest.raises(TextError, match=r"texts\[3\] .*" + said):
            read()


@pytest.mark.parametrize("brought", [None, 3, b"abc", {"train": [{"text": "a"}]}])
def test_what_is_no_list_is_said(brought):
    with pytest.raises(TextError, match="the text is a .*; a file, a folder, a list of texts or a dataset is wanted"):
        Corpus(brought)


def test_a_text_in_the_place_of_a_path_is_said():
    for text in ("just a text", "a long text " * 500):
        with pytest.raises(TextError, match="give texts themselves in a list"):
            Corpus(text)


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda ids: np.array(ids, dtype=">i4")])
def test_lists_of_ids_are_ready_tokens(model, tmp_path, make):
    ids = [[5, 6, 7]] * 20
    assert [document.ids for document in Corpus(make(ids))] == [(5, 6, 7)] * 20
    assert [document.ids for document in Corpus([make(row) for row in ids])] == [(5, 6, 7)] * 20
    store = sonde.harvest(model, make(ids), site=SITE, out=tmp_path / "a", held_out=0.0)
    assert store.n_rows == 60 and set(np.asarray(store.pile(0).token).tolist()) == {5, 6, 7}


class Rows:
    """Rows as a Hugging Face dataset has them: made when they are asked for."""

    __module__ = "datasets.arrow_dataset"

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["text"])

    def __iter__(self):
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number):
        if number >= len(self):
            raise IndexError
        return {name: column[number] for name, column in self.columns.items()}


def test_datasets_are_read_row_by_row(model, tmp_path):
    rows = Rows(text=texts(30), body=texts(30, seed=1), input_ids=[[5, 6]] * 30)
    assert Corpus(rows).texts is rows, "it may be larger than memory"
    assert [d.text for d in Corpus(rows)] == texts(30)
    assert [d.text for d in Corpus(rows, "body")] == [d.text for d in Corpus(list(rows), "body")] == texts(30, seed=1)
    assert [d.ids for d in Corpus(rows, "input_ids")] == [(5, 6)] * 30
    stores = [sonde.harvest(model, text, site=SITE, out=tmp_path / f"{text is rows}") for text in (rows, texts(30))]
    assert stores[0].facts.order_checksum == stores[1].facts.order_checksum
    with pytest.raises(TextError, match=r"texts\[0\] has no field 'txt'; did you mean text"):
        list(Corpus(rows, "txt"))


def test_texts_that_come_once_can_be_read_twice():
    corpus = Corpus(text for text in ["a", "b"])
    assert [d.text for d in corpus] == [d.text for d in corpus] == ["a", "b"]


# ------------------------------------------------------------------ files


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(MARK + b'{"text": "one"}\r\n\r\n{"text": "two"}\r\n')
    (tmp_path / "a.txt").write_bytes(MARK + b"one\r\n\r\ntwo\r\n")
    for name in ("a.jsonl", "a.txt"):
        assert [d.text for d in Corpus(tmp_path / name)] == ["one", "two"], name
    assert read_lines(tmp_path / "a.txt") == ["one", "", "two"]
    (tmp_path / "b.txt").write_text("one\ufeff", encoding="utf-16")
    for read in (lambda: list(Corpus(tmp_path / "b.txt")), lambda: read_text(tmp_path / "b.txt")):
        with pytest.raises(TextError, match="is UTF-16, not UTF-8; convert"):
            read()


def test_lines_end_where_lines_end(tmp_path):
    (tmp_path / "a").write_text("one\u2028two\x85three\nfour", encoding="utf-8")
    assert read_lines(tmp_path / "a") == ["one\u2028two\x85three", "four"]


def test_half_a_character_in_a_line_is_left_out_with_skip_bad(model, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "half \\ud83d here"}\n{"text": "\\ud83d\\ude00"}\n')
    with pytest.raises(TextError, match=r"a.jsonl, line 2, the field 'text', holds '\\ud83d'"):
        list(Corpus(tmp_path / "a.jsonl"))
    corpus = Corpus(tmp_path / "a.jsonl", skip_bad=True)
    assert [d.text for d in corpus] == ["one", "😀"] and corpus.skipped == 1


def test_paths_of_any_letters_are_written_and_of_any_bytes_read(model, tmp_path):
    out, odd = tmp_path / "o😀 %41?#", tmp_path / "t\udcff.txt"
    odd.write_text("\n\n".join(texts(30)))
    store = sonde.harvest(model, odd, site=SITE, out=out / "acts")
    assert store.manifest.settings["text"] == str(odd)
    sonde.train(out / "acts", n_features=16, k=2, tokens=1000, out=out / "dict", device="cpu")
    index = sonde.index(model, out / "dict", odd, out=out / "index", device="cpu")
    assert index.document(0)[0] == texts(30)[0]
    assert sonde.load_index(out / "index").manifest == index.manifest
    with pytest.raises(StorageError, match="its name is no UTF-8"):
        sonde.harvest(model, odd, site=SITE, out=tmp_path / "o\udcff")


# ------------------------------------------------------------------ special tokens


def test_special_tokens_in_a_text_are_left_out_as_in_ready_tokens(tmp_path):
    model = make_model()
    text = "hello </s> bye"
    ids = model.tokenizer(text)["input_ids"]
    kept = []
    for number, brought in enumerate((text, ids)):
        for special in (False, True):
            out = tmp_path / f"{number}{special}"
            store = sonde.harvest(model, [brought] * 3, site=SITE, out=out, held_out=0.0, special=special)
            kept.append(sorted(np.asarray(store.pile(0).token).tolist()))
    assert kept[0] == kept[2] and kept[1] == kept[3]
    assert 2 not in kept[0] and kept[1].count(2) == 3 and len(kept[1]) == len(kept[0]) + 6


def test_rows_of_special_tokens_have_places_of_their_own():
    cutter = Cutter(make_model(), length=8)
    [context, *others] = cutter.contexts(cutter.tokenize(["</s>" * 3 + "ab<s>" * 20]))
    places = np.concatenate([each.position for each in (context, *others)])
    assert len(set(places.tolist())) == len(places)
    special = np.isin(np.concatenate([each.ids for each in (context, *others)]), [1, 2])
    assert np.array_equal(special, places < 0)


def test_tokens_that_only_the_vocabulary_calls_special_are_special_and_the_unknown_is_not(tmp_path):
    from tokenizers import AddedToken

    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken("<|head|>", special=True), AddedToken("<|plain|>")])
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    network = make_network("llama")
    network.resize_token_embeddings(len(tokenizer))
    cutter = Cutter(wrap_model(network, tokenizer, "m"))
    head, plain, unknown = (tokenizer.convert_tokens_to_ids(name) for name in ("<|head|>", "<|plain|>", "<unk>"))
    assert head in cutter.special and plain not in cutter.special and unknown not in cutter.special
    assert {0, 1, 2} <= cutter.special


def test_an_index_has_no_activation_at_a_special_token(walk, tmp_path):
    reader = sonde.Reader(walk.index, device="cpu")
    fired = reader.read("the red</s> bridge")
    [place] = [n for n, piece in enumerate(fired.pieces) if piece == "</s>"]
    assert place not in fired.position and place + 1 in fired.position
    assert len(reader.read("</s>").position) == 0


# ------------------------------------------------------------------ no rows


@pytest.mark.parametrize(
    ("brought", "settings"),
    [
        (["", "", ""], {}),
        (["</s></s>", "<s>"], {}),
        (texts(9), {"drop_first": 1000}),
        (texts(2), {"held_out": 0.999}),
        ([[0, 0], []], {}),
    ],
)
@pytest.mark.parametrize("store", ["bfloat16", "int8"])
def test_nothing_left_is_a_text_error(model, tmp_path, brought, settings, store):
    with pytest.raises(TextError, match="no tokens were left"):
        sonde.harvest(model, brought, site=SITE, out=tmp_path / "a", store=store, **settings)
    if store != "int8":
        with pytest.raises(TextError, match="no tokens were left"):
            _ = Live(model, brought, site=SITE, store=store, **settings).n_rows
    sonde.harvest(model, texts(9), site=SITE, out=tmp_path / "a", store=store)  # the folder is free


def test_documents_without_a_row_among_others_change_nothing(model, tmp_path):
    plain = sonde.harvest(model, texts(9), site=SITE, out=tmp_path / "a", held_out=0.0)
    mixed = sonde.harvest(model, [*texts(9), "", "</s>"], site=SITE, out=tmp_path / "b", held_out=0.0)
    assert mixed.facts.order_checksum == plain.facts.order_checksum


def test_texts_in_memory_are_measured_whole(walk, model, tmp_path):
    """Nobody knows whether they are those that were trained on."""
    store = sonde.harvest(walk.model, texts(60), site=SITE, out=tmp_path / "a")
    sonde.train(store, n_features=16, k=2, tokens=1000, out=tmp_path / "d", device="cpu")
    assert sonde.measure(tmp_path / "d", text=texts(7, seed=5), device="cpu").documents == 7


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("store", "largest", "better"),
    [("float16", 70_000.0, "bfloat16"), ("bfloat16", 3.4e38, "float32"), ("float16", 3.4e38, "float32")],
)
def test_values_beyond_the_format_are_named_with_one_that_holds_them(tmp_path, store, largest, better):
    x = torch.ones(9, 8)
    x[4, 2] = -largest
    with pytest.raises(ActivationError, match=rf"1 values at {SITE} are too large for {store}.*--store {better}"):
        sonde.from_vectors(x, site=SITE, out=tmp_path / "a", store=store)
    kept = sonde.from_vectors(x, site=SITE, out=tmp_path / "b", store=better)
    assert kept.pile(0).vectors(SITE).float().abs().max().item() == pytest.approx(largest, rel=4e-3)


def test_int8_holds_every_number_by_its_scale():
    layout = Layout.of_sites({SITE: 4}, "int8")
    records = layout.empty(3)
    x = torch.tensor([[3.4e38, 0, 1, -3.4e38], [7e4, 1, 2, 3], [0, 0, 0, 0]])
    layout.put_vectors(records, SITE, x)
    assert torch.isfinite(layout.vectors(records, SITE)).all()
    torch.testing.assert_close(layout.vectors(records, SITE)[:, 0], x[:, 0], rtol=1e-5, atol=0)


def loud_model():
    """A model whose vectors at the site are beyond float16."""
    network = make_network("llama")
    with torch.no_grad():
        network.model.layers[1].mlp.down_proj.weight.mul_(1e6)
    return wrap_model(network, make_tokenizer(), "loud")


def test_a_loud_model_is_refused_wherever_rows_are_converted(tmp_path):
    with pytest.raises(ActivationError, match="too large for float16.*--store bfloat16"):
        sonde.harvest(loud_model(), texts(9), site=SITE, out=tmp_path / "a", store="float16")
    live = Live(loud_model(), texts(9), site=SITE, store="float16", pool=64)
    with pytest.raises(ActivationError, match="too large for float16.*--store bfloat16"):
        next(live.stream(8))


def test_matrices_of_any_number_format_are_read(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    found = {}
    for number, dtype in enumerate((">f4", ">f8", "<f4", "longdouble", "f2", ">i2", "u1", "bool")):
        brought = (x * 10).astype(dtype) if np.dtype(dtype).kind in "iu" else x.astype(dtype)
        np.save(tmp_path / f"{number}.npy", brought)
        for source in (tmp_path / f"{number}.npy", brought):
            out = tmp_path / f"{number}{isinstance(source, np.ndarray)}"
            store = sonde.from_vectors(source, site=SITE, out=out, store="float32")
            rows = store.pile(0)
            order = np.argsort(np.asarray(rows.document))
            found[dtype] = rows.vectors(SITE).numpy()[order]
            assert np.array_equal(found[dtype], brought.astype(np.float32)), dtype
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16):
        brought = torch.from_numpy(x).to(dtype)
        path = tmp_path / f"{dtype}.safetensors"
        save_file({"x": brought}, path)
        store = sonde.from_vectors(path, site=SITE, out=tmp_path / f"a{dtype}", store="float32")
        assert store.mean.numpy() == pytest.approx(brought.double().mean(dim=0).numpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        (np.array([["a", "b"]]), "holds <U1, but real numbers"),
        (np.array([[None, 1]], dtype=object), "holds object, but real numbers"),
        (np.ones((2, 2), dtype=np.complex64), "holds complex64, but real numbers"),
        (torch.ones(2, 2, dtype=torch.complex64), "holds torch.complex64, but real numbers"),
        (np.ones((2, 2), dtype="datetime64[s]"), "real numbers"),
        (np.full((2, 2), 1e300), "too large for float32"),
    ],
)
def test_what_is_no_real_number_is_refused(tmp_path, brought, said):
    with pytest.raises(ActivationError, match=said):
        sonde.from_vectors(brought, site=SITE, out=tmp_path / "a")
    assert sonde.from_vectors(np.ones((9, 2)), site=SITE, out=tmp_path / "b").n_rows == 9


def test_an_archive_is_no_matrix(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 2)))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(ActivationError, match="archive of several"):
        sonde.from_vectors(tmp_path / "a.npy", site=SITE, out=tmp_path / "b")


def test_a_document_may_say_where_it_is_from():
    assert list(Corpus([Document("a", place="there")]))[0].place == "there"


# ------------------------------------------------------------------ sites without vectors of tokens


@pytest.mark.parametrize("site", ["layers.1.pattern", "module:model.layers.1.mlp.gate"])
def test_a_site_without_a_vector_of_each_token_is_refused(tmp_path, site):
    model = make_model("mixtral")
    said = rf"site '{site}' has no vector of each token: .* choose another, such as layers.1.residual"
    for read in (
        lambda: sonde.harvest(model, texts(3), site=site, out=tmp_path / "a"),
        lambda: Live(model, texts(3), site=[SITE, site]),
        lambda: sonde.index(model, TopK(8, 4, k=2).at(site), texts(3), out=tmp_path / "i"),
    ):
        with pytest.raises(SiteError, match=said):
            read()
    assert not list(tmp_path.iterdir())
    assert model.widths([SITE, "layers.1.heads", "logits"]) == {SITE: 32, "layers.1.heads": 32, "logits": 260}
