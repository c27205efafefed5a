"""Which features made the answer: the attribution of every active feature, and the exact effect of ablating it.

For a target, such as the difference of two next-token logits:

    attribution of a feature at a token = (gradient of the target at its site) . (its decoder row) * (its activation)
    effect = the target, less the target where this activation is clamped to zero and the dictionary's error is kept

The attribution is the effect's first-order estimate, from one backward pass for all features (Templeton et al. 2024,
"Scaling Monosemanticity", on computational intermediates). With `steps` the gradient is the mean along the straight
path from the site without its active features to the site as it is (integrated gradients; Sundararajan et al. 2017,
arXiv 1703.01365); attributions at a site then add up to what removing all of them there would do, as steps grow.

1. The prompt is read once; the features that fire there are found, without special tokens and massive vectors.
2. One backward pass gives all attributions.
3. Features are ablated, many at once in a batch, from the layer on at which they act.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonde.activations.contexts import Cutter
from sonde.calls import public
from sonde.circuits.causes import Attribution, Attributions
from sonde.circuits.passes import Run, Shift
from sonde.circuits.prompts import Asked, read_prompts, tokens_of
from sonde.circuits.sources import Source, SourceLike, load_sources
from sonde.circuits.targets import Direction, LogitDifference, LogProbability, Target, make_target
from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import SettingsError
from sonde.models.massive import is_massive
from sonde.models.model import Model, Tokens
from sonde.models.token_text import TokenTexts
from sonde.progress import Reporter, default_reporter
from sonde.settings import check


@public()
def attribute(
    index: SourceLike | Sequence[SourceLike],
    prompt: str | None = None,
    *,
    target: str | None = None,
    against: str | None = None,
    prompts: str | Path | Sequence[dict[str, str]] | None = None,
    chat: bool = False,
    steps: int = 1,
    ablate: int | None = None,
    n: int = 10,
    model: Model | str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Attributions:
    """How much each feature that fires on a prompt made its answer: by attribution, and by ablation.

    Args:
        index: an index or a dictionary, or its folder; or several of one model, such as of several layers.
        prompt: a text whose next token is asked about.
        target: the next token, such as " Sacramento"; or feature:N, of the last of several dictionaries; or
            vector:FILE.
        against: another next token, whose logit is subtracted; without it the target's log-probability counts.
        prompts: instead of one prompt a .jsonl file, or rows, of `prompt`, `target` and perhaps `against`.
        chat: put each prompt to the model as a user's message, whose answer begins with the target.
        steps: points of the path along which the gradient is taken; 1 takes it where the prompt is.
        ablate: ablate so many features of a prompt, those with the largest attributions; all by default, 0 for none.
        n: features to show.
        model: in place of the one that the first index was made with.
        device: auto, cpu, cuda, cuda:N or mps; for what is loaded here.
        reporter: shows progress.

    Raises:
        TextError: a prompt that is empty or too long, or a target that is not one token.
        SettingsError: settings that do not go together.
        ArtifactError: what is neither an index nor a dictionary, or does not fit the others.
    """
    check(steps >= 1, "steps", steps, "at least 1")
    check(ablate is None or ablate >= 0, "ablate", ablate, "at least 0")
    asked = read_prompts(prompt, target, against, prompts)
    reporter = reporter or default_reporter()
    sources, loaded = load_sources(index, model, device, reporter)
    loaded.require_head("attribution")
    targets = [make_target(loaded, each.target, each.against, _later(sources)) for each in asked]
    read = [tokens_of(loaded, each.prompt, chat) for each in asked]  # all are checked before the first is worked on
    found = Attributions(sources)
    with reporter.start("attribute", len(asked), "prompts") as progress:
        for each, tokens, goal in zip(asked, read, targets, strict=True):
            causing = _before(loaded, sources, goal)
            found.append(_of_prompt(loaded, causing, each, tokens, goal, steps, ablate))
            progress.advance(1)
    return found.shown(n=n)


def _later(sources: Sequence[Source]) -> Dictionary | None:
    """The dictionary of which a target may be a feature."""
    return sources[-1].dictionary if len(sources) > 1 else None


def _before(model: Model, sources: list[Source], target: Target) -> list[Source]:
    """The dictionaries whose features may cause a target; raises SettingsError where one lies behind it."""
    if not isinstance(target, Direction):
        return sources
    order = {name: place for place, name in enumerate(model.sites())}
    causing = [source for source in sources if target.site not in source.sites]
    for source in causing:
        late = [site for site in source.sites if order.get(site, -1) > order.get(target.site, len(order))]
        if late:
            raise SettingsError(f"features at {late[0]} are no causes of {target.name}: {target.site} lies before it")
    if not causing:
        raise SettingsError(f"no dictionary lies before {target.site}, where {target.name} is; give one that does")
    return causing


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The active (feature, token) pairs of one dictionary on a prompt."""

    source: Source
    position: Int[Tensor, " pair"]
    feature: Int[Tensor, " pair"]
    value: Float[Tensor, " pair"]

    def written(self, site: str, chosen: Tensor | slice = slice(None)) -> Float[Tensor, "pair width"]:
        """What each adds to a site."""
        return self.value[chosen, None] * self.source.directions(self.feature[chosen], site)


def _of_prompt(
    model: Model, sources: list[Source], asked: Asked, tokens: Tokens, target: Target, steps: int, ablate: int | None
) -> Attribution:
    """The attributions, and the effects of ablation, of all active pairs of one prompt."""
    sites = [site for source in sources for site in source.sites]
    run = Run(model, tokens, sites, track=True, last=target.site)
    value = target(run.last(target.site))[0]
    value.backward()
    counted = _counted(model, tokens)
    pairs = [_active(source, run, counted) for source in sources]
    attributions = [_attributions(run, own, target, steps) for own in pairs]
    effects = _effects(run, pairs, attributions, target, float(value.detach()), ablate)
    return Attribution(
        prompt=asked.prompt,
        pieces=_pieces(model, tokens),
        target=target.name,
        value=float(value.detach()),
        right=_is_right(run, target),
        source=np.repeat(np.arange(len(pairs)), [len(own.value) for own in pairs]),
        position=_joined([own.position for own in pairs]),
        feature=_joined([own.feature for own in pairs]),
        activation=_joined([own.value for own in pairs]),
        attribution=_joined(attributions),
        effect=_joined(effects),
        error={own.source.site: _of_error(run, own.source, counted) for own in pairs if own.source.reconstructs_itself},
    )


def _counted(model: Model, tokens: Tokens) -> Tensor:
    """[position] which tokens are of text, and not special."""
    special = [token for token in Cutter(model).special if token is not None]
    return ~torch.isin(tokens.ids[0], torch.tensor(special, device=tokens.ids.device))


def _pieces(model: Model, tokens: Tokens) -> tuple[str, ...]:
    texts = TokenTexts(model.require_tokenizer())
    return tuple(texts.name(token) for token in tokens.ids[0].tolist())


def _is_right(run: Run, target: Target) -> bool | None:
    """Whether the model prefers the target: to what it is held against, or to all tokens; None of another target."""
    logits = run.last(target.site)[0].detach()
    if isinstance(target, LogitDifference):
        return bool(logits[target.token] > logits[target.against])
    return bool(logits.argmax() == target.token) if isinstance(target, LogProbability) else None


def _joined(parts: Sequence[Tensor]) -> np.ndarray:
    return torch.cat([part.detach().cpu() for part in parts]).numpy()


def _rows(run: Run, sites: Sequence[str], like: Tensor) -> Float[Tensor, "position width"]:
    """The prompt's vectors at some sites, side by side."""
    return torch.cat([run.values[site][0].detach().flatten(1) for site in sites], dim=1).to(like)


@torch.no_grad()
def _active(source: Source, run: Run, counted: Tensor) -> _Pairs:
    dictionary = source.dictionary
    limits = dictionary.info.norm_limits
    if limits:
        counted = counted & ~is_massive({site: run.values[site][0].flatten(1) for site in limits}, limits)
    x = _rows(run, list(dictionary.reads), dictionary.W_enc)
    row, feature, value = dictionary.active(x[counted])
    return _Pairs(source, counted.nonzero()[:, 0][row], feature.long(), value.detach())


# ---------------------------------------------------------------- attribution


def _attributions(run: Run, pairs: _Pairs, target: Target, steps: int) -> Float[Tensor, " pair"]:
    total = torch.zeros_like(pairs.value)
    gradients = _gradients(run, pairs.source) if steps == 1 else _path_gradients(run, pairs, target, steps)
    for site, gradient in gradients.items():
        total += (pairs.written(site) * gradient[pairs.position].to(pairs.value)).sum(dim=1)
    return total


def _gradients(run: Run, source: Source) -> dict[str, Float[Tensor, "position width"]]:
    """Of each site that a dictionary writes, the target's gradient where the prompt is."""
    found = {}
    for site in source.parts:
        gradient = run.values[site].grad
        found[site] = (torch.zeros_like(run.values[site]) if gradient is None else gradient)[0].flatten(1)
    return found


def _path_gradients(run: Run, pairs: _Pairs, target: Target, steps: int) -> dict[str, Float[Tensor, "position width"]]:
    """The mean gradient along the path from the sites without their active features to the sites as they are."""
    removed = {site: torch.zeros_like(gradient) for site, gradient in _gradients(run, pairs.source).items()}
    for site, all_features in removed.items():
        all_features.index_add_(0, pairs.position, pairs.written(site).to(all_features))
    total = {site: torch.zeros_like(each) for site, each in removed.items()}
    left = 1 - (torch.arange(steps, device=pairs.value.device) + 0.5) / steps
    for some in left.split(run.rows_at_once):
        with run.model.gradients(removed) as values:
            edits = [_Less(site, all_features, some) for site, all_features in removed.items()]
            target(run.changed(edits, len(some), target.site)).sum().backward()
        for site, value in values.items():
            if value.grad is not None:
                total[site] += value.grad.flatten(2).sum(dim=0) / steps
    return total


@dataclass(frozen=True, eq=False)
class _Less:
    """Subtracts a share of something from each row."""

    site: str
    whole: Float[Tensor, "position width"]
    share: Float[Tensor, " row"]

    def __call__(self, x: Float[Tensor, "row position ..."]) -> Float[Tensor, "row position ..."]:
        return x - (self.share[:, None, None].to(x) * self.whole.to(x)).view(x.shape)


@torch.no_grad()
def _of_error(run: Run, source: Source, counted: Tensor) -> float:
    """The attribution of what a dictionary leaves out, on all counted tokens together."""
    x = _rows(run, list(source.dictionary.reads), source.dictionary.W_enc)
    error = x - source.dictionary.reconstruct(x)
    gradient = torch.cat(list(_gradients(run, source).values()), dim=1).to(error)
    return float((error * gradient)[counted].sum())


# ---------------------------------------------------------------- ablation


@torch.no_grad()
def _effects(
    run: Run,
    pairs: Sequence[_Pairs],
    attributions: Sequence[Float[Tensor, " pair"]],
    target: Target,
    value: float,
    ablate: int | None,
) -> list[Float[Tensor, " pair"]]:
    """By how much the target falls when each pair is ablated; nan of pairs that are not.

    Args:
        ablate: so many, those with the largest attributions.
    """
    sizes = torch.cat([each.abs() for each in attributions])
    least = sizes.topk(min(ablate, len(sizes))).values.min() if ablate and len(sizes) else sizes.new_zeros(())
    effects = []
    for own, attribution in zip(pairs, attributions, strict=True):
        effect = torch.full_like(attribution, float("nan"))
        wanted = (attribution.abs() >= least).nonzero()[:, 0]
        for chosen in wanted.split(run.rows_at_once) if ablate != 0 and len(wanted) else ():
            row = torch.arange(len(chosen), device=chosen.device)
            edits = [Shift(site, row, own.position[chosen], -own.written(site, chosen)) for site in own.source.parts]
            effect[chosen] = value - target(run.changed(edits, len(chosen), target.site)).to(effect)
        effects.append(effect)
    return effects
