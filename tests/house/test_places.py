"""Where things are written: folders that another run has, places that cannot be, odd names, homes and clocks."""

import errno
import fcntl
import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sonde
from sonde.analysis import layout
from sonde.cli import run
from sonde.errors import OutputBusyError, SondeError
from sonde.features.labels import Labels
from sonde.kernels import compiled
from sonde.locks import LOCK, locked, locked_file
from sonde.manifests import verify, write_bytes
from sonde.remote import local_path
from sonde.steering.presets import load_presets, save_preset
from sonde.web.export import export
from sonde.web.page import is_built
from sonde_world.sight import SightConfig, add_sight
from sonde_world.train import TrainWorldConfig, train_world
from sonde_world.turned import write_turned
from tests.tiny import texts, write_gguf

SITE = "layers.1.residual"
TRAIN: dict[str, Any] = {"n_features": 16, "k": 2, "tokens": 1000, "device": "cpu"}
VECTORS = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
FOLDERS: dict[str, Callable[[Any, Path], Any]] = {
    "harvest": lambda walk, out: sonde.harvest(walk.model, texts(40), site=SITE, out=out),
    "import": lambda walk, out: sonde.from_vectors(VECTORS, site=SITE, out=out),
    "train": lambda walk, out: sonde.train(walk.acts, out=out, **TRAIN),
    "train live": lambda walk, out: sonde.train(sonde.Live(walk.model, texts(40), site=SITE), out=out, **TRAIN),
    "save_dictionary": lambda walk, out: sonde.save_dictionary(sonde.load_dictionary(walk.topk), out),
    "index": lambda walk, out: sonde.index(None, walk.topk, texts(40), out=out, device="cpu"),
    "demo": lambda walk, out: sonde.demo(out, model="world"),
}
"""verb -> what makes a folder"""
FILES: dict[str, Callable[[Any, Path], Any]] = {
    "label --export": lambda walk, out: sonde.load_index(walk.index).labels.export(out),
    "save_vector": lambda walk, out: sonde.save_vector(out, torch.ones(32), site=SITE),
    "world write": lambda walk, out: sonde.world.write(3, out),
}
"""verb -> what makes a file"""
OTHERS: dict[str, Callable[[Any, Path], Any]] = {
    "export": lambda walk, out: export(walk.index, out),
    "world turned": lambda walk, out: write_turned(out),
    "world train": lambda walk, out: train_world(out, TrainWorldConfig(tokens=1)),
    "world train, eyes": lambda walk, out: add_sight(walk.model, out, SightConfig(pictures=1)),
}
"""verb -> what makes a folder that is no artifact"""


def generate(walk: Any, out: Path) -> Path:
    return sonde.generate(walk.model, ["the", "red"], out=f"{out}.jsonl", plain=True, max_new_tokens=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ two runs


@pytest.mark.parametrize("verb", FOLDERS)
def test_of_two_runs_on_one_folder_one_is_told_so(walk, tmp_path, verb):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        with pytest.raises(OutputBusyError, match="another run is writing .*; wait for it") as caught:
            FOLDERS[verb](walk, out)
        assert "\n" not in str(caught.value) and set(contents(out)) == {LOCK}
    if verb != "demo":
        FOLDERS[verb](walk, out)
        assert (out / "manifest.json").exists() and not (out / LOCK).exists()


@pytest.mark.parametrize("verb", OTHERS)
def test_what_is_no_artifact_is_written_by_one_run_too(walk, tmp_path, verb):
    if verb == "export" and not is_built():
        pytest.skip("the page is not built")
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        with pytest.raises(OutputBusyError, match="another run is writing .*; wait for it"):
            OTHERS[verb](walk, out)
        assert set(contents(out)) == {LOCK}


def test_a_file_of_answers_is_written_by_one_run(walk, tmp_path):
    out = tmp_path / "a"
    with (
        locked_file(tmp_path / "a.jsonl"),
        pytest.raises(OutputBusyError, match="another run is writing .*a.jsonl; wait for it"),
    ):
        generate(walk, out)
    alone = generate(walk, out).read_bytes()
    assert len(alone.splitlines()) == 2 and generate(walk, out).read_bytes() == alone


def test_each_of_several_folders_may_be_the_busy_one(walk, sizes, tmp_path):
    dictionaries = [walk.topk, sizes.parent / "small"]
    (tmp_path / "i/small").mkdir(parents=True)
    (tmp_path / "s/k=2").mkdir(parents=True)
    swept: dict[str, Any] = TRAIN | {"k": None}
    with locked(tmp_path / "i/small"), locked(tmp_path / "s/k=2"):
        with pytest.raises(OutputBusyError, match="i/small"):
            sonde.index(None, dictionaries, texts(40), out=tmp_path / "i", device="cpu")
        with pytest.raises(OutputBusyError, match="k=2"):
            sonde.sweep(walk.acts, out=tmp_path / "s", over={"k": [1, 2]}, **swept)
    assert len(sonde.index(None, dictionaries, texts(40), out=tmp_path / "i", device="cpu")) == 2


def test_runs_that_begin_together_make_what_one_makes(walk, tmp_path):
    alone = FOLDERS["index"](walk, tmp_path / "alone")
    start = threading.Barrier(4)

    def begin(_: int) -> str:
        start.wait()
        try:
            return FOLDERS["index"](walk, tmp_path / "out").manifest.id
        except OutputBusyError:
            return "busy"

    with ThreadPoolExecutor(4) as pool:
        ended = set(pool.map(begin, range(4)))
    assert alone.manifest.id in ended <= {alone.manifest.id, "busy"}
    assert FOLDERS["index"](walk, tmp_path / "out").manifest.id == alone.manifest.id


@pytest.mark.parametrize("verb", ["neurons", "map"])
def test_what_is_kept_beside_an_index_is_of_one_run(walk, tmp_path, verb, monkeypatch):
    laid_out = lambda rows, *_: (rows[:, :2], np.zeros(len(rows), dtype=np.int32))  # noqa: E731
    monkeypatch.setattr(layout, "_lay_out", laid_out)  # which needs an extra, and seconds
    folder = shutil.copytree(walk.index, tmp_path / "index")
    add = {"neurons": lambda: sonde.neurons(folder, tokens=500, device="cpu"), "map": lambda: sonde.map(folder)}[verb]
    before = contents(folder)
    with locked(folder), pytest.raises(OutputBusyError, match="another run is writing"):
        add()
    assert contents(folder) == before
    add()
    assert set(contents(folder)) - set(before) == {f"{verb}.json", f"{verb}.safetensors"}


def test_two_that_label_lose_nothing(walk, tmp_path):
    folder = shutil.copytree(walk.index, tmp_path / "index")
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: sonde.label(folder, n=12), range(2)))
        list(pool.map(lambda n: sonde.load_index(folder).labels.add(n, f"mine {n}"), range(30)))
    labels = sonde.load_index(folder).labels
    assert all(report.n_features == 12 for report in reports) and labels.n_labelled >= 30
    assert [labels.history(n)[-1].label for n in range(30)] == [f"mine {n}" for n in range(30)]


def test_a_file_that_several_write_is_that_of_one(tmp_path):
    parts = [bytes([n]) * 20_000 for n in range(8)]
    path = tmp_path / "a"
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda data: write_bytes(path, iter([data[:10_000], data[10_000:]])), parts))
            assert path.read_bytes() in parts
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_lock_that_is_let_go_while_another_opens_it_is_no_lock_of_both(tmp_path, monkeypatch):
    first, flock = locked(tmp_path), fcntl.flock
    first.__enter__()

    def late(handle: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.__exit__(None, None, None)  # between the other's opening of the file and its asking for the lock
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path), pytest.raises(OutputBusyError), locked(tmp_path):
        pass


# ------------------------------------------------------------------ places that cannot be


def impossible(folder: Path) -> dict[str, Any]:
    """What is wrong -> a path of that kind."""
    (folder / "file").write_text("x")
    (folder / "loop").symlink_to(folder / "loop")
    return {
        "too long": folder / ("x" * 300),
        "too long in bytes": folder / ("\N{BRIDGE AT NIGHT}" * 70),
        "zero": f"{folder}/a\0b",
        "in a file": folder / "file" / "x",
        "in a loop": folder / "loop" / "x",
        "in no file system": "/proc/x" if Path("/proc/self").exists() else "/dev/null/x",
    }


@pytest.mark.parametrize("verb", [*FOLDERS, *OTHERS, *FILES, "generate"])
def test_a_place_that_cannot_be_written_is_one_line(walk, tmp_path, verb):
    makes = FOLDERS | FILES | OTHERS | {"generate": generate}
    for what, path in impossible(tmp_path).items():
        with pytest.raises(SondeError, match="can be no path|cannot write|is not built") as caught:
            makes[verb](walk, path)
        assert "\n" not in str(caught.value), what
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize(
    "read",
    [
        sonde.load_model,
        sonde.load_dictionary,
        sonde.load_index,
        sonde.load_activations,
        sonde.load_vector,
        sonde.show,
        lambda path: sonde.harvest("world", Path(path), site="final", out="new"),
        lambda path: sonde.from_vectors(Path(path), site=SITE, out="new"),
    ],
)
def test_a_place_that_cannot_be_read_is_one_line(tmp_path, read, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    for what, path in (impossible(tmp_path) | {"no such home": "~nobody-of-this-name/x"}).items():
        with pytest.raises(SondeError) as caught:
            read(path)
        assert "\n" not in str(caught.value), what


def test_a_file_that_is_a_folder_is_said(walk, tmp_path):
    for write in FILES.values():
        with pytest.raises(SondeError, match="it is a folder; give the name of a file"):
            write(walk, tmp_path)
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(SondeError, match="it is a folder; give the name of a file"):
        generate(walk, tmp_path / "a")


# ------------------------------------------------------------------ names, modes, homes, clocks


@pytest.mark.parametrize(
    "name", ["a b#c%20d?e*[f]", "\N{BRIDGE AT NIGHT}" * 45, "x" * 180], ids=["marks", "emoji", "180 letters"]
)
def test_names_may_be_odd_and_long(walk, tmp_path, monkeypatch, capsys, name):
    root = tmp_path / name
    root.mkdir()
    monkeypatch.chdir(root)
    shutil.copytree(walk.model, root / name)
    shutil.copy(walk.corpus, corpus := root / f"{name}.jsonl")
    acts, trained, index = (str(root / f"{name}{n}") for n in range(3))
    for command in (
        ["harvest", "--model", str(root / name), "--text", str(corpus), "--site", SITE, "--out", acts],
        ["train", "--activations", acts, "--n-features", "16", "--k", "2", "--tokens", "1000", "--out", trained],
        ["measure", "--dictionary", trained],
        ["index", "--dictionary", trained, "--text", str(corpus), "--tokens", "2000", "--out", index],
        ["label", index, "--n", "2"],
        ["read", index, "the red bridge"],
        ["neurons", index, "--tokens", "500"],
        ["label", index, "--export", str(root / f"{name}.labels")],
        ["show", index, "--verify"],
    ):
        assert run(command) == 0, capsys.readouterr().err
    sonde.save_vector(Path(index) / f"{name}.safetensors", torch.ones(32), site=SITE)
    if "*" not in name:
        assert sonde.make_edits(f"vector:{name}.safetensors+=1", sonde.load_index(index))


def test_a_path_that_sqlite_does_not_take_is_said_in_a_line(walk, tmp_path, capsys):
    deep = tmp_path / ("x" * 200) / ("y" * 200) / ("z" * 200)
    shutil.copytree(walk.index, deep)
    assert run(["label", str(deep), "--n", "2"]) == 2
    assert "SQLite takes paths of 510 bytes" in capsys.readouterr().err


def test_what_is_written_under_a_strict_umask_is_read_again(walk, tmp_path):
    before = os.umask(0o077)
    try:
        sonde.harvest(walk.model, texts(40), site=SITE, out=tmp_path / "acts")
        sonde.train(tmp_path / "acts", out=tmp_path / "dict", **TRAIN)
        index = sonde.index(None, tmp_path / "dict", texts(40), out=tmp_path / "index", device="cpu")
        index.labels.add(0, "a label")
        index.labels.add(1, "another")
    finally:
        os.umask(before)
    assert not [path for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077]
    assert sonde.load_index(tmp_path / "index").labels.n_labelled == 2


def test_kernels_are_compiled_without_a_home_and_with_one_that_nobody_may_write(tmp_path, monkeypatch):
    if compiled._find()[0] is None:
        pytest.skip("no C compiler here")
    variant = "portable" if "portable" in compiled.VARIANTS else next(iter(compiled.VARIANTS))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    compiler = [next(found for name in ("cc", "gcc", "clang") if (found := shutil.which(name)))]
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))
    assert compiled._cache() is None and local_path("~/x") == Path("~/x")
    assert compiled._compile(compiler, variant).is_relative_to(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache/sonde/kernels").mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "access", lambda path, how: False)  # as on a file system that is read only
    assert not compiled._compile(compiler, variant).is_relative_to(tmp_path / "cache")


@pytest.fixture
def other_file_system(tmp_path) -> Iterator[Path]:
    """A folder on another file system than that of `tmp_path`."""
    for place in map(Path, ("/dev/shm", f"/run/user/{os.getuid()}", "/var/tmp", os.path.expanduser("~"))):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("there is one file system here")


@pytest.mark.parametrize("there", ["home and outputs", "temporary files"])
def test_a_home_may_be_on_another_file_system(walk, tmp_path, other_file_system, monkeypatch, there):
    home, temporary = (other_file_system, tmp_path) if there == "home and outputs" else (tmp_path, other_file_system)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    for name, make in (FOLDERS | FILES | OTHERS | {"generate": generate}).items():
        if name != "demo" and not name.startswith("world train") and (name != "export" or is_built()):
            make(walk, home / name)
    for name in set(FOLDERS) - {"demo"}:
        assert verify(home / name).files
    sonde.label(home / "index", n=2)
    for number in (0, 1):
        sonde.load_index(home / "index").labels.add(number, "by a person")
    sonde.neurons(home / "index", tokens=500, device="cpu")
    save_preset(home / "index", "red", ["feature:3=1"])
    assert sonde.load_index(home / "index").labels.n_labelled >= 2 and "red" in load_presets(home / "index")
    write_gguf(home / "tiny.gguf")
    assert sonde.load_model(home / "tiny.gguf").generate("the", 2) is not None
    if compiled._find()[0] is not None:
        compiler = [next(found for name in ("cc", "gcc", "clang") if (found := shutil.which(name)))]
        assert compiled._compile(compiler, "plain").is_relative_to(home / "cache")
    assert not list(temporary.glob("sonde*"))


def test_a_database_is_made_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: Labels(tmp_path).add(n, "red"), range(12)))
    assert Labels(tmp_path).n_labelled == 12 and not [path for path in tmp_path.iterdir() if "sqlite." in path.name]


def test_clocks_may_jump(walk, tmp_path, monkeypatch):
    backwards = itertools.count(2e9, -86_400)
    monkeypatch.setattr(time, "time", lambda: next(backwards))
    index = FOLDERS["index"](walk, tmp_path / "index")
    labels = [index.labels.add(3, name) for name in ("first", "second")]
    assert labels[0].at > labels[1].at and index.labels[3].label == "second"
    times = json.loads((tmp_path / "index/run.json").read_text())
    assert times["ended"] < times["began"]
    assert FOLDERS["index"](walk, tmp_path / "index").manifest == index.manifest
