"""The server against who means it ill, and when what it stands on gives way: refused or told, never a 500 or a hang."""

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from sonde.errors import ArtifactDamagedError, ArtifactForeignError, EditError, StorageError
from sonde.features import documents
from sonde.features.index import load_index
from sonde.features.labels import Labels
from sonde.steering.apply import make_edits
from sonde.steering.presets import load_presets
from sonde.tensor_files import map_arrays
from sonde.web import guard, patience
from sonde.web.app import make_app
from tests.known import known
from tests.web.serving import served
from tests.web.test_faults import send

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "who?"}], "max_tokens": 2, "temperature": 0}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
SECRET = "what nobody may read"
QUICK_S = 5.0
"""how long a right request may take while others do wrong"""


@pytest.fixture
def folder(walk, tmp_path):
    return shutil.copytree(walk.index, tmp_path / "index")


@pytest.fixture
def client(folder):
    return TestClient(make_app(load_index(folder), "cpu"), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def port(walk, tmp_path_factory):
    with served(shutil.copytree(walk.index, tmp_path_factory.mktemp("malice") / "index")) as address:
        found = int(known(re.search(r":(\d+)/", address))[1])
        assert right(found)  # the model is loaded
        yield found


def right(port):
    """Whether right requests are answered, and how long the slowest took."""
    slowest = 0.0
    for request in (
        ("GET", "/api/features/3", {}, None),
        ("POST", CHAT, {"Content-Type": "application/json"}, json.dumps(BODY).encode()),
    ):
        began = time.monotonic()
        status, answer = send(port, *request)
        slowest = max(slowest, time.monotonic() - began)
        assert status == 200, answer
    assert slowest < QUICK_S
    return slowest


def answered(connection):
    """All that comes until the other side closes."""
    connection.settimeout(20)
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


# ---------------------------------------------------------------- connections


def test_slow_bodies_keep_nobody_out_and_end(port, monkeypatch):
    monkeypatch.setattr(guard, "BODY_S", 1.0)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(60)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n{")
        right(port)
        for connection in slow:
            assert b" 408 " in answered(connection)[:20]


def test_heads_that_never_end_are_closed(port, monkeypatch):
    monkeypatch.setattr(patience, "HEAD_S", 0.7)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(60)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
        right(port)
        assert all(answered(connection) == b"" for connection in slow)


def test_floods_of_headers_are_refused(port):
    for flood in (b"X-A: 1\r\n" * 200_000, b"X-A: " + b"a" * (1 << 20), b"Cookie: a=b; \r\n" * 50_000):
        with connect(port) as connection:
            with contextlib.suppress(OSError):  # where it is closed before all is sent
                connection.sendall(b"GET /api/index HTTP/1.1\r\nHost: 127.0.0.1\r\n" + flood)
                connection.shutdown(socket.SHUT_WR)
            assert b" 200 " not in answered(connection)[:20]
    right(port)


def test_half_closed_sockets_are_answered_or_closed(port):
    body = json.dumps(BODY).encode()
    with connect(port) as connection:  # all is sent, and no more will be
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        connection.shutdown(socket.SHUT_WR)
        answer = answered(connection)
        assert answer == b"" or b" 200 " in answer[:20]
    with connect(port) as connection:  # half of it
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body[:10]))
        connection.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        assert b" 5" not in answered(connection)[9:12] and time.monotonic() - began < QUICK_S
    right(port)


def vanish(port, number):
    """Ask for something, and go at a moment that differs from client to client."""
    body = json.dumps(BODY | {"max_tokens": 40, "stream": number % 2 == 0}).encode()
    with connect(port) as connection:
        request = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        connection.sendall(request[: len(request) - (number % 3) * 40])
        time.sleep(number % 5 / 50)


@pytest.mark.parametrize("n", [60, pytest.param(200, marks=pytest.mark.soak)])
def test_clients_that_vanish_leave_room_for_others(port, n):
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: vanish(port, number), range(n)))
    deadline = time.monotonic() + 20
    while True:  # they fill the queue, and then leave it
        status, _ = send(port, "POST", CHAT, {"Content-Type": "application/json"}, json.dumps(BODY).encode())
        assert status in (200, 429)
        if status == 200:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    right(port)


def test_a_chunked_body_is_read_up_to_the_same_bound(client):
    whole = json.dumps(BODY).encode()
    kind = {"content-type": "application/json"}
    sent = client.post(CHAT, content=iter([whole[:5], whole[5:]]), headers=kind)
    assert sent.status_code == 200
    pieces = (b"x" * 65536 for _ in range(40))
    refused = client.post(CHAT, content=pieces, headers=kind)
    assert refused.status_code == 413 and "bytes at most" in refused.json()["error"]["message"]


# ---------------------------------------------------------------- who asks


@pytest.mark.parametrize("path", ["/api/index", "/v1/models", "/at/index/v1/models", "/", "/api/nothing"])
def test_a_name_that_an_attacker_points_here_is_refused(client, path):
    """DNS rebinding: the browser believes that the page's own server is here."""
    for host in (
        "evil.example",
        "evil.example:8321",
        "127.0.0.1.evil.example",
        "localhost.",
        "0.0.0.0",
        "",
        "[::2]",
        "localhost:80:80",
    ):
        refused = client.get(path, headers={"host": host})
        assert refused.status_code == 400
        assert isinstance(refused.json()["error"], dict if "/v1/" in path else str)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver.evil.example"},
        {"origin": "http://testserver:3000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
        {"origin": "http://evil.example", "content-type": "text/plain"},
    ],
)
def test_pages_of_other_sites_may_change_and_ask_nothing(client, folder, headers):
    for path, body in (
        ("/api/features/3/label", {"text": "x"}),
        ("/api/presets", {"name": "x", "edits": ["feature:1=1"]}),
        (CHAT, BODY),
    ):
        content = json.dumps(body)
        refused = client.post(path, content=content, headers={"content-type": "application/json"} | headers)
        assert refused.status_code == 403 and "other sites" in refused.text
    assert load_index(folder).labels.all() == {} and load_presets(folder) == {}


def test_the_page_itself_and_links_to_it_are_let_through(client):
    own = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert client.post("/api/features/3/label", json={"text": "x"}, headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/api/index", headers=link).status_code == 200
    assert client.get("/api/index", headers=link | {"sec-fetch-mode": "no-cors"}).status_code == 403


def test_a_form_of_another_site_is_no_json(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        headers = {"content-type": kind} if kind else {}
        assert client.post("/api/features/3/label", content=b'{"text": "x"}', headers=headers).status_code in (400, 422)


# ---------------------------------------------------------------- paths


def outside(folder):
    """Names of a file beside the index, in each way that somebody might write them."""
    (folder.parent / "secret.safetensors").write_text(SECRET)
    path = str(folder.parent / "secret.safetensors")
    names = ["../secret.safetensors", "..%2fsecret.safetensors", "..\\secret.safetensors", "%2e%2e/secret.safetensors"]
    return [
        *names,
        "x/../../secret.safetensors",
        path,
        f"file://{path}",
        "//" + path,
        "....//secret.safetensors",
        "\x00" + path,
    ]


def test_no_parameter_leads_out_of_the_index(client, folder):
    os.symlink(folder.parent / "secret.safetensors", folder / "link.safetensors")
    os.symlink(folder.parent, folder / "up")
    n = 0
    for name in [*outside(folder), "link.safetensors", "up/secret.safetensors", "x" * 5000]:
        answers = [
            client.get("http://testserver" + path.format(quote(name, safe="/%.")))
            for path in (
                "/{}",
                "/assets/{}",
                "/at/{}/api/index",
                "/v1/models/{}",
                "/api/pictures/{}/0",
                "/api/features/{}",
            )
        ]
        answers += [client.get("/api/features", params={one: name}) for one in ("query", "by", "sort", "offset")]
        answers += [
            client.post(CHAT, json=BODY | {"model": name}),
            client.post(CHAT, json=BODY | {"edits": [f"vector:{name}=1"]}),
            client.post(CHAT, json=BODY | {"edits": [{"op": "add", "vector": name, "value": 1}]}),
            client.post("/v1/completions", json={"prompt": "x", "edits": [f"neuron:{name}/1=1"]}),
            client.post("/api/dose", json={"question": "x", "edits": [f"vector:{name}=1"], "doses": [1]}),
            client.post("/api/presets", json={"name": name, "edits": ["feature:1=1"]}),
            client.post("/api/presets", json={"name": "x", "edits": [f"vector:{name}=1"]}),
        ]
        for answer in answers:
            assert answer.status_code < 500 and SECRET not in answer.text, (name, answer.request.url, answer.text)
        assert all(answer.status_code in (400, 404, 422) for answer in answers[-7:]), [one.text for one in answers[-7:]]
        n += len(answers)
    assert n > 150
    assert sorted(path.name for path in folder.parent.iterdir()) == ["index", "secret.safetensors"]


def test_links_out_of_a_folder_are_not_followed(folder, tmp_path):
    outside(folder)
    os.symlink(tmp_path / "secret.safetensors", folder / "link.safetensors")
    with pytest.raises(EditError, match="outside the index"):
        make_edits("vector:link.safetensors=1", load_index(folder), confined=True)
    os.replace(folder / "postings.safetensors", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder / "postings.safetensors")
    with pytest.raises(ArtifactForeignError, match=r"postings.safetensors', which lies outside"):
        load_index(folder)
    (folder / "postings.safetensors").unlink()
    os.symlink("postings.safetensors", folder / "postings.safetensors")  # a circle
    with pytest.raises((ArtifactForeignError, ArtifactDamagedError)):
        load_index(folder)


def test_a_manifest_names_files_of_its_own_folder_alone(folder):
    outside(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("../secret.safetensors", str(folder.parent / "secret.safetensors")):
        files = manifest["files"] | {name: {"bytes": len(SECRET), "xxh3": ""}}
        (folder / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
        with pytest.raises(ArtifactForeignError, match="outside of it"):
            load_index(folder)


# ---------------------------------------------------------------- bombs


@pytest.mark.parametrize("depth", [5000, 500_000])
def test_json_of_any_depth_is_refused(client, folder, depth):
    for opening in (b"[", b'{"a":'):
        body = (opening * depth)[: guard.MAX_BODY_BYTES]
        for path in (CHAT, "/api/read", "/api/presets"):
            refused = client.post(path, content=body, headers={"content-type": "application/json"})
            assert refused.status_code in (400, 422)
        for name in ("manifest.json", "presets.json"):
            before = (folder / name).read_bytes() if (folder / name).exists() else None
            (folder / name).write_bytes(opening * depth)
            with pytest.raises(ArtifactDamagedError, match=name):
                load_index(folder) if name == "manifest.json" else load_presets(folder)
            (folder / name).unlink() if before is None else (folder / name).write_bytes(before)


def test_files_that_claim_more_than_they_hold_take_no_memory(tmp_path):
    """A header of 2^60 bytes, arrays of 2^60 numbers, depth, and names without end."""
    path = tmp_path / "x.safetensors"

    def header(text, length=None):
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text)

    huge = {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]}
    twice = {"dtype": "F32", "shape": [1 << 30, 1 << 30], "data_offsets": [0, 8]}
    for text, length in (
        (b"{}", 1 << 60),
        (b"[" * 100_000, None),
        (json.dumps({"a": huge}).encode(), None),
        (json.dumps({"a": twice}).encode(), None),
        (b"", None),
        (b'{"a":' * 90_000, None),
    ):
        header(text, length)
        began = time.monotonic()
        with pytest.raises(ArtifactDamagedError, match="x.safetensors"):
            map_arrays(path)
        assert time.monotonic() - began < 1


def test_spans_that_unpack_to_gigabytes_are_refused(folder, monkeypatch):
    monkeypatch.setattr(documents, "MOST_SPAN_BYTES", 1 << 16)
    packed = zlib.compress(np.zeros(1 << 20, dtype="<i4").tobytes())
    database = sqlite3.connect(folder / "index.sqlite")
    database.execute("UPDATE documents SET spans = ?", (packed,))
    with pytest.raises(ArtifactDamagedError, match="more tokens than any has"):
        documents.read_document(database, 0)
    database.close()


# ---------------------------------------------------------------- what a server stands on


def test_a_full_disk_loses_no_label(client, folder, monkeypatch):
    """What was saved stays, what was not is said, and later labels are taken."""
    assert client.post("/api/features/1/label", json={"text": "before"}).status_code == 200
    connect_to = sqlite3.connect

    def small(*given, **more):
        database = connect_to(*given, **more)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        for number in range(2, 60):
            refused = client.post(f"/api/features/{number % 60}/note", json={"text": "x" * 1000})
            if refused.status_code != 200:
                break
        assert refused.status_code == 400 and "disk is full" in refused.json()["error"]
        assert client.get("/api/features/1").json()["labels"][0]["label"] == "before"
    assert client.post("/api/features/1/label", json={"text": "after"}).status_code == 200
    assert [label.label for label in load_index(folder).labels.history(1)] == ["before", "after"]


def test_an_index_that_is_deleted_under_a_server_is_told_of(client, folder):
    assert client.get("/api/features/3").status_code == 200
    shutil.rmtree(folder)
    n = {200: 0}
    for path in (
        "/api/index",
        "/api/start",
        "/api/features",
        "/api/features/5",
        "/api/presets",
        "/api/map",
        "/v1/models",
        "/api/pictures/0/0",
        "/api/features?query=red",
    ):
        answer = client.get(path)
        n[answer.status_code] = n.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, answer.text
    for path, body in (
        ("/api/features/3/label", {"text": "x"}),
        ("/api/features/3/note", {"text": "x"}),
        ("/api/presets", {"name": "x", "edits": ["feature:1=1"]}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 400 and "index" in answer.json()["error"] and "\n" not in answer.text
    assert (
        client.post("/api/read", json={"text": "a"}).status_code < 500
        and client.post(CHAT, json=BODY).status_code < 500
    )
    assert not folder.exists()


def test_labels_in_a_folder_that_cannot_be_used_are_one_line(tmp_path):
    with pytest.raises(StorageError, match="labels.sqlite"):
        Labels(tmp_path / "gone").add(1, "x")


def test_two_servers_of_one_index_lose_nothing(folder):
    """Labels, notes and presets saved through both at once, from many threads."""
    with served(folder) as one, served(folder) as other:
        ports = [int(known(re.search(r":(\d+)/", address))[1]) for address in (one, other)]

        def save(number):
            port, kind = ports[number % 2], {"Content-Type": "application/json"}
            given = (
                (f"/api/features/{number % 64}/label", {"text": f"label {number}"}),
                (f"/api/features/{number % 64}/note", {"text": f"note {number}"}),
                ("/api/presets", {"name": f"p{number}", "edits": ["feature:1=1"]}),
            )
            return [send(port, "POST", path, kind, json.dumps(body).encode())[0] for path, body in given]

        with ThreadPoolExecutor(16) as pool:
            assert all(statuses == [200] * 3 for statuses in pool.map(save, range(48)))
    index = load_index(folder)
    assert all(known(index.labels[number]).label == f"label {number}" for number in range(48))
    assert set(load_presets(folder)) == {f"p{number}" for number in range(48)}


def test_requests_that_need_no_model_do_not_wait_for_those_that_do(port):
    """A hundred doses at once: some are answered, others told to come again, and the table of features is there."""
    asked = json.dumps({"question": "who?", "edits": ["feature:3=1"], "doses": [1, 2], "max_tokens": 30}).encode()
    statuses: list[int] = []

    def ask():
        statuses.append(send(port, "POST", "/api/dose", {"Content-Type": "application/json"}, asked)[0])

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        began = time.monotonic()
        assert send(port, "GET", "/api/features/3", {}, None)[0] == 200
        assert time.monotonic() - began < QUICK_S
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429} and statuses.count(200) >= 8
