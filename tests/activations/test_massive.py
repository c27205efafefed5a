"""Massive activations: planted, found by themselves, left out of everything, and counted."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch

import sonde
from sonde.errors import SettingsError
from sonde.models.load import load_model
from sonde.progress import Silent
from sonde.steering.directions import Clamp, FeatureEdit
from sonde.steering.edits import Edit
from sonde.steering.row_edits import edits_of_rows
from tests.known import known
from tests.tiny import make_network, make_tokenizer

SITE = "layers.0.residual"
PLANTED = "~"
TRAIN: dict[str, Any] = {"n_features": 8, "k": 2, "tokens": 600, "batch_size": 50, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model in which one letter has vectors a hundred times as long as those of others."""
    path = tmp_path_factory.mktemp("massive") / "model"
    network, tokenizer = make_network("llama"), make_tokenizer()
    token = tokenizer(PLANTED, add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        known(network.get_input_embeddings().get_parameter("weight"))[token] *= 300
    network.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def corpus(folder):
    rng = np.random.default_rng(0)
    path = folder.parent / "corpus.jsonl"
    letters = list("abcdefgh ") * 4 + [PLANTED]
    texts = ["".join(rng.choice(letters, 50)) for _ in range(120)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def walk(folder, corpus):
    root = folder.parent
    store = sonde.harvest(folder, corpus, site=SITE, held_out=0.2, store="float32", out=root / "acts")
    dictionary = sonde.train(store, n_features=64, k=4, tokens=4000, out=root / "dict", device="cpu")
    index = sonde.index(folder, dictionary, corpus, out=root / "index")
    return store, dictionary, index


def letters_of(store) -> list[str]:
    tokenizer = make_tokenizer()
    return [str(tokenizer.decode([token])) for token in next(store.batches(store.n_rows, epochs=1)).token.tolist()]


def test_they_are_left_out_and_counted(walk, folder, corpus):
    store, _, _ = walk
    kept = sonde.harvest(folder, corpus, site=SITE, held_out=0.2, store="float32", massive=0, out=folder.parent / "all")
    assert PLANTED not in letters_of(store)
    n_planted = letters_of(kept).count(PLANTED)
    assert n_planted > 50
    assert store.n_rows == kept.n_rows - n_planted
    massive = store.facts.massive
    assert massive is not None
    assert (massive.rows, len(massive.tokens)) == (n_planted, 1)
    assert massive.norms[SITE] > store.norm_limits[SITE] > 5 * store.facts.sites[SITE].norm_quantiles["0.5"]
    assert kept.facts.massive is None
    assert kept.norm_limits == {}
    others = rows_of(kept)
    assert all(torch.equal(row, others[key]) for key, row in rows_of(store).items())
    assert store.facts.sites[SITE].mean_squared_norm < kept.facts.sites[SITE].mean_squared_norm / 10


def rows_of(store) -> dict[tuple[int, int], torch.Tensor]:
    rows = next(store.batches(store.n_rows, epochs=1))
    keys = zip(rows.document.tolist(), rows.position.tolist(), strict=True)
    return dict(zip(keys, rows.vectors(SITE), strict=True))


def test_equal_for_any_workers(walk, folder, corpus):
    store, _, _ = walk
    two = sonde.harvest(
        folder, corpus, site=SITE, held_out=0.2, store="float32", memory=10**6, workers=2, out=folder.parent / "two"
    )
    assert two.facts.order_checksum == store.facts.order_checksum
    assert two.norm_limits == store.norm_limits
    assert two.facts.massive == store.facts.massive


def test_the_dictionary_keeps_the_rule(walk):
    store, dictionary, _ = walk
    assert dictionary.info.norm_limits == store.norm_limits
    assert sonde.load_dictionary(dictionary.artifact.folder).info.norm_limits == store.norm_limits


def test_no_feature_fires_on_them(walk, folder):
    _, _, index = walk
    tokenizer = make_tokenizer()
    for feature in range(index.n_features):
        for example in index.feature(feature).examples(5):
            assert example.pieces[example.peak][0] != PLANTED
    fired = sonde.Reader(index).read(f"ab{PLANTED}cd")
    assert sorted(set(fired.position.tolist())) == [0, 1, 3, 4]
    assert tokenizer.decode(tokenizer(PLANTED, add_special_tokens=False)["input_ids"]) == PLANTED


def test_measure_says_both(walk, folder, corpus):
    _, dictionary, _ = walk
    measured = sonde.measure(dictionary)
    assert measured.massive > 5
    assert measured.fvu_with_massive is not None
    assert measured.fvu < 0.9
    assert abs(measured.fvu_with_massive - measured.fvu) > 0.05
    plain = sonde.measure(dictionary, text=["abcd efgh" * 3])
    assert (plain.massive, plain.fvu_with_massive) == (0, None)


def test_edits_leave_them_alone_unless_told(walk, folder):
    _, dictionary, _ = walk
    model = load_model(folder)
    tokens = model.tokenize(f"ab{PLANTED}cd")
    place = tokens.ids[0].tolist().index(make_tokenizer()(PLANTED, add_special_tokens=False)["input_ids"][0])
    before = model.read(tokens, SITE)
    changed = {}
    for massive in (False, True):
        edit = FeatureEdit(dictionary, Edit("clamp", 3, 5.0), massive=massive)
        for name, edits in (("one", [edit]), ("rows", edits_of_rows([(0, edit)]))):
            with model.edited(*edits):
                changed[massive, name] = (model.read(tokens, SITE) != before).any(dim=-1)[0]
        assert torch.equal(changed[massive, "one"], changed[massive, "rows"])
        assert bool(changed[massive, "one"][place]) is massive
    assert changed[False, "one"].sum() == len(changed[False, "one"]) - 1
    with model.edited(Clamp(dictionary, 3, 5.0)):
        assert torch.equal(model.read(tokens, SITE)[0, place], before[0, place])


def test_a_live_run_never_sees_them(folder, corpus):
    live = sonde.Live(folder, corpus, site=SITE, held_out=0.2, pool=500, store="float32")
    limit = live.norm_limits[SITE]
    batches = [batch for batch, _ in zip(live.stream(100), range(8), strict=False)]
    assert float(torch.cat(batches).norm(dim=1).max()) <= limit
    dictionary = sonde.train(live, n_features=32, k=4, tokens=1000, batch_size=100, out=folder.parent / "live")
    assert dictionary.info.norm_limits == live.norm_limits
    every = sonde.Live(folder, corpus, site=SITE, held_out=0.2, pool=500, store="float32", massive=0)
    assert float(torch.cat([next(every.stream(500))]).norm(dim=1).max()) > limit


def test_the_factor_is_checked(folder, corpus):
    with pytest.raises(SettingsError, match="massive"):
        sonde.harvest(folder, corpus, site=SITE, massive=0.5, out=folder.parent / "never")


def planted(n: int = 300) -> np.ndarray:
    """Rows of noise, every hundredth of them a hundred times as long."""
    rows = np.random.default_rng(0).normal(size=(n, 16)).astype(np.float32)
    rows[::100] *= 100
    return rows


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_ready_rows_that_are_massive_are_said_where_they_are_made_and_trained_on(tmp_path):
    rows, heard = planted(), Heard()
    store = sonde.from_vectors(rows, site=SITE, out=tmp_path / "acts", store="float32", reporter=heard)
    facts = store.facts.sites[SITE]
    norms = np.linalg.norm(rows[::100], axis=1)
    assert (store.n_rows, store.norm_limits, facts.massive_rows) == (300, {}, 3)
    assert facts.massive_norm == pytest.approx(norms.mean(), rel=0.03)
    share = (norms**2).sum() / (np.linalg.norm(rows, axis=1) ** 2).sum()
    sonde.train(store, out=tmp_path / "dict", reporter=(told := Heard()), **TRAIN)
    [line] = heard.lines
    assert line in told.lines and line.startswith(f"{SITE}: 3 of 300 rows are massive")
    assert line.endswith("massive=10) leaves them out")
    assert float(re.findall(r"have (\d+)% of", line)[0]) == pytest.approx(100 * share, abs=3)


def test_ready_rows_that_are_massive_are_left_out_where_that_is_asked_for(tmp_path):
    rows, heard = planted(), Heard()
    store = sonde.from_vectors(rows, site=SITE, out=tmp_path / "a", store="float16", massive=10, reporter=heard)
    ordinary = np.delete(rows, np.s_[::100], axis=0)
    assert known(store.facts.massive).rows == 3
    assert heard.lines[0].startswith("3 rows with massive activations were left out; mean norm at")
    assert store.norm_limits[SITE] == pytest.approx(10 * np.median(np.linalg.norm(rows, axis=1)), rel=0.01)
    assert store.massive_lines() == [] and store.n_rows == len(ordinary)
    vectors = {key[0]: row for key, row in rows_of(store).items()}
    assert all(np.allclose(vectors[place], rows[place], atol=2e-3) == (place in vectors) for place in vectors)
    assert set(range(300)) - set(vectors) == {0, 100, 200}
    dictionary = sonde.train(store, out=tmp_path / "dict", reporter=(told := Heard()), **TRAIN)
    assert dictionary.info.norm_limits == store.norm_limits and not [line for line in told.lines if "massive" in line]
    again = sonde.from_vectors(rows, site=SITE, out=tmp_path / "a", store="float16", massive=10)
    assert again.manifest.id == store.manifest.id
    with pytest.raises(SettingsError, match="massive"):
        sonde.from_vectors(rows, site=SITE, out=tmp_path / "b", massive=1)


def test_a_harvest_that_keeps_them_says_so_to_training(folder, corpus):
    kept = sonde.harvest(folder, corpus, site=SITE, massive=0, tokens=2000, out=folder.parent / "kept")
    [line] = kept.massive_lines()
    assert f"{SITE}: {letters_of(kept).count(PLANTED)} of {kept.n_rows:,} rows are massive" in line
    assert line.endswith("sonde harvest leaves them out without --massive 0")


def test_of_rows_that_are_mostly_nothing_none_is_massive(tmp_path):
    rows = np.zeros((100, 8), dtype=np.float32)
    rows[:9] = 1
    store = sonde.from_vectors(rows, site=SITE, out=tmp_path / "a", massive=10)
    assert (store.n_rows, store.norm_limits, store.facts.massive) == (100, {}, None)
