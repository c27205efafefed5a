"""How faithful a replacement is: layer by layer, and with all MLPs replaced at once.

1. Make the replacement of single transcoders, where they are given one by one.
2. Read held-out text: FVU and L0 of each transcoder on what the model itself has there.
3. Run the model with each layer replaced alone, and with all: the share of tokens on which its first choice is that of
   the model, the divergence from its predictions, and its cross-entropy. With all replaced, each transcoder reads what
   the layers before it, already replaced, have made. The floor is all MLPs giving their mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, Cutter, groups
from sonde.activations.corpus import TextSource
from sonde.analysis.measure import LOGIT_NUMBERS, held_out_documents, predicted_tokens
from sonde.calls import public
from sonde.circuits.replacement import Replacement, as_replacement, join_transcoders
from sonde.dictionaries.reading import Reading
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import TextError, UsageError
from sonde.facts import TextFacts
from sonde.features.stream import Read, stream_each
from sonde.models.model import Model
from sonde.models.recorded import recorded_model
from sonde.progress import Reporter, default_reporter
from sonde.settings import Count
from sonde.steering.replace import Replace

Change = tuple[float, float, float]
"""agreement, divergence in nats, cross-entropy in nats: of tokens, the mean"""


@dataclass(frozen=True)
class LayerFidelity:
    """How faithful the transcoder of a layer is."""

    fvu: float
    """fraction of variance unexplained, of what the MLP gives in the model itself"""
    l0: float
    """features active on a token"""
    agreement: float
    """share of tokens after which the first choice stays, with this layer alone replaced"""
    kl: float
    """nats a token, from the model's predictions"""
    loss: float
    """cross-entropy in nats a token"""


@dataclass(frozen=True)
class Fidelity(Drawn):
    """How faithful a replacement is, on text that it was not trained on."""

    replacement: Replacement
    tokens: int
    loss: float
    """cross-entropy of the model itself"""
    layers: tuple[LayerFidelity, ...]
    whole: Change
    """with all MLPs replaced"""
    means: Change
    """with all MLPs giving their mean: the floor"""

    def __repr__(self) -> str:
        agreement, kl, _ = self.whole
        return f"Fidelity({len(self.layers)} layers: agreement {agreement:.1%}, KL {kl:.3f})"

    def draw(self) -> list[Block]:
        """A line for each layer, and for the whole."""
        rows = [
            [str(n), f"{one.fvu:.3f}", f"{one.l0:.1f}", f"{one.agreement:.1%}", f"{one.kl:.4f}", f"{one.loss:.3f}"]
            for n, one in enumerate(self.layers)
        ]
        for name, (agreement, kl, loss) in (("all", self.whole), ("all, means", self.means)):
            rows.append([name, "", "", f"{agreement:.1%}", f"{kl:.4f}", f"{loss:.3f}"])
        rows.append(["none", "", "", "100.0%", "0.0000", f"{self.loss:.3f}"])
        header = ("replaced", "FVU", "L0", "first choice kept", "KL", "loss")
        title = f"the model with MLPs replaced by transcoders, on {self.tokens:,} tokens of held-out text"
        return [Line(title, strong=True), Grid(rows, header, right=(1, 2, 3, 4, 5))]

    def to_json(self) -> dict[str, Any]:
        names = ("agreement", "kl", "loss")
        return {
            "tokens": self.tokens,
            "loss": self.loss,
            "layers": [vars(one) for one in self.layers],
            "whole": dict(zip(names, self.whole, strict=True)),
            "means": dict(zip(names, self.means, strict=True)),
        }


@public(own=("text",))
@torch.no_grad()
def replacement(
    transcoders: Replacement | str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    model: Model | str | Path | None = None,
    text: TextSource | None = None,
    tokens: int | str = 10_000,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Fidelity:
    """Measure a replacement of a model's MLPs, which may first be made of transcoders of single layers.

    Args:
        transcoders: a replacement or its folder; or the folders of transcoders, one for each layer in any order.
        out: folder of the replacement that is made of them.
        model: by default the one that the transcoders were trained on.
        text: by default the text that they were trained on, of which only the held-out documents are read.
        tokens: stop after the document in which this many tokens are reached.
        device, dtype: as for `load_model`; of what is loaded here.
        reporter: shows progress.

    Returns:
        How faithful it is; the replacement itself is its `replacement`.

    Raises:
        ArtifactMismatchError (not one transcoder of each layer, or another model), TextError, UsageError.
    """
    if isinstance(transcoders, Replacement | str | Path):
        if out is not None:
            raise UsageError("out is for a replacement that is made of several transcoders; give their folders")
        loaded = as_replacement(transcoders, device)
    else:
        if out is None:
            raise UsageError("out is missing: give the folder of the replacement that is to be made")
        join_transcoders(transcoders, out)
        loaded = as_replacement(out, device)
    reporter = reporter or default_reporter()
    reader = recorded_model(loaded.model, model, of=loaded.described, device=device, dtype=dtype, reporter=reporter)
    reader.require_head("measuring a replacement")
    loaded.check_fits(reader)
    return measure_replacement(loaded, reader, text, Count(tokens), reporter)


def measure_replacement(
    loaded: Replacement, model: Model, text: TextSource | None, tokens: int, reporter: Reporter
) -> Fidelity:
    """The measurement; see `replacement`."""
    trained_on = loaded.layers[0].info.text or TextFacts()
    documents, name = held_out_documents(trained_on, text)
    cutter, sums = Cutter(model, trained_on.context, trained_on.pack), _Sums(loaded, model)
    readings = [Reading(dictionary, model) for dictionary in loaded.layers]
    batch_tokens = min(BATCH_TOKENS, max(256, LOGIT_NUMBERS // model.vocab_size))
    with reporter.start("measure", tokens, "tokens") as progress:
        for reads in stream_each(readings, groups(cutter.tokenize(documents), cutter, tokens, batch_tokens)):
            sums.add(reads)
            progress.advance(len(reads[0].batch.document))
    if not sums.n_predicted:
        raise TextError(f"{name} has no held-out documents to measure on; give other text with --text")
    return sums.result()


class _Sums:
    """Sums over all batches."""

    def __init__(self, loaded: Replacement, model: Model) -> None:
        self.loaded, self.model = loaded, model
        n = len(loaded.layers)
        self.rows, self.n_active, self.error = torch.zeros(3, n, dtype=torch.float64)
        self.total = [torch.zeros(2, dictionary.d_out, dtype=torch.float64) for dictionary in loaded.layers]
        """of each layer, sums and sums of squares of what its MLP gives"""
        self.changes = torch.zeros(n + 3, 3, dtype=torch.float64)
        """sums of agreement, divergence and cross-entropy: none, each layer, all, means"""
        self.n_predicted = 0

    def add(self, reads: list[Read]) -> None:
        for number, read in enumerate(reads):
            y = read.y.double().cpu()
            self.error[number] += (y - read.dictionary.reconstruct(read.x).double().cpu()).square().sum()
            self.total[number] += torch.stack([y.sum(dim=0), y.square().sum(dim=0)])
            self.rows[number] += len(y)
            self.n_active[number] += len(read.active[0])
        batch, mask = reads[0].batch, reads[0].text_mask
        predicted = predicted_tokens(self.model, batch, mask)
        following = batch.tokens.ids[:, 1:][predicted]
        plain = torch.empty(0)
        for place, edits in enumerate(self._ways(mask)):
            with self.model.edited(*edits):
                log_p = self.model.logits(batch.tokens)[:, :-1][predicted].float().log_softmax(dim=1)
            plain = log_p if place == 0 else plain
            self.changes[place] += _compared(plain, log_p, following)
        self.n_predicted += len(following)

    def _ways(self, mask: Tensor) -> list[list[Any]]:
        """The edits of each way in which the model is run."""
        layers = self.loaded.layers
        means = [Replace(next(iter(one.writes)), one.output_mean[None], mask) for one in layers]
        alone = [self.loaded.edits(mask, [number]) for number in range(len(layers))]
        return [[], *alone, self.loaded.edits(mask), means]

    def result(self) -> Fidelity:
        changes = [tuple(row) for row in (self.changes / self.n_predicted).tolist()]
        layers = []
        for number, (total, squares) in enumerate(self.total):
            spread = float((squares - total.square() / self.rows[number]).sum())
            fvu, l0 = float(self.error[number]) / spread, float(self.n_active[number] / self.rows[number])
            layers.append(LayerFidelity(fvu, l0, *changes[number + 1]))
        return Fidelity(self.loaded, self.n_predicted, changes[0][2], tuple(layers), changes[-2], changes[-1])


def _compared(plain: Tensor, log_p: Tensor, following: Tensor) -> Tensor:
    """Sums of agreement, divergence and cross-entropy [3]."""
    agreement = (plain.argmax(dim=1) == log_p.argmax(dim=1)).double().sum()
    kl = (plain.exp() * (plain - log_p)).sum(dim=1).double().sum()
    loss = -log_p.gather(1, following[:, None]).double().sum()
    return torch.stack([agreement, kl, loss]).cpu()
