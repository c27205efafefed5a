"""The reading loop gives what reading each text alone gives, in batches of any size."""

import numpy as np
import pytest
import torch

import sonde
from sonde.activations.contexts import Cutter, groups
from sonde.activations.corpus import Corpus
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading
from sonde.features.stream import stream, stream_each
from sonde.models.load import load_model
from tests.tiny import texts

SITE, NEURONS, FIRST = "layers.1.residual", "layers.0.neurons", "layers.0.residual"


def dense_rows(reads, n_texts, lengths):
    """(x, activations, neurons) of each text [token, width], brought back to the order of the text."""
    parts = [[None] * n_texts for _ in range(3)]
    for read in reads:
        row, feature, value = read.fires
        activations = np.zeros((read.n_rows, read.dictionary.n_features), dtype=np.float32)
        activations[row, feature] = value
        for place, values in enumerate((read.x.numpy(), activations, read.sites[NEURONS].numpy())):
            for text, position, vector in zip(read.batch.document, read.batch.position, values, strict=True):
                if parts[place][text] is None:
                    parts[place][text] = np.full((lengths[text], len(vector)), np.nan, dtype=np.float32)
                parts[place][text][position] = vector
    return parts


@pytest.mark.parametrize("batch_tokens", [1, 40, 8192])
def test_batches_of_any_size_hold_what_each_text_alone_gives(walk, batch_tokens):
    model, dictionary = load_model(walk.model, device="cpu"), load_dictionary(walk.topk, "cpu")
    given, cutter = [*texts(7), "", "a"], Cutter(model)
    lengths = [len(document.ids) for document in cutter.tokenize(given)]
    batches = list(groups(cutter.tokenize(given), cutter, batch_tokens=batch_tokens))
    assert batch_tokens > 1 or len(batches) == sum(length > 0 for length in lengths)
    x, activations, neurons = dense_rows(
        stream(Reading(dictionary, model), batches, sites=[NEURONS]), len(given), lengths
    )
    for number, text in enumerate(given):
        if not text:
            assert x[number] is None
            continue
        with torch.no_grad():
            alone = model.read(text, [SITE, NEURONS])
            wanted = alone[SITE][0, 1:]
            np.testing.assert_allclose(x[number], wanted, atol=1e-5)
            np.testing.assert_allclose(neurons[number], alone[NEURONS][0, 1:], atol=1e-5)
            np.testing.assert_allclose(activations[number], dictionary.encode(wanted), atol=1e-4)


def test_patches_of_pictures_are_rows_like_tokens(pictures):
    model, dictionary = load_model(pictures.model, device="cpu"), load_dictionary(pictures.dictionary, "cpu")
    cutter = Cutter(model)
    documents = list(cutter.tokenize(list(Corpus(pictures.corpus))[:6]))
    n_patches = 0
    for read in stream(Reading(dictionary, model), groups(iter(documents), cutter, batch_tokens=100)):
        n_patches += int((read.batch.token == model.require_pictures().image_token_id).sum())
        for number in np.unique(read.batch.document):
            own = np.flatnonzero(read.batch.document == number)
            [context] = cutter.contexts([documents[number]])
            tokens = model.pad([context.ids], pictures=context.pictures)
            with torch.no_grad():
                alone = model.read(tokens, SITE)[0, 1:]
            np.testing.assert_allclose(read.x[own], alone[read.batch.position[own]], atol=1e-5)
    assert n_patches == 3 * 16  # every other document has one picture of 4 by 4 patches


def test_several_dictionaries_share_one_pass_of_the_model(walk, tmp_path, monkeypatch):
    """A dictionary and a crosscoder of two sites, whose vectors stand side by side."""
    store = sonde.harvest(walk.model, walk.corpus, site=[FIRST, SITE], tokens=3000, out=tmp_path / "acts")
    sonde.train(store, site=(FIRST, SITE), n_features=32, k=4, tokens=4000, out=tmp_path / "cross", device="cpu")
    model = load_model(walk.model, device="cpu")
    readings = [Reading(load_dictionary(folder, "cpu"), model) for folder in (walk.topk, tmp_path / "cross")]
    cutter, passes, read = Cutter(model), [], model.read
    monkeypatch.setattr(model, "read", lambda *given: passes.append(1) or read(*given))
    n_batches = 0
    for single, crossed in stream_each(readings, groups(cutter.tokenize(texts(9)), cutter, batch_tokens=100)):
        n_batches += 1
        assert single.batch is crossed.batch and crossed.y is crossed.x and crossed.x.shape == (single.n_rows, 64)
        torch.testing.assert_close(crossed.x[:, 32:], single.x, rtol=0, atol=0)
        row, feature, value = crossed.active
        encoded = crossed.dictionary.encode(crossed.x).detach()
        assert len(value) == int((encoded > 0).sum())
        torch.testing.assert_close(value, encoded[row, feature], atol=1e-4, rtol=1e-4)
    assert n_batches == len(passes) > 1


def test_a_stream_stops_where_its_reader_does(walk):
    """Nothing is read ahead: a caller that has enough leaves the loop."""
    model = load_model(walk.model, device="cpu")
    cutter, taken = Cutter(model), []

    def batches():
        for number, batch in enumerate(groups(cutter.tokenize(texts(9)), cutter, batch_tokens=1)):
            taken.append(number)
            yield batch

    for _ in stream(Reading(load_dictionary(walk.topk, "cpu"), model), batches()):
        break
    assert taken == [0]
