"""A server under mixed traffic for a time: its memory, the slowest right answer, and what it answered.

    python benchmarks/endurance.py --minutes 30

The built-in world's model with 512 random features, served in a process of its own. Eight clients ask without pause for
one of: a chat, a streamed chat, completions with log-probabilities, a feature, a page of the table, a text read, a
label saved, what is malformed, a body that stops half-way, and an answer that is not waited for. The server's memory is
read every five seconds; a steady climb shows as the last third's mean above the middle third's. Appends a line to
benchmarks/results/endurance.jsonl.
"""

import argparse
import http.client
import json
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rounds import scratch, write

CLIENTS, EVERY_S = 8, 5.0
MAKE = """
import sys, torch, sonde
from sonde.dictionaries.l1 import L1
from sonde.models.load import load_model
torch.manual_seed(0)
model = load_model("world", device="cpu")
width = model.network.get_input_embeddings().weight.shape[1]
texts = [f"the red bridge stands by the bay number {n}" for n in range(400)]
sonde.index(model, L1(512, width).at("layers.1.residual"), texts, out=sys.argv[1], device="cpu")
"""
SERVE = """
import sys, torch
from sonde.web.serve import serve
torch.set_num_threads(1)
serve(sys.argv[1], port=0, device="cpu")
"""
CHAT = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 12}
EDITS = ["feature:3=1"]


class Traffic:
    """What clients do, and what came of it."""

    def __init__(self, port: int) -> None:
        self.port, self.ends = port, time.monotonic()
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.lock = threading.Lock()

    def call(self, method: str, path: str, body: object = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def leave(self, body: bytes, sent: int) -> int:
        """Send part of a request, or all of it, and go; 0, as nothing is answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:sent])
        return 0

    def one(self, rng: random.Random) -> None:
        number, text = rng.randrange(512), " ".join(rng.choices("the red bridge by bay stands".split(), k=9))
        whole = json.dumps(CHAT | {"max_tokens": 60, "stream": True}).encode()
        what = {
            "chat": lambda: self.call("POST", "/v1/chat/completions", CHAT | {"edits": rng.choice([[], EDITS])}),
            "stream": lambda: self.call("POST", "/v1/chat/completions", CHAT | {"stream": True}),
            "completion": lambda: self.call(
                "POST", "/v1/completions", {"prompt": text, "max_tokens": 12, "logprobs": 5}
            ),
            "feature": lambda: self.call("GET", f"/api/features/{number}"),
            "table": lambda: self.call("GET", f"/api/features?query={text.split()[0]}&offset={number % 100}"),
            "read": lambda: self.call("POST", "/api/read", {"text": f"{text} {number}"}),
            "label": lambda: self.call("POST", f"/api/features/{number}/label", {"text": text}),
            "malformed": lambda: self.call("POST", rng.choice(["/api/read", "/v1/completions"]), rng.randbytes(200)),
            "half a body": lambda: self.leave(whole, len(whole) // 2),
            "gone": lambda: self.leave(whole, len(whole)),
        }
        name = rng.choice(list(what))
        began = time.monotonic()
        status = what[name]()
        took = time.monotonic() - began
        with self.lock:
            self.counts[f"{name} {status or 'left'}"] += 1
            self.slowest[name] = max(took, self.slowest.get(name, 0.0))

    def run(self, seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self.ends:
            self.one(rng)


def memory(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def measure(port: int, pid: int, minutes: float) -> dict:
    """Traffic for a time, and what the server's memory did meanwhile."""
    traffic = Traffic(port)
    assert traffic.call("POST", "/v1/chat/completions", CHAT) == 200  # loads the model
    traffic.ends = time.monotonic() + 60 * minutes
    threads = [threading.Thread(target=traffic.run, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    samples = []
    while time.monotonic() < traffic.ends:
        time.sleep(EVERY_S)
        samples.append(memory(pid))
    for thread in threads:
        thread.join()
    third = len(samples) // 3
    means = [statistics.mean(samples[place * third : (place + 1) * third]) for place in range(3)]
    assert not any(re.search(r" 5\d\d$", name) for name in traffic.counts), traffic.counts
    return {
        "minutes": minutes,
        "requests": sum(traffic.counts.values()),
        "MB in each third": [round(mean, 1) for mean in means],
        "MB at the end": round(samples[-1], 1),
        "slowest s": {name: round(took, 2) for name, took in sorted(traffic.slowest.items())},
        "answers": dict(sorted(traffic.counts.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=scratch())) / "index"
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True)
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        port = next(int(found[1]) for line in server.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)/", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        found = measure(port, server.pid, asked.minutes)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder.parent)
    print(json.dumps(found, indent=1))
    write(__file__, found)


if __name__ == "__main__":
    main()
