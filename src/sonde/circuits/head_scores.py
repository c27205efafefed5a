"""What `heads` finds, drawn and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from sonde.circuits.direct import Direct
from sonde.circuits.maps import HeatMap
from sonde.display import Block, Drawn, Grid, Line

Score = Literal["previous", "duplicate", "prefix", "copying"]


@dataclass(frozen=True)
class Ablation:
    """What it costs, in nats on repeated tokens, to take a head away."""

    layer: int
    head: int
    full: float
    """where everything after it changes"""
    preserving: float
    """where the patterns of later layers are held"""
    control: int
    """another head of the layer"""
    control_full: float


@dataclass(frozen=True, eq=False)
class Natural:
    """Attention on natural text, of tokens that have occurred before."""

    previous: Float[np.ndarray, "layer head"]
    duplicate: Float[np.ndarray, "layer head"]
    prefix: Float[np.ndarray, "layer head"]
    deciles: Float[np.ndarray, "decile layer head"]
    """of prefix matching, over these tokens"""
    chance: float
    """the same of a head that attends to all tokens alike"""
    tokens: int
    counted: int
    """tokens that have occurred before in their document"""


@dataclass(frozen=True, eq=False)
class Heads(Drawn):
    """Scores of all heads."""

    scores: Mapping[Score, Float[np.ndarray, "layer head"]]
    loss_first: float
    """nats a token, where tokens occur for the first time"""
    loss_repeated: float
    """where they are repeated"""
    ablations: tuple[Ablation, ...]
    """of the heads with the largest prefix scores"""
    natural: Natural | None
    direct: Direct | None
    said: str
    """the random sequences"""

    @property
    def prefix(self) -> Float[np.ndarray, "layer head"]:
        """The scores by which heads are chosen."""
        return self.scores["prefix"]

    def __repr__(self) -> str:
        layer, head = best(self.prefix, 1)[0]
        return f"Heads({self.prefix.size} heads; prefix matching {self.prefix[layer, head]:.2f} at {layer}.{head})"

    def draw(self, n: int = 10) -> list[Block]:
        """The n heads that look back most, what taking them away costs, and who makes the answer."""
        said = f"on random repeats ({self.said} tokens), the {n} heads with the most prefix matching"
        blocks: list[Block] = [Line(said, strong=True), self._table(n)]
        blocks += [
            Line(f"loss {self.loss_first:.2f} where a token is new, {self.loss_repeated:.2f} where it is repeated")
        ]
        rows = [
            [f"{each.layer}.{each.head}", f"{each.full:+.3f}", f"{each.preserving:+.3f}", f"{each.control_full:+.3f}"]
            for each in self.ablations
        ]
        header = ("without head", "loss on repeats", "later patterns held", "without another head of the layer")
        blocks.append(Grid(rows, header, right=(1, 2, 3)))
        if self.natural is not None:
            blocks += self._on_text(self.natural, n)
        return blocks + (_direct(self.direct) if self.direct is not None else [])

    def _table(self, n: int) -> Grid:
        names: tuple[Score, ...] = ("prefix", "copying", "previous", "duplicate")
        rows = [
            [f"{layer}.{head}", *(f"{self.scores[name][layer, head]:.2f}" for name in names)]
            for layer, head in best(self.prefix, n)
        ]
        return Grid(rows, ("layer.head", *names), right=(1, 2, 3, 4))

    def _on_text(self, found: Natural, n: int) -> list[Block]:
        said = f"on text, at {found.counted:,} tokens that have occurred before (prefix matching by chance: "
        said += f"{found.chance:.3f}), the {n} heads with most of it"
        rows = []
        for layer, head in best(found.prefix, n):
            deciles = " ".join(f"{value:.2f}" for value in found.deciles[:, layer, head])
            scores = (f"{getattr(found, name)[layer, head]:.3f}" for name in ("prefix", "previous", "duplicate"))
            rows.append([f"{layer}.{head}", *scores, deciles])
        header = ("layer.head", "prefix", "previous", "duplicate", "deciles of prefix matching")
        return [Line(said, strong=True), Grid(rows, header, right=(1, 2, 3))]

    def to_json(self) -> dict[str, Any]:
        names: tuple[Score, ...] = get_args(Score)
        facts: dict[str, Any] = {name: self.scores[name].tolist() for name in names}
        facts |= {"loss_first": self.loss_first, "loss_repeated": self.loss_repeated}
        facts["ablations"] = [asdict(each) for each in self.ablations]
        for name, part in (("natural", self.natural), ("direct", self.direct)):
            facts[name] = None if part is None else {key: _plain(value) for key, value in vars(part).items()}
        return facts


def best(scores: Float[np.ndarray, "layer head"], n: int) -> list[tuple[int, int]]:
    """(layer, head) of the heads with the largest scores."""
    return [divmod(place, scores.shape[1]) for place in np.argsort(-scores.ravel(), kind="stable")[:n].tolist()]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _direct(found: Direct) -> list[Block]:
    layers = range(len(found.mlp))
    columns = [*(f"head {head}" for head in range(found.heads.shape[1])), "bias", "mlp"]
    values = np.concatenate([found.heads, found.bias[:, None], found.mlp[:, None]], axis=1)
    rest = f"embedding {found.embedding:+.3f}, constant {found.constant:+.3f}"
    return [
        Line(f"direct path to the {found.target}: {found.value:.3f} = the sum of all ({rest})", strong=True),
        HeatMap(values, [f"layer {layer}" for layer in layers], columns),
    ]
