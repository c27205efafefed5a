"""Activation patching: which values of one run, put into another, bring its answer with them.

1. Both prompts of a pair are read once, and the values at all sites in question are kept.
2. Denoising puts values of the clean run into the corrupt one, and asks where that is enough for the clean answer;
   noising puts the corrupt run's into the clean one, and asks where the clean answer needs them. They are not each
   other's opposites (Heimersheim and Nanda 2024, arXiv 2404.15255). In place of the other run's, values may be zero,
   the mean over the prompts, or another prompt's (ablations of the clean run).
3. Patches of one layer go through the model as rows of a batch, and each pass begins at the patched layer.
4. Attribution patching estimates all patches from one backward pass: the gradient of the metric, dotted with the
   difference of the two runs' values; with `steps` the gradient is the mean over runs whose embeddings lie between the
   two runs' (as the input variant of EAP-IG; Hanna et al. 2024, arXiv 2403.17806). Beside exact patches their error is
   reported.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sonde.calls import public
from sonde.circuits.maps import Map, Patching
from sonde.circuits.metrics import MEANINGS, Metric, MetricName
from sonde.circuits.paths import Receiver, read_receivers
from sonde.circuits.prompts import Pair, read_pairs, require_aligned, tokens_of
from sonde.circuits.sweep import AlignedPair, By, Kind, Method, Mode, Put, Sweep
from sonde.circuits.targets import find_token
from sonde.errors import SettingsError, SiteError
from sonde.manifests import write_bytes
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.models.sites import Site
from sonde.models.token_text import TokenTexts
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path
from sonde.settings import check, parse_range

OF_HEADS = ("query", "key", "value", "heads", "pattern")
_LAYER_SITE = re.compile(r"layers\.(\d+)\.(\w+)")


@public()
def patch(
    model: Model | str | Path,
    clean: str | None = None,
    corrupt: str | None = None,
    *,
    answer: str | None = None,
    wrong: str | None = None,
    pairs: str | Path | Sequence[Mapping[str, str]] | None = None,
    site: str | Sequence[str] = ("residual",),
    by: By | None = None,
    layers: str | None = None,
    position: int | Sequence[int] | None = None,
    mode: Mode = "denoise",
    put: Put = "other",
    metric: MetricName = "difference",
    method: Method = "exact",
    steps: int = 1,
    to: Sequence[str] = (),
    held: bool = False,
    chat: bool = False,
    seed: int = 0,
    n: int = 10,
    svg: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Patching:
    """Put values of one run into another at each place, and see how much of its answer comes with them.

    Args:
        model: a model, or what `load_model` takes.
        clean: a prompt that the model answers rightly.
        corrupt: a prompt with as many tokens and another answer; not needed where values are not the other run's.
        answer: the right next token of the clean prompt, with its space.
        wrong: the wrong one, such as the corrupt prompt's answer.
        pairs: instead of one pair a .jsonl file, or rows, of `clean`, `corrupt`, `answer` and `wrong`.
        site: the last word of a layer's site, as residual, mlp or heads, which means that of every layer; or a whole
            name. Several give a map each.
        by: what is patched at a time in each layer: one "position", one "head" (at all positions), or all of the
            "layer". By default heads where the site has them, and positions elsewhere.
        layers: a range of layers, as 3..8, both included; all by default.
        position: patch these positions alone, counted from 0, or from -1 at the end; all by default.
        mode: "denoise" puts clean values into the corrupt run, "noise" corrupt ones into the clean run.
        put: "other", the other run's values; or "zero", the "mean" over all tokens of all clean prompts, or "resample",
            those of another clean prompt of as many tokens, all of which go into the clean run.
        metric: "difference", the normalised logit difference; "log-probability" of the answer; or "kl".
        method: "exact", "attribution", or "both" with the estimates' error.
        steps: runs between the two over which attribution takes its gradient; 1 takes it at the run that is patched.
        to: path patching: what alone reads the values that are put, as layers.9.query/6 (a head), layers.9.mlp_in, or
            logits (the direct effect); the senders are `site`, which is then heads or mlp.
        held: leave out paths through the MLPs between.
        chat: put each prompt to the model as a user's message, whose answer begins with the answer.
        seed: decides which other prompts "resample" takes.
        n: places to show under each map.
        svg: a file to write the maps to.
        device: auto, cpu, cuda, cuda:N, mps or spread; for a model that is loaded here.
        dtype: auto, float32, bfloat16 or float16; likewise.
        reporter: shows progress.

    Raises:
        TextError: prompts of different lengths, or an answer that is not one token.
        SiteError: a site that the model does not have.
        SettingsError: settings that do not go together.
    """
    check(steps >= 1, "steps", steps, "at least 1")
    asked = read_pairs(clean, corrupt, answer, wrong, pairs, needs_corrupt=put == "other")
    if steps > 1 and (put != "other" or method == "exact"):
        raise SettingsError("steps are runs between the clean and the corrupt one, for attribution; leave steps out")
    loaded = model if isinstance(model, Model) else load_model(model, device=device, dtype=dtype)
    loaded.require_head("patching")
    plan = [_kind(loaded, name, by, layers) for name in ([site] if isinstance(site, str) else site)]
    receivers = _receivers(loaded, plan, to, method)
    read = [_read(loaded, pair, chat) for pair in asked]  # all are checked before the first is worked on
    sweep = Sweep(
        loaded, plan, read, _positions(read, position, plan), mode, put, metric, method, steps, seed, receivers, held
    )
    with (reporter or default_reporter()).start("patch", sweep.total, "patches") as progress:
        maps, metrics = sweep.run(progress)
    result = _result(sweep, maps, metrics)
    if svg is not None:
        write_bytes(local_path(svg), result.svg().encode())
    return result.shown(n=n)


def _kind(model: Model, name: str, by: By | None, layers: str | None) -> Kind:
    numbers = sorted({int(match[1]) for each in model.sites() if (match := _LAYER_SITE.fullmatch(each))})
    low, high = (None, None) if layers is None else parse_range(layers)
    chosen = [number for number in numbers if (low is None or number >= low) and (high is None or number <= high)]
    sites = {number: f"layers.{number}.{name}" for number in chosen}
    if name == "logits" or name.startswith("module:"):
        raise SiteError(f"{name} is no place to patch; give a layer's site, embedding or final")
    if "." in name or ":" in name or name in ("embedding", "final"):
        sites, chosen = {0: name}, []
    if not sites:
        raise SettingsError(f"the layers {layers} are none of the model's, which are {numbers[0]} to {numbers[-1]}")
    found = model.site(next(iter(sites.values())))
    n_heads = _n_heads(model, found) if name.rpartition(".")[2] in OF_HEADS else None
    by = by or ("position" if n_heads is None else "head")
    if by == "head" and n_heads is None:
        raise SettingsError(f"{name} has no heads to patch; give by position or layer, or a site of {OF_HEADS}")
    return Kind(name, tuple(sites.values()), tuple(chosen), by, n_heads)


def _receivers(model: Model, plan: Sequence[Kind], to: Sequence[str], method: Method) -> list[Receiver]:
    """What paths lead to; raises SettingsError where it cannot be reached by what is patched."""
    found = read_receivers(model, [to] if isinstance(to, str) else to)
    if found and method != "exact":
        raise SettingsError(f"paths are patched exactly, and not by {method}; leave method out")
    wrong = [kind.name for kind in plan if kind.name.rpartition(".")[2] not in ("heads", "mlp")]
    if found and wrong:
        raise SettingsError(f"{wrong[0]} sends nothing along paths; give the site heads or mlp")
    return found


def _n_heads(model: Model, site: Site) -> int:
    value = model.read(model.pad([[0, 0]]), site.name)
    return value.shape[1 if site.position_axis == 2 else 2]


def _read(model: Model, pair: Pair, chat: bool) -> AlignedPair:
    clean = tokens_of(model, pair.clean, chat)
    corrupt = None if pair.corrupt is None else tokens_of(model, pair.corrupt, chat)
    if corrupt is not None:
        require_aligned(model, clean, corrupt)
    answer = find_token(model, pair.answer, "the answer")
    wrong = None if pair.wrong is None else find_token(model, pair.wrong, "the wrong answer")
    if answer == wrong:
        raise SettingsError(f"the answer {pair.answer!r} is the wrong answer, too; give another")
    texts = TokenTexts(model.require_tokenizer())
    return AlignedPair(clean, corrupt, answer, wrong, tuple(texts.name(token) for token in clean.ids[0].tolist()))


def _positions(
    read: Sequence[AlignedPair], given: int | Sequence[int] | None, plan: Sequence[Kind]
) -> list[int] | None:
    """Which positions are patched, None for all; raises SettingsError where prompts do not have them."""
    lengths = sorted({pair.length for pair in read})
    if any(kind.by == "position" for kind in plan) and len(lengths) > 1:
        raise SettingsError(
            f"the prompts have {lengths[0]} to {lengths[-1]} tokens, so that their positions are not the same places; "
            "give by layer or head, or prompts of one length"
        )
    if given is None:
        return None
    wanted = [given] if isinstance(given, int) else list(given)
    wrong = [place for place in wanted if not -lengths[0] <= place < lengths[0]]
    if wrong:
        raise SettingsError(f"there is no position {wrong[0]}: the shortest prompt has {lengths[0]} tokens")
    return wanted


def _result(sweep: Sweep, maps: Sequence[Map], metrics: Sequence[Metric]) -> Patching:
    other = {"denoise": "clean values in the corrupt run", "noise": "corrupt values in the clean run"}[sweep.mode]
    if sweep.to:
        reached = ", ".join(each.site + ("" if each.head is None else f"/{each.head}") for each in sweep.to)
        other += f", as far as it reaches {reached}" + (" without passing MLPs" if sweep.held else "")
    into = {"zero": "zero", "mean": "the mean", "resample": "another prompt's values"}.get(sweep.put)
    known = [metric for metric in metrics if metric.wrong is not None]
    corrupt = [metric.corrupt_difference for metric in known]
    return Patching(
        tuple(maps),
        other if into is None else f"{into} in place of values of the clean run",
        f"{sweep.metric}: {MEANINGS[sweep.metric]}",
        len(sweep.pairs),
        tuple(metric.clean_difference or 0.0 for metric in known),
        tuple(value for value in corrupt if value is not None),
        float(np.mean([float(metric(metric.base)[0]) for metric in metrics])),
    )
