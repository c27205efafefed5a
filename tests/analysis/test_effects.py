"""Effects: a clamp's effect is that of the edit that chat applies, and the estimate is its slope."""

import copy
import shutil
from typing import Any

import pytest
import torch

import sonde
from sonde.analysis.effects import Finder
from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import EditError, SettingsError, TextError
from sonde.features.reader import Reader
from sonde.steering.dose import perplexities
from tests.tiny import texts

ABOUT, OTHERS = texts(12, seed=3), texts(12, seed=4)


@pytest.fixture(scope="module")
def reader(walk):
    return Reader(walk.index, device="cpu")


def finder(reader: Reader, dose: float = 1.0, where: str = "prompt", rows: int = 32) -> Finder:
    maxima = torch.tensor(reader.index.statistics["maximum"]).to(reader.dictionary.W_dec)
    return Finder(reader.model, reader.dictionary, maxima, dose, where, 16, rows)  # type: ignore[arg-type]


def strongest(reader: Reader) -> int:
    return int(reader.index.statistics["maximum"].argmax())


@pytest.mark.parametrize("where", ["prompt", "all", "answer"])
def test_a_change_is_that_of_the_clamp(reader, where):
    found, number, other_number = finder(reader, 3.0, where), strongest(reader), 6
    answers = found.answers(ABOUT[:2], OTHERS[:3])
    about, other = next(found.changes(answers, [(number, other_number)]))
    changes = []
    for row, plain in enumerate(answers.plain.tolist()):
        ids = answers.tokens.ids[row][answers.tokens.mask[row].bool()]
        start = int(answers.is_answer[row].int().argmax())
        part = {"prompt": slice(0, start), "all": slice(None), "answer": slice(start, None)}[where]
        clamp = sonde.Clamp(reader.index, [number, other_number], 3.0, "max")

        class Part:
            site, where = clamp.site, "all"

            def __call__(self, x, clamp=clamp, part=part):
                changed = x.clone()
                changed[:, part] = clamp(x)[:, part]
                return changed

        with reader.model.edited(Part()), torch.no_grad():
            [perplexity] = perplexities(reader.model, [ids[:start].tolist()], [ids[start:].tolist()])
        changes.append(-torch.tensor(perplexity).log().item() - plain)
    assert about == pytest.approx(sum(changes[:2]) / 2, abs=1e-4)
    assert other == pytest.approx(sum(changes[2:]) / 3, abs=1e-4)


def test_batches_change_nothing(reader):
    sets = [(number,) for number in (strongest(reader), 1, 2)]
    found = []
    for rows in (1, 16, 512):
        one = finder(reader, 2.0, rows=rows)
        answers = one.answers(ABOUT[:3], OTHERS[:3])
        found.append(torch.tensor([*one.changes(answers, sets)]))
        found.append(one.estimates(answers)[[number for [number] in sets]])
    assert torch.allclose(found[0], found[2], atol=1e-5) and torch.allclose(found[0], found[4], atol=1e-5)
    assert torch.allclose(found[1], found[3], atol=1e-4) and torch.allclose(found[1], found[5], atol=1e-4)


def test_the_estimate_is_the_slope_of_the_effect(walk):
    reader = Reader(walk.index, sonde.load_model(walk.model, device="cpu", dtype="float64"), "cpu")
    number = strongest(reader)
    one = finder(reader)
    answers = one.answers(ABOUT[:4], OTHERS[:4])
    estimate = float(one.estimates(answers)[number])
    whole, small = one._shift(answers, (number,), 1.0), 1e-4
    one._shift = lambda *_: small * whole  # type: ignore[method-assign]
    about, other = next(one.changes(answers, [(number,)]))
    assert (about - other) / small == pytest.approx(estimate, rel=0.02, abs=1e-4)


def test_what_makes_a_text_likely_is_found(reader):
    """A feature whose direction raises the logit of a word finds texts of that word, and no random one does."""
    model = reader.model
    token = int(model.tokenize(ABOUT[0], special=False).ids[0, 0])
    weight = model.network.get_output_embeddings().weight.detach()
    dictionary = reader.dictionary
    changed = copy.deepcopy(dictionary)
    with torch.no_grad():
        changed.W_dec[7] = torch.nn.functional.normalize(weight[token] - weight.mean(dim=0), dim=0)
    maxima = torch.full((dictionary.n_features,), 20.0)
    word = model.require_tokenizer().decode([token])
    one = Finder(model, changed, maxima, 1.0, "all", 8)
    areas = torch.full((dictionary.n_features,), 0.5)
    found = one.find([word * 6] * 8, OTHERS[:8], (areas, areas), n=3, candidates=64, most=3)
    assert found[0].features == (7,) and 7 in found.set.features
    assert found[0].effect > 2 * max(0.0, found[1].effect) and found.set.effect >= found[0].effect


def test_the_verb_keeps_the_set_as_a_preset(walk, tmp_path):
    index = tmp_path / "index"
    shutil.copytree(walk.index, index)
    found = sonde.effects(index, ABOUT, OTHERS, n=4, candidates=6, most=2, preset="mine", device="cpu")
    assert len(found) == 4 and 1 <= len(found.set.features) <= 2
    assert sonde.preset(index)["mine"] == [found.set.edit]
    assert all(each.chosen_on >= other.chosen_on for each, other in zip(found, found[1:], strict=False))
    assert 0 <= (found[0].auc or 0) <= 1 and str(found.set.edit) in found._repr_html_()


def test_what_cannot_be_is_said(walk, sizes):
    cases: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
        ({"text": ABOUT[:3]}, TextError, "there are 3 texts about the concept, and at least 4 are needed"),
        ({"others": ["a"]}, TextError, "1 texts about other things"),
        ({"where": "nowhere"}, EditError, "where is 'nowhere'"),
        ({"dose": -1.0}, SettingsError, "dose is -1.0"),
        ({"most": 0}, SettingsError, "most is 0"),
        ({"preset": "A B"}, EditError, "cannot be named 'A B'"),
    )
    for changed, error, message in cases:
        given: dict[str, Any] = {"text": ABOUT, "others": OTHERS, "device": "cpu"} | changed
        with pytest.raises(error, match=message):
            sonde.effects(walk.index, **given)


def test_a_dictionary_of_several_sites_is_refused(reader):
    class Other:
        writes, reads, site = {"a": 1, "b": 1}, {"a": 1, "b": 1}, "a+b"

    other: Dictionary = Other()  # type: ignore[assignment]
    with pytest.raises(EditError, match="edits act through dictionaries of one site"):
        Finder(reader.model, other, torch.ones(3))
