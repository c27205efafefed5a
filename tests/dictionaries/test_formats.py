"""Weights on disk: float32 as they are, int8 with a scale for each row; and the dictionary in the package."""

import numpy as np
import pytest
import torch

import sonde
from sonde.dictionaries.load import WEIGHTS, content_id, load_dictionary, save_dictionary
from sonde.dictionaries.topk import TopK
from sonde.errors import OutputOccupiedError
from tests.known import known


def make() -> TopK:
    torch.manual_seed(0)
    dictionary = TopK(32, 16, k=4).at("layers.0.residual")
    with torch.no_grad():
        dictionary.W_enc.normal_()
        dictionary.W_enc[3] *= 1000  # rows of another size keep their own precision
        dictionary.W_enc[5] = 0
        dictionary.W_dec.normal_()
        dictionary.b_enc.normal_()
    return dictionary


def test_int8_rows_are_right_to_half_a_step(tmp_path):
    dictionary = make()
    artifact = save_dictionary(dictionary, tmp_path / "small", store="int8")
    again = load_dictionary(tmp_path / "small", "cpu")
    for name in ("W_enc", "W_dec"):
        ours, theirs = dictionary.get_parameter(name).detach(), again.get_parameter(name)
        step = ours.abs().amax(dim=1, keepdim=True) / 127
        assert ((ours - theirs).abs() <= step * 0.5001).all()
        assert theirs.dtype == torch.float32
    assert torch.equal(dictionary.b_enc, again.b_enc)
    assert artifact.manifest.id == content_id(dictionary, "int8") != content_id(dictionary)
    save_dictionary(dictionary, tmp_path / "large")
    size = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("small", "large")]
    assert size[0] < 0.6 * size[1]


def test_int8_rows_that_are_stored_again_are_the_same(tmp_path):
    save_dictionary(make(), tmp_path / "a", store="int8")
    again = load_dictionary(tmp_path / "a", "cpu")
    save_dictionary(again, tmp_path / "b", store="int8")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


def test_the_rows_of_int8_are_read_without_torch_too(walk, tmp_path):
    """Neighbours, similar features and the map take them from the index, which maps the file."""
    save_dictionary(sonde.load_dictionary(walk.topk, "cpu"), tmp_path / "small", store="int8")
    index = sonde.index(None, tmp_path / "small", walk.corpus, tokens=1000, out=tmp_path / "index", device="cpu")
    loaded = sonde.load_dictionary(tmp_path / "small", "cpu")
    assert index.directions.dtype == np.float32
    np.testing.assert_array_equal(index.directions, loaded.W_dec.numpy())
    plain = sonde.load_index(walk.index)
    assert np.abs(index.directions - plain.directions).max() < 0.01 and index.feature(3).neighbours(2)


def test_a_folder_that_holds_the_other_format_is_kept(tmp_path):
    save_dictionary(make(), tmp_path / "a")
    with pytest.raises(OutputOccupiedError):
        save_dictionary(make(), tmp_path / "a", store="int8")


def test_the_dictionary_in_the_package(tmp_path, monkeypatch):
    dictionary = sonde.load_dictionary("smollm2", "cpu")
    assert dictionary.site == "layers.10.residual"
    assert (dictionary.n_features, dictionary.d_in) == (8192, 576)
    sonde.show(known(dictionary.artifact).folder)
    monkeypatch.chdir(tmp_path)  # a folder of that name comes first
    save_dictionary(make(), "smollm2")
    assert load_dictionary("smollm2", "cpu").n_features == 32
