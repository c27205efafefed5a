"""Measure a dictionary on text that it was not trained on.

1. Read held-out documents of the text that it was trained on (or all of any other text).
2. Run them through the model: FVU, L0 and which features fire.
3. If the model predicts next tokens: its loss unchanged, with the reconstruction in place of the vectors at
   the site, with zero there, and with the training mean there.

FVU = sum |x - x_hat|^2 / sum |x - mean|^2 over the whole set, the mean being that of the same set; uncentred, the mean
is zero. Gamma = sum |x_hat|^2 / sum x . x_hat is 1 where nothing shrinks (Rajamanoharan et al. 2024, arXiv 2404.16014,
equation 10). Loss recovered by zero (mean) ablation = (L_ablated - L_reconstructed) / (L_ablated - L_plain). All three
replacements act on the same tokens: those of the text, not special ones.
"""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.activations.contexts import BATCH_TOKENS, TOKENS_AT_ONCE, Batch, Cutter, groups
from sonde.activations.corpus import IN_MEMORY, Corpus, Document, TextSource, is_held_out
from sonde.calls import public
from sonde.dictionaries.dictionary import DENSITY_EDGES, Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.dictionaries.reading import Reading
from sonde.display import Block, Drawn, Grid
from sonde.errors import StorageError, TextError
from sonde.facts import TextFacts
from sonde.features.stream import Read, stream
from sonde.manifests import write_json
from sonde.models.model import Model
from sonde.models.recorded import is_same, recorded_model
from sonde.progress import Reporter, default_reporter
from sonde.settings import Count, check
from sonde.steering.replace import Replace

MEASUREMENT = "measurement.json"
"""the last measurement on held-out documents, beside the dictionary"""
TIMED_TOKENS = 1 << 10
"""tokens that are read between two looks at the clock; contexts are ordered by length among so many alone, as those
that a longer order puts last would not be measured"""
LOGIT_NUMBERS = 1 << 26
"""logits in memory at once; those of the plain model are kept to be compared with those of the edited one"""


@dataclass(frozen=True)
class Measurement(Drawn):
    """How good a dictionary is on some text."""

    fvu: float
    """fraction of variance unexplained; of several sites, the mean"""
    fvu_by_site: dict[str, float]
    """of each site, if several are written"""
    fvu_uncentred: float
    """fraction of mean squared length unexplained"""
    gamma: float
    """below 1: reconstructions are too short"""
    cosine: float
    """mean cosine of rows and their reconstructions"""
    l0: float
    """mean number of active features on a token"""
    dead: float
    """share of features that fire on none of these tokens"""
    densities: dict[str, int]
    """bound -> features that fire on a share of tokens up to it and above the bound before; "0": that never fire"""
    tokens: int
    documents: int
    massive: int
    """tokens with massive vectors, which all other figures leave out"""
    fvu_with_massive: float | None
    """the fraction of variance unexplained with those tokens; None where there are none"""
    loss: float | None
    """cross-entropy of the unchanged model, in nats a token; None if it does not predict next tokens"""
    loss_reconstructed: float | None
    loss_zero: float | None
    loss_mean: float | None
    kl: float | None
    """mean divergence, in nats a token, of the predictions with the reconstruction in place from the model's own"""

    @property
    def loss_recovered(self) -> dict[str, float | None]:
        """Share of the loss recovered, by what the denominator ablates to."""
        return {"zero": self._recovered(self.loss_zero), "mean": self._recovered(self.loss_mean)}

    def _recovered(self, ablated: float | None) -> float | None:
        if ablated is None or self.loss is None or self.loss_reconstructed is None or ablated == self.loss:
            return None
        return (ablated - self.loss_reconstructed) / (ablated - self.loss)

    def draw(self) -> list[Block]:
        """A table of the numbers, each with a word of what it says."""
        rows = [
            ["FVU", f"{self.fvu:.4f}", "share of variance left unexplained"],
            *([f"  {site}", f"{fvu:.4f}", ""] for site, fvu in self.fvu_by_site.items()),
            *self._massive_row(),
            ["FVU, uncentred", f"{self.fvu_uncentred:.4f}", "share of mean squared length left unexplained"],
            ["gamma", f"{self.gamma:.4f}", "1 where reconstructions are not shortened"],
            ["cosine", f"{self.cosine:.4f}", "of tokens and their reconstructions, mean"],
            ["L0", f"{self.l0:.1f}", "features active on a token"],
            ["dead", f"{self.dead:.2%}", "features that fire on none of these tokens"],
            ["tokens", f"{self.tokens:,}", f"in {self.documents:,} documents"],
        ]
        return [Grid([*rows, *self._loss_rows()], right=(1,))]

    def _massive_row(self) -> list[list[str]]:
        if self.fvu_with_massive is None:
            return []
        said = f"with {self.massive:,} tokens of massive norm, which the other figures leave out"
        return [["FVU, all tokens", f"{self.fvu_with_massive:.4f}", said]]

    def _loss_rows(self) -> list[list[str]]:
        rows = [["loss", "-", "not measured: the model predicts no next token"]] if self.loss is None else []
        for name, value in self.loss_recovered.items():
            if value is not None:
                rows.append([f"loss recovered ({name})", f"{value:.4f}", f"against {name} ablation"])
        if self.kl is not None:
            said = "nats a token, from the model's predictions with the reconstruction in place"
            rows.append(["KL", f"{self.kl:.4f}", said])
        return rows

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
            **({"massive": self.massive, "fvu_with_massive": self.fvu_with_massive} if self.massive else {}),
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


@public(own=("text",))
@torch.no_grad()
def measure(
    dictionary: Dictionary | str | Path,
    *,
    model: Model | str | Path | None = None,
    text: TextSource | None = None,
    tokens: int | str | None = None,
    seconds: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Measurement:
    """Measure a dictionary on documents that it was not trained on.

    Args:
        dictionary: a dictionary or its folder.
        model: by default the one that the dictionary was trained on.
        text: by default the text that the dictionary was trained on, of which only the held-out documents
            are read, and the result is kept beside the dictionary if the model is its own; other text is read whole.
        tokens: stop after the document in which this many tokens are reached; all by default.
        seconds: stop after the batch in which this time is over, counted from the first batch on.
        device, dtype: as for `load_model`; of what is loaded here.
        reporter: shows progress.

    Raises:
        ArtifactMismatchError (dictionary and model do not fit, or another model has taken its model's place),
        TextError, ActivationError, SettingsError.
    """
    check(seconds is None or seconds > 0, "seconds", seconds, "above 0")
    loaded = dictionary if isinstance(dictionary, Dictionary) else load_dictionary(dictionary, device)
    reporter = reporter or default_reporter()
    reader = recorded_model(
        loaded.info.model, model, of=loaded.described, device=device, dtype=dtype, reporter=reporter
    )
    return _measure(loaded, reader, text, None if tokens is None else Count(tokens), seconds, reporter)


def _measure(
    loaded: Dictionary,
    reader: Model,
    text: TextSource | None,
    tokens: int | None,
    seconds: float | None,
    reporter: Reporter,
) -> Measurement:
    reading = Reading(loaded, reader)
    trained_on = loaded.info.text or TextFacts()
    documents, name = held_out_documents(trained_on, text)

    sums = _Sums(loaded, reader)
    with_loss = reader.is_causal and reader.has_head and len(reading.models) == 1
    batch_tokens = min(BATCH_TOKENS, max(256, LOGIT_NUMBERS // reader.vocab_size)) if with_loss else BATCH_TOKENS
    cutter = Cutter(reader, trained_on.context, trained_on.pack)
    at_once = TOKENS_AT_ONCE if seconds is None else TIMED_TOKENS
    began = time.monotonic()
    with reporter.start("measure", tokens, "tokens") as progress:
        for batch in stream(reading, groups(cutter.tokenize(documents), cutter, tokens, batch_tokens, at_once)):
            sums.add(batch, with_loss)
            progress.advance(batch.n_rows)
            if seconds is not None and time.monotonic() - began > seconds:
                break
    if sums.tokens == 0:
        kept = f"{trained_on.held_out:.0%} were kept from training"
        raise TextError(f"{name} has no held-out documents to measure on ({kept}); give other text with --text")
    measurement = sums.result()
    if text is None and loaded.artifact is not None and is_same(loaded.info.model, reader):
        with contextlib.suppress(StorageError):  # the folder may be read-only, and nobody asked for the file
            write_json(loaded.artifact.folder / MEASUREMENT, measurement.to_json())
    return measurement


def held_out_documents(trained_on: TextFacts, text: TextSource | None) -> tuple[Iterable[Document], str]:
    """The documents to measure on and the name of their text; of the text that was trained on, those held out."""
    if text is None and trained_on.path in (None, IN_MEMORY):
        what = "ready vectors" if trained_on.path is None else "texts in memory"
        raise TextError(f"the dictionary was trained on {what}, so no held-out documents can be found; give text")
    corpus = Corpus(str(trained_on.path) if text is None else text, trained_on.field, trained_on.skip_bad)
    if corpus.name != trained_on.path or corpus.name == IN_MEMORY:  # of which nobody knows whether they are the same
        return corpus, corpus.name
    held_out = (document for document in corpus if is_held_out(document, trained_on.held_out, trained_on.seed))
    return held_out, corpus.name


class _Sums:
    """Sums over all batches, in float64."""

    def __init__(self, dictionary: Dictionary, model: Model) -> None:
        self.dictionary, self.model = dictionary, model
        self.widths = list(self.dictionary.writes.values())
        self.tokens = self.predicted = 0
        self.documents: set[int] = set()
        self.squares_hat = self.products = self.cosines = self.kl = 0.0
        self.error, self.squares, self.total = torch.zeros(3, self.dictionary.d_out, dtype=torch.float64)
        """[d_out] sums of squared errors, of squares, and of values of y"""
        self.massive = torch.zeros(3, self.dictionary.d_out, dtype=torch.float64)
        """the same of massive tokens alone"""
        self.n_massive = 0
        self.counts = torch.zeros(self.dictionary.n_features, dtype=torch.int64)
        self.losses: list[float] = [0.0] * 4

    def add(self, read: Read, with_loss: bool) -> None:
        y, y_hat = read.y, self.dictionary.reconstruct(read.x)
        _, feature, _ = read.active
        self.error += (y - y_hat).double().square().sum(dim=0).cpu()
        self.squares += y.double().square().sum(dim=0).cpu()
        self.total += y.double().sum(dim=0).cpu()
        self.squares_hat += y_hat.double().square().sum().item()
        self.products += (y * y_hat).double().sum().item()
        self.cosines += torch.nn.functional.cosine_similarity(y, y_hat, dim=1).double().sum().item()
        self.counts += torch.bincount(feature, minlength=len(self.counts)).cpu()
        self.tokens += len(y)
        self.documents |= set(read.batch.document.tolist())
        if read.massive is not None:
            y, y_hat_massive = read.massive.y.double(), self.dictionary.reconstruct(read.massive.x).double()
            of_rows = torch.stack([(y - y_hat_massive).square(), y.square(), y])
            self.massive += of_rows.sum(dim=1).cpu()
            self.n_massive += len(y)
        if with_loss:
            self._add_losses(read, y_hat)

    def _add_losses(self, read: Read, y_hat: Tensor) -> None:
        model, batch, mean = self.model, read.batch, self.dictionary.output_mean[None]
        predicted = predicted_tokens(model, batch, read.text_mask)
        following = batch.tokens.ids[:, 1:][predicted]
        plain = torch.empty(0)
        for place, value in enumerate((None, y_hat, torch.zeros_like(mean), mean)):
            edits = []
            if value is not None:
                parts = zip(self.dictionary.writes, value.split(self.widths, dim=1), strict=True)
                edits = [Replace(site, part, batch.text_mask) for site, part in parts]
            with model.edited(*edits):
                log_p = model.logits(batch.tokens)[:, :-1][predicted].float().log_softmax(dim=1)
            self.losses[place] -= log_p.gather(1, following[:, None]).double().sum().item()
            if place == 0:
                plain = log_p
            elif place == 1:
                self.kl += (plain.exp() * (plain - log_p)).sum(dim=1).double().sum().item()
        self.predicted += len(following)

    def _fvu(self, sums: Float[Tensor, "3 d_out"], n_rows: int) -> list[float]:
        """The fraction of variance unexplained at each site that is written."""
        error, squares, total = sums
        variance = squares - total.square() / n_rows
        by_site = zip(error.split(self.widths), variance.split(self.widths), strict=True)
        return [_ratio(error, variance) for error, variance in by_site]

    def result(self) -> Measurement:
        sums = torch.stack([self.error, self.squares, self.total])
        fvu = self._fvu(sums, self.tokens)
        with_massive = self._fvu(sums + self.massive, self.tokens + self.n_massive)
        losses: list[float | None] = [None] * 4
        if self.predicted:
            losses = [loss / self.predicted for loss in self.losses]
        share = (self.counts / self.tokens).double()
        bins = torch.bucketize(share, torch.tensor([0.0, *DENSITY_EDGES], dtype=torch.float64))
        names = ["0", *(f"{edge:g}" for edge in DENSITY_EDGES)]
        return Measurement(
            fvu=sum(fvu) / len(fvu),
            fvu_by_site=dict(zip(self.dictionary.writes, fvu, strict=True)) if len(fvu) > 1 else {},
            fvu_uncentred=_ratio(self.error, self.squares),
            gamma=self.squares_hat / self.products if self.products else 0.0,
            cosine=self.cosines / self.tokens,
            l0=self.counts.sum().item() / self.tokens,
            dead=(self.counts == 0).double().mean().item(),
            densities=dict(zip(names, torch.bincount(bins, minlength=len(names)).tolist(), strict=True)),
            tokens=self.tokens,
            documents=len(self.documents),
            massive=self.n_massive,
            fvu_with_massive=sum(with_massive) / len(fvu) if self.n_massive else None,
            loss=losses[0],
            loss_reconstructed=losses[1],
            loss_zero=losses[2],
            loss_mean=losses[3],
            kl=self.kl / self.predicted if self.predicted else None,
        )


def _ratio(part: Tensor, whole: Tensor) -> float:
    return part.sum().item() / max(whole.sum().item(), 1e-30)


def predicted_tokens(model: Model, batch: Batch, text_mask: Tensor) -> Tensor:
    """Which tokens after the first of each row are predicted [batch, position - 1]: those of the text.

    Image patches are excluded: the head does not predict them.
    """
    text = text_mask[:, 1:]
    return text if model.pictures is None else text & (batch.tokens.ids[:, 1:] != model.pictures.image_token_id)
