"""What every dictionary is: an encoder and a decoder, feature-major, acting on raw activations.

    f = activation(W_enc @ x + b_enc)        x_hat = f @ W_dec + b_dec

As saved, decoder rows have length one, so an activation is the length of what its feature adds to the
stream; norms and input scaling were folded in when training ended.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sonde.errors import FeatureError
from sonde.manifests import Manifest

DENSITY_EDGES = [10.0**power for power in range(-6, 1)]
"""bounds of a histogram of how often features fire"""


class Dictionary(nn.Module, ABC):
    """A sparse dictionary of `n_features` features. Subclasses say which features are active.

    Attributes:
        W_enc: [n_features, d_in].
        W_dec: [n_features, d_out].
        b_enc: [n_features].
        b_dec: [d_out].
        mean_activation, max_activation: [n_features], over training rows, as written by `train`.
        input_mean: [d_in], mean of the training rows.
    """

    kind: ClassVar[str]
    centred: ClassVar[bool] = True
    """whether the mean is taken from inputs in training"""
    unit_norm: ClassVar[bool] = True
    """whether decoder rows are kept at length one in training"""

    mean_activation: Tensor
    max_activation: Tensor
    input_mean: Tensor

    def __init__(self, n_features: int, d_in: int, d_out: int | None = None) -> None:
        super().__init__()
        d_out = d_out or d_in
        self.W_enc = nn.Parameter(torch.zeros(n_features, d_in))
        self.W_dec = nn.Parameter(torch.zeros(n_features, d_out))
        self.b_enc = nn.Parameter(torch.zeros(n_features))
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        self.register_buffer("mean_activation", torch.zeros(n_features))
        self.register_buffer("max_activation", torch.zeros(n_features))
        self.register_buffer("input_mean", torch.zeros(d_in))
        self.folder: Path | None = None
        self.manifest: Manifest | None = None

    @property
    def n_features(self) -> int:
        return len(self.W_enc)

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[1]

    @property
    def site(self) -> str:
        """The site that the dictionary was trained on."""
        return self.facts["site"]

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
        """The reconstruction x_hat [..., d_out] of x [..., d_in]."""

    def decode(self, activations: Tensor) -> Tensor:
        """What activations [..., n_features] add up to [..., d_out]."""
        return activations @ self.W_dec + self.b_dec

    def check_feature(self, feature: int) -> int:
        """Return the feature number; raises FeatureError where the dictionary has no such feature."""
        if not 0 <= feature < self.n_features:
            raise FeatureError(f"there is no feature {feature}: the dictionary has features 0 to {self.n_features - 1}")
        return feature

    def extra_state(self) -> dict[str, Any]:
        """Settings of the kind that its weights do not show; kept in the manifest, given to `__init__`."""
        return {}

    @torch.no_grad()
    def fold(self, mean: Tensor, scale: float) -> None:
        """Fold input scaling and decoder norms in, after training on (x - mean) * scale.

        Afterwards the dictionary acts on raw x, decoder rows have length one, and an activation is the
        length of what the feature adds to raw x_hat.
        """
        mean = mean.to(self.W_enc)
        norms = self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)
        unit = norms.squeeze(1) / scale
        self.b_enc.sub_(self.W_enc @ mean * scale).mul_(unit)
        self.W_enc.mul_(scale * unit[:, None])
        self.W_dec.div_(norms)
        self.b_dec.div_(scale).add_(mean)
        self._fold_more(unit)

    def _fold_more(self, unit: Tensor) -> None:
        """Fold what else the kind has; an activation becomes `unit` [n_features] times what it was in training."""


class Elementwise(Dictionary):
    """A dictionary in which an activation depends on its own feature's pre-activation alone."""

    @abstractmethod
    def act(self, pre: Tensor, features: slice | int = slice(None)) -> Tensor:
        """Activations of pre-activations [..., feature] of these features."""

    def encode(self, x: Tensor) -> Tensor:
        return self.act(x @ self.W_enc.T + self.b_enc)

    def active(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        activations = self.encode(x)
        row, feature = activations.nonzero(as_tuple=True)
        return row, feature, activations[row, feature]

    def activation(self, x: Tensor, feature: int) -> Tensor:
        return self.act(x @ self.W_enc[feature] + self.b_enc[feature], feature)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def rows_of(x: Tensor) -> tuple[Tensor, Sequence[int]]:
    """Flatten x [..., width] to [row, width]; return it with the leading shape."""
    return x.reshape(-1, x.shape[-1]), x.shape[:-1]
