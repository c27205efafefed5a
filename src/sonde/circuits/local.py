"""The local replacement model of one prompt: what is linear once attention, norms and active features are held.

1. Run the prompt once. Attention patterns and the scales of norms are held as they are; each MLP's output becomes a
   constant that a gradient can be taken of; what the MLPs read stays in the graph.
2. Each MLP's output at each token is a sum of parts: the active features' decoder vectors, the transcoder's bias, and
   an error, which is what is left. Its linear skip, if it has one, stays in the graph.
3. A target is a linear function of what an MLP reads, or the head, at one token. One backward pass for many targets,
   each in a row of the batch of its own, gives the gradient at every part; its product with the part is the edge.

What reaches a target and comes from no part is of the biases of norms and projections on the way: the products of
their values and their gradients. So the edges of a target, with that of the biases, sum to its value.

Source: Ameisen et al. 2025, "Circuit Tracing", sections on the local replacement model and on attribution graphs.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonde.circuits.replacement import Replacement, ordinary
from sonde.models.attention import query_key_point
from sonde.models.hooks import attached
from sonde.models.model import Model, Tokens

Index = tuple[int | slice, ...]


@dataclass(frozen=True)
class Active:
    """The active features of a layer on a prompt, by position."""

    position: Int[Tensor, " active"]
    feature: Int[Tensor, " active"]
    value: Float[Tensor, " active"]
    pre: Float[Tensor, " active"]
    """pre-activations: W_enc x + b_enc"""


@dataclass(frozen=True)
class Target:
    """A linear function of a tensor of the pass: of what an MLP or the head reads, or of a head's queries or keys."""

    read: str
    """head, mlp.N, query.N or key.N"""
    entries: tuple[tuple[Index, Tensor], ...]
    """where in one row of the tensor, and by what it is multiplied there; the products are summed"""
    constant: float = 0.0
    """what is added to the sum"""

    def value(self, read: Float[Tensor, "..."]) -> float:
        """Its value, from one row of the tensor."""
        return float(sum((read[at].double() * vector.double()).sum() for at, vector in self.entries)) + self.constant


@dataclass(frozen=True)
class Edges:
    """What each part adds to each of some targets."""

    features: Float[Tensor, "target active"]
    """of the active features, layer by layer, in the order of `Local.active`"""
    errors: Float[Tensor, "target layer position"]
    tokens: Float[Tensor, "target position"]
    bias: Float[Tensor, " target"]


class _Stop(BaseException):
    """Ends the forward pass at the head; never leaves this module."""


class _Leaf:
    """Puts a constant, of which gradients can be taken, in place of what passes a site."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.value = torch.empty(0)
        self.skip: Tensor | None = None
        """[batch, position, width] what is linear in what the MLP reads, and stays in the graph"""

    def __call__(self, x: Tensor) -> Tensor:
        self.value = x.detach().clone().requires_grad_()
        return self.value if self.skip is None else self.value + (self.skip - self.skip.detach())


class Local:
    """The local replacement model of a prompt.

    Args:
        tokens: a batch of one, without padding.
        batch_size: targets in a backward pass.
        compared: layers whose queries and keys can be targets.

    Raises ModelLacksError for a model that does not predict the next token.
    """

    def __init__(
        self, model: Model, replacement: Replacement, tokens: Tokens, batch_size: int, compared: Sequence[int] = ()
    ) -> None:
        model.require_head("tracing")
        self.model, self.replacement, self.batch_size = model, replacement, batch_size
        self.n_layers, self.n_positions = len(replacement.layers), tokens.ids.shape[1]
        self.head: Any = model.network.get_output_embeddings()  # type: ignore[operator]
        copies = Tokens(tokens.ids.expand(batch_size, -1), tokens.mask.expand(batch_size, -1))
        self.scale: dict[int, float] = {}
        """layer -> by what its products of queries and keys are multiplied"""
        self._run(copies, compared)
        self._split()

    def _run(self, tokens: Tokens, compared: Sequence[int]) -> None:
        """Run the prompt, keeping what is read, what is a constant, and what adds a bias."""
        layers = range(self.n_layers)
        self._embedding, self._mlps = _Leaf("embedding"), [_Leaf(f"layers.{n}.mlp") for n in layers]
        self._reads: dict[str, Tensor] = {}
        self._biased: list[tuple[Tensor, Tensor]] = []
        """output of a module, and the bias that is in it"""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self.model.frozen())
            for number in layers:
                site = self.model.site(f"layers.{number}.mlp_in")
                stack.enter_context(attached(site, partial(self._keep, number)))
            stack.enter_context(self.model.edited(self._embedding, *self._mlps))
            for number in compared:
                point = query_key_point(self.model.site(f"layers.{number}.pattern").module)
                stack.callback(point.register_forward_hook(partial(self._keep_compared, number)).remove)
            for module in self._with_biases():
                stack.callback(module.register_forward_hook(self._keep_bias).remove)
            stack.callback(self.head.register_forward_pre_hook(self._keep_head).remove)
            with contextlib.suppress(_Stop):
                self.model.forward(tokens)

    def _keep(self, number: int, x: Tensor) -> None:
        self._reads[f"mlp.{number}"] = x
        dictionary = self.replacement.layers[number]
        if dictionary.W_skip is not None:
            self._mlps[number].skip = x @ dictionary.W_skip.detach().to(x).T

    def _keep_compared(self, number: int, _: nn.Module, arguments: tuple, __: Any) -> None:
        [(query, key, scale)] = arguments
        self._reads[f"query.{number}"], self._reads[f"key.{number}"], self.scale[number] = query, key, float(scale)

    def _with_biases(self) -> Iterator[nn.Module]:
        """Modules that add a bias to what they give, but the head and those inside MLPs."""
        inside = {id(part) for leaf in self._mlps for part in self.model.site(leaf.site).module.modules()}
        for module in self.model.network.modules():
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter) and bias.ndim == 1 and id(module) not in inside | {id(self.head)}:
                yield module

    def _keep_bias(self, module: nn.Module, _: tuple, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            self._biased.append((output, module.bias.detach()))  # type: ignore[union-attr, operator]

    def _keep_head(self, _: nn.Module, arguments: tuple) -> None:
        self._reads["head"] = arguments[0]
        raise _Stop

    @torch.no_grad()
    def _split(self) -> None:
        """Split each MLP's output into the parts of active features, bias and error, as columns for products."""
        self.active: list[Active] = []
        self._parts: list[Tensor] = []
        """of each layer [position, part, width]: its features in slots, then the bias, then the error"""
        self._slots: list[Tensor] = []
        """of each layer [active]: the slot of each active feature among those of its position"""
        for number, dictionary in enumerate(self.replacement.layers):
            leaf = self._mlps[number]
            y = leaf.value[0].detach().to(dictionary.W_enc)
            x = self._reads[f"mlp.{number}"][0].detach().to(dictionary.W_enc)
            spoken = ordinary(dictionary, x, y).to(x.device)
            position, feature, value = dictionary.active(x)
            here = spoken[position]
            position, feature, value = position[here], feature[here], value[here]
            pre = (x[position] * dictionary.W_enc[feature]).sum(dim=1) + dictionary.b_enc[feature]
            self.active.append(Active(position, feature, value, pre))
            if leaf.skip is not None:
                y = y - leaf.skip[0].detach().to(y)
            counts = torch.bincount(position, minlength=self.n_positions)
            slot = torch.arange(len(position), device=position.device) - (counts.cumsum(0) - counts)[position]
            parts = y.new_zeros(self.n_positions, int(counts.max()) + 2, y.shape[1])
            parts[position, slot] = value[:, None] * dictionary.W_dec[feature]
            parts[spoken, -2] = dictionary.b_dec.to(y)
            parts[:, -1] = y - parts[:, :-1].sum(dim=1)
            self._parts.append(parts)
            self._slots.append(slot)
        self.embedding = self._embedding.value[0].detach()

    @property
    def n_active(self) -> int:
        return sum(len(active.feature) for active in self.active)

    def feature_target(self, layer: int, index: int) -> Target:
        """The pre-activation of an active feature: `index` counts within its layer."""
        dictionary, active = self.replacement.layers[layer], self.active[layer]
        feature = int(active.feature[index])
        vector, constant = dictionary.W_enc[feature].detach(), float(dictionary.b_enc[feature])
        return Target(f"mlp.{layer}", (((int(active.position[index]),), vector),), constant)

    def logit_target(self, weights: Float[Tensor, " vocabulary"], position: int) -> Target:
        """A weighted sum of logits (before any cap), at a position."""
        constant = 0.0 if self.head.bias is None else float(self.head.bias.detach() @ weights)
        return Target("head", (((position,), weights @ self.head.weight.detach()),), constant)

    def read(self, name: str) -> Float[Tensor, "..."]:
        """A tensor that targets are functions of, of one row."""
        return self._reads[name][0].detach()

    def edges(self, targets: Sequence[Target]) -> Edges:
        """What every part adds to each of at most `batch_size` targets."""
        grads = self._gradients(targets)
        n = len(targets)
        features, errors = [], []
        bias = torch.tensor([target.constant for target in targets], dtype=self._dtype, device=self._device)
        with torch.no_grad():
            for number, active in enumerate(self.active):
                by_layer = grads.get(id(self._mlps[number].value))
                parts = self._parts[number]
                if by_layer is None:
                    features.append(parts.new_zeros(n, len(active.feature)))
                    errors.append(parts.new_zeros(n, self.n_positions))
                    continue
                products = torch.einsum("btd,tsd->bts", by_layer[:n].to(parts), parts)
                features.append(products[:, active.position, self._slots[number]])
                errors.append(products[:, :, -1])
                bias += products[:, :, -2].sum(dim=1)
            for output, value in self._biased:
                by_output = grads.get(id(output))
                if by_output is not None:
                    bias += by_output.reshape(self.batch_size, -1, len(value)).sum(dim=1)[:n].to(bias) @ value.to(bias)
            by_embedding = grads.get(id(self._embedding.value))
            tokens = bias.new_zeros(n, self.n_positions)
            if by_embedding is not None:
                tokens = (by_embedding[:n] * self.embedding).sum(dim=2).to(bias)
        return Edges(torch.cat(features, dim=1), torch.stack(errors, dim=1), tokens, bias)

    def _gradients(self, targets: Sequence[Target]) -> dict[int, Tensor]:
        """id of each part's tensor -> [batch, position, width], row i being the gradient of target i."""
        starts: dict[int, tuple[Tensor, Tensor]] = {}
        for row, target in enumerate(targets):
            read = self._reads[target.read]
            _, start = starts.setdefault(id(read), (read, torch.zeros_like(read)))
            for at, vector in target.entries:
                start[(row, *at)] += vector.to(start)
        reads, seeds = zip(*starts.values(), strict=True)
        sources = [self._embedding.value, *(leaf.value for leaf in self._mlps), *(out for out, _ in self._biased)]
        grads = torch.autograd.grad(reads, sources, seeds, retain_graph=True, allow_unused=True)
        return {id(source): grad for source, grad in zip(sources, grads, strict=True) if grad is not None}

    @property
    def _dtype(self) -> torch.dtype:
        return self._parts[0].dtype

    @property
    def _device(self) -> torch.device:
        return self._parts[0].device

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "position vocabulary"]:
        """The model's logits before any cap."""
        return self.head(self.read("head"))
