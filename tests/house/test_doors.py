"""Whatever is brought, each verb ends in a result or in an error of one line.

What fails names its seed; `pytest "tests/house/test_doors.py::test_two_thousand_more[1234]"` tries it again.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import sonde
from sonde.errors import SondeError
from sonde.web.app import make_app
from tests.house.doors import Brought, bring, make_text

KINDS = ["topk", "batchtopk", "matryoshka", "l1", "jumprelu", "gated"]
WITH_K = ["topk", "batchtopk", "matryoshka"]
ROLES = ["system", "user", "assistant", "tool"]

# transformers leaves files of additional chat templates open, which is not ours to mend.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:[\s\S]*additional_chat_templates:pytest.PytestUnraisableExceptionWarning"
)


class Walk:
    """What one user does with what they brought; what failed, and how, is in `refused`."""

    def __init__(self, brought: Brought) -> None:
        self.brought, self.rng, self.refused = brought, brought.rng, {}

    def does(self, verb: str, do: Callable[[], Any]) -> Any:
        """The result of a verb; None where it says in one line why there is none."""
        try:
            return do()
        except SondeError as error:
            self.refused[verb] = str(error)
            assert str(error).strip() and len(str(error).splitlines()) == 1, f"{verb}: {error!r}"
            return None

    def goes(self, folder: Path) -> None:
        """Harvest, train, measure, index, read, label, chat and serve, as far as there is something to go on with."""
        rng, brought = self.rng, self.brought
        dtype = rng.choice(["auto", "bfloat16"])
        model = self.does("load", lambda: sonde.load_model(brought.model, device="cpu", dtype=dtype))
        rows = model and self.rows(model, folder)
        if rows is None:
            return
        kind, n = rng.choice(KINDS), rng.choice([1, 8, 33])
        train: dict[str, Any] = {"kind": kind, "n_features": n, "batch_size": 16, "tokens": 320, "device": "cpu"}
        train |= {"k": rng.randint(1, min(n, 3))} if kind in WITH_K else {}
        dictionary = self.does("train", lambda: sonde.train(rows, out=folder / "dict", **train))
        if dictionary is None:
            return
        self.does("measure", lambda: sonde.measure(dictionary, model=model, text=rng.choice([brought.text, None])))
        index = self.does("index", lambda: sonde.index(model, dictionary, brought.text, out=folder / "index"))
        if index is not None:
            self.uses(index, model)

    def rows(self, model: Any, folder: Path) -> Any:
        """What is trained on: a harvest, or the model live; None where either says in one line why not."""
        rng, text = self.rng, self.brought.text
        sites = model.sites() + [f"module:{name}" for name, _ in model.network.named_modules() if name]
        site = rng.choice([rng.choice(model.sites()), rng.choice(sites), "layers.1.residual"])
        chosen: dict[str, Any] = {"held_out": rng.choice([0.0, 0.3]), "context": rng.choice([None, 8])}
        chosen |= {"pack": rng.random() < 0.3, "special": rng.random() < 0.2, "drop_first": rng.choice([0, 0, 1])}
        if rng.random() < 0.2:
            return self.does("live", lambda: sonde.Live(model, text, site=site, pool=64, **chosen))
        chosen["store"] = rng.choice(["bfloat16", "float32", "float16", "int8"])
        return self.does("harvest", lambda: sonde.harvest(model, text, site=site, out=folder / "acts", **chosen))

    def uses(self, index: Any, model: Any) -> None:
        """Read, label, chat, serve."""
        rng = self.rng
        text = rng.choice([*self.brought.texts, make_text(rng)])
        session = self.does("session", lambda: sonde.Session(index, model))
        if session is None:
            return
        fired = self.does("read", lambda: session.read(text))
        if fired is not None:
            "".join(fired[0].pieces).encode()
            assert all(str(each) and str(each.draw()) for each in fired)
        self.does("label", lambda: sonde.label(index, n=3))
        for feature in range(min(3, index.n_features)):
            str(index.feature(feature).draw())
        index.search(text[:30] or "a")
        edit = [f"feature:{rng.randrange(index.n_features)}={rng.choice(['2', '1max', '0'])}"]
        self.does("generate", lambda: model.generate(text, 4))
        self.does("chat", lambda: session.answer(text or "who?", edit, 4))
        self.does("dose", lambda: session.dose(text, edit[0], doses=[1.0], max_new_tokens=3))
        self.serves(index, text, edit)

    def serves(self, index: Any, text: str, edits: list[str]) -> None:
        client = TestClient(make_app(index, "cpu"), raise_server_exceptions=False)
        with client:
            for method, path, body in requests(self.rng, text, edits):
                sent = None if body is None else json.dumps(body).encode()
                answer = client.request(method, path, content=sent, headers={"content-type": "application/json"})
                shown = f"{method} {path} {sent}: {answer.status_code} {answer.text[:500]}"
                assert answer.status_code < 500, shown
                if answer.status_code >= 400:
                    found = answer.json()["error"]
                    said = found["message"] if isinstance(found, dict) else found
                    assert said.strip() and "\n" not in said.strip(), shown
                elif body is not None and body.get("stream"):
                    assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text, shown
                else:
                    answer.json()


def requests(rng: random.Random, text: str, edits: list[str]) -> list[tuple[str, str, Any]]:
    """A few right requests, each with whatever the texts are."""
    messages = [{"role": rng.choice(ROLES), "content": make_text(rng, 20)} for _ in range(rng.choice([0, 1, 1, 2]))]
    messages.append({"role": "user", "content": text})
    logprobs, stream = rng.random() < 0.5, rng.random() < 0.5
    stop = {"stop": make_text(rng, 4) or "x"} if rng.random() < 0.3 else {}
    shared: dict[str, Any] = {"max_tokens": rng.choice([1, 5]), "stream": stream, "edits": edits} | stop
    chat = {"messages": messages, "logprobs": logprobs} | ({"top_logprobs": 2} if logprobs else {})
    return [
        ("GET", "/api/index", None),
        ("GET", "/api/features/0", None),
        ("POST", "/api/read", {"text": text, "unlike": make_text(rng, 20), "on": "max", "n": 3}),
        ("POST", "/api/features/0/activations", {"text": text}),
        ("POST", "/v1/chat/completions", shared | chat),
        (
            "POST",
            "/v1/completions",
            shared | {"prompt": text, "echo": rng.random() < 0.3} | ({"logprobs": 2} if logprobs else {}),
        ),
    ]


def try_doors(folder: Path, seed: int) -> Walk:
    """Bring what a seed decides, and do everything with it; whatever fails names the seed."""
    said = "before the model was written"
    try:
        brought = bring(folder, seed)
        said, walk = brought.said, Walk(brought)
        walk.goes(folder)
    except Exception as error:
        error.add_note(f"with seed {seed}: {said}")
        raise
    return walk


@pytest.mark.parametrize("seed", range(60))
def test_what_is_brought_ends_in_a_result_or_in_a_line(seed, tmp_path):
    try_doors(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(60, 2060))
def test_two_thousand_more(seed, tmp_path):
    try_doors(tmp_path, seed)
