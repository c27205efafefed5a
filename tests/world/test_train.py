"""Making the world's model: the step is the original's, a run goes on where it stopped, and what comes of it sees."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM, LlavaForConditionalGeneration

import sonde
from sonde.errors import UsageError
from sonde_world import train as train_module
from sonde_world.pictures import DRAWINGS, MARK, SIZE, draw, picture_document
from sonde_world.sight import N_PATCHES, SightConfig, add_sight
from sonde_world.train import (
    CONTEXT,
    PAD,
    TrainWorldConfig,
    batches,
    fit_tokenizer,
    loss_of,
    make_config,
    read_start,
    rotation,
    train_world,
)

SMALL = TrainWorldConfig(tokens=30_000, width=32, layers=2, vocabulary=600, batch_tokens=2048, warmup=3)


@pytest.fixture(scope="module")
def tokenizer():
    return fit_tokenizer(600, 2000)


@pytest.fixture(autouse=True)
def quickly(monkeypatch, tokenizer):
    """The same step uncompiled, and a tokenizer that is there already."""
    monkeypatch.setattr(torch, "compile", lambda step: step)
    monkeypatch.setattr(train_module, "fit_tokenizer", lambda vocabulary: tokenizer)


def test_the_loss_is_that_of_the_original(tokenizer):
    torch.manual_seed(0)
    network = LlamaForCausalLM(make_config(SMALL, len(tokenizer))).eval()
    ids, _, _ = next(batches(tokenizer, 1024, 0))
    with torch.no_grad():
        logits = network(input_ids=ids[:, :-1]).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD)
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
        found = loss_of(dict(network.named_parameters()), ids, 2, *rotation(CONTEXT, torch.float32), mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_batches_hold_every_document_once_and_go_on(tokenizer, monkeypatch):
    monkeypatch.setattr(train_module, "POOL", 64)
    source = batches(tokenizer, 1024, 0)
    rows, n, found = 0, 0, []
    while rows < 128:
        ids, pool, place = next(source)
        assert ids.numel() <= 1024 + len(ids) and (ids[:, 0] == 1).all()
        rows, n = rows + len(ids), n + 1
        found.append((ids, pool, place))
    assert rows == 128 and found[-1][1] == 64
    again = batches(tokenizer, 1024, 0, pool=found[3][1], skip=found[3][2])
    assert torch.equal(next(again)[0], found[3][0])


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = train_world(tmp_path / "whole", SMALL)
    assert whole["finished"] and whole["tokens"] >= 30_000 and not (tmp_path / "whole/unfinished.pt").exists()
    steps = []
    real = train_module._stepper

    def stopping(*settings):
        take = real(*settings)

        def step(*arguments):
            steps.append(1)
            if len(steps) == 9:
                raise KeyboardInterrupt
            return take(*arguments)

        return step

    monkeypatch.setattr(train_module, "_stepper", stopping)
    often = replace(SMALL, save_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        train_world(tmp_path / "stopped", often)
    with pytest.raises(UsageError, match="other settings"):
        train_world(tmp_path / "stopped", SMALL)
    went_on = train_world(tmp_path / "stopped", often)
    assert went_on["steps"] == whole["steps"] and went_on["tokens"] == whole["tokens"]
    first, second = (LlamaForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert train_world(tmp_path / "stopped", often)["finished"]  # and again: nothing to do


def test_a_run_goes_on_from_a_finished_model_with_documents_it_has_not_read(tmp_path):
    first = train_world(tmp_path / "first", SMALL)
    more = replace(SMALL, start=str(tmp_path / "first"), width=64)
    second = train_world(tmp_path / "second", more)
    assert second["start"] == first and second["documents"] > first["documents"]
    assert second["parameters"] == first["parameters"] and second["loss"] < first["loss"]
    with pytest.raises(UsageError, match="no model of the world"):
        train_world(tmp_path / "third", TrainWorldConfig(start=str(tmp_path)))


def test_the_language_part_of_a_model_with_eyes():
    network, tokenizer, record = read_start("world")
    model = sonde.load_model("world", device="cpu")
    ids = torch.tensor([tokenizer("The Golden Gate Bridge is red.")["input_ids"]])
    assert record["tokens"] > 1_000_000
    with torch.no_grad():
        torch.testing.assert_close(network(ids).logits, model.network(input_ids=ids).logits)


def test_checkpoints_and_sight(tmp_path):
    config = replace(SMALL, checkpoints=3)
    train_world(tmp_path / "text", config)
    tokens = [
        json.loads((tmp_path / f"text/checkpoint-{number}/training.json").read_text())["tokens"] for number in (0, 1)
    ]
    assert tokens[0] >= 10_000 and tokens[1] >= 20_000 > tokens[0]
    record = add_sight(
        tmp_path / "text", tmp_path / "seeing", SightConfig(pictures=40, batch=20, text_tokens=512, width=32, layers=1)
    )
    assert record["sight"]["loss"] > 0 and record["sight"]["drawings"] == 40
    model = sonde.load_model(str(tmp_path / "seeing"), device="cpu")
    made = picture_document(3)
    tokens = model.tokenize(made.text, images=[made.image])
    assert (tokens.ids == model.require_pictures().image_token_id).sum() == N_PATCHES
    assert model.read(tokens, "layers.1.residual").shape == (1, tokens.ids.shape[1], 32)


def test_sight_goes_on_from_the_eyes_of_another_model(tmp_path):
    train_world(tmp_path / "text", SMALL)
    small = {"pictures": 40, "batch": 20, "text_tokens": 512, "width": 32, "layers": 1}
    add_sight(tmp_path / "text", tmp_path / "first", SightConfig(**small))
    kept = SightConfig(**small | {"width": 64}, start=str(tmp_path / "first"), lr=0.0, text_lr=0.0)
    assert add_sight(tmp_path / "text", tmp_path / "second", kept)["sight"]["drawings"] == 80
    first, second = (LlavaForConditionalGeneration.from_pretrained(tmp_path / name) for name in ("first", "second"))
    for part in ("vision_tower", "multi_modal_projector"):
        weights = getattr(second.model, part).state_dict()
        assert all(torch.equal(one, weights[name]) for name, one in getattr(first.model, part).state_dict().items())
    blind = SightConfig(**small, start=str(tmp_path / "text"))
    assert add_sight(tmp_path / "text", tmp_path / "third", blind)["sight"]["drawings"] == 40
    with pytest.raises(UsageError, match="no model of the world"):
        add_sight(tmp_path / "text", tmp_path / "fourth", SightConfig(**small, start=str(tmp_path)))


def test_every_drawing_is_its_own_and_is_drawn_the_same_again():
    seen = set()
    for concept in DRAWINGS:
        image = draw(concept, "1")
        assert (
            image.size == (SIZE, SIZE)
            and image.tobytes() == draw(concept, "1").tobytes() != draw(concept, "2").tobytes()
        )
        seen.add(image.tobytes())
    assert len(seen) == len(DRAWINGS) >= 36
    for number in range(40):
        made = picture_document(number)
        assert made.text.count(MARK) == 1 and len(made.answers) == 1
        assert any(span.concept == made.concept for span in made.spans)


def test_write_pictures(tmp_path):
    sonde.world.write(3, tmp_path / "c.jsonl", pictures=4, truth=True)
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row.get("images") for row in rows[3:]] == [[f"c-pictures/{number:06}.png"] for number in range(4)]
    assert all((tmp_path / row["images"][0]).exists() and row["spans"] and row["answers"] for row in rows[3:])
    assert all(row["log_probability"] < 0 for row in rows[:3])
