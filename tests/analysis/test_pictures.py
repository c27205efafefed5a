"""What reads an index's own text again reads its pictures, too."""

import shutil

import numpy as np

import sonde
from sonde.analysis.neurons import neurons
from sonde.labels.random_directions import random_directions


def test_a_document_is_read_again_with_its_pictures(pictures):
    reader = sonde.Reader(pictures.index, device="cpu")
    sources = [reader.index.source(number) for number in range(reader.index.facts.documents)]
    assert [len(source.images) for source in sources] == [source.text.count("<image>") for source in sources]
    assert sources[-1].text == "<image><image> both" and len(sources[-1].images) == 2
    for number, source in enumerate(sources[:4]):
        n_tokens = len(reader.index.document(number)[1])
        from sonde.activations.contexts import Cutter

        [tokenized] = Cutter(reader.model).tokenize([source])
        assert len(tokenized.ids) == n_tokens


def test_neurons_are_correlated_on_pictures(pictures, tmp_path):
    reader = sonde.Reader(shutil.copytree(pictures.index, tmp_path / "i"), device="cpu")
    report = neurons(reader, tokens=1000)
    assert report.tokens == reader.index.n_tokens or report.tokens >= 1000
    assert np.isfinite(report.correlation).all() and (np.abs(report.correlation) > 0).any()


def test_random_directions_read_pictures(pictures, tmp_path):
    index = sonde.load_index(pictures.index)
    control = random_directions(index, 8, 0, tmp_path / "control")
    assert control.n_features == 8 and control.n_tokens == index.n_tokens and control.facts.activations > 0
