"""Answers that share a batch are those that each request would get alone, whatever the others' edits."""

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

import sonde
from sonde.dictionaries.load import load_dictionary
from sonde.errors import BusyError, EditError, FeatureError, SettingsError, UsageError
from sonde.models.load import load_model
from sonde.models.model import Tokens
from sonde.steering.apply import make_edits
from sonde.steering.batching import Batcher
from sonde.steering.request import Piece, Sampling
from sonde.steering.row_edits import edits_of_rows
from sonde.steering.settings import AnswerSettings
from sonde.steering.vectors import save_vector
from tests.tiny import FAMILIES, make_model, texts, write_model

EDITS = (
    (),
    ("feature:3=9",),
    ("feature:5+=4@answer",),
    ("feature:7=6@prompt", "feature:8*=3"),
    ("feature:1=12", "feature:2=0", "feature:3+=2@answer"),
)


@pytest.fixture(scope="module")
def model(walk):
    return load_model(walk.model, device="cpu")


@pytest.fixture
def batcher(model):
    batcher = Batcher(model)
    yield batcher
    batcher.close()


def alone(model, prompt, edits, n):
    """What `generate` gives under the same edits."""
    tokens = model.tokenize(prompt, side="left")
    with model.edited(*edits):
        return model.generate_ids(tokens, n)[0, tokens.ids.shape[1] :].tolist()


def tokens_of(pieces):
    return [piece.token for piece in pieces if piece.token is not None]


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_thirty_two_requests_with_other_edits_come_and_go(walk, model, kind):
    dictionary = load_dictionary(getattr(walk, kind), "cpu")
    batcher = Batcher(model, most_rows=16)
    prompts = texts(32)
    jobs = []
    for number, prompt in enumerate(prompts):
        edits = make_edits(EDITS[number % len(EDITS)], dictionary)
        jobs.append((" ".join(prompt.split()[: 3 + number % 7]), edits, 4 + 5 * (number % 6)))
    found: dict[int, list[Piece]] = {number: [] for number in range(len(jobs))}
    ended = threading.Semaphore(0)

    def listen(number):
        def emit(piece):
            found[number].append(piece)
            if number == 11 and len(found[number]) == 3:
                requests[number].cancel()
                ended.release()
            if piece.finish or piece.error:
                ended.release()

        return emit

    requests = {}
    for number, (prompt, edits, n) in enumerate(jobs):
        n = 200 if number == 11 else n
        requests[number] = batcher.submit(model.tokenize(prompt), edits, Sampling(max_tokens=n), listen(number))
    for _ in jobs:
        assert ended.acquire(timeout=60)
    batcher.close()
    for number, (prompt, edits, n) in enumerate(jobs):
        expected = alone(model, prompt, edits, min(n, model.context_length - len(model.tokenize(prompt).ids[0])))
        got = tokens_of(found[number])
        if number == 11:  # cancelled on its way
            assert len(got) < 30 and got[:3] == expected[:3]
            continue
        ends = [place for place, token in enumerate(expected) if token in (2,)]
        assert got == (expected[: ends[0]] if ends else expected), number
        assert found[number][-1].finish in ("length", "stop") and found[number][-1].error is None


def test_rows_are_edited_as_alone(walk, tmp_path):
    torch.manual_seed(0)
    vector = save_vector(tmp_path / "v.safetensors", torch.randn(32), site="layers.1.residual", norm=5.0)
    for folder in (walk.topk, walk.l1):
        dictionary = load_dictionary(folder, "cpu")
        x = 3 * torch.randn(6, 2, 32)
        edits = [
            (0, "feature:3=9"),
            (2, "feature:3+=2"),
            (2, "feature:4*=5"),
            (3, "feature:9=0"),
            (4, "features:9,1,4=2"),
            (4, f"vector:{vector}+=0.5norm"),
            (5, "neuron:layers.1.residual/7=3"),
            (5, f"vector:{vector}=0"),
        ]
        bound = [(row, make_edits([text], dictionary)[0]) for row, text in edits]
        expected = x.clone()
        for row, edit in bound:
            expected[row] += edit(x)[row] - x[row]
        together = edits_of_rows(bound)
        assert len(together) == 4  # those of features are one
        model = make_model()
        changed = model._apply(together, model.site("layers.1.residual"), x)
        torch.testing.assert_close(changed, expected)
        assert torch.equal(changed[1], x[1])


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("bert", "llava", "gemma3")])
def test_families_answer_as_alone(family, tmp_path):
    model = load_model(write_model(tmp_path / "model", family), device="cpu")
    batcher = Batcher(model)
    prompts = ["the red bridge", "a", "the man sees the house and goes to town"]
    found: list[list[Piece]] = [[] for _ in prompts]
    ended = threading.Semaphore(0)
    for number, prompt in enumerate(prompts):

        def emit(piece, number=number):
            found[number].append(piece)
            if piece.finish or piece.error:
                ended.release()

        batcher.submit(model.tokenize(prompt), [], Sampling(max_tokens=12), emit)
    for _ in prompts:
        assert ended.acquire(timeout=60)
    batcher.close()
    for pieces, prompt in zip(found, prompts, strict=True):
        assert pieces[-1].error is None, pieces[-1].error
        expected = alone(model, prompt, [], 12)
        got = tokens_of(pieces)
        assert got == expected[: len(got)] and (len(got) == 12 or pieces[-1].finish == "stop")


def test_sampling_is_each_requests_own(model, batcher):
    prompt = model.tokenize("the red bridge")
    seeded = Sampling(max_tokens=12, temperature=1.0, seed=7, top_logprobs=3)
    first = batcher.answer(prompt, [], seeded)
    others = [batcher.submit(prompt, [], Sampling(max_tokens=40, temperature=1.5), lambda _: None) for _ in range(5)]
    assert tokens_of(batcher.answer(prompt, [], seeded)) == tokens_of(first)
    for other in others:
        other.cancel()
    assert len({tuple(tokens_of(batcher.answer(prompt, [], replace(seeded, seed=s)))) for s in range(4)}) > 1
    narrow = batcher.answer(prompt, [], replace(seeded, top_p=1e-9))
    assert tokens_of(narrow) == tokens_of(batcher.answer(prompt, [], Sampling(max_tokens=12)))
    logprobs = model.logits(prompt)[0, -1].float().log_softmax(dim=-1)
    assert first[0].logprob == pytest.approx(float(logprobs[first[0].token]), abs=1e-4)
    assert [token for token, _ in first[0].top] == logprobs.topk(3).indices.tolist()


def test_penalties_are_taken_from_the_logits_of_what_the_answer_has(model, batcher):
    prompt = model.tokenize("the red bridge")
    sampling = Sampling(max_tokens=12, frequency_penalty=0.75, presence_penalty=0.5)
    answer, ids = batcher.answer(prompt, [], sampling), prompt.ids[0].tolist()
    counts = torch.zeros(model.vocab_size)
    for piece in answer:
        logits = model.logits(model.pad([ids]))[0, -1].float()
        chosen = int((logits - 0.75 * counts - 0.5 * (counts > 0)).argmax())
        assert piece.token == chosen
        assert piece.logprob == pytest.approx(float(logits.log_softmax(dim=-1)[chosen]), abs=1e-4)  # the model's own
        counts[chosen] += 1
        ids.append(chosen)
    assert tokens_of(answer) != tokens_of(batcher.answer(prompt, [], Sampling(max_tokens=12)))


def test_what_settings_leave_open_is_as_the_model_says(model, monkeypatch):
    def chosen(**settings):
        sampling = Sampling.of(AnswerSettings(**settings), model, 5)
        return sampling.temperature, sampling.top_p, sampling.seed

    assert chosen() == (0.0, 1.0, 0) and chosen(temperature=0.5, seed=3) == (0.5, 1.0, 3)
    own = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.9)
    monkeypatch.setattr(model.network, "generation_config", own)
    assert chosen() == (0.6, 0.9, 0) and chosen(temperature=0.0, top_p=0.5) == (0.0, 0.5, 0)
    own.temperature = own.top_p = None
    assert chosen() == (1.0, 1.0, 0)
    own.do_sample, own.temperature = False, 0.6
    assert chosen() == (0.0, 1.0, 0)
    wrongs: tuple[dict[str, Any], ...] = (
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": -3.0},
    )
    for wrong in wrongs:
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            AnswerSettings(**wrong)


def test_stops_white_space_and_letters_of_several_bytes(model, batcher):
    prompt = model.tokenize("the red bridge")
    whole = "".join(piece.text for piece in batcher.answer(prompt, [], Sampling(max_tokens=30)))
    stop = whole[5:8]
    pieces = batcher.answer(prompt, [], Sampling(max_tokens=30, stop=(stop, "never")))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)] and pieces[-1].finish == "stop"
    stripped = "".join(p.text for p in batcher.answer(prompt, [], Sampling(max_tokens=30, strip=True)))
    assert stripped == whole.strip()
    assert whole == model.require_tokenizer().decode(tokens_of(batcher.answer(prompt, [], Sampling(max_tokens=30))))


def test_a_failing_request_ends_alone_and_the_queue_is_bounded(walk, model):
    class Broken:
        site, where, feature = "layers.1.residual", "all", 0

        def __call__(self, x):
            raise RuntimeError("broken edit")

    batcher = Batcher(model, most_rows=2, most_waiting=3)
    good = Sampling(max_tokens=5)
    with pytest.raises(RuntimeError, match="broken edit"):
        batcher.answer(model.tokenize("a"), [Broken()], good)
    assert len(tokens_of(batcher.answer(model.tokenize("a"), [], good))) == 5
    gate = threading.Event()
    holder = threading.Thread(target=lambda: batcher.run(gate.wait))
    holder.start()
    while batcher._calls:
        pass
    waiting = [batcher.submit(model.tokenize("a"), [], good, lambda _: None) for _ in range(3)]
    with pytest.raises(BusyError, match="3 requests wait"):
        batcher.submit(model.tokenize("a"), [], good, lambda _: None)
    gate.set()
    holder.join()
    assert len(waiting) == 3
    with pytest.raises(UsageError, match="context holds"):
        batcher.submit(_long(model), [], good, lambda _: None)
    assert batcher.run(lambda: 3) == 3
    with pytest.raises(FeatureError):
        batcher.run(lambda: sonde.load_index(walk.index).feature(999))
    batcher.close()


def test_an_idle_batcher_has_no_thread_and_holds_no_model():
    batcher = Batcher(make_model())
    model, thread = weakref.ref(batcher.model), None
    batcher.answer(batcher.model.tokenize("a"), [], Sampling(2))
    while (thread := batcher._thread) is not None:
        thread.join()
    assert tokens_of(batcher.answer(batcher.model.tokenize("a"), [], Sampling(2)))  # it wakes
    while (thread := batcher._thread) is not None:
        thread.join()
    del batcher
    gc.collect()
    assert model() is None


def test_a_closed_batcher_answers_nobody(model):
    batcher = Batcher(model)
    batcher.close()
    with pytest.raises(BusyError, match="shutting down"):
        batcher.answer(model.tokenize("a"), [], Sampling(2))


def _long(model):
    ids = torch.ones(1, model.context_length, dtype=torch.int64)
    return Tokens(ids, torch.ones_like(ids))


def test_an_edit_that_breaks_the_numbers_is_refused_and_others_go_on(walk):
    reader = sonde.Reader(walk.index, device="cpu")
    batcher = Batcher(reader.model)
    try:
        asked = reader.model.chat_tokens([{"role": "user", "content": "who?"}])
        wild = make_edits(["feature:3=1e300"], reader.index)
        plain = batcher.answer(asked, [], Sampling(6))
        for sampling in (Sampling(6), Sampling(6, temperature=1.0, seed=1)):
            with pytest.raises(EditError, match="finite"):
                batcher.answer_all([(asked, wild, sampling), (asked, [], sampling)])
        assert [piece.token for piece in batcher.answer(asked, [], Sampling(6))] == [piece.token for piece in plain]
    finally:
        batcher.close()
