"""Judges as their servers speak: exchanges in each wire format, refusals of parameters, and answers of odd forms.

exchanges.json was written by hand after each server's public documentation.
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import sonde
from sonde.errors import JudgeError
from sonde.labels import judges
from sonde.labels.judges import Budget, Judge
from sonde.labels.replies import objects_in
from tests.labels.planted import make_index

EXCHANGES = json.loads((Path(__file__).parent / "exchanges.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(judges, "FIRST_WAIT_S", 0.001)
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "none")


@contextlib.contextmanager
def replaying(replies):
    """A server that gives these replies (status, body) in turn, the last for ever; and what it was sent."""
    replies, sent, lock = list(replies), [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                sent.append(asked)
                status, body = replies.pop(0) if len(replies) > 1 else replies[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", sent
    finally:
        httpd.shutdown()
        httpd.server_close()


def chat(content, **more):
    return 200, {"choices": [{"message": {"role": "assistant", "content": content}} | more]}


def read_label(reply):
    if not isinstance(reply["label"], str):
        raise ValueError("no label")
    return reply["label"]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange["server"])
def test_a_judge_of_each_server_is_understood(exchange, tmp_path):
    with replaying(exchange["replies"]) as (url, sent):
        judge = Judge(exchange["judge"], tmp_path / "c.sqlite", base_url=url)
        assert judge.ask("what?", read_label) == "bridges" and judge.n_failed == 0
        known = {"max_tokens", "max_completion_tokens", "temperature"}
        assert [{name: asked[name] for name in known & set(asked)} for asked in sent] == exchange["sent"]
        assert all(asked["model"] == exchange["judge"].partition(":")[2] for asked in sent)
        assert judge.ask("what?", read_label) == "bridges"
        if exchange["tokens"]:
            assert judge.budget.spent_tokens == exchange["tokens"] and len(sent) == len(exchange["sent"])
        judge.close()


def test_what_a_judge_refuses_is_left_out_of_all_further_questions(tmp_path):
    refusals = [reply for reply in EXCHANGES[0]["replies"] if reply[0] == 400]
    with replaying([*refusals, chat('{"label": "x"}')]) as (url, sent):
        judge = Judge("openai:m", tmp_path / "c.sqlite", base_url=url, answer_tokens=50)
        assert [judge.ask(question, read_label) for question in "abc"] == ["x"] * 3
        assert len(sent) == 5 and all(asked["max_completion_tokens"] == 50 for asked in sent[2:])
        assert not any("temperature" in asked or "max_tokens" in asked for asked in sent[2:])
        judge.close()


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("openai", "max_tokens is too large: 800. This model supports at most 512 completion tokens"),
        ("anthropic", "max_tokens: 800 > 512, which is the maximum allowed number of output tokens"),
        ("openai", "The model `m` does not exist"),
    ],
)
def test_other_refusals_are_said_in_the_servers_own_words(provider, words, tmp_path):
    with replaying([(400, {"error": {"message": words}})]) as (url, sent):
        judge = Judge(f"{provider}:m", tmp_path / "c.sqlite", base_url=url)
        with pytest.raises(JudgeError) as raised:
            judge.ask("what?", read_label)
        assert words in str(raised.value) and "{" not in str(raised.value) and len(sent) == 1
        judge.close()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([{"type": "text", "text": '{"label": '}, {"type": "text", "text": '"x"}'}], "x"),
        ([{"type": "thinking", "thinking": '{"label": "no"}'}, {"type": "text", "text": '{"label": "x"}'}], "x"),
        (['{"label": "x"}'], "x"),
        ('As {curly} words say: {"answer": {"label": "x"}}', "x"),
        ('{"label": 5} or rather {"label": "x"}', "x"),
        ('<think>{"label": "no"}</think>{"label": "x"}', "x"),
        (None, None),
        ([], None),
        ("", None),
        ('{"label": "x"', None),
        ("{" * 5000, None),
        ('{"a":' * 5000, None),
        ("[" * 100_000 + '{"label": 1e999}', None),
    ],
)
def test_answers_of_odd_forms_are_read_or_counted(content, found, tmp_path):
    with replaying([chat(content)]) as (url, sent):
        judge = Judge("openai:m", tmp_path / "c.sqlite", base_url=url)
        assert judge.ask("what?", read_label) == found
        assert judge.n_failed == (found is None) and len(sent) == 1 + (found is None)
        judge.close()


def test_numbers_that_are_none_do_not_end_a_run(tmp_path):
    with replaying([chat('{"n": 1e999}')]) as (url, _):
        judge = Judge("openai:m", tmp_path / "c.sqlite", base_url=url)
        assert judge.ask("what?", lambda reply: int(reply["n"])) is None and judge.n_failed == 1
        judge.close()


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": -5}, {"prompt_tokens": "many"}])
def test_a_reply_that_does_not_count_is_counted_by_estimate(usage, tmp_path):
    status, body = chat('{"label": "x"}')
    with replaying([(status, body | {"usage": usage})]) as (url, sent):
        judge = Judge("openai:m", tmp_path / "c.sqlite", Budget(), url)
        assert judge.ask("what?", read_label) == "x" and len(sent) == 1
        assert 0 < judge.budget.spent_tokens < 50
        judge.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no such group", "code": 404}}, "no such group"),
        ({"choices": []}, "choices"),
        (b"<html><h1>Log in</h1></html>", "Log in"),
        (b"\xff\xfe\x00", "protocol"),
        ([], "protocol"),
    ],
)
def test_a_server_that_speaks_no_protocol_is_quoted(body, words, tmp_path):
    with replaying([(200, body)]) as (url, sent):
        judge = Judge("openai:m", tmp_path / "c.sqlite", base_url=url)
        with pytest.raises(JudgeError, match="gave no answer in 6 attempts") as raised:
            judge.ask("what?", read_label)
        assert words in str(raised.value) and "\n" not in str(raised.value) and len(sent) == 6
        judge.close()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", "http://[::1", "http://x:port"])
def test_an_address_that_is_none_is_refused_before_anything_is_asked(url, tmp_path):
    with pytest.raises(JudgeError, match="no address of a judge"):
        Judge("openai:m", tmp_path / "c.sqlite", base_url=url)


def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sécret")
    with pytest.raises(JudgeError, match="OPENAI_API_KEY") as raised:
        Judge("openai:m", tmp_path / "c.sqlite", base_url="http://127.0.0.1:9/v1")
    assert "cret" not in str(raised.value)
    monkeypatch.setenv("OPENAI_API_KEY", " key \n")
    Judge("openai:m", tmp_path / "c.sqlite", base_url="http://127.0.0.1:9/v1").close()


def test_what_cannot_be_read_is_asked_again_by_the_next_run(tmp_path):
    with replaying([chat("words"), chat("more words"), chat('{"label": "x"}')]) as (url, _):
        judge = Judge("openai:m", tmp_path / "c.sqlite", base_url=url)
        assert judge.ask("what?", read_label) is None and judge.first_unread == "'more words'"
        assert judge.ask("what?", read_label) == "x"
        judge.close()


def test_every_object_is_found_and_no_number_of_braces_takes_long():
    assert list(objects_in('{"a": {"b": 1}} {')) == [{"a": {"b": 1}}, {"b": 1}]
    assert list(objects_in("{" * 10**6)) == []


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("judged"))


def test_a_run_counts_what_it_cannot_read_says_its_first_words_and_keeps_labels(planted):
    for number in (0, 1):
        planted.labels.add(number, "an older label", by="openai:other")
    given: dict[str, Any] = {"judge": "openai:m", "features": (0, 1), "score": ("detection",), "at_once": 1}
    given |= {"answer_tokens": 60}
    good = chat('{"label": "half \\ud83c a letter"}')
    with replaying([good, chat("I would rather talk of the weather. " * 9)]) as (url, _):
        report = sonde.label(planted, base_url=url, **given)
    assert report.labelled == 1 and report.failed > 0
    assert report.first_unread.startswith("'I would rather talk of the weather.") and len(report.first_unread) < 120
    assert planted.labels[0].label == "half \ufffd a letter" and planted.labels[1].label == "an older label"
    with replaying([chat("", finish_reason="length")]) as (url, _):
        report = sonde.label(planted, base_url=url, **given | {"features": (1,)})
    assert report.first_unread == "nothing, cut off at 60 tokens (--answer-tokens allows more)"
    assert planted.labels[1].label == "an older label"
