"""The index equals brute force, shows text as it is, and finds features by words."""

import contextlib
import json
import random
import shutil
import sqlite3
import time
from typing import Any

import numpy as np
import pytest
import torch

import sonde
from sonde.dictionaries.load import load_dictionary
from sonde.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    ArtifactMissingError,
    FeatureError,
    UsageError,
)
from sonde.features.documents import IndexText
from sonde.features.index import load_index
from sonde.features.postings import Fires, pack, tokens_of
from sonde.models.load import load_model
from tests import kill
from tests.tiny import texts, write_model

SITE = "layers.1.residual"


@pytest.fixture(scope="module")
def brute(walk):
    """All activations [token, feature] of the corpus, and which document and position each token is."""
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(walk.topk, "cpu")
    rows, where = [], []
    for number, text in enumerate(texts(400)):
        with torch.no_grad():
            rows.append(dictionary.encode(model.read(text, SITE)[0, 1:]))
        where += [(number, position) for position in range(len(rows[-1]))]
    return torch.cat(rows).numpy(), where


def test_postings_and_statistics_equal_brute_force(walk, brute):
    index, (activations, where) = load_index(walk.index), brute
    assert index.n_tokens == len(activations)
    assert len(index.postings) == pytest.approx((activations > 0).sum(), abs=3)  # ties of batching at the k-th place
    for number in range(index.n_features):
        documents, positions, values = index.fires(number)
        assert (np.diff(values) <= 0).all()
        by_place = {(int(d), int(p)): v for d, p, v in zip(documents, positions, values, strict=True)}
        fired = np.flatnonzero(activations[:, number] > 1e-3)
        for token in fired:
            assert by_place[where[token]] == pytest.approx(activations[token, number], rel=5e-4, abs=1e-3)
        feature = index.feature(number)
        assert feature.density == pytest.approx((activations[:, number] > 0).mean(), abs=1e-4)
        assert feature.maximum == pytest.approx(activations[:, number].max(), abs=1e-4)
        if len(fired):
            assert feature.mean == pytest.approx(values.mean(), rel=5e-4)
            assert feature.count == len(values) and values[0] == np.float32(feature.maximum)


def test_examples_are_the_strongest_and_their_text_is_the_document(walk, brute):
    index, (activations, where) = load_index(walk.index), brute
    number = int(activations.max(axis=0).argmax())
    examples = index.feature(number).examples(5)
    assert [example.value for example in examples] == sorted((e.value for e in examples), reverse=True)
    assert len({example.document for example in examples}) == 5
    best = examples[0]
    assert best.value == pytest.approx(activations[:, number].max(), abs=1e-4)
    assert best.text in texts(400)[best.document]
    assert best.pieces[best.peak][1] == best.value
    for piece_number, (_, value) in enumerate(best.pieces):
        token = where.index((best.document, best.position - best.peak + piece_number))
        assert value == pytest.approx(activations[token, number], rel=5e-4, abs=1e-3)


def test_letters_of_several_bytes_are_shown_whole(walk, tmp_path):
    sonde.index(None, walk.topk, ["Brücke über ñandú 桥 end"] * 3, out=tmp_path / "i", device="cpu")
    index = load_index(tmp_path / "i")
    shown = [example.text for feature in index.features for example in feature.examples(1)]
    assert shown and all("\ufffd" not in text for text in shown)
    assert any("ücke" in text for text in shown) and any("桥" in text for text in shown)


def test_direct_logits_are_those_of_the_head(walk):
    index, model, dictionary = (
        load_index(walk.index),
        load_model(walk.model, device="cpu"),
        load_dictionary(walk.topk, "cpu"),
    )
    direction = dictionary.W_dec[3]
    network: Any = model.network
    logits = network.lm_head.weight @ network.model.norm(direction)
    logits = logits - logits.mean()
    top = index.statistics["top_logit_tokens"][3]
    assert top.tolist() == logits.topk(10).indices.tolist()
    np.testing.assert_allclose(index.statistics["top_logit_values"][3], logits.topk(10).values, atol=1e-4)
    assert len(index.feature(3).bottom_logits) == 10


def test_search_finds_features_by_word_and_beginning(walk):
    index = load_index(walk.index)
    found = index.search("bridge")
    assert found and all("bridge" in hit.snippet.lower() for hit in found)
    assert {hit.feature.number for hit in found} <= {hit.feature.number for hit in index.search("bri", 100)}
    assert index.search("nowhere-to-be-seen") == [] and index.search("  ") == []
    for nasty in ('"', "a OR b", "NEAR(", "*", "x" * 5000, "'; DROP TABLE examples; --"):
        index.search(nasty)


def test_search_gives_phrases_and_whole_words_first(walk, tmp_path):
    index = load_index(shutil.copytree(walk.index, tmp_path / "index"))
    with contextlib.closing(sqlite3.connect(tmp_path / "made.sqlite")) as database:
        database.execute("CREATE VIRTUAL TABLE examples USING fts5 (fires, contexts)")
        rows = [
            (1, "gateway", "the gateway is golden"),
            (2, "gate", "a golden fence, a front gate"),
            (3, "gateway", "a golden gateway"),
            (4, "of", "the tower of the Golden Gate"),
            (5, "Gate", "the tower of the Golden Gate"),
            (6, "gate", "a garden gate"),
        ]
        database.executemany("INSERT INTO examples (rowid, fires, contexts) VALUES (?, ?, ?)", rows)
        database.commit()
    index.__dict__["text"] = IndexText(tmp_path / "made.sqlite")
    index.labels.add(7, "a gate, painted golden")
    index.labels.add(8, "the Golden Gate Bridge")
    found = [hit.feature.number for hit in index.search("golden gate")]
    assert found == [8, 5, 4, 7, 2, 3, 1]
    assert [hit.feature.number for hit in index.search("golden gate", 4)] == found[:4]
    assert {hit.feature.number for hit in index.search("golden gatew")} == {1, 3}
    assert [label.feature for label, _ in index.labels.search("golden gate")] == [8, 7]
    assert [label.feature for label, _ in index.labels.search("golden gat", 1)] == [8]


def test_other_text_models_and_numbers(walk, tmp_path):
    with pytest.raises(FeatureError, match="features 0 to 63"):
        load_index(walk.index).feature(64)
    wide = write_model(tmp_path / "wide", "gpt2")
    sonde.index(wide, walk.topk, texts(5), out=tmp_path / "ok", device="cpu")  # another model of the same width
    from transformers import GPT2Config, GPT2LMHeadModel

    from tests.tiny import make_tokenizer

    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=259)).save_pretrained(
        tmp_path / "narrow"
    )
    make_tokenizer().save_pretrained(tmp_path / "narrow")
    with pytest.raises(ArtifactMismatchError, match="width 32, but layers.1.residual of .* has width 16"):
        sonde.index(tmp_path / "narrow", walk.topk, texts(5), out=tmp_path / "no", device="cpu")
    assert not (tmp_path / "no").exists()


def test_a_damaged_index_is_refused(walk, tmp_path):
    shutil.copytree(walk.index, tmp_path / "i")
    (tmp_path / "i" / "postings.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactDamagedError, match="0 bytes instead of"):
        load_index(tmp_path / "i")


ARRAYS = ("postings.safetensors", "features.safetensors", "coactive.safetensors")


def same(one, other):
    """Whether two indexes are equal: their arrays, and the rows of their tables."""
    import sqlite3

    for name in ARRAYS:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for table in ("documents", "vocabulary", "examples"):
        rows = [
            sqlite3.connect(folder / "index.sqlite").execute(f"SELECT rowid, * FROM {table}").fetchall()
            for folder in (one, other)
        ]
        assert rows[0] == rows[1] and rows[0]


@pytest.fixture
def small_tasks(monkeypatch):
    """Tasks of 2,000 tokens."""
    from sonde.features import build as module

    monkeypatch.setattr(module, "TASK_TOKENS", 2000)


def test_any_memory_and_any_number_of_workers_give_one_index(walk, tmp_path, small_tasks, monkeypatch):
    from sonde.features import build as module

    given = {"device": "cpu", "threads": 1}
    sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "one", **given)
    sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "tight", memory=10**6, **given)
    sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "two", workers=2, **given)
    same(tmp_path / "one", tmp_path / "tight")
    same(tmp_path / "one", tmp_path / "two")
    assert load_index(tmp_path / "one").manifest.id == load_index(tmp_path / "two").manifest.id
    assert not (tmp_path / "one" / module.SEGMENTS).exists()


def test_empty_documents_at_the_end_are_no_task(walk, tmp_path, monkeypatch):
    from sonde.features import build as module

    monkeypatch.setattr(module, "TASK_TOKENS", 1)
    made = sonde.index(None, walk.topk, ["a few words", "", "more", "", ""], out=tmp_path / "i", device="cpu")
    assert made.facts.documents == 5 and made.fires(int(made.statistics["density"].argmax())).document.max() <= 2


def test_several_dictionaries_in_one_pass(walk, tmp_path, small_tasks):
    made = sonde.index(None, [walk.topk, walk.l1], walk.corpus, out=tmp_path / "both", device="cpu")
    assert [index.folder for index in made] == [tmp_path / "both" / "topk", tmp_path / "both" / "l1"]
    for index, dictionary in zip(made, (walk.topk, walk.l1), strict=True):
        alone = sonde.index(None, dictionary, walk.corpus, out=tmp_path / f"alone-{dictionary.name}", device="cpu")
        same(index.folder, alone.folder)
    with pytest.raises(UsageError, match="two dictionaries are named topk"):
        sonde.index(None, [walk.topk, walk.topk], walk.corpus, out=tmp_path / "twice", device="cpu")


def test_a_sample_keeps_the_strongest_and_knows_the_rest(walk, tmp_path, small_tasks):
    whole = sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "whole", device="cpu")
    some = sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "some", device="cpu", sample=20)
    off = []
    for feature, all_of_it in zip(some.features, whole.features, strict=True):
        assert (feature.count, feature.maximum) == (all_of_it.count, all_of_it.maximum)
        assert feature.mean == pytest.approx(all_of_it.mean, rel=1e-6)
        kept, everything = some.fires(feature.number), whole.fires(feature.number)
        assert len(kept.value) == min(feature.count, 40)
        for one, other in zip(kept, everything, strict=True):
            assert (one[:20] == other[:20]).all()
        places = set(zip(everything.document.tolist(), everything.position.tolist(), strict=True))
        assert set(zip(kept.document.tolist(), kept.position.tolist(), strict=True)) <= places
        assert feature.weights.sum() == pytest.approx(feature.count)
        assert sum(feature.histogram()) == pytest.approx(feature.count, abs=10)
        if feature.count > 100:
            off.append(feature.quantiles([0.5])[0] / all_of_it.quantiles([0.5])[0] - 1)
    assert abs(np.mean(off)) < 0.05 and len(off) > 20  # no bias, as strongest-first keeping would have


def test_what_fires_together_equals_brute_force(walk, brute):
    index, (activations, _) = load_index(walk.index), brute
    fires = (activations > 0).astype(np.float64)
    number = int(fires.sum(axis=0).argmax())
    expected = fires.T @ fires[:, number] / np.sqrt(np.maximum(fires.sum(axis=0) * fires[:, number].sum(), 1))
    expected[number] = 0
    found = index.feature(number).fires_with(5)
    assert [hit.score for hit in found] == pytest.approx(np.sort(expected)[::-1][:5], abs=1e-3)
    assert all(hit.score == pytest.approx(expected[hit.feature.number], abs=1e-3) for hit in found)


def test_all_features_as_a_table(walk, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    index = load_index(walk.index)
    table = pyarrow.table(index.features)
    assert table.column("feature").to_pylist() == list(range(64))
    assert table.column("density").to_pylist() == [feature.density for feature in index.features]
    assert table.column("top_tokens").to_pylist()[3] == [text for text, _ in index.feature(3).top_logits]
    index.features.to_parquet(tmp_path / "features.parquet")
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "features.parquet").equals(table)
    assert len(index.features) == 64 and index.features[-1].number == 63
    assert [feature.number for feature in index.features[2:4]] == [2, 3]
    assert "feature" in index.features._repr_html_()


@pytest.mark.parametrize("n_tokens", [2**16, 2**16 + 1, 2**24, 2**24 + 1, 2**32 + 5])
def test_postings_hold_the_numbers_of_long_texts(n_tokens):
    token = np.array([0, 65_535, min(65_536, n_tokens - 1), n_tokens - 1], dtype=np.uint64)
    value = np.array([3e-5, 7.0, 65_000.0, 300_000.0], dtype=np.float32)
    fires = Fires(token, np.zeros(4, dtype=np.uint32), value)
    packed = pack(fires, np.array([300_000.0]), n_tokens)
    assert packed.itemsize == {2**16: 4, 2**16 + 1: 5, 2**24: 5, 2**24 + 1: 6}.get(n_tokens, 8)
    assert (tokens_of(packed) == token).all()
    np.testing.assert_allclose(packed["value"].astype(np.float64) * 300_000, value, rtol=5e-4, atol=0.02)
    assert (packed["value"] > 0).all()


@pytest.mark.parametrize("step", ["build.write_task", "finish._merge", "finish.write_search"])
def test_a_stopped_index_made_again_equals_one_that_was_not(walk, tmp_path, monkeypatch, step):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"sonde.features.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "i", device="cpu")
    with pytest.raises(ArtifactDamagedError, match="unfinished"):
        load_index(tmp_path / "i")
    sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "i", device="cpu")
    same(tmp_path / "i", walk.index)


def test_a_killed_index_goes_on_where_it_was(walk, tmp_path, small_tasks, monkeypatch):
    from sonde.features import build as module

    whole = sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "whole", device="cpu")
    compute, count = module.IndexWorker.compute, [0]

    def stop(*arguments):
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return compute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module.IndexWorker, "compute", stop)
        with pytest.raises(KeyboardInterrupt):
            sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "i", device="cpu")
    computed = []
    monkeypatch.setattr(module.IndexWorker, "compute", lambda *a: computed.append(a[1].number) or compute(*a))
    sonde.index(None, walk.topk, walk.corpus, out=tmp_path / "i", device="cpu")
    assert computed[0] > 1 and len(computed) > 1
    same(tmp_path / "i", whole.folder)


def index_slowly(dictionary, corpus, out):
    """Make an index in tasks of 2,000 tokens, with a moment to be killed at before each is written."""
    from sonde.features import build

    module: Any = build
    module.TASK_TOKENS, write = 2000, module.write_task

    def slow(*arguments):
        time.sleep(0.03)
        return write(*arguments)

    module.write_task = slow
    sonde.index(None, dictionary, corpus, out=out, device="cpu")


@pytest.mark.parametrize("n_points", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_sigkill_at_any_task_changes_no_bit(walk, tmp_path, n_points):
    assert not kill.run(index_slowly, walk.topk, walk.corpus, tmp_path / "whole")
    generator, killed = random.Random(0), 0
    for number in range(4 * n_points):
        out = tmp_path / f"killed-{number}"
        moment = kill.Moment(lambda out=out: len(list(out.glob("segments/*.json"))), 8, generator)
        killed += kill.run(index_slowly, walk.topk, walk.corpus, out, until=moment)
        assert not kill.run(index_slowly, walk.topk, walk.corpus, out)
        same(out, tmp_path / "whole")
        if killed >= n_points:
            break
    assert killed >= n_points


def test_an_installed_dictionary_is_found_wherever_sonde_now_is(walk, tmp_path, monkeypatch):
    """An index remembers where its dictionary was, which for an installed one changes with each environment."""
    from sonde.dictionaries import installed

    folder = tmp_path / "index"
    shutil.copytree(walk.index, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parents"]["dictionary"]["path"] = "/an/environment/that/is/gone"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactMissingError, match="that/is/gone"):
        sonde.load_index(folder).find_dictionary()
    monkeypatch.setattr(installed, "_folder", lambda name: walk.topk)
    assert sonde.load_index(folder).find_dictionary().folder == walk.topk
