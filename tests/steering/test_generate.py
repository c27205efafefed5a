"""Texts that a model writes: many in a batch, the same again, resumed after a break."""

import json
from typing import Any

import pytest

import sonde
from sonde.errors import ArtifactDamagedError, ModelLacksError, OutputOccupiedError, SettingsError
from tests.tiny import make_model

PROMPTS = ["who are you?", "a", "tell me about the bridge over the bay", "why", "and then?"]
SETTINGS: dict[str, Any] = {"max_new_tokens": 8, "batch": 2, "repeat": 2}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_each_prompt_is_answered_as_often_as_asked(tmp_path):
    model = make_model()
    out = sonde.generate(model, PROMPTS, out=tmp_path / "a.jsonl", **SETTINGS)
    rows = lines(out)
    assert [row["prompt"] for row in rows] == PROMPTS * 2
    assert all(row["text"].startswith(f"<s>user: {row['prompt']}\nassistant:") for row in rows)
    assert all(1 <= row["tokens"] <= 8 for row in rows)
    assert rows[0]["answer"] != rows[5]["answer"]  # another draw
    again = sonde.generate(model, PROMPTS, out=tmp_path / "b.jsonl", **SETTINGS)
    assert again.read_bytes() == out.read_bytes()
    other = sonde.generate(model, PROMPTS, out=tmp_path / "c.jsonl", seed=1, **SETTINGS)
    assert other.read_bytes() != out.read_bytes()


def test_the_likeliest_answer_is_the_model_s_own(tmp_path):
    model = make_model()
    out = sonde.generate(model, PROMPTS, out=tmp_path / "a.jsonl", temperature=0, max_new_tokens=8)
    for prompt, row in zip(PROMPTS, lines(out), strict=True):
        assert row["answer"] == model.generate(model.chat_tokens([{"role": "user", "content": prompt}]), 8)


@pytest.mark.parametrize("keep", [0, 1, 350, 400, 10_000])
def test_a_run_that_broke_off_goes_on_to_the_same_bytes(tmp_path, keep):
    model, out = make_model(), tmp_path / "a.jsonl"
    whole = sonde.generate(model, PROMPTS, out=out, **SETTINGS).read_bytes()
    out.write_bytes(whole[:keep])
    assert sonde.generate(model, PROMPTS, out=out, **SETTINGS).read_bytes() == whole


def test_plain_text_goes_on_and_tokens_bound_it(tmp_path):
    model = make_model()
    out = sonde.generate(model, ["The", "In"], out=tmp_path / "a.jsonl", plain=True, tokens=60, max_new_tokens=10)
    rows = lines(out)
    assert sum(row["tokens"] for row in rows) >= 60
    assert all(row["text"].startswith(f"<s>{row['prompt']}") for row in rows)


def test_the_file_of_other_settings_is_kept(tmp_path):
    model, out = make_model(), tmp_path / "a.jsonl"
    sonde.generate(model, PROMPTS, out=out, **SETTINGS)
    with pytest.raises(OutputOccupiedError, match="holds other text"):
        sonde.generate(model, PROMPTS, out=out, **(SETTINGS | {"temperature": 0.5}))
    out.write_text('{"text": "mine"}\n')
    with pytest.raises(ArtifactDamagedError, match="line 1"):
        sonde.generate(model, PROMPTS, out=out, **SETTINGS)


def test_what_is_harvested_is_what_was_written(tmp_path):
    model = make_model()
    out = sonde.generate(model, PROMPTS, out=tmp_path / "a.jsonl", max_new_tokens=8)
    store = sonde.harvest(model, out, site="layers.1.residual", held_out=0, out=tmp_path / "acts")
    assert store.facts.documents == len(PROMPTS)


def test_wrong_calls_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="jsonl"):
        sonde.generate(make_model(), PROMPTS, out=tmp_path / "a.txt")
    with pytest.raises(SettingsError, match="temperature"):
        sonde.generate(make_model(), PROMPTS, out=tmp_path / "a.jsonl", temperature=-1)
    with pytest.raises(ModelLacksError):
        sonde.generate(make_model("bert"), PROMPTS, out=tmp_path / "a.jsonl")
