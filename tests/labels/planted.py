"""An index of features whose meaning is known: each fires on one word of the built-in model, and on nothing else."""

import contextlib
import json
import random
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

import sonde
from sonde.dictionaries.l1 import L1
from sonde.models.load import load_model

WORDS = ("bridge", "city", "river", "red", "blue", "happy")


def make_index(folder):
    """An index of one feature for each word, over text of the built-in world and sentences that hold the words."""
    model = load_model("world", device="cpu")
    tokens = [model.require_tokenizer()(" " + word, add_special_tokens=False)["input_ids"] for word in WORDS]
    network: Any = model.network
    embedding = network.get_input_embeddings().weight.detach()
    rows = torch.stack([embedding[ids[-1]] for ids in tokens])
    dictionary = L1(len(WORDS), embedding.shape[1]).at("embedding")
    unit = torch.nn.functional.normalize(rows, dim=1)
    with torch.no_grad():
        dictionary.W_enc.copy_(unit)
        dictionary.W_dec.copy_(unit)
        others = (embedding @ unit.T).sort(dim=0, descending=True).values
        dictionary.b_enc.copy_(-(others[0] + others[1]) / 2)  # between the word itself and what is most like it
    chosen = random.Random(0)
    filler = "the old man sees a small house and goes to the market with his friend in the morning".split()
    texts = []
    for number in range(300):
        words = chosen.choices(filler, k=30)
        words[chosen.randrange(5, 25)] = WORDS[number % 12] if number % 12 < len(WORDS) else "tree"
        texts.append(" ".join(words) + ".")
    return sonde.index(model, dictionary, texts, out=folder / "index", device="cpu")


class Oracle:
    """Answers from the truth: a label is a word, and its feature fires on that word."""

    def __call__(self, question):
        word = next((w for w in WORDS if f"described as: {w}\n" in question), None)
        items = re.findall(r"^\d+\. (.*)$", question, re.M)
        marked = [re.findall(r"<<(.*?)>>", item) for item in items]
        if '"label"' in question:
            found = Counter(re.findall(r"<<(.*?)>>", question))
            return {"label": found.most_common(1)[0][0]}
        if '"activations"' in question:
            return {"activations": [10 if item.strip("'\" ") == word else 0 for item in items]}
        if '"grades"' in question:
            return {"grades": [3 if marks and set(marks) == {word} else 0 for marks in marked]}
        if '"odd"' in question:
            held = [{w for w in WORDS if w in item.split()} for item in items]
            shared = Counter(w for one in held for w in one).most_common(1)[0][0]
            return {"odd": 1 + next(n for n, one in enumerate(held) if shared not in one)}
        if '"feature"' in question:
            last = re.findall(r"<<(.*?)>>", question.split("Another context")[1])
            return {"feature": 1 if marked[0] == last else 2}
        if "In which are the right ones" in question:
            return {"numbers": [n for n, marks in enumerate(marked, 1) if marks and set(marks) == {word}]}
        return {"numbers": [n for n, item in enumerate(items, 1) if word in item.strip(".").split()]}


class Coin:
    """Knows nothing, and keeps to the shape that is asked for."""

    def __init__(self):
        self.random = random.Random(0)

    def __call__(self, question):
        n = len(re.findall(r"^\d+\. ", question, re.M))
        name = re.findall(r'JSON object: \{"(\w+)"', question)[0]
        toss = self.random.randrange
        several = {
            "numbers": lambda: [i for i in range(1, n + 1) if toss(2)],
            "activations": lambda: [toss(11) for _ in range(n)],
            "grades": lambda: [toss(4) for _ in range(n)],
            "odd": lambda: 1 + toss(4),
            "feature": lambda: 1 + toss(2),
            "label": lambda: "something",
        }
        return {name: several[name]()}


@contextlib.contextmanager
def server(answer, protocol="openai", before=()):
    """A judge on this machine.

    `before` is what happens to the first requests: a status, or drop, garbage, words.
    """
    troubles, lock, asked = list(before), threading.Lock(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            question = body["messages"][0]["content"]
            with lock:
                asked.append((self.path, dict(self.headers), body))
                trouble = troubles.pop(0) if troubles else None
            if trouble == "drop":
                self.connection.close()
                return
            if isinstance(trouble, int):
                self.reply(trouble, b'{"error": "busy"}', {"retry-after": "0"})
                return
            if trouble == "garbage":
                self.reply(200, b"not json at all")
                return
            said = "I would rather not say." if trouble == "words" else json.dumps(answer(question))
            if trouble == "wrapped":
                said = f"Here you are:\n```json\n{said}\n```\nAnything else?"
            n_in, n_out = len(question) // 4, len(said) // 4
            reply: dict[str, Any]
            if protocol == "openai":
                reply = {"choices": [{"message": {"role": "assistant", "content": said}}]}
                reply["usage"] = {"prompt_tokens": n_in, "completion_tokens": n_out}
            else:
                reply = {"content": [{"type": "text", "text": said}]}
                reply["usage"] = {"input_tokens": n_in, "output_tokens": n_out}
            self.reply(200, json.dumps(reply).encode())

        def reply(self, status, data, headers=None):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", asked
    finally:
        httpd.shutdown()
        httpd.server_close()
