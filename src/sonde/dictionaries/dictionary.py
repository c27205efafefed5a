"""What every dictionary is: an encoder and a decoder, feature-major, acting on raw activations.

    f = activation(W_enc @ x + b_enc)        y_hat = f @ W_dec + b_dec [+ W_skip @ x]

x are the vectors of the sites that it reads, side by side, and y those of the sites that it writes. Mostly both are one
site. A transcoder writes other sites than it reads; several that are written make it cross-layer. A crosscoder
reads and writes several sites, of one model or of several. Any kind can be any of these.

As saved, decoder rows have length one, so an activation is the length of what its feature adds to
y_hat (`fold` says what that is for several sites); norms and input scaling were folded in when training ended.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonde.dictionaries.info import DictionaryInfo
from sonde.display import Block, Drawn, Grid, Line
from sonde.errors import ArtifactMismatchError, FeatureError
from sonde.kernels import compiled
from sonde.kernels.choose import has_kernels
from sonde.kernels.packed import Packed
from sonde.manifests import Artifact

FEW_ROWS, FEW_WEIGHTS = 64, 1 << 16
"""with fewer, torch's dense product is as fast as compiled kernels"""
ALL = slice(None)
Features = slice | int | Tensor
"""which features are meant; `ALL` by default"""
Active = tuple[Int[Tensor, " active"], Int[Tensor, " active"], Float[Tensor, " active"]]
"""row, feature and value of each activation above zero, by row"""
DENSITY_EDGES = [10.0**power for power in range(-6, 1)]
"""bounds of a histogram of how often features fire"""


class Dictionary(nn.Module, Drawn, ABC):
    """A sparse dictionary of `n_features` features. Subclasses say which features are active.

    Args:
        n_features, d_in, d_out: sizes; without `d_out` it reconstructs what it reads.
        skip: whether there is a linear path past the features.
        kind_settings: settings of the kind that its weights do not show; the manifest keeps them, and loading passes
            them to `__init__`.

    Attributes:
        info: what it knows about itself: sites, model, text, quality, provenance. A dictionary made in memory reads a
            site "x" and writes "x" or "y", until `at` names them.
        artifact: the folder that it was loaded from, and its manifest; None of one made in memory.
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

    def __init__(
        self, n_features: int, d_in: int, d_out: int | None = None, *, skip: bool = False, **kind_settings: Any
    ) -> None:
        super().__init__()
        reads = {"x": d_in}
        self.info = DictionaryInfo(
            kind=self.kind,
            kind_settings={"skip": True} | kind_settings if skip else kind_settings,
            n_features=n_features,
            reads=reads,
            writes=reads if d_out is None else {"y": d_out},
        )
        self.artifact: Artifact[Path] | None = None
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

    @property
    def described(self) -> str:
        """What messages call it."""
        return f"the dictionary {self.artifact.folder}" if self.artifact else "the dictionary"

    def at(self, reads: str | Mapping[str, int], writes: str | Mapping[str, int] | None = None) -> Self:
        """Name the sites that it reads and writes; returns the dictionary itself.

        Args:
            reads: a site, or several with their widths.
            writes: likewise; by default what it reads.

        Raises ArtifactMismatchError where the widths do not add up to the dictionary's own.
        """
        read = {reads: self.d_in} if isinstance(reads, str) else dict(reads)
        written = read if writes is None else {writes: self.d_out} if isinstance(writes, str) else dict(writes)
        if (sum(read.values()), sum(written.values())) != (self.d_in, self.d_out):
            raise ArtifactMismatchError(
                f"the dictionary reads vectors of width {self.d_in} and writes {self.d_out}, "
                f"but the sites are {read} and {written}; give widths that add up"
            )
        self.info = replace(self.info, reads=read, writes=written)
        return self

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
        return self.info.reads

    @property
    def writes(self) -> dict[str, int]:
        """The sites whose vectors it reconstructs, in their order, and how wide they are."""
        return self.info.writes

    @property
    def site(self) -> str:
        """What it was trained on: a site, several, or what is read -> what is written."""
        return self.info.site

    def extra_repr(self) -> str:
        """What stands between the brackets of its `repr`."""
        info = self.info
        facts: dict[str, Any] = {"n_features": info.n_features, "d_in": info.d_in}
        facts |= {"d_out": info.d_out} if info.reads != info.writes else {}
        parts = [f"{name}={value!r}" for name, value in (facts | info.kind_settings | {"site": info.site}).items()]
        if info.quality is not None:
            parts += [f"{name}={getattr(info.quality, name):.4g}" for name in ("fvu", "l0", "dead")]
        return ", ".join(parts)

    def draw(self) -> list[Block]:
        """What it is, what it was trained on, and how well it reconstructs."""
        info, quality, text = self.info, self.info.quality, self.info.text
        settings = ", ".join(f"{name} {value}" for name, value in info.kind_settings.items())
        rows = [
            ["kind", f"{info.kind}, {settings}" if settings else info.kind],
            ["features", f"{info.n_features:,}, on vectors of width {info.d_in:,}"],
            ["trained on", f"{info.site} of {info.model.short_name}" if info.model else info.site],
        ]
        if text is not None and text.path is not None:
            rows.append(["text", f"{Path(text.path).name}, of which {text.held_out:.0%} of the documents are held out"])
        if quality is not None:
            explained = f"{1 - quality.fvu:.1%} of the variance explained, {quality.l0:.1f} features on a token"
            rows.append(["on training rows", f"{explained}, {quality.dead:.1%} dead"])
        return [Line(f"dictionary of {info.n_features:,} features", strong=True), Grid(rows)]

    @abstractmethod
    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... n_features"]:
        """Activations of x."""

    @abstractmethod
    def active(self, x: Float[Tensor, "row d_in"]) -> Active:
        """The activations above zero of x, as (row, feature, value), by row."""

    @abstractmethod
    def activation(self, x: Float[Tensor, "... d_in"], feature: int) -> Float[Tensor, "..."]:
        """One feature's activation on x, at the least cost that the kind allows."""

    @abstractmethod
    def reconstruct(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """The reconstruction y_hat from x."""

    def decode(self, activations: Float[Tensor, "... n_features"]) -> Float[Tensor, "... d_out"]:
        """The reconstruction from activations, without W_skip."""
        return activations @ self.W_dec + self.b_dec

    def base(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "*rows d_out"]:
        """What is reconstructed from x before any feature adds to it: [d_out], or [..., d_out] with W_skip."""
        return self.b_dec if self.W_skip is None else x @ self.W_skip.T + self.b_dec

    def packed(self, x: Float[Tensor, "row d_in"]) -> Packed | None:
        """The encoder as the compiled kernels take it; None where they would not encode rows like x faster."""
        kernels, W_enc = compiled.kernels(), self.W_enc.detach()
        fits = x.device.type == "cpu" and x.dtype == W_enc.dtype == torch.float32 and has_kernels(x.device, self.d_in)
        if kernels is None or not fits or len(x) < FEW_ROWS or W_enc.numel() < FEW_WEIGHTS:
            return None
        weights = (W_enc.data_ptr(), self.W_enc._version)
        if self._packed is None or self._packed[0] != weights:
            self._packed = weights, Packed(kernels, W_enc, self.b_enc, x.square().mean(dim=0).sqrt())
        return self._packed[1]

    def check_feature(self, feature: int) -> int:
        """Return the feature number; raises FeatureError where the dictionary has no such feature."""
        if not 0 <= feature < self.n_features:
            raise FeatureError(f"there is no feature {feature}: the dictionary has features 0 to {self.n_features - 1}")
        return feature

    @torch.no_grad()
    def fold(self, inputs: "Scaling", outputs: "Scaling") -> None:
        """Fold decoder norms and the scaling of x and y into the weights, after training on scaled vectors.

        Afterwards the dictionary acts on raw x, decoder rows have length one, and an activation is the
        length of what the feature adds to raw y_hat. Where sites of several scales are written, each site's part is
        measured at the scale that it had in training, divided by the geometric mean of all scales, so that the
        largest activations stay the largest.
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

    def _fold_more(self, unit: Float[Tensor, " n_features"]) -> None:
        """Fold the kind's own parameters; an activation becomes `unit` times what it was in training."""


class Scaling(NamedTuple):
    """How vectors were scaled for training: (v - mean) * scale."""

    mean: Float[Tensor, " width"]
    scale: Float[Tensor, " width"]

    def __call__(self, v: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        return (v.float() - self.mean) * self.scale


class Elementwise(Dictionary):
    """A dictionary in which an activation depends on its own feature's pre-activation alone."""

    @abstractmethod
    def act(self, pre: Float[Tensor, "..."], features: Features = ALL) -> Float[Tensor, "..."]:
        """Activations of pre-activations whose last dimension is these features."""

    def floor(self) -> Float[Tensor, "*features"]:
        """What a pre-activation has to exceed, [n_features] or one number for all."""
        return self.b_enc.new_zeros(())

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... n_features"]:
        return self.act(x @ self.W_enc.T + self.b_enc)

    def active(self, x: Float[Tensor, "row d_in"]) -> Active:
        packed = self.packed(x)
        above = packed.above(x.contiguous(), self.floor().detach()) if packed is not None else None
        if above is None:
            activations = self.encode(x)
            row, feature = activations.nonzero(as_tuple=True)
            return row, feature, activations[row, feature]
        row, feature = above.row.long(), above.feature.long()
        value = self.act(above.value, feature)
        kept = value > 0
        return row[kept], feature[kept], value[kept]

    def activation(self, x: Float[Tensor, "... d_in"], feature: int) -> Float[Tensor, "..."]:
        return self.act(x @ self.W_enc[feature] + self.b_enc[feature], feature)

    def reconstruct(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        return self.encode(x) @ self.W_dec + self.base(x)


def rows_of(x: Float[Tensor, "... width"]) -> tuple[Float[Tensor, "row width"], Sequence[int]]:
    """x as rows, and its leading shape."""
    return x.reshape(-1, x.shape[-1]), x.shape[:-1]
