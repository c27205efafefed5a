"""bfloat16 proposes, float32 decides: what is chosen never depends on what was proposed."""

import pytest
import torch

from sonde.kernels import sparse
from sonde.kernels.sparse import (
    decode_dense,
    decode_pairs,
    encode_batch_topk,
    encode_batch_topk_dense,
    encode_topk,
    encode_topk_dense,
    propose_batch_topk,
    propose_topk,
)

ROWS, WIDTH, FEATURES, K = 150, 48, 500, 6


def problem(outlier: float = 1.0, alike: float | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows with one dimension `outlier` times larger; encoder rows that differ by `alike` alone, where it is given."""
    torch.manual_seed(0)
    x = torch.randn(ROWS, WIDTH)
    x[:, 3] *= outlier
    W_enc = torch.randn(FEATURES, WIDTH)
    if alike is not None:
        W_enc = W_enc[:1] + alike * W_enc
    return x, W_enc, 0.1 * torch.randn(FEATURES)


def assert_largest(x, W_enc, b_enc, values, row, feature, smallest):
    """Each value is right, and none of what was left out is larger than `smallest` of its row (or of all)."""
    pre = x.double() @ W_enc.double().T + b_enc.double()
    room = 1e-5 * (x.double().abs() @ W_enc.double().abs().T).amax()
    assert (values.double() - pre[row, feature]).abs().amax() < room
    pre[row, feature] = -torch.inf
    assert (pre < smallest.double() + room).all()


@pytest.mark.parametrize(
    ("outlier", "alike", "most", "least"),
    [(1.0, None, 15, 0), (200.0, None, ROWS, 0), (1.0, 1e-3, ROWS, ROWS // 2), (1.0, 0.0, ROWS, ROWS)],
)
def test_topk_is_that_of_float32_and_doubt_is_seen(outlier, alike, most, least):
    x, W_enc, b_enc = problem(outlier, alike)
    if alike == 0.0:
        b_enc = torch.linspace(0, 1e-4, FEATURES)  # below what bfloat16 tells apart
    values, features, n_full = propose_topk(x, W_enc, b_enc, K, 3 * K)
    assert least <= n_full <= most
    assert all(len(set(chosen)) == K for chosen in features.tolist())
    row = torch.arange(ROWS).repeat_interleave(K)
    assert_largest(x, W_enc, b_enc, values.flatten(), row, features.flatten(), values.amin(dim=1, keepdim=True))


@pytest.mark.parametrize("outlier", [1.0, 200.0])
def test_batch_topk_is_that_of_float32(outlier):
    x, W_enc, b_enc = problem(outlier)
    found = propose_batch_topk(x, W_enc, b_enc, K)
    assert found is not None
    values, row, feature = found
    assert len(values) == K * ROWS and len(set(zip(row.tolist(), feature.tolist(), strict=True))) == K * ROWS
    assert (row.diff() >= 0).all()
    assert_largest(x, W_enc, b_enc, values, row, feature, values.amin())


def test_batch_topk_proposes_nothing_where_rows_sampled_tell_nothing():
    x, W_enc, b_enc = problem()
    assert propose_batch_topk(x, W_enc, b_enc - 100, K) is None  # none is above zero
    x[:: max(1, ROWS // sparse.SAMPLED)] *= 50  # the rows that are sampled are the strong ones
    assert propose_batch_topk(x, W_enc, b_enc, K) is None


@pytest.mark.parametrize(
    ("encode", "dense"), [(encode_topk, encode_topk_dense), (encode_batch_topk, encode_batch_topk_dense)]
)
def test_gradients_are_those_of_the_dense_reference(encode, dense, monkeypatch):
    monkeypatch.setattr(sparse, "proposals_pay", lambda x, W_enc: True)
    x, *encoder = problem()
    weights = [tensor.requires_grad_() for tensor in (*encoder, torch.randn(FEATURES, WIDTH))]
    W_enc, b_enc, W_dec = weights
    values, pairs = encode(x, W_enc, b_enc, K)
    fast = decode_pairs(values, pairs, W_dec)
    slow = decode_dense(dense(x, W_enc, b_enc, K), W_dec)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-3)
    found, wanted = (torch.autograd.grad((x - x_hat).square().sum(), weights) for x_hat in (fast, slow))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2 * other.abs().amax().item())


def test_proposals_are_made_where_they_pay(monkeypatch):
    monkeypatch.setattr(sparse, "_fast_on_cpu", lambda: True)
    large = torch.empty(16_384, 768)
    assert sparse.proposals_pay(torch.empty(4096, 768), large)
    assert not sparse.proposals_pay(torch.empty(8, 768), large)
    assert not sparse.proposals_pay(torch.empty(4096, 768, dtype=torch.float64), large.double())
    assert not sparse.proposals_pay(torch.empty(4096, 128), torch.empty(1024, 128))
    monkeypatch.setattr(sparse, "_fast_on_cpu", lambda: False)
    assert not sparse.proposals_pay(torch.empty(4096, 768), large)
