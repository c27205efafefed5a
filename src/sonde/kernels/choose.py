"""The choice of kernels for the fused training step, by device."""

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.kernels import compiled, gpu
from sonde.kernels.active import Bias, Kernels, Proposer, Weights
from sonde.kernels.packed import Packed

MULTIPLE, WIDEST = 16, 16_384
"""widths that compiled.c supports: multiples of the one, up to the other"""


def has_kernels(device: torch.device, *widths: int) -> bool:
    """Whether there are kernels for rows of these widths on a device."""
    if device.type == "cpu":
        return compiled.kernels() is not None and all(width % MULTIPLE == 0 and width <= WIDEST for width in widths)
    return device.type == "cuda" and compiled.wanted() == "triton" and gpu.installed()


def choose_kernels(W_enc: Weights, b_enc: Bias, rms: Float[Tensor, " width"]) -> tuple[Kernels, Proposer]:
    """The kernels for this encoder, chosen by its device, and their proposer.

    `rms` is the root mean square of each dimension of the inputs to come.
    """
    if W_enc.device.type == "cpu":
        on_cpu = compiled.kernels()
        assert on_cpu is not None
        return on_cpu, Packed(on_cpu, W_enc, b_enc, rms)
    on_gpu = gpu.GpuKernels()
    return on_gpu, gpu.Proposals(on_gpu, W_enc, b_enc)
