"""Path patching: what a sender's change does through a receiver's input alone (Wang et al. 2022, arXiv 2211.00593).

1. The run is repeated with the sender's value from the other run in place and every other head held at its own value,
   and with `held` MLPs too, so that the change reaches the receiver along the stream (and through MLPs that are not
   held) and no other way. What the receiver then reads is kept.
2. The run is repeated with nothing changed but what the receiver reads.

Of the receiver "logits" the first pass is the answer: the sender's direct effect.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.circuits.passes import Run, copies, last_alone
from sonde.circuits.patched import Patched
from sonde.errors import SettingsError, SiteError
from sonde.models.model import Model

_RECEIVER = re.compile(r"(layers\.\d+\.(?:query|key|value|mlp_in))(?:/(\d+))?")


@dataclass(frozen=True)
class Receiver:
    """What is reached: a site, or one of its heads."""

    site: str
    head: int | None = None


def read_receivers(model: Model, texts: Sequence[str]) -> list[Receiver]:
    """Receivers as people write them: layers.9.query/6, layers.9.mlp_in, or logits.

    Raises SettingsError for what is none, and SiteError for a layer or a head that the model does not have.
    """
    found = []
    for text in texts:
        match = _RECEIVER.fullmatch(text)
        if text == "logits" and len(texts) == 1:
            found.append(Receiver("logits"))
            continue
        if match is None:
            raise SettingsError(
                f"{text!r} receives nothing that can be patched; write layers.N.query/HEAD (or key, value), "
                "layers.N.mlp_in, or logits alone"
            )
        model.site(match[1])
        head = None if match[2] is None else int(match[2])
        if head is not None:
            shape = model.read(model.pad([[0, 0]]), match[1]).shape
            if len(shape) < 4 or head >= shape[2]:
                raise SiteError(f"{match[1]} has no head {head}: it has {shape[2] if len(shape) == 4 else 'no'} heads")
        found.append(Receiver(match[1], head))
    return found


def held_sites(model: Model, held: bool) -> list[str]:
    """All sites whose values are held: every layer's heads, and its MLP where `held` says so."""
    names = (".heads", ".mlp") if held else (".heads",)
    return [name for name in model.sites() if name.endswith(names)]


def along(
    run: Run,
    sender: str,
    value: Float[Tensor, "1 position ..."],
    mask: Bool[Tensor, "row ..."],
    receivers: Sequence[Receiver],
    held: bool,
) -> Float[Tensor, "row vocabulary"]:
    """The last token's logits where each row's senders reach the receivers alone.

    Args:
        run: the run that is patched, with the values of `held_sites` and of the sender.
        sender: the site whose value is the other run's where the mask is true.
    """
    own = run.values
    first = run.prefix.first_layer(sender)
    values: dict[str, Tensor] = {
        site: own[site] for site in held_sites(run.model, held) if run.prefix.first_layer(site) >= first
    }
    values[sender] = torch.where(mask, value, own[sender])
    whole = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=value.device)
    edits = [Patched(site, x, whole[..., 0] if x.ndim == 3 else whole) for site, x in values.items()]
    if receivers[0].site == "logits":
        return run.changed(edits, len(mask), layer=first)
    sites = dict.fromkeys(receiver.site for receiver in receivers)
    wanted = [site for site in sites if run.prefix.first_layer(site) >= first]  # others come before the sender
    if not wanted:
        return run.changed([], len(mask), layer=run.prefix.n_layers)
    with run.prefix.restarted(first, len(mask)), run.model.edited(*edits), last_alone(run.model):
        reached: Mapping[str, Tensor] = run.model.read(copies(run.tokens, len(mask)), wanted)
    return run.changed([_received(site, reached[site], receivers) for site in wanted], len(mask))


def _received(site: str, value: Tensor, receivers: Sequence[Receiver]) -> Patched:
    """What the receivers at a site read, put there in each row."""
    heads = {receiver.head for receiver in receivers if receiver.site == site}
    if value.ndim == 3 or None in heads:
        return Patched(site, value, torch.ones([1] * value.ndim, dtype=torch.bool, device=value.device))
    mask = torch.zeros(1, 1, value.shape[2], 1, dtype=torch.bool, device=value.device)
    mask[:, :, sorted(head for head in heads if head is not None)] = True
    return Patched(site, value, mask)
