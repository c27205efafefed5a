"""Measure a dictionary on text that it never saw.

1. Read held-out documents of the text that it was trained on (or any other text that is given, whole).
2. Stream through the model: FVU, L0 and which features fire.
3. Where the model predicts next tokens: its loss as it is, with the reconstruction put in place of what
   passes the site, with zero put there, and with the training mean put there.

FVU = sum |x - x_hat|^2 / sum |x - mean|^2 over the whole set, the mean being that of the same set; uncentred, the mean
is zero. Gamma = sum |x_hat|^2 / sum x . x_hat is 1 where nothing shrinks (Rajamanoharan et al. 2024, arXiv 2404.16014, equation 10).
Loss recovered by zero (mean) ablation = (L_ablated - L_reconstructed) / (L_ablated - L_plain). All three
replacements act on the same tokens: those of the text, not special ones.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, Batch, Context, Cutter, groups, make_batch
from sonde.activations.corpus import IN_MEMORY, Corpus, Document, is_held_out
from sonde.dictionaries.dictionary import DENSITY_EDGES, Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading
from sonde.errors import StorageError, TextError
from sonde.manifests import write_json
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter, Silent

MEASUREMENT = "measurement.json"
"""the last measurement on held-out documents, beside the dictionary"""
LOGIT_NUMBERS = 1 << 26
"""predictions that are held at once: those of the plain model and those of an edited one are compared"""
_NO_TEXT: dict[str, Any] = {
    "path": None,
    "field": "text",
    "skip_bad": False,
    "held_out": 0.0,
    "context": None,
    "pack": False,
}
"""what is known of the text where a dictionary was trained on ready vectors"""


@dataclass(frozen=True)
class Measurement:
    """What `measure` finds."""

    fvu: float
    """share of variance that is left unexplained; of several sites, their mean"""
    fvu_by_site: dict[str, float]
    """of each site, where several are written"""
    fvu_uncentred: float
    """the same, of mean squared length"""
    gamma: float
    """below 1: reconstructions are too short"""
    cosine: float
    """mean cosine of rows and their reconstructions"""
    l0: float
    """mean number of active features on a token"""
    dead: float
    """share of features that fire on none of these tokens"""
    densities: dict[str, int]
    """how many features fire on a share of tokens up to each bound, above the bound before; "0": on none"""
    tokens: int
    documents: int
    loss: float | None
    """cross-entropy of the model as it is, in nats a token; None where it predicts no next token"""
    loss_reconstructed: float | None
    loss_zero: float | None
    loss_mean: float | None
    kl: float | None
    """mean divergence, in nats a token, of the predictions with the reconstruction in place from those without"""

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
            **({"fvu_by_site": self.fvu_by_site} if self.fvu_by_site else {}),
            "fvu_uncentred": self.fvu_uncentred,
            "gamma": self.gamma,
            "cosine": self.cosine,
            "l0": self.l0,
            "dead": self.dead,
            "tokens": self.tokens,
            "documents": self.documents,
            "densities": self.densities,
            "loss_recovered": self.loss_recovered,
            "kl": self.kl,
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
        replaced[self.mask.to(x.device)] = self.value.to(x)
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
        ArtifactMismatchError (dictionary and model do not fit), TextError, ActivationError.
    """
    reporter = reporter or Silent()
    loaded = dictionary if isinstance(dictionary, Dictionary) else load_dictionary(dictionary, device)
    assert loaded.folder is not None and loaded.manifest is not None
    reader = model if isinstance(model, Model) else load_model(model or loaded.facts["model"]["name"], device=device)
    reading = Reading(loaded, reader)
    read: dict[str, Any] = loaded.facts["text"] or _NO_TEXT
    if text is None and read["path"] in (None, IN_MEMORY):
        what = "ready vectors" if read["path"] is None else "texts in memory"
        raise TextError(f"the dictionary was trained on {what}, so no held-out documents can be found; give text")
    corpus = Corpus(read["path"] if text is None else text, read["field"], read["skip_bad"])
    documents: Iterable[Document] = corpus
    if corpus.name == read["path"]:
        documents = (document for document in corpus if is_held_out(document, read["held_out"], read["seed"]))

    sums = _Sums(reading)
    with_loss = reader.is_causal and reader.has_head and len(reading.models) == 1
    batch_tokens = min(BATCH_TOKENS, max(256, LOGIT_NUMBERS // reader.vocab_size)) if with_loss else BATCH_TOKENS
    cutter = Cutter(reader, read["context"], read["pack"])
    with reporter.start("measure", tokens, "tokens") as progress:
        for group in groups(cutter.tokenize(documents), cutter, tokens, batch_tokens):
            sums.add_batch(group, with_loss)
            progress.advance(sum(context.n_text for context in group))
    if sums.tokens == 0:
        raise TextError(
            f"{corpus.name} has no held-out documents to measure on ({read['held_out']:.0%} were kept from training); give other text with --text"
        )
    found = sums.result()
    if text is None:
        with contextlib.suppress(StorageError):  # it was asked for, not that it be kept; the folder may be read alone
            write_json(loaded.folder / MEASUREMENT, found.to_json())
    return found


class _Sums:
    """Running sums, in float64, over all batches."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.dictionary, self.model = reading, reading.dictionary, reading.models[0]
        self.widths = list(self.dictionary.writes.values())
        self.tokens = self.predicted = 0
        self.documents: set[int] = set()
        self.own_squares = self.products = self.cosines = self.kl = 0.0
        self.error, self.squares, self.total = torch.zeros(3, self.dictionary.d_out, dtype=torch.float64)
        """[d_out] sums of squared errors, of squares, and of values"""
        self.counts = torch.zeros(self.dictionary.n_features, dtype=torch.int64)
        self.losses: list[float] = [0.0] * 4

    def add_batch(self, contexts: list[Context], with_loss: bool) -> None:
        batch = make_batch(self.model, contexts)
        x, y = self.reading(batch.tokens, batch.text_mask)
        y_hat = self.dictionary.reconstruct(x)
        _, feature, _ = self.dictionary.active(x)
        self.error += (y - y_hat).double().square().sum(dim=0).cpu()
        self.squares += y.double().square().sum(dim=0).cpu()
        self.total += y.double().sum(dim=0).cpu()
        self.own_squares += y_hat.double().square().sum().item()
        self.products += (y * y_hat).double().sum().item()
        self.cosines += torch.nn.functional.cosine_similarity(y, y_hat, dim=1).double().sum().item()
        self.counts += torch.bincount(feature, minlength=len(self.counts)).cpu()
        self.tokens += len(y)
        self.documents |= set(batch.document.tolist())
        if with_loss:
            self._add_losses(batch, y_hat)

    def _add_losses(self, batch: Batch, y_hat: Tensor) -> None:
        model, mean = self.model, self.dictionary.output_mean[None]
        wanted = _predicted(model, batch)
        following = batch.tokens.ids[:, 1:][wanted]
        plain = torch.empty(0)
        for place, value in enumerate((None, y_hat, torch.zeros_like(mean), mean)):
            edits = []
            if value is not None:
                parts = zip(self.dictionary.writes, value.split(self.widths, dim=1), strict=True)
                edits = [_Replace(site, batch.text_mask, part) for site, part in parts]
            with model.edited(*edits):
                log_p = model.logits(batch.tokens)[:, :-1][wanted].float().log_softmax(dim=1)
            self.losses[place] -= log_p.gather(1, following[:, None]).double().sum().item()
            if place == 0:
                plain = log_p
            elif place == 1:
                self.kl += (plain.exp() * (plain - log_p)).sum(dim=1).double().sum().item()
        self.predicted += len(following)

    def result(self) -> Measurement:
        variance = self.squares - self.total.square() / self.tokens
        left = [
            _share(*parts) for parts in zip(self.error.split(self.widths), variance.split(self.widths), strict=True)
        ]
        losses: list[float | None] = [None] * 4
        if self.predicted:
            losses = [loss / self.predicted for loss in self.losses]
        share = (self.counts / self.tokens).double()
        bins = torch.bucketize(share, torch.tensor([0.0, *DENSITY_EDGES], dtype=torch.float64))
        names = ["0", *(f"{edge:g}" for edge in DENSITY_EDGES)]
        return Measurement(
            fvu=sum(left) / len(left),
            fvu_by_site=dict(zip(self.dictionary.writes, left, strict=True)) if len(left) > 1 else {},
            fvu_uncentred=_share(self.error, self.squares),
            gamma=self.own_squares / self.products if self.products else 0.0,
            cosine=self.cosines / self.tokens,
            l0=self.counts.sum().item() / self.tokens,
            dead=(self.counts == 0).double().mean().item(),
            densities=dict(zip(names, torch.bincount(bins, minlength=len(names)).tolist(), strict=True)),
            tokens=self.tokens,
            documents=len(self.documents),
            loss=losses[0],
            loss_reconstructed=losses[1],
            loss_zero=losses[2],
            loss_mean=losses[3],
            kl=self.kl / self.predicted if self.predicted else None,
        )


def _share(part: Tensor, whole: Tensor) -> float:
    return part.sum().item() / max(whole.sum().item(), 1e-30)


def _predicted(model: Model, batch: Batch) -> Tensor:
    """Which tokens [batch, position - 1] are predicted: those of the text, but no patches, which no head foretells."""
    wanted = batch.text_mask[:, 1:]
    return wanted if model.pictures is None else wanted & (batch.tokens.ids[:, 1:] != model.pictures.image_token_id)
