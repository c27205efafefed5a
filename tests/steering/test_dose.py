"""Dose and response: each answer is the one that its edits give, and its numbers are those of a plain reading."""

import math

import pytest

import sonde
from sonde.errors import EditError, FeatureError
from sonde.features.reader import Reader
from sonde.steering.apply import make_edits
from sonde.steering.batching import Batcher
from sonde.steering.dose import dose_response, repetition
from sonde.steering.edits import Edit
from tests.known import known


@pytest.fixture(scope="module")
def reader(walk):
    return Reader(walk.index, device="cpu")


@pytest.fixture(scope="module")
def batcher(reader):
    batcher = Batcher(reader.model)
    yield batcher
    batcher.close()


def prompt(reader, text="who?"):
    return reader.model.chat_tokens([{"role": "user", "content": text}])


def strongest(reader) -> int:
    return int(reader.index.statistics["maximum"].argmax())


def test_each_dose_has_the_answer_of_its_edits(reader, batcher):
    edits = [Edit("clamp", strongest(reader), 4.0, "max"), Edit("scale", 3, 2.0)]
    found = dose_response(reader, batcher, edits, prompt(reader), doses=(0.5, 2.0, 8.0), max_tokens=10)
    assert [one.dose for one in found] == [None, 0.5, 2.0, 8.0]
    for one in found:
        at = []
        if one.dose is not None:
            at = [Edit("clamp", strongest(reader), 4.0 * one.dose, "max"), Edit("scale", 3, 1 + one.dose)]
        with reader.model.edited(*make_edits(at, reader.index)):
            answer = reader.model.generate(prompt(reader), 10)
            whole = [
                text.replace("\ufffd", "").strip() for text in (answer, one.answer)
            ]  # of letters that stay incomplete either may say less
            assert whole[0] == whole[1]
    assert len({one.answer for one in found}) > 1


def test_perplexity_and_concept_are_those_of_a_plain_reading(reader, batcher):
    number = strongest(reader)
    found = dose_response(
        reader, batcher, [Edit("clamp", number, 6.0, "max")], prompt(reader), doses=(1.0, 4.0), max_tokens=9
    )
    asked, model = prompt(reader), reader.model
    for one in found:
        at = [] if one.dose is None else [Edit("clamp", number, 6.0 * one.dose, "max")]
        with model.edited(*make_edits(at, reader.index)):
            ids = model.generate_ids(asked, 9)[0].tolist()
        n = asked.ids.shape[1]
        whole = model.pad([ids[: n + one.n_tokens]])
        log_p = model.logits(whole)[0].log_softmax(dim=-1)
        surprise = [-float(log_p[place - 1, ids[place]]) for place in range(n, n + one.n_tokens)]
        assert one.perplexity == pytest.approx(math.exp(sum(surprise) / len(surprise)), rel=1e-3)
        x = model.read(whole, reader.dictionary.site)[0, n:]
        concept = reader.dictionary.encode(x)[:, number] / float(reader.index.statistics["maximum"][number])
        assert one.concept == pytest.approx(float(concept.mean()), rel=1e-3, abs=1e-6)


def test_repetition_is_the_share_of_threes_that_the_answer_had_before(reader, batcher):
    assert repetition([1, 2]) is None and repetition([]) is None
    assert repetition([1, 2, 3, 4]) == 0 and repetition([7] * 12) == pytest.approx(0.9)
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)
    edits = [Edit("clamp", strongest(reader), 4.0, "max")]
    for one in dose_response(reader, batcher, edits, prompt(reader), doses=(1.0,), max_tokens=12):
        assert one.to_json()["repetition"] == one.repetition and 0 <= known(one.repetition) < 1


def test_what_cannot_be_asked(reader, batcher):
    with pytest.raises(EditError, match="nothing is edited"):
        dose_response(reader, batcher, [], prompt(reader))
    with pytest.raises(FeatureError):
        dose_response(reader, batcher, [Edit("clamp", 10**6, 1.0)], prompt(reader))


def test_the_command_line(walk, capsys):
    import json

    from sonde.cli import run

    number = int(sonde.load_index(walk.index).statistics["maximum"].argmax())
    arguments = [
        "dose",
        str(walk.index),
        "--edit",
        f"feature:{number}=1max",
        "--prompt",
        "who?",
        "--at",
        "1",
        "--at",
        "9",
    ]
    assert run([*arguments, "--device", "cpu", "--json"]) == 0
    assert [row["dose"] for row in json.loads(capsys.readouterr().out)] == [None, 1, 9]
    assert run([*arguments, "--device", "cpu"]) == 0
    assert "as it is" in capsys.readouterr().out
    sampled = ["--device", "cpu", "--json", "--temperature", "1", "--presence-penalty", "1"]
    said = []
    for seed in ("1", "1", "2"):
        assert run([*arguments, *sampled, "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert run([*arguments, "--temperature", "9"]) == 2 and "temperature" in capsys.readouterr().err
    assert run(["dose", str(walk.index), "--edit", "feature:9999=1", "--prompt", "who?"]) == 2
