"""What would make a harvest faster on this machine: said in one line, and never done unasked.

Number formats are compared by timing products of the model's width here and now, as processors differ: with AVX-512's
or AMX's bfloat16 these are two and more times as fast as in float32, and with AVX2 alone four times slower.
"""

import time
from collections.abc import Sequence

import torch

from sonde.activations.contexts import Context, Cutter
from sonde.models.model import Model

FEWEST_WEIGHTS = 20_000_000
"""models with fewer are read in seconds whatever is done"""
ROWS, WIDEST, TRIES = 512, 1024, 5
LEAST_GAIN = 1.5
"""how many times as fast another number format must be to be worth a line"""
SHORT, FEWEST_SHORT = 0.5, 32
"""contexts are short where they fill less than this share of their length on average, and so many show it"""


def faster_way(model: Model, contexts: Sequence[Context], cutter: Cutter) -> str | None:
    """One line on what would be faster than to read these contexts in this way, or None where nothing is known.

    Args:
        contexts: some of those that will be read.
    """
    n_weights = sum(weight.numel() for weight in model.network.parameters())
    if model.device.type != "cpu" or n_weights < FEWEST_WEIGHTS:
        return None
    said = [_on_dtype(model), _on_packing(model, contexts, cutter)]
    return "; ".join(filter(None, said)) or None


def _on_dtype(model: Model) -> str | None:
    own = str(model.dtype).removeprefix("torch.")
    width = min(WIDEST, model.network.get_input_embeddings().weight.shape[-1])  # type: ignore[operator, union-attr]
    other = "bfloat16" if model.dtype == torch.float32 else "float32"
    gain = seconds_of_a_product(model.dtype, width) / seconds_of_a_product(getattr(torch, other), width)
    if gain < LEAST_GAIN:
        return None
    price = ", with activations of about three digits" if other == "bfloat16" else ""
    return (
        f"{other} is faster than {own} on this processor (matrix products take {1 / gain:.0%} of the time): "
        f"--dtype {other}{price}"
    )


def _on_packing(model: Model, contexts: Sequence[Context], cutter: Cutter) -> str | None:
    if cutter.pack or model.pictures is not None or not model.is_causal or len(contexts) < FEWEST_SHORT:
        return None
    mean = sum(len(context.ids) for context in contexts) / len(contexts)
    if mean > SHORT * cutter.length:
        return None
    return (
        f"contexts of {cutter.length:,} tokens have {mean:.0f} on average: --pack fills them, which is faster, and "
        "lets the documents in one see each other"
    )


def seconds_of_a_product(dtype: torch.dtype, width: int) -> float:
    """The least time that a product such as an MLP's takes in a number format, of some tries."""
    x, weight = torch.ones(ROWS, width, dtype=dtype), torch.ones(4 * width, width, dtype=dtype)
    least = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        least = min(least, time.perf_counter() - began)
    return least
