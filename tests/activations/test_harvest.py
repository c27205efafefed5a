"""Harvest and stream: the rows of a direct forward pass, each once, in an order that only the seed decides."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import sonde
from sonde.activations import harvest as harvest_module
from sonde.activations import shuffle
from sonde.activations.corpus import Document, is_held_out
from sonde.activations.store import load_activations
from sonde.errors import ActivationError, ArtifactDamagedError, OutputOccupiedError, SiteError, TextError
from sonde.manifests import MANIFEST
from tests.tiny import make_model, texts, write_corpus

SITE = "layers.1.residual"


def rows_of(store) -> dict[tuple[int, int], torch.Tensor]:
    """(document, position) -> vector, over all piles."""
    rows = {}
    for number in range(store.n_piles):
        pile = store.pile(number)
        keys = zip(pile["document"].tolist(), pile["position"].tolist(), strict=True)
        rows |= dict(zip(keys, pile["vectors"], strict=True))
    return rows


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_rows_are_those_of_a_direct_forward_pass(family, tmp_path):
    model, documents = make_model(family), texts(40)
    store = sonde.harvest(model, documents, site=SITE, held_out=0.2, store="float32", out=tmp_path / "a")
    rows = rows_of(store)
    kept = [number for number, text in enumerate(documents) if not is_held_out(Document(text), 0.2, 0)]
    assert {document for document, _ in rows} == set(kept) and len(kept) < 40
    for number in kept[:10]:
        direct = model.read(documents[number], SITE)[SITE][0, 1:]  # the first token is special
        assert len(direct) == sum(document == number for document, _ in rows)
        for position, vector in enumerate(direct):
            torch.testing.assert_close(rows[number, position], vector, atol=1e-5, rtol=1e-5)
    assert store.manifest.facts["held_out_documents"] == 40 - len(kept)


def test_statistics_are_those_of_the_rows(tmp_path):
    store = sonde.harvest(make_model(), texts(50), site=SITE, store="float32", out=tmp_path / "a")
    vectors = torch.stack(list(rows_of(store).values())).double()
    torch.testing.assert_close(store.mean, vectors.mean(dim=0))
    facts = store.manifest.facts
    assert facts["mean_squared_norm"] == pytest.approx(vectors.square().sum(dim=1).mean().item())
    assert store.variance == pytest.approx((vectors - vectors.mean(dim=0)).square().sum(dim=1).mean().item())
    for q, value in facts["norm_quantiles"].items():
        assert value == pytest.approx(vectors.norm(dim=1).quantile(float(q)).item(), rel=0.03)


def test_long_documents_are_cut_into_contexts(tmp_path):
    model = make_model()
    long = " ".join(texts(30))
    store = sonde.harvest(model, [long], site=SITE, held_out=0.0, context=16, store="float32", out=tmp_path / "a")
    rows = rows_of(store)
    assert len(rows) == len(model.tokenizer(long, add_special_tokens=False)["input_ids"])
    ids = model.tokenizer(long, add_special_tokens=False)["input_ids"][15:30]
    direct = model.read(model.pad([[1, *ids]]), SITE)[SITE][0, 1:]
    torch.testing.assert_close(torch.stack([rows[0, p] for p in range(15, 30)]), direct, atol=1e-5, rtol=1e-5)


def test_heads_are_laid_side_by_side(tmp_path):
    store = sonde.harvest(make_model(), texts(10), site="layers.0.heads", out=tmp_path / "a")
    assert store.width == 32


def test_tokens_stop_the_harvest_and_too_few_are_used_whole(tmp_path):
    said = []
    reporter = sonde.progress.Silent()
    reporter.say = said.append
    few = sonde.harvest(make_model(), texts(50), site=SITE, tokens=300, out=tmp_path / "a")
    assert 300 <= few.n_rows < 400
    all_of_it = sonde.harvest(make_model(), texts(5), site=SITE, tokens=10**6, out=tmp_path / "b", reporter=reporter)
    assert all_of_it.n_rows < 1000 and "fewer than the 1,000,000 asked for" in said[0]


def test_the_stream_reads_every_row_once_an_epoch_in_a_new_order(walk):
    store = load_activations(walk.acts)
    whole = store.n_rows // 64 * 64
    stream = store.stream(64)
    first = torch.cat([next(stream) for _ in range(whole // 64)])
    piles = torch.cat([store.pile(number)["vectors"] for number in range(store.n_piles)])
    assert torch.equal(first, piles[:whole])
    again = torch.cat([next(stream) for _ in range(whole // 64)])
    assert not torch.equal(first, again)
    joined = torch.cat([first, again])[: 2 * whole]
    resumed = store.stream(64, start=64 * 5)
    for number in range(5, 2 * whole // 64):
        assert torch.equal(next(resumed), joined[64 * number : 64 * (number + 1)])


def test_the_order_depends_on_the_seed_alone(tmp_path, monkeypatch):
    """The same rows in the same order, however they are split over segments."""
    model, documents = make_model(), texts(60)
    stores = []
    for task_bytes, name in ((1 << 26, "one"), (1 << 8, "many")):
        monkeypatch.setattr(harvest_module, "TASK_BYTES", task_bytes)
        stores.append(sonde.harvest(model, documents, site=SITE, store="float32", out=tmp_path / name))
    one, many = stores
    assert len(one.segments) == 1 and len(many.segments) > 1
    left, right = one.pile(0), many.pile(0)
    for name in ("document", "position", "token"):
        assert torch.equal(left[name], right[name])
    torch.testing.assert_close(left["vectors"], right["vectors"], atol=1e-5, rtol=1e-5)
    other = sonde.harvest(model, documents, site=SITE, seed=1, out=tmp_path / "other")
    assert not torch.equal(other.pile(0)["document"], left["document"][: other.n_rows])


@given(st.integers(1, 400), st.integers(0, 2**62), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_shuffled_rows_are_a_permutation_sorted_by_key(n, seed, epoch):
    document, position = np.arange(n) // 7, np.arange(n) % 7
    keys = shuffle.row_keys(seed, epoch, document, position)
    order = shuffle.shuffled(keys, document, position)
    assert sorted(order) == list(range(n))
    assert (np.diff(keys[order].astype(object)) >= 0).all()
    table = shuffle.offset_table(keys[order])
    assert table[0] == 0 and table[-1] == n and (np.diff(table) >= 0).all()


def test_the_shuffle_is_uniform():
    """Chi-square of source block against destination block, both tails (1e-4), and neighbours part."""
    n, blocks = 100_000, 20
    document, position = np.arange(n) // 50, np.arange(n) % 50
    order = shuffle.shuffled(shuffle.row_keys(0, 0, document, position), document, position)
    table = np.zeros((blocks, blocks))
    np.add.at(table, (order * blocks // n, np.arange(n) * blocks // n), 1)
    expected = n / blocks**2
    statistic = ((table - expected) ** 2 / expected).sum()
    freedom = (blocks - 1) ** 2
    # Wilson-Hilferty: the cube root of a chi-square is nearly normal.
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / np.sqrt(2 / (9 * freedom))
    assert abs(z) < 3.9
    assert np.abs(np.diff(order)).mean() == pytest.approx(n / 3, rel=0.02)


def test_harvest_again_does_nothing_and_other_settings_are_refused(walk):
    before = (walk.acts / MANIFEST).read_bytes()
    sonde.harvest(walk.model, walk.corpus, site=SITE, held_out=0.1, out=walk.acts)
    assert (walk.acts / MANIFEST).read_bytes() == before
    with pytest.raises(OutputOccupiedError, match="made differently"):
        sonde.harvest(walk.model, walk.corpus, site="layers.0.residual", held_out=0.1, out=walk.acts)


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_stopped_harvest_goes_on_and_ends_bit_equal(tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(harvest_module, "TASK_BYTES", 1 << 8)
    model, corpus = make_model(), write_corpus(tmp_path / "c.jsonl", 150)
    whole = sonde.harvest(model, corpus, site=SITE, out=tmp_path / "whole")
    run, calls = harvest_module._run_task, []

    def stop(*arguments):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(1)
        return run(*arguments)

    monkeypatch.setattr(harvest_module, "_run_task", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.harvest(model, corpus, site=SITE, out=tmp_path / "part")
    with pytest.raises(ArtifactDamagedError, match="unfinished"):
        load_activations(tmp_path / "part")
    monkeypatch.setattr(harvest_module, "_run_task", run)
    resumed = sonde.harvest(model, corpus, site=SITE, out=tmp_path / "part")
    assert len(whole.segments) > stop_after
    assert resumed.manifest.files == whole.manifest.files and resumed.manifest.id == whole.manifest.id


def test_nan_activations_are_refused_by_place(tmp_path):
    model = make_model()
    with torch.no_grad():
        model.network.get_input_embeddings().weight[ord("z") + 3 - 20 :] = float("nan")
        model.network.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(ActivationError, match=r"not finite, the first in document \d+ at token \d+"):
        sonde.harvest(model, texts(5), site=SITE, out=tmp_path / "a")
    with pytest.raises(ArtifactDamagedError, match="unfinished"):
        load_activations(tmp_path / "a")


def test_wrong_sites_and_texts_leave_no_folder(tmp_path):
    model = make_model()
    with pytest.raises(SiteError):
        sonde.harvest(model, texts(5), site="layers.1.residul", out=tmp_path / "a")
    with pytest.raises(TextError):
        sonde.harvest(model, tmp_path / "none.jsonl", site=SITE, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_truncated_segment_is_refused(walk, tmp_path):
    shutil.copytree(walk.acts, tmp_path / "a")
    segment = next((tmp_path / "a" / "segments").glob("*.safetensors"))
    segment.write_bytes(segment.read_bytes()[:-10])
    with pytest.raises(ArtifactDamagedError, match="truncated"):
        load_activations(tmp_path / "a")


def test_the_store_is_what_its_page_says(walk):
    """docs/formats.md, read with the safetensors library alone."""
    manifest = json.loads((walk.acts / MANIFEST).read_text())
    [name] = [name for name in manifest["files"] if name.startswith("segments/")]
    columns = load_file(walk.acts / name)
    assert set(columns) == {"vectors", "token", "document", "position", "offsets"}
    assert columns["vectors"].dtype == torch.bfloat16 and len(columns["vectors"]) == manifest["facts"]["rows"]
