"""Measure a dictionary on text that it never saw.

1. Read held-out documents of the text that it was trained on (or any other text that is given, whole).
2. Stream through the model: FVU, L0 and which features fire.
3. Where the model predicts next tokens: its loss as it is, with the reconstruction put in place of what
   passes the site, with zero put there, and with the training mean put there.

FVU = sum |x - x_hat|^2 / sum |x - mean|^2 over the whole set, the mean being that of the same set.
Loss recovered by zero (mean) ablation = (L_ablated - L_reconstructed) / (L_ablated - L_plain). All three
replacements act on the same tokens: those of the text, not special ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonde.activations.contexts import Batch, Context, Cutter, groups, make_batch
from sonde.activations.corpus import IN_MEMORY, Corpus, Document, is_held_out
from sonde.activations.store import load_activations
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import check_fit, load_dictionary
from sonde.errors import ActivationError, TextError
from sonde.manifests import find_parent
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter, Silent


@dataclass(frozen=True)
class Measurement:
    """What `measure` finds."""

    fvu: float
    """share of variance that is left unexplained"""
    l0: float
    """mean number of active features on a token"""
    dead: float
    """share of features that fire on none of these tokens"""
    tokens: int
    documents: int
    loss: float | None
    """cross-entropy of the model as it is, in nats a token; None where it predicts no next token"""
    loss_reconstructed: float | None
    loss_zero: float | None
    loss_mean: float | None

    @property
    def loss_recovered(self) -> dict[str, float | None]:
        """Share of the loss recovered, by what the denominator ablates to."""
        return {"zero": self._recovered(self.loss_zero), "mean": self._recovered(self.loss_mean)}

    def _recovered(self, ablated: float | None) -> float | None:
        if ablated is None or self.loss is None or self.loss_reconstructed is None or ablated == self.loss:
            return None
        return (ablated - self.loss_reconstructed) / (ablated - self.loss)

    def to_json(self) -> dict[str, Any]:
        return {
            "fvu": self.fvu,
            "l0": self.l0,
            "dead": self.dead,
            "tokens": self.tokens,
            "documents": self.documents,
            "loss_recovered": self.loss_recovered,
            "loss": {
                "plain": self.loss,
                "reconstructed": self.loss_reconstructed,
                "zero_ablated": self.loss_zero,
                "mean_ablated": self.loss_mean,
            },
        }


@dataclass(frozen=True)
class _Replace:
    """An edit that puts something else in the place of the text's tokens."""

    site: str
    mask: Tensor
    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        replaced = x.flatten(2).clone()
        replaced[self.mask] = self.value.to(x.dtype)
        return replaced.reshape(x.shape)


@torch.no_grad()
def measure(
    dictionary: Dictionary | str | Path,
    *,
    model: Model | str | Path | None = None,
    text: str | Path | Sequence[str | Document] | None = None,
    tokens: int | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Measurement:
    """Measure a dictionary on held-out documents.

    Args:
        dictionary: a dictionary or its folder.
        model: by default the one that the dictionary was trained on.
        text: by default the text that the dictionary was trained on, of which only the held-out documents
            are read; any other text is read whole.
        tokens: stop after the document in which this many tokens are reached; all by default.

    Raises:
        ArtifactMismatchError (dictionary and model do not fit), ArtifactMissingError (the activations are
        needed to find the text, and are gone), TextError, ActivationError.
    """
    reporter = reporter or Silent()
    loaded = dictionary if isinstance(dictionary, Dictionary) else load_dictionary(dictionary, device)
    assert loaded.folder is not None and loaded.manifest is not None
    reader = model if isinstance(model, Model) else load_model(model or loaded.facts["model"]["name"], device=device)
    check_fit(loaded, reader)
    folder, _ = find_parent(loaded.manifest, "activations", loaded.folder, "activations")
    store = load_activations(folder).at(loaded.site)
    harvested = store.manifest.settings
    if text is None and harvested["text"] == IN_MEMORY:
        raise TextError(
            "the dictionary was trained on texts in memory, so the held-out ones cannot be found; give them as text"
        )
    corpus = Corpus(harvested["text"] if text is None else text, harvested["field"], harvested["skip_bad"])
    documents: Iterable[Document] = corpus
    if corpus.name == harvested["text"]:
        share, seed = harvested["held_out"], harvested["seed"]
        documents = (document for document in corpus if is_held_out(document, share, seed))

    sums = _Sums(loaded.d_in, loaded.n_features)
    with_loss = reader.is_causal and reader.has_head
    cutter = Cutter(reader, harvested["context"])
    with reporter.start("measure", tokens, "tokens") as progress:
        for group in groups(cutter.tokenize(documents), cutter, tokens):
            sums.add_batch(reader, loaded, group, store.mean.float(), with_loss)
            progress.advance(sum(context.n_text for context in group))
    if sums.tokens == 0:
        raise TextError(
            f"{corpus.name} has no held-out documents to measure on ({harvested['held_out']:.0%} were kept from training); give other text with --text"
        )
    return sums.result()


class _Sums:
    """Running sums, in float64, over all batches."""

    def __init__(self, width: int, n_features: int) -> None:
        self.tokens = self.active = 0
        self.documents: set[int] = set()
        self.error = self.squares = 0.0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.fired = torch.zeros(n_features, dtype=torch.bool)
        self.losses: list[float] = [0.0] * 4
        self.predicted = 0

    def add_batch(
        self, model: Model, dictionary: Dictionary, contexts: list[Context], mean: Tensor, with_loss: bool
    ) -> None:
        batch, site = make_batch(model, contexts), dictionary.site
        x = model.read(batch.tokens, site)[site].flatten(2)[batch.text_mask].to(dictionary.W_enc)
        if not torch.isfinite(x).all():
            raise ActivationError(
                f"activations at {site} are not finite; the model's weights are broken, or its dtype overflows: try --dtype float32"
            )
        x_hat = dictionary.reconstruct(x)
        _, feature, _ = dictionary.active(x)
        self.error += (x - x_hat).double().square().sum().item()
        self.squares += x.double().square().sum().item()
        self.total += x.double().sum(dim=0).cpu()
        self.active += len(feature)
        self.fired[feature.cpu()] = True
        self.tokens += len(x)
        self.documents |= {context.document for context in contexts}
        if with_loss:
            replacements = (None, x_hat, torch.zeros_like(x[:1]), mean.to(x)[None])
            for place, value in enumerate(replacements):
                edits = [] if value is None else [_Replace(site, batch.text_mask, value)]
                with model.edited(*edits):
                    self.losses[place] += _cross_entropy(model, batch)
            self.predicted += int(_predicted(model, batch).sum())

    def result(self) -> Measurement:
        variance = self.squares - self.total.square().sum().item() / self.tokens
        losses: list[float | None] = [None] * 4
        if self.predicted:
            losses = [loss / self.predicted for loss in self.losses]
        return Measurement(
            fvu=self.error / max(variance, 1e-30),
            l0=self.active / self.tokens,
            dead=1 - self.fired.double().mean().item(),
            tokens=self.tokens,
            documents=len(self.documents),
            loss=losses[0],
            loss_reconstructed=losses[1],
            loss_zero=losses[2],
            loss_mean=losses[3],
        )


def _cross_entropy(model: Model, batch: Batch) -> float:
    """Summed loss, in nats, of predicting each token of the text from those before it."""
    logits = model.logits(batch.tokens)[:, :-1].float()
    wanted = _predicted(model, batch)
    loss = torch.nn.functional.cross_entropy(logits[wanted], batch.tokens.ids[:, 1:][wanted], reduction="sum")
    return loss.double().item()


def _predicted(model: Model, batch: Batch) -> Tensor:
    """Which tokens [batch, position - 1] are predicted: those of the text, but no patches, which no head foretells."""
    wanted = batch.text_mask[:, 1:]
    return wanted if model.pictures is None else wanted & (batch.tokens.ids[:, 1:] != model.pictures.token)
