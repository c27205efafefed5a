"""Which device and number format to use, and whether a job will fit."""

import os
from pathlib import Path

import torch
from torch import Tensor

from sonde.errors import CapacityError, SettingsError, nearest
from sonde.settings import format_bytes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; for "auto" and "spread" the first of CUDA, MPS and CPU that is there.

    A model that is "spread" over devices needs one for the tensors beside it: this one.
    """
    if name in ("auto", "spread"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device {name!r} is not known; use auto, cpu, cuda, cuda:N, mps or spread") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices seen; use --device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("device 'mps' is not there; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"device {name!r} is not supported; use auto, cpu, cuda, cuda:N, mps or spread")
    return device


def choose_dtype(name: str = "auto", device: torch.device | None = None) -> torch.dtype | str:
    """Return the named dtype; "auto" is float32 on a CPU and what the weights are stored in elsewhere."""
    if name == "auto":
        return torch.float32 if device is None or device.type == "cpu" else "auto"
    if name not in DTYPES:
        raise SettingsError(
            f"dtype {name!r} is not known; use auto or one of {', '.join(DTYPES)}{nearest(name, DTYPES)}"
        )
    return DTYPES[name]


def available_bytes(device: torch.device) -> int:
    """Memory that a job could take now on this device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(rows["MemAvailable"].split()[0]) * 1024
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(available, _control_group_room())


def _control_group_room() -> int:
    """What is left under a container's memory limit (control groups, version 2)."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return int(limit.read_text()) - int(used.read_text())
    except (OSError, ValueError):  # no control group, or "max"
        return 2**62


def ensure_memory(needed_bytes: float, what: str, fix: str, device: torch.device | None = None) -> None:
    """Raise CapacityError before a job starts that would need more memory than there is.

    Args:
        needed_bytes: estimate of the job's peak, in bytes.
        what: the job, as the subject of the message.
        fix: which setting to lower, and to what effect.
    """
    room = available_bytes(device or torch.device("cpu"))
    if needed_bytes > room:
        raise CapacityError(
            f"{what} needs about {format_bytes(needed_bytes)}, but {format_bytes(room)} are free; {fix}"
        )


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to a device; to a GPU by way of pinned memory, so that the copy runs beside the computation."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
