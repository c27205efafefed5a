"""The data of the benchmark of truth: documents of the world in two halves, with the concepts of every token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sonde.analysis.detection import Presences, SparseActivations, TextVectors, activations, read_texts
from sonde.dictionaries.dictionary import Dictionary
from sonde.dictionaries.load import load_dictionary
from sonde.errors import ArtifactMismatchError
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.progress import Reporter, default_reporter
from sonde_world.generate import Document, documents
from sonde_world.truth import Truth, token_truth

SEED = 3
"""seed of the documents; the model was trained on those of seed 0, the demo's dictionary on seed 1"""
TOKENS = 120_000
FEWEST = 30
"""tokens of each half on which a concept must be present to be judged"""


@dataclass(frozen=True)
class Half:
    """One half of the documents, with the concepts and the activations of their tokens."""

    documents: list[Document]
    x: torch.Tensor
    """[token, d_in]"""
    document: np.ndarray
    """[token] index of its document in `documents`"""
    present: Presences
    fires: SparseActivations


@dataclass(frozen=True)
class Bench:
    """A dictionary, its model, and the text on which it is evaluated."""

    model: Model
    dictionary: Dictionary
    concepts: tuple[str, ...]
    choose: Half
    """the half on which features are chosen"""
    judge: Half
    """the half on which they are judged"""
    frequency: np.ndarray
    """[concept] share of all tokens"""

    @property
    def judged(self) -> np.ndarray:
        """Indices of the concepts that are on enough tokens of both halves, and not on nearly all."""
        counts = np.stack([half.present.counts for half in (self.choose, self.judge)])
        sizes = np.array([[self.choose.present.n_tokens], [self.judge.present.n_tokens]])
        return np.flatnonzero(((counts >= FEWEST) & (counts <= 0.9 * sizes)).all(axis=0))

    def place(self, concept: str) -> int:
        return self.concepts.index(concept)


def prepare(dictionary: Dictionary | str | Path, *, tokens: int = TOKENS, reporter: Reporter | None = None) -> Bench:
    """The text of the benchmark, read by model and dictionary, with the concepts of its tokens.

    Raises ArtifactMismatchError where the dictionary is of another model than the built-in one.
    """
    loaded = dictionary if isinstance(dictionary, Dictionary) else load_dictionary(dictionary)
    model = load_model("world", device="cpu")
    trained_on = loaded.info.require_model()
    if trained_on.id != model.identity:
        raise ArtifactMismatchError(
            f"the dictionary was made for the model {trained_on.name!r} (id {trained_on.id}), "
            f"but truth is known of the built-in one alone (id {model.identity})"
        )
    chosen: list[Document] = []
    size = 0
    for document in documents(1 << 30, SEED):
        chosen.append(document)
        size += len(document.text) // 3
        if size >= tokens:
            break
    with (reporter or default_reporter()).start("read", len(chosen), "documents") as progress:
        texts = read_texts(model, loaded, [document.text for document in chosen])
        progress.advance(len(chosen))
    truth = token_truth(zip([document.spans for document in chosen], texts.spans, strict=True))
    return halves(model, loaded, chosen, texts, truth)


def halves(model: Model, dictionary: Dictionary, made: Sequence[Document], texts: TextVectors, truth: Truth) -> Bench:
    """The benchmark's data: features are chosen on the documents with even numbers and judged on the others."""
    present = truth.present
    fires = activations(dictionary, texts.x)
    document = texts.document
    parts = []
    for side in (0, 1):
        tokens = np.flatnonzero(document % 2 == side)
        x, own_documents = texts.x[torch.from_numpy(tokens)], list(made[side::2])
        parts.append(Half(own_documents, x, document[tokens] // 2, present.among(tokens), fires.among(tokens)))
    frequency = present.counts / max(1, present.n_tokens)
    return Bench(model, dictionary, truth.concepts, parts[0], parts[1], frequency)
