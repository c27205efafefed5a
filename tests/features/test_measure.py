"""Measures equal their definitions, on held-out documents alone."""

from typing import Any

import pytest
import torch

import sonde
from sonde.activations.corpus import Corpus, is_held_out
from sonde.dictionaries.load import load_dictionary
from sonde.errors import SettingsError, TextError
from sonde.models.load import load_model
from tests.known import known
from tests.tiny import make_model, texts, write_model

SITE = "layers.1.residual"


@pytest.fixture(scope="module")
def held_out(walk):
    return [document.text for document in Corpus(walk.corpus) if is_held_out(document, 0.1, 0)]


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_fvu_l0_and_dead_are_what_they_are_defined_to_be(walk, held_out, kind):
    found = sonde.measure(getattr(walk, kind), device="cpu")
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(getattr(walk, kind), "cpu")
    x = torch.cat([model.read(text, SITE)[0, 1:] for text in held_out])
    codes = dictionary.encode(x)
    fvu = (x - dictionary.decode(codes)).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert found.tokens == len(x) and found.documents == len(held_out) < 100
    assert found.fvu == pytest.approx(float(fvu), rel=1e-3)
    assert found.l0 == pytest.approx(float((codes > 0).sum(dim=1).float().mean()), rel=1e-2)
    assert found.dead == pytest.approx(float((codes == 0).all(dim=0).float().mean()), abs=0.02)
    x_hat = dictionary.decode(codes)
    assert found.fvu_uncentred == pytest.approx(float((x - x_hat).square().sum() / x.square().sum()), rel=1e-3)
    assert found.gamma == pytest.approx(float(x_hat.square().sum() / (x * x_hat).sum()), rel=1e-3)
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(x, x_hat, dim=1).mean()), rel=1e-3)
    share = (codes > 0).float().mean(dim=0)
    assert sum(found.densities.values()) == 64 and found.densities["0"] == round(found.dead * 64)
    assert found.densities["1"] == pytest.approx(int((share > 0.1).sum()), abs=1)


def test_time_bounds_a_measurement(walk, monkeypatch):
    whole = sonde.measure(walk.topk, device="cpu")
    monkeypatch.setattr("sonde.analysis.measure.TIMED_TOKENS", 64)
    first = sonde.measure(walk.topk, seconds=1e-9, device="cpu")
    assert 0 < first.tokens < 256 < whole.tokens
    unhurried = sonde.measure(walk.topk, seconds=1e9, device="cpu")
    assert (unhurried.tokens, unhurried.fvu) == (whole.tokens, pytest.approx(whole.fvu, rel=1e-5))
    with pytest.raises(SettingsError, match="seconds"):
        sonde.measure(walk.topk, seconds=0, device="cpu")


def test_fvu_is_right_where_other_formulas_exceed_one(walk, tmp_path):
    """Two dimensions far from zero: with the mean of squares in place of the square of the mean, "explained variance"
    comes out above 1 (SAELens 6.18 and SAEBench 0.6 did so: an impossible value)."""
    model = make_model()
    network: Any = model.network
    with torch.no_grad():  # a stream with two outlier dimensions
        network.get_input_embeddings().weight[:, 3] += 60
        network.get_input_embeddings().weight[:, 7] -= 40
    store = sonde.harvest(model, texts(300), site=SITE, store="float32", out=tmp_path / "a")
    dictionary = sonde.train(store, n_features=32, k=4, tokens=60_000, out=tmp_path / "d", device="cpu")
    x = next(store.stream(store.n_rows))
    error = (x - dictionary.reconstruct(x)).square().sum(dim=1).mean()
    true = error / (x - x.mean(dim=0)).square().sum(dim=1).mean()
    theirs = 1 - error / (x.square().sum(dim=1).mean() - x.square().mean() ** 2)
    found = sonde.measure(dictionary, model=model, text=texts(300))
    assert theirs > 1 and 0 < found.fvu < 1 and found.fvu == pytest.approx(float(true), rel=0.1)
    assert found.fvu_uncentred < 0.1 * found.fvu


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
    predictions: dict[str, list[torch.Tensor]] = {}
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
            predictions.setdefault(name, []).append(logits.log_softmax(dim=1))
            count += ids.shape[1] - 1
        handle.remove()
        assert getattr(found, name) == pytest.approx(total / count, rel=1e-4), name
    plain, other = (torch.cat(predictions[name]) for name in ("loss", "loss_reconstructed"))
    kl = torch.nn.functional.kl_div(other, plain, log_target=True, reduction="batchmean")
    assert found.kl == pytest.approx(float(kl), rel=1e-3)
    ablated = known(found.loss_zero)
    zero = (ablated - known(found.loss_reconstructed)) / (ablated - known(found.loss))
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
    (tmp_path / "a").rename(tmp_path / "b")  # measuring needs the text, not the activations
    assert sonde.measure(dictionary, text=texts(9, seed=5), device="cpu").fvu > 0


def test_a_dictionary_of_ready_vectors_is_measured_on_text_that_is_given(tmp_path):
    model, documents = make_model(), texts(40)
    store = sonde.harvest(model, documents, site=SITE, out=tmp_path / "a")
    ready = sonde.from_vectors(next(store.stream(store.n_rows)), site=SITE, out=tmp_path / "b")
    dictionary = sonde.train(ready, n_features=32, k=4, tokens=5000, out=tmp_path / "d", device="cpu")
    with pytest.raises(TextError, match="trained on ready vectors, .* give text"):
        sonde.measure(dictionary, model=model)
    assert 0 < sonde.measure(dictionary, model=model, text=documents).fvu < 1
