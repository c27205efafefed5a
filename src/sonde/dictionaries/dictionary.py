"""What every dictionary is: an encoder and a decoder, feature-major, acting on raw activations.

    f = activation(W_enc @ x + b_enc)        y_hat = f @ W_dec + b_dec [+ W_skip @ x]

x are the vectors of the sites that it reads, side by side, and y those of the sites that it writes. Mostly both are one
site. A transcoder writes other sites than it reads; several that are written make it cross-layer. A crosscoder
reads and writes several sites, of one model or of several. Any kind can be any of these.

As saved, decoder rows have length one, so an activation is the length of what its feature adds to
y_hat (`fold` says what that is for several sites); norms and input scaling were folded in when training ended.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sonde.errors import FeatureError
from sonde.kernels import compiled
from sonde.kernels.choose import has_kernels
from sonde.kernels.packed import Packed
from sonde.manifests import Manifest

FEW_ROWS, FEW_WEIGHTS = 64, 1 << 16
"""with fewer, torch's dense product is as fast as compiled kernels"""
DENSITY_EDGES = [10.0**power for power in range(-6, 1)]
"""bounds of a histogram of how often features fire"""


class Dictionary(nn.Module, ABC):
    """A sparse dictionary of `n_features` features. Subclasses say which features are active.

    Attributes:
        W_enc: [n_features, d_in].
        W_dec: [n_features, d_out].
        b_enc: [n_features].
        b_dec: [d_out].
        W_skip: [d_out, d_in], or None; a transcoder's linear path past the features (Paulo et al. 2025,
            arXiv 2501.18823, section 3).
        mean_activation, max_activation: [n_features], over training rows, as written by `train`.
        output_mean: [d_out], mean of the training rows.
    """

    kind: ClassVar[str]

    mean_activation: Tensor
    max_activation: Tensor
    output_mean: Tensor

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None, *, skip: bool = False) -> None:
        super().__init__()
        d_out = d_out or d_in
        self.W_enc = nn.Parameter(torch.zeros(n_features, d_in))
        self.W_dec = nn.Parameter(torch.zeros(n_features, d_out))
        self.b_enc = nn.Parameter(torch.zeros(n_features))
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        self.W_skip = nn.Parameter(torch.zeros(d_out, d_in)) if skip else None
        self.register_buffer("mean_activation", torch.zeros(n_features))
        self.register_buffer("max_activation", torch.zeros(n_features))
        self.register_buffer("output_mean", torch.zeros(d_out))
        self._packed: tuple[tuple[int, int], Packed] | None = None
        self.folder: Path | None = None
        self.manifest: Manifest | None = None

    @property
    def n_features(self) -> int:
        return len(self.W_enc)

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def reads(self) -> dict[str, int]:
        """The sites whose vectors are its input, in their order, and how wide they are."""
        return self.facts["reads"]

    @property
    def writes(self) -> dict[str, int]:
        """The sites whose vectors it reconstructs, in their order, and how wide they are."""
        return self.facts["writes"]

    @property
    def site(self) -> str:
        """What it was trained on: a site, several, or what is read -> what is written."""
        read, written = ", ".join(self.reads), ", ".join(self.writes)
        return read if self.reads == self.writes else f"{read} -> {written}"

    @property
    def facts(self) -> dict[str, Any]:
        assert self.manifest is not None, "a dictionary in training has no manifest yet"
        return self.manifest.facts

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Activations [..., n_features] of x [..., d_in]."""

    @abstractmethod
    def active(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The activations above zero of x [row, d_in], as (row, feature, value), each [active], by row."""

    @abstractmethod
    def activation(self, x: Tensor, feature: int) -> Tensor:
        """One feature's activation [...] on x [..., d_in], at the least cost that the kind allows."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction y_hat [..., d_out] from x [..., d_in]."""

    def decode(self, activations: Tensor) -> Tensor:
        """What activations [..., n_features] add up to [..., d_out], without W_skip."""
        return activations @ self.W_dec + self.b_dec

    def base(self, x: Tensor) -> Tensor:
        """What is reconstructed from x [..., d_in] before any feature adds to it: [d_out], or [..., d_out] with W_skip."""
        return self.b_dec if self.W_skip is None else x @ self.W_skip.T + self.b_dec

    def packed(self, x: Tensor) -> Packed | None:
        """The encoder for the compiled kernels, where they read rows like x [row, d_in] faster."""
        found, W_enc = compiled.kernels(), self.W_enc.detach()
        fits = x.device.type == "cpu" and x.dtype == W_enc.dtype == torch.float32 and has_kernels(x.device, self.d_in)
        if found is None or not fits or len(x) < FEW_ROWS or W_enc.numel() < FEW_WEIGHTS:
            return None
        weights = (W_enc.data_ptr(), self.W_enc._version)
        if self._packed is None or self._packed[0] != weights:
            self._packed = weights, Packed(found, W_enc, self.b_enc, x.square().mean(dim=0).sqrt())
        return self._packed[1]

    def check_feature(self, feature: int) -> int:
        """Return the feature number; raises FeatureError where the dictionary has no such feature."""
        if not 0 <= feature < self.n_features:
            raise FeatureError(f"there is no feature {feature}: the dictionary has features 0 to {self.n_features - 1}")
        return feature

    def extra_state(self) -> dict[str, Any]:
        """Settings of the kind that its weights do not show; kept in the manifest, given to `__init__`."""
        return {} if self.W_skip is None else {"skip": True}

    @torch.no_grad()
    def fold(self, inputs: "Scaling", outputs: "Scaling") -> None:
        """Fold the scaling of x and y and decoder norms in, after training on scaled vectors.

        Afterwards the dictionary acts on raw x, decoder rows have length one, and an activation is the
        length of what the feature adds to raw y_hat. Where sites of several scales are written, lengths are taken with
        each site at the scale that it had in training, over their geometric mean: so the largest activations stay the largest.
        """
        norms = self.W_dec.norm(dim=1).clamp_min(1e-12)
        unit = norms / outputs.scale.log().mean().exp()
        self.W_dec.div_(outputs.scale).div_(unit[:, None])
        self.W_enc.mul_(inputs.scale).mul_(unit[:, None])
        self.b_enc.mul_(unit).sub_(self.W_enc @ inputs.mean)
        self.b_dec.div_(outputs.scale).add_(outputs.mean)
        if self.W_skip is not None:
            self.W_skip.mul_(inputs.scale).div_(outputs.scale[:, None])
            self.b_dec.sub_(self.W_skip @ inputs.mean)
        self._fold_more(unit)

    def _fold_more(self, unit: Tensor) -> None:
        """Fold what else the kind has; an activation becomes `unit` [n_features] times what it was in training."""


class Scaling(NamedTuple):
    """How vectors were scaled for training: (v - mean) * scale."""

    mean: Tensor
    """[width]"""
    scale: Tensor
    """[width]"""

    def __call__(self, v: Tensor) -> Tensor:
        return (v.float() - self.mean) * self.scale


class Elementwise(Dictionary):
    """A dictionary in which an activation depends on its own feature's pre-activation alone."""

    @abstractmethod
    def act(self, pre: Tensor, features: slice | int | Tensor = slice(None)) -> Tensor:
        """Activations of pre-activations [..., feature] of these features."""

    def floor(self) -> Tensor:
        """What a pre-activation has to exceed, [n_features] or one for all."""
        return self.b_enc.new_zeros(())

    def encode(self, x: Tensor) -> Tensor:
        return self.act(x @ self.W_enc.T + self.b_enc)

    def active(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        packed = self.packed(x)
        found = packed.above(x.contiguous(), self.floor().detach()) if packed is not None else None
        if found is None:
            activations = self.encode(x)
            row, feature = activations.nonzero(as_tuple=True)
            return row, feature, activations[row, feature]
        row, feature = found.row.long(), found.feature.long()
        value = self.act(found.value, feature)
        kept = value > 0
        return row[kept], feature[kept], value[kept]

    def activation(self, x: Tensor, feature: int) -> Tensor:
        return self.act(x @ self.W_enc[feature] + self.b_enc[feature], feature)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.encode(x) @ self.W_dec + self.base(x)


def rows_of(x: Tensor) -> tuple[Tensor, Sequence[int]]:
    """Flatten x [..., width] to [row, width]; return it with the leading shape."""
    return x.reshape(-1, x.shape[-1]), x.shape[:-1]
