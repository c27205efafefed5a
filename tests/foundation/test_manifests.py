"""Artifacts are whole or absent, and a reader says what is wrong with one."""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from sonde.artifacts import new_artifact
from sonde.errors import (
    ArtifactDamagedError,
    ArtifactForeignError,
    ArtifactMissingError,
    OutputBusyError,
    OutputOccupiedError,
    StorageError,
)
from sonde.manifests import MANIFEST, UNFINISHED, find_parent, parent_entry, read_manifest, verify, write_bytes
from tests.known import known
from tests.tiny import unwritable


def make(folder: Path, data: bytes = b"data", parents=None, format="index", **settings):
    with new_artifact(folder, format=format, settings=settings, parents=parents or {}) as draft:
        if not draft.finished:
            write_bytes(folder / "data.bin", data)
            draft.finish(["data.bin"], {"size": len(data)})
    return known(draft.finished)


def test_a_finished_artifact_reads_back(tmp_path):
    made = make(tmp_path / "a", seed=1)
    read = read_manifest(tmp_path / "a", "index")
    assert read == made
    assert read.id == made.id and read.facts == {"size": 4}
    assert not (tmp_path / "a" / UNFINISHED).exists()
    assert verify(tmp_path / "a") == made


def test_the_content_id_knows_content_and_not_place(tmp_path):
    first, second = make(tmp_path / "a", seed=1), make(tmp_path / "b", seed=1)
    assert first.id == second.id
    assert make(tmp_path / "c", seed=2).id != first.id
    assert make(tmp_path / "d", b"other", seed=1).id != first.id
    parent = parent_entry(tmp_path / "a", first)
    child = make(tmp_path / "e", parents={"parent": parent})
    assert child.id == make(tmp_path / "f", parents={"parent": parent | {"path": "/elsewhere"}}).id
    assert find_parent(child, "parent", tmp_path / "e", "index") == ((tmp_path / "a"), first)


def test_a_parent_that_has_gone_or_changed_is_refused(tmp_path):
    child = make(tmp_path / "b", parents={"parent": parent_entry(tmp_path / "a", make(tmp_path / "a"))})
    os.rename(tmp_path / "a", tmp_path / "moved")
    with pytest.raises(ArtifactMissingError, match="does not exist"):
        find_parent(child, "parent", tmp_path / "b", "index")
    make(tmp_path / "a", b"another")
    with pytest.raises(ArtifactMissingError, match="no longer the parent"):
        find_parent(child, "parent", tmp_path / "b", "index")


def test_the_same_command_again_finds_it_finished(tmp_path):
    first = make(tmp_path / "a", seed=1)
    with new_artifact(tmp_path / "a", format="index", settings={"seed": 1}, parents={}) as draft:
        assert draft.finished == first
    with pytest.raises(OutputOccupiedError, match="seed 1 instead of 2"):
        make(tmp_path / "a", seed=2)
    with pytest.raises(OutputOccupiedError, match="made differently"):
        make(tmp_path / "a", format="dictionary", seed=1)


def test_an_interrupted_run_leaves_nothing_that_reads_as_whole(tmp_path):
    class Stop(Exception):
        pass

    with pytest.raises(Stop), new_artifact(tmp_path / "a", format="index", settings={"seed": 1}, parents={}):
        write_bytes(tmp_path / "a" / "half.bin", b"half")
        raise Stop
    with pytest.raises(ArtifactDamagedError, match="unfinished"):
        read_manifest(tmp_path / "a")
    with pytest.raises(OutputOccupiedError, match="unfinished run with other settings"):
        make(tmp_path / "a", seed=2)
    with new_artifact(tmp_path / "a", format="index", settings={"seed": 1}, parents={}) as draft:
        assert draft.resumed
        write_bytes(tmp_path / "a" / "data.bin", b"x")
        draft.finish(["data.bin"], {})
    assert draft.finished == read_manifest(tmp_path / "a")


def test_a_refused_run_takes_its_empty_folder_back(tmp_path):
    with pytest.raises(StorageError), new_artifact(tmp_path / "a", format="index", settings={}, parents={}):
        raise StorageError("no")
    assert not (tmp_path / "a").exists()


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(OutputOccupiedError, match=r"holiday\.jpg"):
        make(tmp_path)
    with pytest.raises(OutputOccupiedError, match="is a file"):
        make(tmp_path / "holiday.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda a: (a / "data.bin").write_bytes(b"da"), ArtifactDamagedError, "2 bytes instead of 4"),
        (lambda a: (a / "data.bin").unlink(), ArtifactDamagedError, "missing"),
        (lambda a: (a / MANIFEST).write_text("{"), ArtifactDamagedError, "cannot be read"),
        (lambda a: (a / MANIFEST).write_text("[]"), ArtifactDamagedError, "cannot be read"),
        (lambda a: (a / MANIFEST).unlink(), ArtifactForeignError, "has no manifest"),
        (lambda a: rewrite(a, format="dictionary"), ArtifactForeignError, "holds a dictionary"),
        (lambda a: rewrite(a, version=9), ArtifactForeignError, "format version 9"),
    ],
)
def test_a_damaged_artifact_is_refused_and_says_why(tmp_path, damage, error, message):
    make(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(error, match=message):
        read_manifest(tmp_path / "a", "index")


def rewrite(folder: Path, **changes):
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_one_flipped_bit_is_found(tmp_path):
    make(tmp_path / "a", b"\0" * 1000)
    data = bytearray(b"\0" * 1000)
    data[700] ^= 4
    (tmp_path / "a" / "data.bin").write_bytes(data)
    read_manifest(tmp_path / "a")
    with pytest.raises(ArtifactDamagedError, match=r"data\.bin has checksum"):
        verify(tmp_path / "a")


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(ArtifactMissingError, match="does not exist"):
        read_manifest(tmp_path / "nowhere", "index")


def hold(folder: Path, ready, go):
    with new_artifact(folder, format="index", settings={}, parents={}) as draft:
        ready.set()
        go.wait(30)
        write_bytes(folder / "data.bin", b"x")
        draft.finish(["data.bin"], {})


def test_two_runs_on_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "a", ready, go))
    other.start()
    assert ready.wait(60)
    with pytest.raises(OutputBusyError, match="another run is writing"):
        make(tmp_path / "a")
    go.set()
    other.join(60)
    assert other.exitcode == 0
    assert read_manifest(tmp_path / "a").facts == {}


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        make(unwritable(tmp_path) / "a")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sonde.manifests.os.fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        write_bytes(tmp_path / "data.bin", b"x")
