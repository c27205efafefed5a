"""Which kernels a fused training step has on a device, if any."""

import torch
from torch import Tensor

from sonde.kernels import compiled, gpu
from sonde.kernels.active import Kernels, Proposer
from sonde.kernels.packed import Packed

MULTIPLE, WIDEST = 16, 16_384
"""widths that compiled.c takes"""


def has_kernels(device: torch.device, *widths: int) -> bool:
    """Whether there are kernels for rows of these widths on a device."""
    if device.type == "cpu":
        return compiled.kernels() is not None and all(width % MULTIPLE == 0 and width <= WIDEST for width in widths)
    return device.type == "cuda" and compiled.wanted() == "triton" and gpu.installed()


def choose_kernels(W_enc: Tensor, b_enc: Tensor, rms: Tensor) -> tuple[Kernels, Proposer]:
    """The kernels for this encoder, chosen by its device, and their proposer.

    `rms` [d_in] is the root mean square of each dimension of the inputs to come.
    """
    if W_enc.device.type == "cpu":
        found = compiled.kernels()
        assert found is not None
        return found, Packed(found, W_enc, b_enc, rms)
    found = gpu.GpuKernels()
    return found, gpu.Proposals(found, W_enc, b_enc)
