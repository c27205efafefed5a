"""Direct logit attribution: what each layer's MLP and each head adds to a target by the direct path.

The stream after the last layer is a sum: the embedding, and what each layer's attention and MLP add. The target, with
the last norm's scale held at the value that it has (`model.frozen`), is linear in it, so it is the sum of what each
term adds, and of a constant (biases of the norm and the head). What a head adds is what its output gives through the
layer's output projection, which is linear, too; the projection's bias is no head's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonde.circuits.passes import last_alone
from sonde.circuits.targets import Target
from sonde.errors import ModelLacksError
from sonde.models.model import Model, Tokens
from sonde.models.prefix import Prefix

TOLERANCE = 1e-3
"""of the sum of the stream's terms, relative to the stream"""


@dataclass(frozen=True, eq=False)
class Direct:
    """What adds how much to a target, on a prompt's last token; all of it adds up to `value`."""

    target: str
    value: float
    embedding: float
    heads: Float[np.ndarray, "layer head"]
    bias: Float[np.ndarray, " layer"]
    """of the attention's output projection"""
    mlp: Float[np.ndarray, " layer"]
    constant: float
    """of the last norm's bias and the head's"""

    @property
    def total(self) -> float:
        """The sum of all terms, which is the target."""
        return float(self.embedding + self.heads.sum() + self.bias.sum() + self.mlp.sum() + self.constant)


def direct(model: Model, tokens: Tokens, target: Target) -> Direct:
    """The terms of a target that is linear in logits, on one prompt.

    Raises ModelLacksError where the stream is no sum, because norms lie in it, or logits are capped.
    """
    n_layers = Prefix(model).n_layers
    of_layers = {
        name: [f"layers.{number}.{name}" for number in range(n_layers)] for name in ("heads", "attention", "mlp")
    }
    last = f"layers.{n_layers - 1}.residual"
    wanted = ["embedding", last, *(site for sites in of_layers.values() for site in sites)]
    with model.frozen(attention=False), model.gradients(wanted) as values, last_alone(model):
        value = target(model.logits(tokens)[:, -1])[0]
    [gradient] = torch.autograd.grad(value, values[last], retain_graph=True)
    gradient = gradient[:, -1]

    def adds(site: str) -> float:
        return float((values[site].detach()[:, -1] * gradient).sum())

    heads = []
    for attention, head in zip(of_layers["attention"], of_layers["heads"], strict=True):
        # Not through later layers: from what the layer's attention adds to the output of its heads.
        along = torch.zeros_like(values[attention])
        along[:, -1] = gradient
        [back] = torch.autograd.grad(values[attention], values[head], along, retain_graph=True)
        heads.append((values[head].detach() * back)[0, -1].sum(dim=-1).double().cpu().numpy())
    attention, mlp = (np.array([adds(site) for site in of_layers[name]]) for name in ("attention", "mlp"))
    parts = ["embedding", *of_layers["attention"], *of_layers["mlp"]]
    _require_sum(model, values[last].detach()[:, -1], [values[site].detach()[:, -1] for site in parts])
    constant = float(value.detach()) - adds(last)
    by_head = np.stack(heads)
    return Direct(
        target.name, float(value.detach()), adds("embedding"), by_head, attention - by_head.sum(axis=1), mlp, constant
    )


def _require_sum(model: Model, stream: Float[Tensor, "1 width"], terms: Sequence[Float[Tensor, "1 width"]]) -> None:
    off = float((torch.stack(list(terms)).sum(dim=0) - stream).norm() / stream.norm())
    capped = getattr(model.network.config.get_text_config(), "final_logit_softcapping", None)  # type: ignore[union-attr, operator]
    if off > TOLERANCE or capped:
        why = "its logits are capped" if capped else "there are norms in it, or its terms are scaled"
        raise ModelLacksError(
            f"the logits of {model.name} are no sum of what its layers add: {why}; measure effects by patching instead"
        )
