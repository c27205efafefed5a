"""What attention heads do: scores on random repeats and on natural text, ablations, and direct logit attribution.

1. Random repeats: sequences of random tokens, each repeated, in which only a look back can tell what follows.
     previous    mean attention from a token to the one before
     duplicate   to earlier occurrences of the same token
     prefix      to the tokens after these (prefix matching; with copying this makes an induction head)
     copying     of the sequence's other tokens, the share that the head's output raises less, by the direct path, than
                 the token that it attends to most; 0.5 where it does not copy
   (Olsson et al. 2022, "In-context learning and induction heads", arXiv 2209.11895, whose sequences are 25 tokens, four
   times, too; their copying score is in logits, ours in ranks.)
2. The heads with the largest prefix score are ablated, one after the other: their outputs are set to zero, either with
   everything after changing (full) or with all later patterns held (pattern-preserving). What it costs is the rise of
   the loss on repeated tokens, beside that of a head at random of the same layers.
3. On natural text the same attention is measured where a token has occurred before, and its deciles show on how much of
   the text a head does what it does on repeats.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonde.activations.contexts import Cutter, groups, make_batch
from sonde.activations.corpus import Corpus, TextSource
from sonde.calls import public
from sonde.circuits.direct import direct
from sonde.circuits.head_scores import Ablation, Heads, Natural, Score
from sonde.circuits.patched import Patched
from sonde.circuits.prompts import tokens_of
from sonde.circuits.targets import Direction, make_target
from sonde.errors import SettingsError, TextError
from sonde.models.load import load_model
from sonde.models.model import Model, Tokens
from sonde.models.prefix import Prefix
from sonde.progress import Progress, Reporter, default_reporter
from sonde.settings import Count, check

ABLATED = 5
LOOKS: tuple[Score, ...] = ("previous", "duplicate", "prefix")
BATCH_TOKENS = 2048
DECILES = tuple(range(10, 100, 10))


@public()
def heads(
    model: Model | str | Path,
    text: TextSource | None = None,
    *,
    field: str = "text",
    tokens: int | str = 16_384,
    prompt: str | None = None,
    target: str | None = None,
    against: str | None = None,
    length: int = 25,
    repeats: int = 4,
    sequences: int = 10,
    seed: int = 0,
    n: int = 10,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Heads:
    """Score every attention head: induction and its parts, their cost when ablated, and what each adds to an answer.

    Args:
        model: a model, or what `load_model` takes.
        text: natural text to measure on, too: a file or a folder, or texts.
        field: the field of a .jsonl that holds the text.
        tokens: about how many tokens of the text to read.
        prompt: a prompt whose next token is attributed to layers and heads by the direct path.
        target: that next token.
        against: another, whose logit is subtracted.
        length: tokens of a random sequence.
        repeats: times that it occurs.
        sequences: how many of them.
        seed: decides the random tokens.
        n: heads to show.
        device: auto, cpu, cuda, cuda:N, mps or spread; for a model that is loaded here.
        dtype: auto, float32, bfloat16 or float16; likewise.
        reporter: shows progress.

    Raises:
        SettingsError: sequences that are longer than the context, or a prompt without its target and `against`.
        TextError: text that cannot be read, or without a token that occurs twice.
        ModelLacksError: a model that does not predict next tokens, or attention that computes no patterns.
    """
    for name, value, least in (("length", length, 2), ("repeats", repeats, 2), ("sequences", sequences, 1)):
        check(value >= least, name, value, f"at least {least}")
    if len({prompt is None, target is None, against is None}) > 1:
        raise SettingsError("a prompt goes with a target and with what it is held against; give all three")
    most = Count(tokens)
    loaded = model if isinstance(model, Model) else load_model(model, device=device, dtype=dtype)
    loaded.require_head("scoring heads")
    asked = None
    if prompt is not None and target is not None:
        goal = make_target(loaded, target, against)
        assert not isinstance(goal, Direction)
        asked = direct(loaded, tokens_of(loaded, prompt), goal)
    n_layers = Prefix(loaded).n_layers
    with (reporter or default_reporter()).start("heads", n_layers + 3 * ABLATED, "steps") as progress:
        rows = random_repeats(loaded, length, repeats, sequences, seed)
        scores = _on_repeats(loaded, rows, length, progress)
        costs = _ablations(loaded, rows, length, scores["prefix"], seed, progress)
        plain, first = _losses(loaded, rows, length)
    natural = None if text is None else _on_text(loaded, Corpus(text, field), most, reporter or default_reporter())
    said = f"{sequences} sequences of {repeats} times {length}"
    losses = {"loss_first": first, "loss_repeated": plain}
    return Heads(scores, **losses, ablations=costs, natural=natural, direct=asked, said=said).shown(n=n)


# ---------------------------------------------------------------- random repeats


def random_repeats(model: Model, length: int, repeats: int, sequences: int, seed: int) -> Tokens:
    """Sequences of distinct random tokens, each repeated, after the special token that texts begin with.

    Raises SettingsError where they are longer than the model's context.
    """
    cutter = Cutter(model)
    if len(cutter.before) + length * repeats > model.context_length:
        raise SettingsError(
            f"{repeats} repeats of {length} tokens are longer than the context of {model.name}, which holds "
            f"{model.context_length}; give a smaller length or fewer repeats"
        )
    usual = np.setdiff1d(
        np.arange(len(model.require_tokenizer())), [token for token in cutter.special if token is not None]
    )
    usual = usual[usual < model.vocab_size]
    check(length <= len(usual), "length", length, f"at most {len(usual)}, the tokens of the vocabulary")
    chance = np.random.default_rng(seed)
    rows = [chance.choice(usual, length, replace=False).tolist() * repeats for _ in range(sequences)]
    return model.pad([[*cutter.before, *row] for row in rows])


@dataclass(frozen=True, eq=False)
class Looks:
    """Where a token may look back to, as masks [row, query position, key position]."""

    previous: Bool[Tensor, "row query key"]
    duplicate: Bool[Tensor, "row query key"]
    prefix: Bool[Tensor, "row query key"]

    @classmethod
    def of(cls, ids: Int[Tensor, "row position"], real: Bool[Tensor, "row position"]) -> "Looks":
        """From the tokens of texts; those that are not real are looked at by none, and look at none."""
        both = real[:, :, None] & real[:, None, :]
        same = ((ids[:, :, None] == ids[:, None, :]) & both).tril(-1)
        after = torch.zeros_like(same)
        after[:, :, 1:] = same[:, :, :-1]
        shift = torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device).roll(-1, dims=1).tril(-1)
        return cls(shift & both, same, (after & both).tril())

    def means(
        self, pattern: Float[Tensor, "row head query key"], mask: Bool[Tensor, "row query"]
    ) -> dict[Score, Tensor]:
        """Mean attention [head] of each kind, over the tokens of the mask."""
        n = mask.sum().clamp_min(1)
        found: dict[Score, Tensor] = {}
        for name in LOOKS:
            looked = (pattern * getattr(self, name)[:, None]).sum(dim=3)
            found[name] = (looked * mask[:, None]).sum(dim=(0, 2)) / n
        return found


@torch.no_grad()
def _on_repeats(
    model: Model, rows: Tokens, length: int, progress: Progress
) -> dict[Score, Float[np.ndarray, "layer head"]]:
    first = len(Cutter(model).before)
    real = torch.arange(rows.ids.shape[1], device=rows.ids.device).expand_as(rows.ids) >= first
    later = torch.arange(rows.ids.shape[1], device=rows.ids.device).expand_as(rows.ids) >= first + length
    looks = Looks.of(rows.ids, real)
    columns: dict[Score, list[Tensor]] = {name: [] for name in get_args(Score)}
    drawn = rows.ids[:, first : first + length]
    raised = _raised_by_heads(model, drawn.unique())
    for layer in range(Prefix(model).n_layers):
        read = model.read(rows, [f"layers.{layer}.pattern", f"layers.{layer}.heads"])
        pattern, output = read[f"layers.{layer}.pattern"], read[f"layers.{layer}.heads"]
        for name, means in looks.means(pattern, later).items():
            columns[name].append(means)
        columns["copying"].append(_copying(pattern, output, raised[layer], drawn, rows.ids, first, later))
        progress.advance(1)
    return {name: torch.stack(found).double().cpu().numpy() for name, found in columns.items()}


@torch.enable_grad()
def _raised_by_heads(model: Model, tokens: Int[Tensor, " token"]) -> list[Float[Tensor, "vocabulary head width"]]:
    """Of each layer, the direction of each head's output that raises each of some tokens by the direct path.

    Up to a scale that is the same for all tokens. Rows of other tokens are zero.
    """
    n_layers = Prefix(model).n_layers
    names = [f"layers.{n}.{part}" for n in range(n_layers) for part in ("heads", "attention")]
    last = f"layers.{n_layers - 1}.residual"
    with model.frozen(attention=False), model.gradients([*names, last]) as values:
        logits = model.logits(model.pad([[int(tokens[0])]]))[0, -1, tokens]
    one = torch.eye(len(tokens), device=logits.device, dtype=logits.dtype)
    [up] = torch.autograd.grad(logits, values[last], one, retain_graph=True, is_grads_batched=True)
    found = []
    for layer in range(n_layers):
        head, attention = values[f"layers.{layer}.heads"], values[f"layers.{layer}.attention"]
        [back] = torch.autograd.grad(attention, head, up, retain_graph=True, is_grads_batched=True)
        whole = torch.zeros(model.vocab_size, *back.shape[3:], dtype=back.dtype, device=back.device)
        whole[tokens] = back[:, 0, 0]
        found.append(whole)
    return found


def _copying(
    pattern: Float[Tensor, "row head query key"],
    output: Float[Tensor, "row position head width"],
    raised: Float[Tensor, "vocabulary head width"],
    drawn: Int[Tensor, "row token"],
    ids: Int[Tensor, "row position"],
    first: int,
    later: Bool[Tensor, "row position"],
) -> Float[Tensor, " head"]:
    """Of a sequence's other tokens, the share that each head raises less than the one that it attends to most."""
    boost = torch.einsum("rphw,rthw->rhpt", output, raised[drawn])
    looked = first + pattern[..., first:].argmax(dim=3)  # at a token of the sequence, not at the one before it
    seen = ids[:, None].expand(-1, pattern.shape[1], -1).gather(2, looked)
    own = seen[..., None] == drawn[:, None, None]
    of_seen = (boost * own).sum(dim=3, keepdim=True)
    below = ((boost < of_seen) & ~own).sum(dim=3) / (drawn.shape[1] - 1)
    return (below * later[:, None]).sum(dim=(0, 2)) / later.sum()


# ---------------------------------------------------------------- ablation


@torch.no_grad()
def _ablations(
    model: Model, rows: Tokens, length: int, prefix: Float[np.ndarray, "layer head"], seed: int, progress: Progress
) -> tuple[Ablation, ...]:
    """What it costs on repeated tokens to ablate each of the best heads, and others at random."""
    n_layers, n_heads = prefix.shape
    patterns = [f"layers.{layer}.pattern" for layer in range(n_layers)]
    kept = model.read(rows, patterns)
    plain, _ = _losses(model, rows, length)
    best = [divmod(int(place), n_heads) for place in np.argsort(-prefix.ravel(), kind="stable")[:ABLATED]]
    chance = np.random.default_rng(seed)
    found = []
    for layer, head in best:
        free = [other for other in range(n_heads) if (layer, other) not in best] or [head]
        other = int(chance.choice(free))
        held = [Patched(site, kept[site], torch.ones(1, 1, 1, 1) > 0) for site in patterns[layer + 1 :]]
        full = _losses(model, rows, length, _without(layer, head, n_heads))[0]
        progress.advance(1)
        preserving = _losses(model, rows, length, _without(layer, head, n_heads), *held)[0]
        progress.advance(1)
        random = _losses(model, rows, length, _without(layer, other, n_heads))[0]
        progress.advance(1)
        found.append(Ablation(layer, head, full - plain, preserving - plain, other, random - plain))
    return tuple(found)


def _without(layer: int, head: int, n_heads: int) -> Patched:
    mask = (torch.arange(n_heads) == head)[None, None, :, None]
    return Patched(f"layers.{layer}.heads", torch.zeros(1, 1, 1, 1), mask)


def _losses(model: Model, rows: Tokens, length: int, *edits: Patched) -> tuple[float, float]:
    """The mean loss, in nats, on repeated tokens, and on those that occur for the first time."""
    first = len(Cutter(model).before)
    with model.edited(*edits):
        logits = model.logits(rows)[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows.ids[:, 1:], reduction="none")
    # The first token of a repeat can be told from what follows the sequence's end only from the second repeat on.
    split = first + length - 1
    return float(loss[:, split + 1 :].mean()), float(loss[:, max(0, first - 1) : split].mean())


# ---------------------------------------------------------------- natural text


@torch.no_grad()
def _on_text(model: Model, corpus: Corpus, most: int, reporter: Reporter) -> Natural:
    """Mean attention of each kind, and the deciles of prefix matching over tokens that have occurred before."""
    cutter = Cutter(model)
    layers = [f"layers.{layer}.pattern" for layer in range(Prefix(model).n_layers)]
    sums: dict[Score, Any] = dict.fromkeys(LOOKS, 0.0)
    parts: list[Tensor] = []
    chance, n_read = 0.0, 0
    with reporter.start("heads on text", most, "tokens") as progress:
        for contexts in groups(cutter.tokenize(corpus), cutter, most, BATCH_TOKENS):
            batch = make_batch(model, contexts)
            looks = Looks.of(batch.tokens.ids, batch.text_mask)
            can = looks.prefix.any(dim=2)
            if can.any():
                read = model.read(batch.tokens, layers)
                means = [looks.means(read[site], can) for site in layers]
                sums = {name: sums[name] + torch.stack([m[name] for m in means]) * can.sum() for name in sums}
                looked = [(read[site] * looks.prefix[:, None]).sum(dim=3).transpose(1, 2)[can] for site in layers]
                parts.append(torch.stack(looked, dim=1).cpu())
                seen = batch.text_mask[:, None, :].expand_as(looks.prefix).tril().sum(dim=2)
                chance += float((looks.prefix.sum(dim=2) / seen.clamp_min(1))[can].sum())
            n_read += int(batch.text_mask.sum())
            progress.advance(int(batch.text_mask.sum()))
    n = sum(len(part) for part in parts)
    if not n:
        raise TextError("no token of the text occurs twice in a document; give a longer text")
    found = torch.cat(parts).double().numpy()
    means = {name: (total / n).double().cpu().numpy() for name, total in sums.items()}
    return Natural(**means, deciles=np.percentile(found, DECILES, axis=0), chance=chance / n, tokens=n_read, counted=n)
