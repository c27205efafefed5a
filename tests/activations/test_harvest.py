"""Harvest and stream: the rows of a direct forward pass, each once, in an order that only the seed decides."""

import json
import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import sonde
from sonde.activations import dealing, ready, shuffle
from sonde.activations import harvest as harvest_module
from sonde.activations.corpus import Document, is_held_out
from sonde.activations.harvest import HarvestWorker
from sonde.activations.store import load_activations
from sonde.cli import run
from sonde.errors import (
    ActivationError,
    ArtifactDamagedError,
    CapacityError,
    OutputOccupiedError,
    SettingsError,
    SiteError,
    TextError,
    UsageError,
)
from sonde.manifests import MANIFEST
from sonde.models.load import load_model
from sonde.remote import Place
from sonde.tensor_files import read_header
from tests import kill
from tests.kill import Moment
from tests.tiny import make_model, texts, write_corpus

SITE = "layers.1.residual"


def rows_of(store) -> dict[tuple[int, int], torch.Tensor]:
    """(document, position) -> vector, over all piles."""
    rows = {}
    for number in range(store.n_piles):
        pile = store.pile(number)
        keys = zip(pile.document.tolist(), pile.position.tolist(), strict=True)
        rows |= dict(zip(keys, pile.vectors(store.site), strict=True))
    return rows


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_rows_are_those_of_a_direct_forward_pass(family, tmp_path):
    model, documents = make_model(family), texts(40)
    store = sonde.harvest(model, documents, site=SITE, held_out=0.2, store="float32", out=tmp_path / "a")
    rows = rows_of(store)
    kept = [number for number, text in enumerate(documents) if not is_held_out(Document(text), 0.2, 0)]
    assert {document for document, _ in rows} == set(kept) and len(kept) < 40
    for number in kept[:10]:
        direct = model.read(documents[number], SITE)[0, 1:]  # the first token is special
        assert len(direct) == sum(document == number for document, _ in rows)
        for position, vector in enumerate(direct):
            torch.testing.assert_close(rows[number, position], vector, atol=1e-5, rtol=1e-5)
    assert store.facts.held_out_documents == 40 - len(kept)


def test_statistics_are_those_of_the_rows(tmp_path):
    store = sonde.harvest(make_model(), texts(50), site=SITE, store="float32", out=tmp_path / "a")
    vectors = torch.stack(list(rows_of(store).values())).double()
    torch.testing.assert_close(store.mean, vectors.mean(dim=0))
    site = store.facts.sites[SITE]
    assert site.mean_squared_norm == pytest.approx(vectors.square().sum(dim=1).mean().item())
    assert store.variance == pytest.approx((vectors - vectors.mean(dim=0)).square().sum(dim=1).mean().item())
    for q, value in site.norm_quantiles.items():
        assert value == pytest.approx(vectors.norm(dim=1).quantile(float(q)).item(), rel=0.03)
    scaled = vectors * site.scale
    assert scaled.square().sum(dim=1).mean().item() == pytest.approx(32)
    first = torch.tensor([position == 0 for _, position in rows_of(store)])
    norms = vectors.norm(dim=1)
    assert site.first_token_norm == pytest.approx((norms[first].mean() / norms[~first].mean()).item())
    same = sum(a[0] == b[0] for a in rows_of(store) for b in rows_of(store)) - len(vectors)
    assert store.facts.same_document_ideal == pytest.approx(same / (len(vectors) * (len(vectors) - 1)))


def test_long_documents_are_cut_into_contexts(tmp_path):
    model = make_model()
    long = " ".join(texts(30))
    store = sonde.harvest(model, [long], site=SITE, held_out=0.0, context=16, store="float32", out=tmp_path / "a")
    rows = rows_of(store)
    assert len(rows) == len(model.tokenizer(long, add_special_tokens=False)["input_ids"])
    ids = model.tokenizer(long, add_special_tokens=False)["input_ids"][15:30]
    direct = model.read(model.pad([[1, *ids]]), SITE)[0, 1:]
    torch.testing.assert_close(torch.stack([rows[0, p] for p in range(15, 30)]), direct, atol=1e-5, rtol=1e-5)


def test_heads_are_laid_side_by_side(tmp_path):
    store = sonde.harvest(make_model(), texts(10), site="layers.0.heads", out=tmp_path / "a")
    assert store.width == 32


def test_tokens_stop_the_harvest_and_too_few_are_used_whole(tmp_path):
    said: list[str] = []
    reporter = sonde.progress.Silent()
    reporter.say = lambda line: said.append(line)
    few = sonde.harvest(make_model(), texts(50), site=SITE, tokens=300, out=tmp_path / "a")
    assert 300 <= few.n_rows < 400
    all_of_it = sonde.harvest(make_model(), texts(5), site=SITE, tokens=10**6, out=tmp_path / "b", reporter=reporter)
    assert all_of_it.n_rows < 1000 and "fewer than the 1,000,000 asked for" in said[0]


def test_the_stream_reads_every_row_once_an_epoch_in_a_new_order(walk):
    store = load_activations(walk.acts)
    whole = store.n_rows // 64 * 64
    stream = store.stream(64)
    first = torch.cat([next(stream) for _ in range(whole // 64)])
    piles = torch.cat([store.pile(number).vectors(SITE) for number in range(store.n_piles)])
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
        assert torch.equal(getattr(left, name), getattr(right, name))
    torch.testing.assert_close(left.vectors(SITE), right.vectors(SITE), atol=1e-5, rtol=1e-5)
    other = sonde.harvest(model, documents, site=SITE, seed=1, out=tmp_path / "other")
    assert not torch.equal(other.pile(0).document, left.document[: other.n_rows])


@given(st.integers(1, 400), st.integers(0, 2**62), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_shuffled_rows_are_a_permutation_sorted_by_key(n, seed, epoch):
    document, position = np.arange(n) // 7, np.arange(n) % 7
    keys = shuffle.row_keys(seed, epoch, document, position)
    order = shuffle.shuffled(keys, document, position)
    assert sorted(order) == list(range(n))
    assert (np.diff(keys[order].astype(object)) >= 0).all()
    table = dealing.offset_table(keys[order])
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
    compute, calls = HarvestWorker.compute, []

    def stop(*arguments):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(1)
        return compute(*arguments)

    monkeypatch.setattr(HarvestWorker, "compute", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.harvest(model, corpus, site=SITE, out=tmp_path / "part")
    with pytest.raises(ArtifactDamagedError, match="unfinished"):
        load_activations(tmp_path / "part")
    monkeypatch.setattr(HarvestWorker, "compute", compute)
    resumed = sonde.harvest(model, corpus, site=SITE, out=tmp_path / "part")
    assert len(whole.segments) > stop_after
    assert resumed.manifest.files == whole.manifest.files and resumed.manifest.id == whole.manifest.id


def test_nan_activations_are_refused_by_place(tmp_path):
    model = make_model()
    network: Any = model.network
    with torch.no_grad():
        network.get_input_embeddings().weight[ord("z") + 3 - 20 :] = float("nan")
        network.get_input_embeddings().weight[:] = float("nan")
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
    assert set(columns) == {"records", "offsets", "checksums"}
    facts = manifest["facts"]
    assert columns["records"].shape == (facts["rows"], facts["record_bytes"])
    numpy_names = {"bfloat16": "uint16"}
    dtype = np.dtype(
        {
            "names": [field["name"] for field in facts["fields"]],
            "formats": [(numpy_names.get(f["dtype"], f["dtype"]), (f["width"],)) for f in facts["fields"]],
            "offsets": [field["offset"] for field in facts["fields"]],
            "itemsize": facts["record_bytes"],
        }
    )
    records = columns["records"].numpy().view(dtype)[:, 0]
    store = load_activations(walk.acts)
    rows = store.pile(0)
    assert (records["document"][:, 0] == rows.document.numpy()).all()
    bits = records[f"vectors {SITE}"].astype(np.int32) << 16  # bfloat16 is the upper half of a float32
    assert (bits.view(np.float32) == rows.vectors(SITE).float().numpy()).all()


def test_several_sites_are_read_in_lockstep(tmp_path):
    model, documents = make_model(), texts(30)
    sites = ["layers.0.heads", "layers.1.residual", "layers.2.neurons"]
    both = sonde.harvest(model, documents, site=sites, store="float32", out=tmp_path / "both")
    assert both.sites == sites and [both.at(site).width for site in sites] == [32, 32, 64]
    with pytest.raises(ActivationError, match="holds 3 sites .* choose with --site"):
        both.stream(8)
    with pytest.raises(ActivationError, match=r"holds no site 'layers\.1\.residul'; did you mean"):
        both.at("layers.1.residul")
    for site in sites:
        one = sonde.harvest(model, documents, site=site, store="float32", out=tmp_path / site)
        n = one.n_rows
        assert torch.equal(next(one.stream(n)), next(both.at(site).stream(n)))
        torch.testing.assert_close(one.mean, both.at(site).mean)
    sonde.train(both, site="layers.2.neurons", n_features=16, k=2, tokens=2000, out=tmp_path / "dict", device="cpu")
    with pytest.raises(ActivationError, match="choose with --site"):
        sonde.train(both, n_features=16, k=2, tokens=2000, out=tmp_path / "none", device="cpu")


@pytest.mark.parametrize(("store", "error"), [("float32", 0.0), ("bfloat16", 4e-3), ("float16", 5e-4), ("int8", 4e-3)])
def test_number_formats_keep_what_they_can(tmp_path, store, error):
    model, documents = make_model(), texts(20)
    exact = sonde.harvest(model, documents, site=SITE, store="float32", out=tmp_path / "exact")
    kept = sonde.harvest(model, documents, site=SITE, store=store, out=tmp_path / "kept")
    x, y = next(exact.stream(exact.n_rows)), next(kept.stream(kept.n_rows)).float()
    assert ((x - y).abs().amax(dim=1) <= error * x.abs().amax(dim=1)).all()
    assert torch.equal(x, y) == (error == 0)
    bytes_of = {store.folder.name: store.facts.record_bytes for store in (exact, kept)}
    assert bytes_of["kept"] == 16 + {"float32": 128, "bfloat16": 64, "float16": 64, "int8": 40}[store]


def test_special_tokens_and_first_rows_are_as_asked(tmp_path):
    model, long = make_model(), " ".join(texts(4))
    n = len(model.tokenizer(long, add_special_tokens=False)["input_ids"])
    settings: dict[str, Any] = {"site": SITE, "held_out": 0.0, "context": 16, "store": "float32"}
    n_contexts = -(-n // 15)
    special = rows_of(sonde.harvest(model, [long], special=True, out=tmp_path / "a", **settings))
    assert len(special) == n + n_contexts
    starts = sorted(position for _, position in special if position < 0)
    assert len(starts) == n_contexts and starts[-1] == -1
    torch.testing.assert_close(special[0, -1], model.read(model.pad([[1]]), SITE)[0, 0])
    cut = sonde.harvest(model, [long], drop_first=2, out=tmp_path / "b", **settings)
    assert sorted(position for _, position in rows_of(cut)) == [p for p in range(n) if p % 15 >= 2]


@given(st.integers(1, 300), st.sampled_from([1, 2, 8, 64, 4096]), st.integers(1, 6), st.integers(1, 64))
@settings(max_examples=40, deadline=None)
def test_every_row_once_whatever_the_piles_segments_and_batches(n, n_piles, n_segments, batch):
    """The dealing engine by itself: records of any kind, dealt by key, come back as one order."""
    generator = np.random.default_rng(n)
    keys = generator.integers(0, 2**64, n, dtype=np.uint64)
    records = np.concatenate([keys.view(np.uint8).reshape(n, 8), np.arange(n).view(np.uint8).reshape(n, 8)], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        segments = []
        for number, part in enumerate(np.array_split(np.arange(n), n_segments)):
            path = Path(folder) / f"{number}.safetensors"
            dealing.write_segment(path, keys[part], records[part], np.argsort(keys[part], kind="stable"))
            segments.append(dealing.Segment(path))
        piles = [dealing.read_pile(segments, number, n_piles) for number in range(n_piles)]
        assert [len(pile) for pile in piles] == dealing.pile_sizes(dealing.total_offsets(segments), n_piles).tolist()
    dealt = [pile[np.argsort(pile[:, :8].copy().view(np.uint64)[:, 0], kind="stable")] for pile in piles]
    assert np.array_equal(np.concatenate(dealt), records[np.argsort(keys, kind="stable")])


def test_the_stream_is_one_order_for_any_memory_and_any_number_of_ranks(walk):
    store = load_activations(walk.acts)
    n = store.n_rows
    whole = next(store.stream(n))
    few = list(store.stream(64, epochs=1, memory=20_000))
    assert torch.equal(torch.cat(few), whole[: n // 64 * 64])
    for start in (64, 640):
        assert torch.equal(
            torch.cat(list(store.stream(64, start, epochs=1, memory=20_000)))[:64], whole[start : start + 64]
        )
    parts = [list(store.stream(64, epochs=2, rank=rank, n_ranks=4)) for rank in range(4)]
    together = torch.cat([torch.cat(shares) for shares in zip(*parts, strict=True)])
    assert torch.equal(together, torch.cat(list(store.stream(64, epochs=2))))
    assert len({part[0].data_ptr() for part in parts}) == 4
    with pytest.raises(CapacityError, match="epoch 2 of .* allow more, or read one epoch"):
        list(store.stream(64, epochs=2, memory=20_000))


def test_a_stream_left_early_leaves_no_thread(walk):
    stream: Any = load_activations(walk.acts).stream(64)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sonde-read-ahead")]


@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_a_flipped_bit_is_found_with_file_and_offset(walk, tmp_path, where, capsys):
    shutil.copytree(walk.acts, tmp_path / "a")
    segment = next((tmp_path / "a" / "segments").glob("*.safetensors"))
    data = bytearray(segment.read_bytes())
    first = read_header(segment).entries["records"].begin
    n_bytes = load_activations(walk.acts).n_rows * load_activations(walk.acts).layout.record_bytes
    place = first + int(where * n_bytes)
    data[place] ^= 4
    segment.write_bytes(data)
    store = load_activations(tmp_path / "a")
    with pytest.raises(
        ArtifactDamagedError, match=r"00000\.safetensors was altered in the .* bytes from offset"
    ) as caught:
        list(store.stream(64, epochs=1))
    size, offset = (int(number.replace(",", "")) for number in re.findall(r"[\d,]{2,}", str(caught.value))[-2:])
    assert offset <= place < offset + size
    assert run(["show", str(tmp_path / "a"), "--verify"]) == 2
    assert f"from offset {offset:,}" in capsys.readouterr().err
    data[place] ^= 4
    data[-100] ^= 1  # in the table of checksums
    segment.write_bytes(data)
    assert run(["show", str(tmp_path / "a"), "--verify"]) == 2
    assert "was altered" in capsys.readouterr().err


def test_the_checksum_is_of_the_rows_and_their_order(tmp_path, monkeypatch):
    """Equal for one segment and many where batches are the same; other for another seed or another row."""
    x = torch.randn(500, 8)
    settings: dict[str, Any] = {"site": SITE, "store": "float32"}
    stores = [sonde.from_vectors(x, out=tmp_path / "one", **settings)]
    monkeypatch.setattr(ready, "ROWS_AT_ONCE", 64)
    stores.append(sonde.from_vectors(x, out=tmp_path / "many", **settings))
    assert [len(store.segments) for store in stores] == [1, 8]
    assert torch.equal(*(next(store.stream(500)) for store in stores))
    x[77, 3] += 1e-3
    stores.append(sonde.from_vectors(x, out=tmp_path / "other", **settings))
    stores.append(sonde.from_vectors(x, out=tmp_path / "seed", seed=1, **settings))
    one, many, other, seed = (store.facts.order_checksum for store in stores)
    assert one == many and len({one, other, seed}) == 3


def test_ready_matrices_become_stores(tmp_path):
    x = torch.randn(300, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    save_file({"x": x}, tmp_path / "x.safetensors")
    expected = next(sonde.from_vectors(x, site=SITE, out=tmp_path / "a", store="float32").stream(300))
    assert sorted(expected[:, 0].tolist()) == sorted(x[:, 0].tolist())
    for name in ("x.npy", "x.safetensors"):
        store = sonde.from_vectors(tmp_path / name, site=SITE, out=tmp_path / f"from-{name}", store="float32")
        assert torch.equal(next(store.stream(300)), expected)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    x[3, 3] = float("nan")
    (tmp_path / "broken.npy").write_bytes(b"no")
    for vectors, message in (
        (tmp_path / "flat.npy", "a matrix .row, width. with rows is wanted"),
        (tmp_path / "none.npy", "cannot be read as a .npy or .safetensors matrix"),
        (tmp_path / "broken.npy", "cannot be read as a .npy or .safetensors matrix"),
        (x, "the matrix holds values that are not finite"),
    ):
        with pytest.raises(ActivationError, match=message):
            sonde.from_vectors(vectors, site=SITE, out=tmp_path / "wrong")


def test_show_says_how_well_rows_are_mixed(walk, capsys):
    assert run(["show", str(walk.acts), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    store = load_activations(walk.acts)
    assert shown["order_checksum"] == store.facts.order_checksum
    ideal = store.facts.same_document_ideal
    assert shown["same_document"] == pytest.approx(store.same_document())
    assert shown["same_document"] == pytest.approx(ideal, rel=0.2)


def files_of(folder: Place) -> dict[str, bytes]:
    assert isinstance(folder, Path)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_the_bytes_are_the_same_for_any_number_of_workers(walk, tmp_path, monkeypatch):
    monkeypatch.setattr(harvest_module, "TASK_BYTES", 1 << 8)
    settings = {"site": [SITE, "layers.0.mlp"], "threads": 1, "tokens": 8000}
    one, two, five = (
        sonde.harvest(walk.model, walk.corpus, workers=workers, out=tmp_path / str(workers), **settings)
        for workers in (1, 2, 5)
    )
    assert len(one.segments) > 5
    assert files_of(one.folder) == files_of(two.folder) == files_of(five.folder)
    assert one.manifest.id == two.manifest.id == five.manifest.id


def test_a_harvest_whose_worker_is_killed_goes_on_and_ends_byte_identical(walk, tmp_path, monkeypatch):
    monkeypatch.setattr(harvest_module, "TASK_BYTES", 1 << 8)
    settings = {"site": SITE, "threads": 1, "tokens": 12_000}
    whole = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "whole", **settings)
    segments = tmp_path / "part/segments"

    def kill_one() -> None:
        """Once something was written, kill a worker, as a machine short of memory does."""
        while len(list(segments.glob("*.json"))) < 2:
            time.sleep(0.01)
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        for child in map(int, children.read_text().split()):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                return

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(CapacityError, match="a worker was killed"):
        sonde.harvest(walk.model, walk.corpus, workers=2, out=tmp_path / "part", **settings)
    killer.join()
    assert 0 < len(list(segments.glob("*.json"))) < len(whole.segments)
    resumed = sonde.harvest(walk.model, walk.corpus, workers=2, out=tmp_path / "part", **settings)
    assert files_of(resumed.folder) == files_of(whole.folder) and resumed.manifest.id == whole.manifest.id


def test_errors_in_workers_are_those_of_one_process(walk, tmp_path):
    model = load_model(walk.model)
    model.name = "(in memory)"
    with pytest.raises(UsageError, match="cannot be sent to workers"):
        sonde.harvest(model, texts(5), site=SITE, workers=2, out=tmp_path / "a")
    with pytest.raises(SettingsError, match="workers is 0"):
        sonde.harvest(model, texts(5), site=SITE, workers=0, out=tmp_path / "a")


def harvest_in_small_tasks(model: Path, corpus: Path, out: str | Path, workers: int = 1) -> None:
    """For a process of its own."""
    harvest_module.TASK_BYTES = 1 << 8
    sonde.harvest(model, corpus, site=SITE, threads=1, tokens=12_000, workers=workers, out=out)


@pytest.mark.parametrize(
    ("n_kills", "workers"),
    [(3, 1), pytest.param(20, 1, marks=pytest.mark.soak), pytest.param(5, 2, marks=pytest.mark.soak)],
)
def test_sigkill_at_any_moment_changes_no_byte(walk, tmp_path, n_kills, workers):
    assert not kill.run(harvest_in_small_tasks, walk.model, walk.corpus, tmp_path / "whole")
    expected = files_of(tmp_path / "whole")
    generator, killed = random.Random(0), 0
    for number in range(n_kills):
        out = tmp_path / str(number)
        for _ in range(2):  # killed, run again, killed again
            moment = Moment(lambda: len(list((out / "segments").glob("*"))), 2 * len(expected), generator)  # noqa: B023
            killed += kill.run(harvest_in_small_tasks, walk.model, walk.corpus, out, workers, until=moment)
        assert not kill.run(harvest_in_small_tasks, walk.model, walk.corpus, out, workers)
        assert files_of(out) == expected
        assert load_activations(out).manifest.id == load_activations(tmp_path / "whole").manifest.id
    assert killed > n_kills / 2


def test_memory_decides_the_size_of_tasks_and_changes_no_row(walk, tmp_path):
    usual = sonde.harvest(walk.model, walk.corpus, site=SITE, store="float32", out=tmp_path / "usual")
    small = sonde.harvest(walk.model, walk.corpus, site=SITE, store="float32", memory=10**6, out=tmp_path / "small")
    assert len(usual.segments) == 1 and 10 < len(small.segments) <= small.n_rows / 1157 + 1
    torch.testing.assert_close(*(next(store.stream(usual.n_rows)) for store in (usual, small)), atol=1e-5, rtol=1e-5)
    with pytest.raises(SettingsError, match="memory is 5, but must be at least 1MB"):
        sonde.harvest(walk.model, walk.corpus, site=SITE, memory=5, out=tmp_path / "none")
    options = {"n_features": 16, "k": 2, "device": "cpu"}
    whole = sonde.train(usual, out=tmp_path / "whole", **options)
    piles = sonde.train(usual, memory=50_000, out=tmp_path / "piles", tokens=usual.n_rows // 512 * 512, **options)
    assert torch.equal(whole.W_dec, piles.W_dec)


def test_saelens_caches_become_stores(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets (pip install 'sonde[hf]') is not installed")
    x, tokens = torch.randn(30, 8, 4), torch.randint(0, 99, (30, 8))
    features = datasets.Features(
        {
            "blocks.1.hook_resid_post": datasets.Array2D((8, 4), "float32"),
            "token_ids": datasets.Sequence(datasets.Value("int32"), length=8),
        }
    )
    columns = {"blocks.1.hook_resid_post": x.numpy(), "token_ids": tokens.numpy()}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "cache")
    store = sonde.from_vectors(tmp_path / "cache", site=SITE, store="float32", out=tmp_path / "a")
    rows = store.pile(0)
    assert store.n_rows == 240 and store.facts.documents == 30
    assert torch.equal(rows.vectors(SITE), x[rows.document, rows.position.long()])
    assert torch.equal(rows.token.long(), tokens[rows.document, rows.position.long()])
    (tmp_path / "other").mkdir()
    with pytest.raises(ActivationError, match="holds no activations that SAELens cached"):
        sonde.from_vectors(tmp_path / "other", site=SITE, out=tmp_path / "b")


def test_the_command_line_imports_vectors(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    assert run(["import", str(tmp_path / "x.npy"), "--site", SITE, "--out", str(tmp_path / "a")]) == 0
    assert "50 rows at layers.1.residual (8)" in capsys.readouterr().out
