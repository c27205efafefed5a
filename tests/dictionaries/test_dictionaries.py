"""Dictionaries: fast paths equal their dense references, folding changes nothing, files are refused by name."""

import shutil

import pytest
import torch

from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.l1 import L1
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.topk import TopK
from sonde.errors import ArtifactDamagedError, ArtifactForeignError, FeatureError
from sonde.kernels.sparse import decode_dense, decode_sparse, encode_topk, encode_topk_dense

WIDTH, FEATURES, K = 12, 40, 5


def random_dictionary(kind: str, seed: int = 0) -> Dictionary:
    torch.manual_seed(seed)
    dictionary = TopK(FEATURES, WIDTH, k=K) if kind == "topk" else L1(FEATURES, WIDTH)
    for parameter in dictionary.parameters():
        torch.nn.init.normal_(parameter)
    return dictionary


def test_sparse_coding_equals_dense_coding_with_gradients():
    torch.manual_seed(0)
    x = torch.randn(30, WIDTH, dtype=torch.float64)
    weights = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((FEATURES, WIDTH), (FEATURES,), (FEATURES, WIDTH))
    ]
    target = torch.randn(30, WIDTH, dtype=torch.float64)

    def gradients(x_hat):
        return torch.autograd.grad((x_hat - target).square().sum(), weights)

    W_enc, b_enc, W_dec = weights
    values, features = encode_topk(x, W_enc, b_enc, K)
    sparse = decode_sparse(values, features, W_dec)
    dense = decode_dense(encode_topk_dense(x, W_enc, b_enc, K), W_dec)
    torch.testing.assert_close(sparse, dense)
    for fast, reference in zip(gradients(sparse), gradients(dense), strict=True):
        torch.testing.assert_close(fast, reference)


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_every_way_of_reading_agrees(kind):
    dictionary, x = random_dictionary(kind), torch.randn(3, 7, WIDTH)
    with torch.no_grad():
        dense = dictionary.encode(x)
        torch.testing.assert_close(dictionary.reconstruct(x), dictionary.decode(dense))
        row, feature, value = dictionary.active(x.flatten(0, 1))
        rebuilt = torch.zeros(21, FEATURES)
        rebuilt[row, feature] = value
        torch.testing.assert_close(rebuilt, dense.flatten(0, 1))
        assert (value > 0).all()
        for number in range(FEATURES):
            torch.testing.assert_close(dictionary.activation(x, number), dense[..., number])
    if kind == "topk":
        assert ((dense > 0).sum(dim=-1) <= K).all()


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_folding_keeps_every_reconstruction(kind):
    dictionary, mean, scale = random_dictionary(kind), torch.randn(WIDTH), 3.7
    if kind == "topk":  # training keeps decoder rows at length one, which the choice of the largest needs
        dictionary.W_dec.data /= dictionary.W_dec.data.norm(dim=1, keepdim=True)
    x = torch.randn(50, WIDTH)
    with torch.no_grad():
        scaled = (x - mean) * scale
        before = dictionary.reconstruct(scaled) / scale + mean
        codes = dictionary.encode(scaled) * dictionary.W_dec.norm(dim=1) / scale
        dictionary.fold(mean, scale)
        torch.testing.assert_close(dictionary.reconstruct(x), before, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dictionary.encode(x), codes, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(FEATURES))


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_a_saved_dictionary_loads_with_what_it_was(walk, kind):
    dictionary = load_dictionary(getattr(walk, kind), "cpu")
    assert dictionary.kind == kind and dictionary.site == "layers.1.residual"
    assert (dictionary.max_activation >= dictionary.mean_activation).all()
    assert dictionary.facts["model"]["name"] == str(walk.model)
    with pytest.raises(FeatureError, match="features 0 to 63"):
        dictionary.check_feature(64)


def test_what_is_no_dictionary_is_refused(walk, tmp_path):
    with pytest.raises(ArtifactForeignError, match="holds an activations"):
        load_dictionary(walk.acts)
    shutil.copytree(walk.topk, tmp_path / "d")
    weights = tmp_path / "d" / "dictionary.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(b"\xff" * 8 + data[8:])
    with pytest.raises(ArtifactDamagedError, match="cannot be read"):
        load_dictionary(tmp_path / "d")
    weights.write_bytes(data[:100])
    with pytest.raises(ArtifactDamagedError, match="truncated"):
        load_dictionary(tmp_path / "d")
