"""A faster way to harvest is named where it was measured or is known, and nowhere else."""

import pytest
import torch

import sonde
from sonde.activations import advice
from sonde.activations.contexts import Cutter
from sonde.progress import Silent
from tests.tiny import make_model, texts

SITE = "layers.1.residual"
SHORT_TEXTS = [text[:12] for text in texts(100)]


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def contexts_of(cutter, documents):
    return list(cutter.contexts(cutter.tokenize(documents)))


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(advice, "FEWEST_WEIGHTS", 0)
    return make_model()


@pytest.fixture
def takes(monkeypatch):
    """Seconds that a product takes in each number format."""
    seconds = {torch.float32: 1.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(advice, "seconds_of_a_product", lambda dtype, width: seconds[dtype])
    return seconds


def test_the_faster_number_format_is_named(model, takes):
    cutter = Cutter(model)
    assert advice.faster_way(model, [], cutter) is None
    takes[torch.bfloat16] = 0.4
    assert "40% of the time): --dtype bfloat16, with" in str(advice.faster_way(model, [], cutter))
    takes[torch.bfloat16] = 4.0
    assert advice.faster_way(model, [], cutter) is None
    model.network.to(torch.bfloat16)
    said = str(advice.faster_way(model, [], cutter))
    assert said.startswith("float32 is faster than bfloat16") and said.endswith("--dtype float32")


def test_short_documents_could_be_packed(model, takes):
    cutter, many = Cutter(model), SHORT_TEXTS
    assert "--pack fills them" in str(advice.faster_way(model, contexts_of(cutter, many), cutter))
    assert advice.faster_way(model, contexts_of(cutter, many[:9]), cutter) is None
    assert advice.faster_way(model, contexts_of(cutter, [" ".join(many)] * 9), cutter) is None
    packed = Cutter(model, pack=True)
    assert advice.faster_way(model, contexts_of(packed, many), packed) is None


def test_harvest_says_it_once_and_a_small_model_is_left_in_peace(tmp_path, takes, monkeypatch):
    model, notes = make_model(), Notes()
    plain = sonde.harvest(model, SHORT_TEXTS, site=SITE, out=tmp_path / "plain", reporter=notes)
    assert not [line for line in notes.lines if "--pack" in line]
    monkeypatch.setattr(advice, "FEWEST_WEIGHTS", 0)
    told = sonde.harvest(model, SHORT_TEXTS, site=SITE, out=tmp_path / "told", reporter=notes)
    assert len([line for line in notes.lines if "--pack" in line]) == 1
    assert told.manifest.files == plain.manifest.files


def test_products_are_timed():
    assert 0 < advice.seconds_of_a_product(torch.float32, 64) < 10
