"""The GPU's loops under Triton's interpreter, on a CPU: the fused step does what the reference does."""

import pytest
import torch

from sonde.kernels import gpu
from sonde.training import steps
from sonde.training.steps import AutogradStep, FusedStep
from tests.training.test_steps import CASES, train

pytestmark = pytest.mark.skipif(not gpu.installed(), reason="triton, which only Linux has, is not installed")


def on_a_gpu(W_enc, b_enc, rms):
    found = gpu.GpuKernels()
    return found, gpu.Proposals(found, W_enc, b_enc)


@pytest.mark.parametrize(
    "name", ["topk, revived", "topk, clipped", "transcoder with a skip", "batchtopk", "matryoshka"]
)
def test_the_fused_step_does_what_the_reference_does(name, monkeypatch):
    slow = train(AutogradStep, n_steps=1, **CASES[name])
    monkeypatch.setattr(steps, "choose_kernels", on_a_gpu)
    monkeypatch.setattr(steps, "has_kernels", lambda device, *widths: True)
    fast = train(FusedStep, n_steps=1, **CASES[name])
    for one, other in zip(fast, slow, strict=True):
        if one.dtype == torch.int64:
            assert torch.equal(one, other)
        else:
            torch.testing.assert_close(one, other, rtol=3e-4, atol=3e-5 * max(1.0, other.abs().max().item()))
