"""What `attribute` finds: the features that made the answers of prompts, drawn and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sonde.circuits.agreement import TOP, Agreement, agree, pooled
from sonde.circuits.sources import Source
from sonde.display import Block, Drawn, Grid, Line, shorten


@dataclass(frozen=True, eq=False)
class Attribution:
    """The active (feature, token) pairs of one prompt, and how much each made the target."""

    prompt: str
    pieces: tuple[str, ...]
    """the text of each token, special ones too"""
    target: str
    value: float
    """the target on the prompt as it is"""
    right: bool | None
    """whether the model prefers the target; None of a target that is no token"""
    source: np.ndarray
    """[pair] which of the dictionaries, from zero"""
    position: np.ndarray
    """[pair] of the token in `pieces`"""
    feature: np.ndarray
    """[pair]"""
    activation: np.ndarray
    """[pair]"""
    attribution: np.ndarray
    """[pair] in units of the target"""
    effect: np.ndarray
    """[pair] by how much the target falls when it is ablated; nan where it was not"""
    error: dict[str, float]
    """site -> attribution of what its dictionary leaves out"""

    @cached_property
    def agreement(self) -> Agreement:
        """How activation and attribution agree with ablation, over the pairs that were ablated."""
        return agree(self.activation, self.attribution, self.effect)

    @property
    def strongest(self) -> np.ndarray:
        """All pairs, those with the largest effects first; then those that were not ablated, by attribution."""
        ablated = np.isfinite(self.effect)
        size = np.where(ablated, np.abs(np.nan_to_num(self.effect)), np.abs(self.attribution))
        return np.lexsort((-size, ~ablated))

    @cached_property
    def rank(self) -> np.ndarray:
        """[pair] place by activation, from 1 for the loudest"""
        rank = np.empty(len(self.activation), dtype=np.int64)
        rank[np.argsort(-self.activation, kind="stable")] = np.arange(1, len(rank) + 1)
        return rank

    def top_features(self, n: int = TOP) -> list[tuple[int, int]]:
        """(source, feature) of the n pairs with the largest effects, each feature once."""
        places = self.strongest[:n]
        return list(dict.fromkeys(zip(self.source[places].tolist(), self.feature[places].tolist(), strict=True)))

    def to_json(self) -> dict[str, Any]:
        columns = ("source", "position", "feature", "activation", "attribution", "effect")
        pairs = [
            {name: _plain(getattr(self, name)[place]) for name in columns} | {"rank": int(self.rank[place])}
            for place in self.strongest.tolist()
        ]
        facts = {"prompt": self.prompt, "tokens": list(self.pieces), "target": self.target, "value": self.value}
        return facts | {
            "right": self.right,
            "agreement": self.agreement.to_json(),
            "error": self.error,
            "pairs": pairs,
        }


def _plain(value: Any) -> float | int | None:
    return None if value != value else value.item()


class Attributions(list[Attribution], Drawn):
    """The attributions of one prompt or several, by the features of some dictionaries."""

    def __init__(self, sources: Sequence[Source], rows: Sequence[Attribution] = ()) -> None:
        super().__init__(rows)
        self.sources = tuple(sources)

    def __repr__(self) -> str:
        sites = ", ".join(source.site for source in self.sources)
        return f"Attributions({len(self)} prompts, features at {sites})"

    def __reduce__(self) -> Any:  # a list is copied by appending to one that is empty
        return type(self), (self.sources, list(self)), self.__dict__

    def draw(self, n: int = TOP) -> list[Block]:
        """Of one prompt the n features that mattered most; of several what is true of them together."""
        return _one(self, self[0], n) if len(self) == 1 else _several(self, n)

    def to_json(self) -> dict[str, Any]:
        sources = [{"site": source.site, "features": source.dictionary.n_features} for source in self.sources]
        return {"sources": sources, "prompts": [each.to_json() for each in self], "pooled": self.pooled()}

    def pooled(self) -> dict[str, Any]:
        """Each figure of the agreement as its mean over prompts, with its 95 % interval."""
        agreements = [each.agreement for each in self if each.agreement.n]
        names = [name for name in Agreement.__dataclass_fields__ if name != "n"]
        known = [each.right for each in self if each.right is not None]
        figures = {name: vars(pooled(agreements, lambda each, name=name: getattr(each, name))) for name in names}
        return {"prompts": len(self), "right": sum(known), "asked": len(known)} | figures

    def common(self) -> list[tuple[int, int, int]]:
        """(source, feature, prompts) of features that are among the ten largest effects, in most prompts first."""
        counts = Counter(pair for each in self for pair in each.top_features())
        return [(*pair, count) for pair, count in counts.most_common()]


def _one(found: Attributions, each: Attribution, n: int) -> list[Block]:
    header = ("token", "site", "feature", "fires at", "activation", "rank", "attribution", "effect of ablation")
    rows = []
    for place in each.strongest[:n].tolist():
        source, feature = found.sources[each.source[place]], int(each.feature[place])
        effect = each.effect[place]
        numbers = [f"{each.activation[place]:.2f}", str(each.rank[place]), f"{each.attribution[place]:+.3f}"]
        names = [repr(each.pieces[each.position[place]]), source.site, str(feature), shorten(source.title(feature), 40)]
        rows.append([*names, *numbers, "" if np.isnan(effect) else f"{effect:+.3f}"])
    prefers = {True: "", False: "; the model does not prefer the target", None: ""}[each.right]
    blocks: list[Block] = [
        Line(shorten(each.prompt, 100), strong=True),
        Line(f"{each.target}: {each.value:.3f}{prefers}"),
    ]
    if rows:
        blocks.append(Grid(rows, header, right=(2, 4, 5, 6, 7)))
    return [*blocks, *_said(each)]


def _said(each: Attribution) -> list[Block]:
    found, active = each.agreement, len(each.activation)
    lines = [f"{active:,} features are active on {len(each.pieces)} tokens; {found.n:,} of them were ablated"]
    if found.n > 1:
        lines.append(
            f"Pearson's correlation with the effects: {found.attribution:.2f} of attribution, {found.activation:.2f} "
            f"of activation ({found.activation_size:.2f} with their size)"
        )
        lines.append(
            f"of the {min(TOP, found.n)} largest effects, {found.top_attribution} are among as many of the largest "
            f"attributions and {found.top_activation} of the largest activations ({found.top_chance:.1f} by chance); "
            f"by activation their median rank is {found.loudness:.0f}"
        )
    lines += [f"what the dictionary at {site} leaves out: {value:+.3f}" for site, value in each.error.items()]
    return [Line(line) for line in lines]


def _several(found: Attributions, n: int) -> list[Block]:
    figures = found.pooled()
    rows = [
        [said, f"{figures[name]['mean']:.2f}", f"{figures[name]['low']:.2f} to {figures[name]['high']:.2f}"]
        for name, said in _FIGURES.items()
    ]
    blocks: list[Block] = [
        Line(f"{len(found):,} prompts, features at {', '.join(s.site for s in found.sources)}", True)
    ]
    if figures["asked"]:
        blocks.append(Line(f"the model prefers the target in {figures['right']:,} of {figures['asked']:,}"))
    blocks.append(Grid(rows, ("mean over prompts", "", "95 % interval"), right=(1, 2)))
    common = [
        [found.sources[source].site, str(feature), shorten(found.sources[source].title(feature), 40), f"{count:,}"]
        for source, feature, count in found.common()[:n]
    ]
    if common:
        blocks.append(Grid(common, ("site", "feature", "fires at", "among a prompt's ten largest"), right=(1, 3)))
    return blocks


_FIGURES = {
    "attribution": "Pearson's correlation of attribution and effect",
    "activation": "of activation and effect",
    "activation_size": "of activation and size of effect",
    "top_attribution": "of the ten largest effects, among the ten largest attributions",
    "top_activation": "among the ten largest activations",
    "top_chance": "among ten at random",
    "loudness": "their median rank by activation",
}
