"""Dictionaries: fast paths equal their dense references, folding changes nothing, files are refused by name."""

import shutil
from typing import Any

import pytest
import torch

from sonde.dictionaries.dictionary import Dictionary, Scaling
from sonde.dictionaries.load import KINDS, load_dictionary
from sonde.errors import ArtifactDamagedError, ArtifactForeignError, FeatureError
from sonde.kernels.compiled import kernels
from sonde.kernels.sparse import (
    decode_dense,
    decode_pairs,
    encode_batch_topk,
    encode_batch_topk_dense,
    encode_topk,
    encode_topk_dense,
)
from tests.known import known

WIDTH, FEATURES, K = 12, 40, 5
WITH_K = ("topk", "batchtopk", "matryoshka")


def random_dictionary(kind: str, seed: int = 0, d_out: int | None = None, width: int = WIDTH) -> Dictionary:
    """Of random weights; one that reads and writes the same vectors, or else a transcoder with a skip connection."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"k": K} if kind in WITH_K else {}
    dictionary = KINDS[kind](FEATURES, width, d_out, skip=d_out is not None, **options)
    for name, parameter in dictionary.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if name in ("r", "log_threshold") else 1.0)
    if kind in ("batchtopk", "matryoshka"):
        dictionary.get_buffer("threshold").fill_(2.0)
    return dictionary


@pytest.mark.parametrize(
    ("encode", "dense"), [(encode_topk, encode_topk_dense), (encode_batch_topk, encode_batch_topk_dense)]
)
@pytest.mark.parametrize(("rows", "k"), [(30, K), (30, 1), (30, FEATURES), (1, K), (200, 2)])
def test_sparse_coding_equals_dense_coding_with_gradients(encode, dense, rows, k):
    torch.manual_seed(rows + k)
    x = torch.randn(rows, WIDTH, dtype=torch.float64) * torch.rand(rows, 1, dtype=torch.float64) * 3
    weights = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((FEATURES, WIDTH), (FEATURES,), (FEATURES, WIDTH))
    ]
    target = torch.randn(rows, WIDTH, dtype=torch.float64)

    def gradients(x_hat):
        return torch.autograd.grad((x_hat - target).square().sum(), weights)

    W_enc, b_enc, W_dec = weights
    values, pairs = encode(x, W_enc, b_enc, k)
    sparse = decode_pairs(values, pairs, W_dec)
    reference = decode_dense(dense(x, W_enc, b_enc, k), W_dec)
    torch.testing.assert_close(sparse, reference)
    for fast, slow in zip(gradients(sparse), gradients(reference), strict=True):
        torch.testing.assert_close(fast, slow)


def test_batch_topk_is_exact_where_rows_are_unlike_each_other():
    """A sample of rows says nothing of a batch in which the strong rows are not in it, or all are."""
    torch.manual_seed(0)
    W_enc, b_enc = torch.randn(FEATURES, WIDTH), torch.zeros(FEATURES)
    x = torch.randn(256, WIDTH)
    for strong in (slice(0, None, 4), slice(1, None, 4), slice(0, 3), slice(250, None)):
        scaled = x.clone()
        scaled[strong] *= 50
        values, pairs = encode_batch_topk(scaled, W_enc, b_enc, K)
        dense = encode_batch_topk_dense(scaled, W_enc, b_enc, K)
        rebuilt = torch.zeros_like(dense)
        rebuilt[pairs.row, pairs.feature] = values
        torch.testing.assert_close(rebuilt, dense)
        assert len(values) <= K * 256 and (pairs.row.diff() >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_active_is_found_by_compiled_kernels_too(kind, monkeypatch):
    dictionary, x = random_dictionary(kind, width=16), torch.randn(100, 16)
    with torch.no_grad():
        dictionary.b_enc.sub_(7.0)
        slow = dictionary.active(x)
        monkeypatch.setattr("sonde.dictionaries.dictionary.FEW_WEIGHTS", 1)
        assert (dictionary.packed(x) is None) == (kernels() is None)
        for _ in range(2):
            row, feature, value = dictionary.active(x)
            rebuilt, expected = torch.zeros(2, 100, FEATURES)
            rebuilt[row, feature], expected[slow[0], slow[1]] = value, slow[2]
            torch.testing.assert_close(rebuilt, expected)
            assert len(value) == len(slow[2]) > 50 and (row.diff() >= 0).all()
            dictionary.W_enc.mul_(2)  # weights that have changed are packed anew
            dictionary.b_enc.mul_(2)
            monkeypatch.setattr("sonde.dictionaries.dictionary.FEW_WEIGHTS", 1 << 30)
            slow = dictionary.active(x)
            monkeypatch.setattr("sonde.dictionaries.dictionary.FEW_WEIGHTS", 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d_out", [None, 7])
def test_folding_keeps_every_reconstruction(kind, d_out):
    """Of one site, and of a cross-layer transcoder with a skip connection that writes sites of unequal scales."""
    dictionary = random_dictionary(kind, d_out=d_out)
    inputs = Scaling(torch.randn(WIDTH), torch.full((WIDTH,), 3.7))
    outputs = inputs if d_out is None else Scaling(torch.randn(d_out), torch.tensor([0.5] * 4 + [20.0] * 3))
    if kind == "topk":  # training keeps decoder rows at length one, which the choice of the largest needs
        dictionary.W_dec.data /= dictionary.W_dec.data.norm(dim=1, keepdim=True)
    x = torch.randn(50, WIDTH)
    with torch.no_grad():
        before = dictionary.reconstruct(inputs(x)) / outputs.scale + outputs.mean
        codes, active = dictionary.encode(inputs(x)) * dictionary.W_dec.norm(dim=1), dictionary.encode(inputs(x)) > 0
        dictionary.fold(inputs, outputs)
        torch.testing.assert_close(dictionary.reconstruct(x), before, atol=1e-4, rtol=1e-4)
        assert torch.equal(dictionary.encode(x) > 0, active)
        relative = outputs.scale / outputs.scale.log().mean().exp()
        torch.testing.assert_close(dictionary.encode(x), codes * relative[0] / outputs.scale[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close((dictionary.W_dec * relative).norm(dim=1), torch.ones(FEATURES))


@pytest.mark.parametrize("kind", ["topk", "l1"])
def test_a_saved_dictionary_loads_with_what_it_was(walk, kind):
    dictionary = load_dictionary(getattr(walk, kind), "cpu")
    assert dictionary.kind == kind and dictionary.site == "layers.1.residual"
    assert (dictionary.max_activation >= dictionary.mean_activation).all()
    assert known(dictionary.info.model).name == str(walk.model)
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
