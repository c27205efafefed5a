"""sonde patch"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.display import print_blocks


def patch(
    *,
    model: str,
    clean: str | None = None,
    corrupt: str | None = None,
    answer: str | None = None,
    wrong: str | None = None,
    pairs: Path | None = None,
    site: Annotated[tuple[str, ...], Parameter(negative_iterable=())] = ("residual",),
    by: Literal["position", "head", "layer"] | None = None,
    layers: str | None = None,
    position: Annotated[list[int] | None, Parameter(negative_iterable=())] = None,
    mode: Literal["denoise", "noise"] = "denoise",
    put: Literal["other", "zero", "mean", "resample"] = "other",
    metric: Literal["difference", "log-probability", "kl"] = "difference",
    method: Literal["exact", "attribution", "both"] = "exact",
    steps: int = 1,
    to: Annotated[tuple[str, ...], Parameter(negative_iterable=())] = (),
    held: bool = False,
    chat: bool = False,
    seed: int = 0,
    n: int = 10,
    svg: Path | None = None,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Put values of one run of a model into another, and see how much of its answer comes with them.

    Example: sonde patch --model smollm2 --clean "Paris is in" --corrupt "Rome is in" --answer " France"
    --wrong " Italy"

    A map shows each layer by each position, or by each head: 1 where the value of the clean run that is put there
    brings the clean run's whole answer, 0 where nothing changes.

    Parameters
    ----------
    model: str
        A model folder, a hub name, or world or smollm2.
    clean: str
        A prompt that the model answers rightly.
    corrupt: str
        A prompt with as many tokens and another answer.
    answer: str
        The right next token of the clean prompt, with its space.
    wrong: str
        The wrong one, such as the corrupt prompt's answer.
    pairs: Path
        Instead of one pair a .jsonl file with clean, corrupt, answer and wrong in each row.
    site: tuple[str, ...]
        residual, residual_mid, attention, mlp, neurons, heads, query, key, value or pattern of every layer, or a whole
        name; may be repeated.
    by: str
        What is patched at a time in each layer: one position, one head, or the whole layer.
    layers: str
        A range of layers, as 3..8, both included; all by default.
    position: list[int]
        Patch this position alone, counted from 0, or from -1 at the end; may be repeated.
    mode: str
        denoise puts clean values into the corrupt run, noise corrupt ones into the clean run.
    put: str
        other, the other run's values; or zero, mean or resample, which ablate the clean run.
    metric: str
        difference (the normalised logit difference), log-probability of the answer, or kl.
    method: str
        exact, attribution (an estimate from one backward pass), or both, with the estimates' error.
    steps: int
        Runs between the two over which attribution takes its gradient.
    to: tuple[str, ...]
        Path patching: what alone reads the values that are put, as layers.9.query/6 (a head; or key, value),
        layers.9.mlp_in, or logits (the direct effect); may be repeated. The senders are --site heads or mlp.
    held: bool
        Leave out paths through the MLPs between.
    chat: bool
        Put each prompt to the model as a user's message.
    seed: int
        Decides which other prompts resample takes.
    n: int
        Places to show under each map.
    svg: Path
        A file to write the maps to.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.circuits.patching import patch

    prompts = {"answer": answer, "wrong": wrong, "pairs": pairs, "chat": chat}
    places = {"to": to, "held": held, "site": site, "by": by, "layers": layers, "position": position}
    how = {"mode": mode, "put": put, "metric": metric, "method": method, "steps": steps, "seed": seed}
    found = patch(
        model,
        clean,
        corrupt,
        **prompts,
        **places,
        **how,
        n=n,
        svg=svg,
        device=options.device,
        dtype=options.dtype,
        reporter=reporter(),
    )
    if json:
        print_json(found.to_json())
    else:
        print_blocks(found.drawing())
