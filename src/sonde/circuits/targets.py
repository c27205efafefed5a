"""Targets: one number of a prompt's last token, of which causes are sought."""

import re
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.errors import SettingsError, TextError
from sonde.models.model import Model
from sonde.models.token_text import TokenTexts
from sonde.remote import local_path
from sonde.steering.vectors import find_vector, load_vector

_OTHER = re.compile(r"feature:(\d+)|vector:(.+)")


class Target(Protocol):
    """A number of the last token, from the value at one site there."""

    @property
    def site(self) -> str: ...

    @property
    def name(self) -> str: ...

    def __call__(self, x: Float[Tensor, "row width"]) -> Float[Tensor, " row"]: ...


@dataclass(frozen=True)
class LogitDifference:
    """The logit of one next token less that of another."""

    token: int
    against: int
    name: str
    site: str = "logits"

    def __call__(self, x: Float[Tensor, "row vocabulary"]) -> Float[Tensor, " row"]:
        return x[:, self.token] - x[:, self.against]


@dataclass(frozen=True)
class LogProbability:
    """The log-probability of a next token, in nats."""

    token: int
    name: str
    site: str = "logits"

    def __call__(self, x: Float[Tensor, "row vocabulary"]) -> Float[Tensor, " row"]:
        return x.log_softmax(dim=1)[:, self.token]


@dataclass(frozen=True, eq=False)
class Direction:
    """How much of a direction there is at a site: a feature's pre-activation, or the product with a probe's vector."""

    site: str
    vector: Float[Tensor, " width"]
    bias: float
    name: str

    def __call__(self, x: Float[Tensor, "row width"]) -> Float[Tensor, " row"]:
        return x.to(self.vector) @ self.vector + self.bias


def make_target(model: Model, target: str, against: str | None, later: Dictionary | None = None) -> Target:
    """The target that is meant by a text.

    Args:
        target: a next token; `feature:N`, the pre-activation of a feature of `later`; or `vector:FILE`, the product of
            a vector of `save_vector` with the value at its site.
        against: a next token whose logit is subtracted; without it a token's log-probability is meant.

    Raises:
        TextError: a token that the vocabulary does not have, or a text of several.
        SettingsError: what does not go together.
        FeatureError, EditError: no such feature, or no such vector file.
    """
    other = _OTHER.fullmatch(target)
    if other is None:
        token = find_token(model, target, "the target")
        if against is None:
            return LogProbability(token, f"log-probability of {target!r}")
        rival = find_token(model, against, "what it is held against")
        if rival == token:
            raise SettingsError(f"the target {target!r} is held against itself; give another token")
        return LogitDifference(token, rival, f"logit of {target!r} less that of {against!r}")
    if against is not None:
        raise SettingsError(f"the target {target} is held against nothing; leave {against!r} out")
    if other[2] is not None:
        file = load_vector(find_vector(str(local_path(other[2])), None, confined=False))
        return Direction(file.site, file.vector.to(model.device), 0.0, target)
    if later is None or len(later.reads) > 1:
        raise SettingsError(
            f"the target {target} is a feature of the last of several dictionaries, which reads one site; give the "
            "dictionaries whose features may be its causes first, and its own last"
        )
    number = later.check_feature(int(other[1]))
    [site] = later.reads
    return Direction(site, later.W_enc[number].detach(), float(later.b_enc[number]), f"{target} at {site}")


def find_token(model: Model, text: str, what: str) -> int:
    """The one token that a text is; raises TextError, with the tokens, where it is none or several."""
    tokenizer = model.require_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        model.require_known(ids)
        return ids[0]
    texts = TokenTexts(tokenizer)
    pieces = [texts.name(token) for token in ids]
    if not ids or tokenizer.unk_token_id in ids:
        raise TextError(f"{what} {text!r} is no token of {model.name}; give another word")
    spaced = tokenizer(" " + text.lstrip(), add_special_tokens=False)["input_ids"]
    fix = f"give {' ' + text.lstrip()!r}, which is one" if len(spaced) == 1 else f"give its first, {pieces[0]!r}"
    raise TextError(f"{what} {text!r} is {len(ids)} tokens of {model.name} ({', '.join(map(repr, pieces))}); {fix}")
