"""Measures equal their definitions, on held-out documents alone."""

import pytest
import torch

import sonde
from sonde.activations.corpus import Corpus, is_held_out
from sonde.dictionaries.load import load_dictionary
from sonde.errors import ArtifactMissingError, TextError
from sonde.models.load import load_model
from tests.tiny import make_model, texts, write_model

SITE = "layers.1.residual"


@pytest.fixture(scope="module")
def held_out(walk):
    return [document.text for document in Corpus(walk.corpus) if is_held_out(document, 0.1, 0)]


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_fvu_l0_and_dead_are_what_they_are_defined_to_be(walk, held_out, kind):
    found = sonde.measure(getattr(walk, kind), device="cpu")
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(getattr(walk, kind), "cpu")
    x = torch.cat([model.read(text, SITE)[SITE][0, 1:] for text in held_out])
    codes = dictionary.encode(x)
    fvu = (x - dictionary.decode(codes)).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert found.tokens == len(x) and found.documents == len(held_out) < 100
    assert found.fvu == pytest.approx(float(fvu), rel=1e-3)
    assert found.l0 == pytest.approx(float((codes > 0).sum(dim=1).float().mean()), rel=1e-2)
    assert found.dead == pytest.approx(float((codes == 0).all(dim=0).float().mean()), abs=0.02)


def test_losses_are_those_of_a_plain_forward_pass(walk, held_out):
    found = sonde.measure(walk.topk, device="cpu")
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(walk.topk, "cpu")
    mean = sonde.load_activations(walk.acts).mean.float()
    replacements = {
        "loss": lambda x: x,
        "loss_reconstructed": lambda x: dictionary.reconstruct(x),
        "loss_zero": torch.zeros_like,
        "loss_mean": lambda x: mean.expand_as(x),
    }
    for name, replace in replacements.items():
        total, count = 0.0, 0

        def hook(_, __, output, replace=replace):
            changed = output.clone()
            changed[:, 1:] = replace(output[:, 1:])  # the first token is special
            return changed

        handle = model.site(SITE).module.register_forward_hook(hook)
        for text in held_out:
            ids = model.tokenize(text).ids
            with torch.no_grad():
                logits = model.network(input_ids=ids).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += ids.shape[1] - 1
        handle.remove()
        assert getattr(found, name) == pytest.approx(total / count, rel=1e-4), name
    zero = (found.loss_zero - found.loss_reconstructed) / (found.loss_zero - found.loss)
    assert found.loss_recovered["zero"] == pytest.approx(zero)


def test_other_text_is_read_whole(walk):
    assert sonde.measure(walk.topk, text=texts(12, seed=5), device="cpu").documents == 12
    assert 100 <= sonde.measure(walk.topk, text=texts(50, seed=5), tokens=100, device="cpu").tokens < 200


def test_a_model_without_a_language_model_head_has_no_loss(tmp_path):
    model = make_model("bert")
    store = sonde.harvest(model, texts(60), site=SITE, held_out=0.2, out=tmp_path / "a")
    dictionary = sonde.train(store, n_features=32, k=4, tokens=1000, batch_size=64, out=tmp_path / "d", device="cpu")
    found = sonde.measure(dictionary, model=model, text=texts(20, seed=3), device="cpu")
    assert found.loss is None and found.loss_recovered == {"zero": None, "mean": None} and found.fvu > 0
    with pytest.raises(TextError, match="texts in memory"):
        sonde.measure(dictionary, model=model, device="cpu")


def test_nothing_held_out_says_so(tmp_path):
    model, corpus = write_model(tmp_path / "m"), tmp_path / "c.txt"
    corpus.write_text("\n\n".join(texts(30)))
    store = sonde.harvest(model, corpus, site=SITE, held_out=0.0, out=tmp_path / "a")
    dictionary = sonde.train(store, n_features=16, k=2, tokens=500, batch_size=64, out=tmp_path / "d", device="cpu")
    with pytest.raises(TextError, match="no held-out documents"):
        sonde.measure(dictionary, device="cpu")
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(ArtifactMissingError, match="does not exist"):
        sonde.measure(dictionary, device="cpu")
