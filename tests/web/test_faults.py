"""The server under what nobody should send it, and when it is killed: it stays up, stays right, and loses nothing."""

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import string
import subprocess
import sys

import pytest

from sonde.features.index import load_index
from tests.known import known
from tests.web.serving import served

GET = """
/ /api/index /api/start /api/features /api/features/3 /api/numbers /api/map /api/map/points /api/presets
/api/pictures/0/0 /v1/models /at/index/api/features/3 /openapi.json
""".split()
POST = """
/api/features/3/label /api/features/3/note /api/features/3/activations /api/read /api/dose /api/presets
/v1/chat/completions /v1/completions /at/index/v1/chat/completions
""".split()
CALLS = [*(("GET", path) for path in GET), *(("POST", path) for path in POST)]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]
EDIT = {"op": "clamp", "feature": 3, "value": 1, "unit": "max", "where": "all"}
BODIES = [
    {"text": "a bridge", "unlike": "", "on": "max", "n": 3},
    {"text": "a name"},
    {"question": "who?", "edits": [EDIT], "doses": [1.0], "max_tokens": 2},
    {"messages": [{"role": "user", "content": "who?"}], "edits": [EDIT], "max_tokens": 2},
    {"prompt": "the", "edits": ["feature:3=1max"], "max_tokens": 2, "logprobs": 1},
    {"name": "x", "edits": ["feature:3=1"]},
]
NUMBERS = [-1, 0, 1, 2**31, 2**63, -(2**70), 1.5, 1e308, float("nan"), float("inf"), -float("inf")]
TEXTS = ["", " ", "x" * 3000, "\x00", "\ud800", "feature:3=1", "NaN"]
ODD = [None, True, *NUMBERS, *TEXTS, [], {}, [[]], [None], {"a": {}}, [[[[[[]]]]]]]


def odd(rng, value, depth=0):
    """A body with some of its values, names or shape changed."""
    if isinstance(value, dict):
        changed = {name: odd(rng, one, depth + 1) for name, one in value.items() if rng.random() > 0.08}
        if rng.random() < 0.15:
            changed[rng.choice(["more", "", "edits", "model", "stream", "n", "stop", "seed", "top_p"])] = rng.choice(
                ODD
            )
        return changed
    if rng.random() < 0.25:
        return rng.choice(ODD)
    return [odd(rng, one, depth + 1) for one in value] if isinstance(value, list) else value


def malformed(rng):
    """(method, path, headers, body) of a request that is wrong in some way, or happens to be right."""
    method, path = rng.choice(CALLS)
    if rng.random() < 0.1:
        method = rng.choice(METHODS)
    if rng.random() < 0.3:
        path = path.replace("3", str(rng.choice(["64", "-1", "x", "9" * 30, "%00", "3.5", "..", "%F0%9F%98%80"])))
    if rng.random() < 0.3:
        names = ["query", "by", "sort", "offset", "limit", "density_min", "descending", "examples", "nothing"]
        values = ["", "1", "-1", "nan", "inf", "x", "%00", "9" * 40, "text", "neuron", "%ff"]
        path += f"?{rng.choice(names)}={rng.choice(values)}"
    fits = {"label": 1, "note": 1, "activations": 1, "read": 0, "dose": 2, "presets": 5}
    last = path.split("?")[0].rsplit("/", 1)[-1]
    place = fits.get(last, 3 if "chat" in path else 4) if rng.random() < 0.9 else rng.randrange(len(BODIES))
    body = json.dumps(odd(rng, BODIES[place])).encode()
    kind = rng.random()
    if kind < 0.1:
        body = body[: rng.randrange(len(body) + 1)]
    elif kind < 0.2:
        body = rng.randbytes(rng.randrange(200))
    elif kind < 0.25:
        body = b"[" * 5000
    elif kind < 0.3:
        at = rng.randrange(len(body))
        body = body[:at] + rng.choice([b"\x00", b"\xff", b"\\u", b'"']) + body[at + 1 :]
    headers = {"Content-Type": "application/json"}
    if rng.random() < 0.15:
        name = rng.choice(["Content-Type", "Host", "Origin", "Authorization", "Accept", "Expect", "X-" + "y" * 200])
        headers[name] = rng.choice(["", "text/plain", "evil.example", "Bearer \x7f", "*/*", "100-continue", "a" * 500])
    return method, path, headers, body


def send(port, method, path, headers, body):
    """Status and body of the answer; 0 where the connection is closed, as it may be on what is not HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (http.client.HTTPException, ConnectionError):
        return 0, b""
    finally:
        connection.close()


def send_bytes(port, rng):
    """What is no HTTP at all, or the beginning of it."""
    lines = [
        b"GET / HTTP/1.1",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: 10",
        b"\x16\x03\x01",
        b"GET",
        rng.randbytes(50),
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(rng.choice(lines) + rng.choice([b"", b"\r\n", b"\r\n\r\n", b"\r\nHost: \r\n\r\n"]))


def bombard(address, n, seed):
    """Send n malformed requests; between them the right answer to a right one must come."""
    port = int(known(re.search(r":(\d+)/", address))[1])
    rng = random.Random(seed)
    body = json.dumps(BODIES[3] | {"temperature": 0, "max_tokens": 6}).encode()
    right = ("POST", "/v1/chat/completions", {"Content-Type": "application/json"}, body)
    text = lambda answer: json.loads(answer[1])["choices"][0]["message"]["content"]  # noqa: E731
    expected = text(send(port, *right))
    counts = {}
    for number in range(n):
        if rng.random() < 0.05:
            send_bytes(port, rng)
            continue
        request = malformed(rng)
        status, answer = send(port, *request)
        assert status < 500, f"{status} to {request}: {answer!r}"
        if status >= 400 and request[0] != "HEAD" and answer != b"Invalid HTTP request received.":
            found = json.loads(answer)["error"]
            said = found["message"] if isinstance(found, dict) else found
            assert said and "\n" not in said.strip() and "Traceback" not in said, request
        counts[status] = counts.get(status, 0) + 1
        if number % 100 == 99:
            assert text(send(port, *right)) == expected
    return counts


@pytest.fixture(scope="module")
def address(walk, tmp_path_factory):
    """A server of an index that tests may change."""
    with served(shutil.copytree(walk.index, tmp_path_factory.mktemp("faults") / "index")) as address:
        yield address


def test_malformed_requests_are_refused_and_the_server_stays_right(address):
    counts = bombard(address, 300, 0)
    assert counts.get(200, 0) > 10 and sum(n for status, n in counts.items() if status >= 400) > 100


@pytest.mark.soak
def test_ten_thousand_malformed_requests(address, record_property):
    counts = bombard(address, 10_000, 1)
    record_property("answers by status", counts)
    assert counts.get(200, 0) > 500 and sum(n for status, n in counts.items() if status >= 400) > 5000


def run_server(folder):
    code = (
        "import sys; from sonde.web.serve import serve; "
        "import torch; torch.set_num_threads(1); serve(sys.argv[1], port=0, device='cpu')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE, text=True)
    address = re.compile(r"open at http://127\.0\.0\.1:(\d+)/")
    found = next(found for line in known(process.stderr) if (found := address.search(line)))
    return process, int(found[1])


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.soak)])
def test_a_server_that_is_killed_has_lost_no_label_that_it_took(walk, tmp_path, kills):
    """Also one that was started on what a killed one has left."""
    folder = shutil.copytree(walk.index, tmp_path / "index")
    rng = random.Random(5)
    taken = {}
    for _ in range(kills):
        process, port = run_server(folder)
        try:
            for _ in range(rng.randrange(5, 25)):
                number, label = rng.randrange(64), "".join(rng.choices(string.ascii_lowercase, k=8))
                body = json.dumps({"text": label}).encode()
                path = f"/api/features/{number}/label"
                status, _ = send(port, "POST", path, {"Content-Type": "application/json"}, body)
                assert status == 200
                taken[number] = label
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
            known(process.stderr).close()
        labels = load_index(folder).labels
        assert {number: known(labels[number]).label for number in taken} == taken
    for number, label in taken.items():
        assert number in [hit.feature.number for hit in load_index(folder).search(label)]


def test_the_api_keeps_to_its_description(address):
    """schemathesis makes requests of the OpenAPI description, right and wrong; answers are as described."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    quick = settings(max_examples=10, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    quick = settings(quick, suppress_health_check=list(HealthCheck))
    checks = [not_a_server_error, response_schema_conformance, content_type_conformance]
    tried: dict[str, int] = {}
    schema = schemathesis.openapi.from_url(f"{address}openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @quick
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                tried[case.operation.label] = tried.get(case.operation.label, 0) + 1
                case.call_and_validate(base_url=address.rstrip("/"), checks=checks)

            try:
                check()
            except Exception as error:
                if "Unsatisfiable" not in type(error).__name__:  # a call without parameters cannot be wrong
                    raise
    assert len(tried) >= 18 and min(tried.values()) >= 1
