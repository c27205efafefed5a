"""Whether a checkpoint and the network that was made of it have the same tensors.

transformers fills what a checkpoint lacks with random numbers and drops what it has no place for, with a warning at
most; both are errors here. What it leaves out on purpose is not: tied heads, buffers that are computed, and heads
for other tasks.
"""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from sonde.errors import ModelError

SHOWN = 3
"""tensors that an error names; of more it gives the number"""
_OTHER_TASK = re.compile(r"(^|\.)(pooler|seq_relationship)\.")
"""what BERT was pretrained with beside its own task, which no language model has"""
_COMPUTED = re.compile(
    r"(inv_freq|masked_bias|position_ids|token_type_ids|num_batches_tracked|\.(attn|attention)\.bias)$"
)
"""buffers that older versions of transformers saved"""


def check_tensors(network: nn.Module, info: dict[str, Any], name: str) -> None:
    """Raise ModelError, naming tensors, where a checkpoint lacks some or has some that the network has no place for.

    Args:
        info: what transformers says of the loading: `missing_keys` and `unexpected_keys`.
    """
    missing = set(info["missing_keys"]) - {buffer for buffer, _ in network.named_buffers()}
    if missing and all(_OTHER_TASK.search(key) for key in missing):
        network.pooler = None  # type: ignore[assignment]  # nothing reads it, and it would be random
        missing = set()
    if missing:
        raise ModelError(
            f"cannot load the model {name}: its weights lack {_listed(missing)}, which would be random numbers; "
            "download or save it again"
        )
    left = (
        set()
        if getattr(network, "is_quantized", False)
        else {key for key in info["unexpected_keys"] if _is_ours(network, key)}
    )
    if left:
        raise ModelError(
            f"cannot load the model {name}: its weights hold {_listed(left)}, which its config.json has no place for; "
            "give the config.json that belongs to them"
        )


def _is_ours(network: nn.Module, key: str) -> bool:
    """Whether a tensor that was left over lies in a part that the network has."""
    if _OTHER_TASK.search(key) or _COMPUTED.search(key):
        return False
    base: nn.Module = network.base_model  # type: ignore[assignment]
    prefix = f"{network.base_model_prefix}."
    within = base if base is not network and key.startswith(prefix) else network
    first = key.removeprefix(prefix if within is base else "").split(".")[0]
    return first in dict(within.named_children())


def _listed(keys: Iterable[str]) -> str:
    names = sorted(keys)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{len(names):,} tensor{'s' * (len(names) > 1)} ({', '.join(names[:SHOWN])}{more})"
