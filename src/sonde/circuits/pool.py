"""Many prompts: which features are in how many of their graphs, and which of them feed which.

One graph is an anecdote. Here each prompt is traced and pruned, and what its graph holds is counted: a feature counts
where it is a node at any token, a link where it is between any two nodes of its features. Shares stand with an interval
(Wilson 1927, 95 %).
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from sonde.calls import public
from sonde.circuits.graph import Graph, Pruned
from sonde.circuits.interventions import Validation, validate_graph
from sonde.circuits.replacement import Replacement, as_replacement
from sonde.circuits.trace import as_tokens, trace_tokens
from sonde.circuits.trace_settings import TraceKeywords, TraceSettings
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import TextError
from sonde.models.model import Model
from sonde.models.recorded import recorded_model
from sonde.progress import Reporter, Silent, default_reporter
from sonde.settings import from_mapping
from sonde.texts import read_lines

Feature = tuple[int, int]
"""layer and number"""
Z = 1.96
FEWEST_VALIDATED = 3
"""features of which there is a rank correlation"""


@dataclass(frozen=True)
class Motif:
    """A feature in the graphs of several prompts."""

    layer: int
    feature: int
    prompts: int
    """whose graphs hold it"""
    interval: tuple[float, float]
    """of the share of prompts that do"""
    influence: float
    """mean share of the influence of a prompt's features, over prompts that hold it"""
    tokens: tuple[str, ...]
    """on which it is mostly"""


@dataclass(frozen=True)
class Motifs(Drawn):
    """What the graphs of several prompts have in common."""

    prompts: int
    features: tuple[Motif, ...]
    """those in most graphs first"""
    links: tuple[tuple[Feature, Feature, int], ...]
    """from, to, and in how many prompts"""
    replacement: tuple[float, float]
    """mean replacement score before and after pruning"""
    completeness: tuple[float, float]
    validation: tuple[Validation, ...] = ()
    """of each prompt, where it was asked for"""

    def __repr__(self) -> str:
        return f"Motifs({self.prompts} prompts, {len(self.features):,} features in any)"

    @property
    def title(self) -> str:
        return f"{self.prompts:,} prompts; {1 - self.replacement[0]:.0%} of the way to their answers through errors"

    def draw(self, n: int = 20) -> list[Block]:
        """The features and links that are in most graphs."""
        rows = [
            [
                f"layers.{one.layer} {one.feature}",
                f"{one.prompts / self.prompts:.0%}",
                f"{one.interval[0]:.0%} to {one.interval[1]:.0%}",
                f"{one.influence:.3f}",
                " ".join(map(repr, one.tokens)),
            ]
            for one in self.features[:n]
        ]
        links = [
            [f"layers.{a[0]} {a[1]}", f"layers.{b[0]} {b[1]}", f"{count / self.prompts:.0%}"]
            for a, b, count in self.links[:n]
        ]
        blocks: list[Block] = [
            Line(self.title, strong=True),
            Grid(rows, ("feature", "prompts", "interval", "influence", "mostly on"), right=(1, 2, 3)),
            Grid(links, ("from", "to", "prompts"), right=(2,)),
        ]
        return blocks + self._validated()

    def _validated(self) -> list[Block]:
        if not self.validation:
            return []
        rows = []
        for name in ("influence", "activation", "direct", "logit", "sign"):
            values = sorted(getattr(one, name) for one in self.validation)
            low, middle, high = (values[round(share * (len(values) - 1))] for share in (0.1, 0.5, 0.9))
            rows.append([name, f"{middle:.3f}", f"{low:.3f} to {high:.3f}"])
        header = ("against ablation", "median prompt", "from the tenth to the ninetieth percentile")
        return [Grid(rows, header, right=(1,))]

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "features": [vars(one) for one in self.features],
            "validation": [vars(one) for one in self.validation],
        }


@public(TraceSettings)
def trace_prompts(
    model: Model | str | Path | None,
    replacement: Replacement | str | Path,
    prompts: str | Path | Sequence[str],
    *,
    validated: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[TraceKeywords],
) -> Motifs:
    """What the graphs of many prompts have in common.

    Args:
        model, replacement, device, dtype: as for `trace`.
        prompts: a .jsonl whose rows have a prompt, and may have the settings of a trace, such as a target; or texts.
        validated: ablate the features of each graph one by one, and compare with its influence.
        reporter: shows progress.
        settings: as for `trace`; of prompts that say nothing else.

    Raises TextError where a row has no prompt.
    """
    rows = read_prompts(prompts)
    loaded = as_replacement(replacement, device)
    reporter = reporter or default_reporter()
    reader = recorded_model(loaded.model, model, of=loaded.described, device=device, dtype=dtype, reporter=reporter)
    loaded.check_fits(reader)
    pooled, checks = Pool(), []
    with reporter.start("trace", len(rows), "prompts") as progress:
        for prompt, own in rows:
            chosen = from_mapping(TraceSettings, dict(settings) | own)
            graph = trace_tokens(reader, loaded, as_tokens(reader, prompt), chosen, Silent())
            pruned = graph.pruned(chosen.node_share, chosen.edge_share)
            pooled.add(graph, pruned)
            if validated and len(pruned.features) >= FEWEST_VALIDATED:
                checks.append(validate_graph(reader, loaded, graph, pruned.features))
            progress.advance(1)
    return pooled.motifs(checks)


def read_prompts(prompts: str | Path | Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Prompts, each with settings of its own; raises TextError where there are none, or a row has no prompt."""
    if not isinstance(prompts, str | Path):
        return [(prompt, {}) for prompt in prompts]
    rows = []
    for number, line in enumerate(read_lines(prompts), start=1):
        try:
            row = json.loads(line)
            prompt = str(row.pop("prompt"))
        except (ValueError, KeyError, AttributeError) as error:
            raise TextError(f'{prompts}, line {number}: no row such as {{"prompt": "a text"}}') from error
        names = TraceSettings.__dataclass_fields__
        rows.append((prompt, {name: value for name, value in row.items() if name in names}))
    if not rows:
        raise TextError(f'{prompts} has no prompts; give a .jsonl with rows such as {{"prompt": "a text"}}')
    return rows


class Pool:
    """Counts what graphs hold."""

    def __init__(self) -> None:
        self.n = 0
        self.held: Counter[Feature] = Counter()
        self.links: Counter[tuple[Feature, Feature]] = Counter()
        self.influence: Counter[Feature] = Counter()
        self.tokens: dict[Feature, Counter[str]] = {}
        self.scores: list[tuple[float, float, float, float]] = []

    def add(self, graph: Graph, pruned: Pruned) -> None:
        """Count the nodes and links of a pruned graph."""
        self.n += 1
        names = [(layer, feature) for layer, _, feature in graph.features.tolist()]
        own: Counter[Feature] = Counter()
        for node in pruned.features:
            own[names[node]] += float(graph.influence[node])  # type: ignore[assignment]
            at = self.tokens.setdefault(names[node], Counter())
            at[graph.tokens[int(graph.features[node, 1])]] += 1
        total = float(graph.influence[: graph.n_features].sum()) or 1.0
        for name, value in own.items():
            self.held[name] += 1
            self.influence[name] += value / total  # type: ignore[assignment]
        rows, sources = pruned.edges[: graph.n_features, : graph.n_features].nonzero(as_tuple=True)
        ends = zip(rows.tolist(), sources.tolist(), strict=True)
        self.links.update({(names[source], names[row]) for row, source in ends})
        before, after = graph.scores, pruned.scores
        self.scores.append((before.replacement, after.replacement, before.completeness, after.completeness))

    def motifs(self, validation: Iterable[Validation] = ()) -> Motifs:
        features = tuple(
            Motif(
                *name,
                prompts=count,
                interval=wilson(count, self.n),
                influence=self.influence[name] / count,
                tokens=tuple(token for token, _ in self.tokens[name].most_common(3)),
            )
            for name, count in sorted(self.held.items(), key=lambda item: (-item[1], -self.influence[item[0]]))
        )
        means = [sum(column) / max(1, self.n) for column in zip(*self.scores, strict=True)] or [0.0] * 4
        links = tuple((a, b, count) for (a, b), count in self.links.most_common())
        scores = ((means[0], means[1]), (means[2], means[3]))
        return Motifs(self.n, features, links, *scores, tuple(validation))


def wilson(count: int, n: int) -> tuple[float, float]:
    """The interval of a share (Wilson 1927, 95 %)."""
    if not n:
        return 0.0, 1.0
    share, square = count / n, Z * Z / n
    middle, half = share + square / 2, Z * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)
