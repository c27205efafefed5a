"""Stores on an object store: the bytes of a local one, one writer at a time, and errors that say what is wrong."""

import itertools
import json
import logging
import random
import threading
import time
from pathlib import Path

import pytest
import torch

import sonde
from sonde import locks
from sonde.activations import harvest as harvest_module
from sonde.activations.store import load_activations
from sonde.artifacts import new_artifact
from sonde.cli import run
from sonde.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    OutputBusyError,
    OutputOccupiedError,
    SettingsError,
    StorageError,
)
from sonde.remote import RemotePath, _open_store, place
from tests import kill
from tests.activations.test_harvest import SITE, files_of, harvest_in_small_tasks
from tests.kill import Moment


@pytest.fixture(scope="session")
def s3():
    """A server that speaks S3, and what the environment must say to reach it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch, request):
    """A new bucket, as the URL of a folder in it."""
    import boto3

    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    _open_store.cache_clear()
    name = f"bucket-{abs(hash(request.node.name)):x}"
    boto3.client("s3", region_name="us-east-1", endpoint_url=s3["AWS_ENDPOINT_URL"]).create_bucket(Bucket=name)
    monkeypatch.setattr(harvest_module, "TASK_BYTES", 1 << 8)  # many small segments
    return f"s3://{name}/runs"


def remote_files(url: str) -> dict[str, bytes]:
    folder = RemotePath(url)
    return {name: (folder / name).read_bytes() for name in folder.sizes() if name.endswith(".safetensors")}


def test_a_store_in_a_bucket_is_the_local_one_byte_for_byte_and_trains_the_same(walk, bucket, tmp_path):
    settings = {"site": SITE, "threads": 1, "tokens": 6000}
    here = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "acts", **settings)
    there = sonde.harvest(walk.model, walk.corpus, out=f"{bucket}/acts", workers=2, **settings)
    assert len(there.segments) > 2 and there.manifest.id == here.manifest.id
    assert remote_files(f"{bucket}/acts") == files_of(here.folder)
    store = load_activations(f"{bucket}/acts")
    assert torch.equal(torch.cat(list(store.stream(64, epochs=2))), torch.cat(list(here.stream(64, epochs=2))))
    assert torch.equal(store.mean, here.mean) and store.same_document() == here.same_document()
    store.verify()
    assert sorted(path.name for path in place(f"{bucket}/acts").iterdir()) == [
        "manifest.json",
        "run.json",
        "segments",
        "statistics.safetensors",
    ]
    trained = {"n_features": 32, "k": 4, "device": "cpu"}
    left = sonde.train(here, out=tmp_path / "left", **trained)
    right = sonde.train(f"{bucket}/acts", out=tmp_path / "right", **trained)
    assert torch.equal(left.W_dec, right.W_dec)
    assert sonde.measure(right, model=walk.model).fvu == sonde.measure(left, model=walk.model).fvu


def test_the_command_line_takes_urls(walk, bucket, tmp_path, capsys):
    url = f"{bucket}/acts"
    command = ["harvest", "--model", str(walk.model), "--site", SITE, "--text", str(walk.corpus), "--tokens", "2000"]
    assert run([*command, "--out", url]) == 0
    assert url in capsys.readouterr().out
    assert run(["show", url, "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["out"] == url
    command = ["train", "--activations", url, "--n-features", "16", "--k", "2", "--tokens", "2000", "--device", "cpu"]
    assert run([*command, "--out", str(tmp_path / "dict")]) == 0
    assert run([*command, "--out", f"{bucket}/dict"]) == 2
    assert "must be a local path; only activations lie on object stores" in capsys.readouterr().err


@pytest.mark.parametrize("n_kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_sigkill_of_a_harvest_into_a_bucket_changes_no_byte(walk, bucket, tmp_path, n_kills):
    assert not kill.run(harvest_in_small_tasks, walk.model, walk.corpus, tmp_path / "acts")
    expected = files_of(tmp_path / "acts")
    generator, killed = random.Random(0), 0
    for number in range(n_kills):
        out = f"{bucket}/{number}"
        moment = Moment(lambda: len(RemotePath(out).sizes()), 2 * len(expected), generator)  # noqa: B023
        killed += kill.run(harvest_in_small_tasks, walk.model, walk.corpus, out, until=moment)
        assert not kill.run(harvest_in_small_tasks, walk.model, walk.corpus, out)
        assert remote_files(out) == expected
    assert killed > n_kills / 2


def hold(folder: str, held: threading.Event, go: threading.Event) -> None:
    with new_artifact(place(folder), format="index", settings={}, parents={}) as draft:
        held.set()
        go.wait(60)
        draft.finish([], {})


def test_of_two_runs_on_one_folder_one_says_that_it_is_busy(bucket, monkeypatch):
    monkeypatch.setattr(locks, "CLAIM_SECONDS", 0.8)
    backwards = itertools.count(2e9, -86_400)
    monkeypatch.setattr(time, "time", lambda: next(backwards))  # which decides nothing
    held, go = threading.Event(), threading.Event()
    other = threading.Thread(target=hold, args=(f"{bucket}/a", held, go))
    other.start()
    assert held.wait(60)
    with pytest.raises(OutputBusyError, match="another run is writing s3://"):
        hold(f"{bucket}/a", threading.Event(), go)
    go.set()
    other.join()
    assert (place(f"{bucket}/a") / "manifest.json").is_file() and not (place(f"{bucket}/a") / ".lock").is_file()


def test_the_claim_of_a_dead_run_is_taken_over_and_its_holder_notices(bucket, monkeypatch):
    monkeypatch.setattr(locks, "CLAIM_SECONDS", 0.4)
    claim = RemotePath(f"{bucket}/a") / ".lock"
    claim.write(json.dumps({"run": "x", "host": "elsewhere", "pid": 1, "beat": 7}).encode())
    go = threading.Event()
    go.set()
    began = time.monotonic()
    hold(f"{bucket}/a", threading.Event(), go)
    assert time.monotonic() - began > 0.4
    with (
        pytest.raises(OutputBusyError),
        new_artifact(place(f"{bucket}/b"), format="index", settings={}, parents={}) as draft,
    ):
        (RemotePath(f"{bucket}/b") / ".lock").write(b"{}")  # as a run does that took this one for dead
        time.sleep(0.5)
        draft.finish([], {})
    assert not (place(f"{bucket}/b") / "manifest.json").is_file()


def test_what_is_wrong_with_a_store_in_a_bucket_is_said(walk, bucket, tmp_path, monkeypatch):
    url = f"{bucket}/acts"
    with pytest.raises(ArtifactMissingError, match="does not exist"):
        load_activations(url)
    sonde.harvest(walk.model, walk.corpus, site=SITE, tokens=2000, out=url)
    with pytest.raises(OutputOccupiedError, match="made differently"):
        sonde.harvest(walk.model, walk.corpus, site=SITE, tokens=2001, out=url)
    with pytest.raises(OutputOccupiedError, match="holds something else"):
        sonde.harvest(walk.model, walk.corpus, site=SITE, tokens=2000, out=bucket)
    segment = RemotePath(url) / "segments/00000.safetensors"
    data = bytearray(segment.read_bytes())
    data[5000] ^= 1
    segment.write(bytes(data))
    with pytest.raises(ArtifactDamagedError, match=r"s3://.*00000\.safetensors was altered in the .* from offset"):
        list(load_activations(url).stream(64, epochs=1))
    with pytest.raises(ArtifactDamagedError, match="from offset"):
        load_activations(url).verify()
    segment.write(bytes(data[:-1]))
    with pytest.raises(ArtifactDamagedError, match="truncated"):
        load_activations(url)
    segment.unlink()
    with pytest.raises(ArtifactDamagedError, match="is missing"):
        load_activations(url)


def test_a_bucket_that_is_lost_half_way_loses_nothing(walk, bucket, s3, tmp_path, monkeypatch):
    """The bucket refuses everything from some moment on; afterwards the same command goes on."""
    settings = {"site": SITE, "threads": 1, "tokens": 6000}
    here = sonde.harvest(walk.model, walk.corpus, out=tmp_path / "acts", **settings)
    write, calls = RemotePath.write, []

    def refuse(self, parts):
        calls.append(self.name)
        if len(calls) > 6:
            return write(RemotePath(f"s3://no-such-bucket/{self._key}"), parts)
        return write(self, parts)

    monkeypatch.setattr(RemotePath, "write", refuse)
    with pytest.raises(StorageError, match="the bucket does not exist; make it"):
        sonde.harvest(walk.model, walk.corpus, out=f"{bucket}/acts", **settings)
    monkeypatch.setattr(RemotePath, "write", write)
    assert 0 < len(remote_files(f"{bucket}/acts")) < len(here.segments)
    resumed = sonde.harvest(walk.model, walk.corpus, out=f"{bucket}/acts", **settings)
    assert remote_files(f"{bucket}/acts") == files_of(here.folder) and resumed.manifest.id == here.manifest.id


def test_places(tmp_path):
    assert place(tmp_path) == tmp_path and place("a/b") == Path("a/b") and place("~/a") == Path.home() / "a"
    assert place("s3://b/c/") == place(Path("s3://b/c")) == RemotePath("s3://b/c")
    assert str(place("gs://b") / "x") == "gs://b/x" and place("az://b/x.json").with_suffix(".y").name == "x.y"
    with pytest.raises(StorageError, match="s4://b/c is on no kind of store that sonde knows; did you mean s3"):
        place("s4://b/c")
    with pytest.raises(SettingsError, match="must be a local path"):
        sonde.train("x", n_features=4, out="s3://b/c")
