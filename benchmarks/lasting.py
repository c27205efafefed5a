"""What lasts over a text: topics, languages, genres and sentiment, by single features of several kinds, and controls.

    python benchmarks/lasting.py --data FOLDER --device cuda --layers 10 --steps 2500

Reads a model over labelled texts (spans of at most 128 tokens: AG News, PUD in four languages, tldr pages, Brown,
film reviews, sentences with sentiment) and others, trains a dictionary of each kind on half of the documents, and says
how well the best single feature tells each label's spans from the others': chosen on a quarter of the documents, judged
on the last quarter, by the area under the ROC curve, from the span's mean code, its greatest code, and its mean
pre-activation. Kinds are prototypes in plain torch: what wins is to become a kind of sonde's, and what does not is in
docs/log.md. Appends a line to benchmarks/results/lasting.jsonl.

    topk             8,192 features, k = 32
    slow             a fifth of the features agree with those of another token of the span (contrastive, cosine,
                     negatives from other spans), nested reconstruction: arXiv 2511.05541 with the changes named there
    memory           a fifth of the features read the running mean of the span instead of the token
    token            what the token's identity alone explains is taken off first (a decoder bias for each token id)
    memory+token     both
    mean             trained on running means
    frozen, frozen-encoder, random   controls: decoder kept at random, encoder kept at random, nothing trained
    neurons, components, identity    the site's dimensions, principal components, and the tokens themselves
"""

import argparse
import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rounds import write
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

import sonde

LENGTH = 128
N_FEATURES, K, SLOW = 8192, 32, 0.2
HALF_LIFE = 16
"""tokens, of the running mean"""


# ---------------------------------------------------------------- text


@dataclass(frozen=True)
class Span:
    family: str
    label: str
    part: int
    """0 to train on, 1 to choose on, 2 to judge on"""
    text: str


def rows_of(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def part_of(document: str) -> int:
    return (0, 0, 1, 2)[hashlib.sha256(document.encode()).digest()[0] % 4]


def spans(folder: Path) -> list[Span]:
    """All texts, those of no family without a label."""
    found = []
    for row in rows_of(folder, "ag_news_test"):
        found.append(Span("topic", row["label"], part_of(row["text"]), row["text"]))
    for row in rows_of(folder, "ud_pud_parallel_trees"):
        found.append(Span("language", row["lang"], part_of(row["id"]), row["text"]))
    for row in rows_of(folder, "movie_reviews"):
        whole, part = row["text"], part_of(row["text"])
        found.append(Span("reviews", row["label"], part, whole[:700]))
        if not part:
            found += [Span("", "", 0, whole[at : at + 600]) for at in range(700, min(len(whole), 3000), 600)]
    for row in rows_of(folder, "sentence_polarity"):
        found.append(Span("polarity", row["label"], part_of(row["text"]), row["text"]))
    found += brown(folder)
    for name in ("wikitext2_valid_test", "webtext", "state_union", "tldr_en_de_fr_es"):
        for row in rows_of(folder, name):
            text = row["text"]
            found += [Span("", "", 0, text[at : at + 600]) for at in range(0, len(text), 600)]
    return [span for span in found if len(span.text.split()) > 3 and (span.family or not span.part)]


def brown(folder: Path) -> list[Span]:
    """Spans of six sentences of a document, by genre."""
    found: list[Span] = []
    waiting: list[str] = []
    last: dict[str, Any] = {}
    for row in rows_of(folder, "brown_pos"):
        if last and (row["doc"] != last["doc"] or len(waiting) == 6):
            found.append(Span("genre", last["genre"], part_of(last["doc"]), " ".join(waiting)))
            waiting = []
        waiting.append(" ".join(row["words"]))
        last = row
    return found


@dataclass
class Rows:
    """The rows of all spans, side by side, on the device."""

    x: Tensor
    """[row, width] in float16, of mean square norm `width`"""
    mean: Tensor
    """[row, width] running means of the span up to the row"""
    token: Tensor
    span: Tensor
    """[row] ascending"""
    first: Tensor
    """[span] its first row"""
    length: Tensor
    part: Tensor
    """[span]"""

    def rows(self, part: int) -> Tensor:
        return (self.part[self.span] == part).nonzero()[:, 0]


@torch.no_grad()
def read(model: sonde.Model, site: str, texts: list[Span]) -> Rows:
    ids = [row[:LENGTH] for row in model.require_tokenizer()([span.text for span in texts])["input_ids"]]
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    found: list[Tensor | None] = [None] * len(ids)
    for first in range(0, len(order), 256):
        some = order[first : first + 256]
        x = model.read(model.pad([ids[number] for number in some]), site)
        for number, values in zip(some, x, strict=True):
            found[number] = values[1 : len(ids[number])].half()  # the first token is a sink at many sites
    xs = [x if x is not None else torch.empty(0) for x in found]
    device = xs[0].device
    length = torch.tensor([len(x) for x in xs], device=device)
    x = torch.cat(xs)
    norm = x.float().norm(dim=1)
    x = torch.where((norm > 10 * norm.median())[:, None], x.float().mean(dim=0).half(), x)
    scale = (x.shape[1] / x.float().square().sum(dim=1).mean()).sqrt()
    x = (x.float() * scale).half()
    span = torch.arange(len(xs), device=device).repeat_interleave(length)
    token = torch.tensor([token for row in ids for token in row[1:]], device=device)
    first = length.cumsum(0) - length
    part = torch.tensor([each.part for each in texts], device=device)
    return Rows(x, running_means(x, first, length), token, span, first, length, part)


def running_means(x: Tensor, first: Tensor, length: Tensor) -> Tensor:
    """Exponential means, with a half-life of HALF_LIFE tokens, of each span from its beginning."""
    keep = 0.5 ** (1 / HALF_LIFE)
    found = torch.empty_like(x)
    total = torch.zeros(len(first), x.shape[1], device=x.device)
    weight = torch.zeros(len(first), 1, device=x.device)
    for step in range(int(length.max())):
        alive = (length > step).nonzero()[:, 0]
        place = first[alive] + step
        total[alive] = total[alive] * keep + x[place].float()
        weight[alive] = weight[alive] * keep + 1
        found[place] = (total[alive] / weight[alive]).half()
    return found


# ---------------------------------------------------------------- kinds


class Kind(torch.nn.Module):
    """A prototype of a dictionary: a group of features that read the token, and one that reads the running mean."""

    def __init__(self, rows: Rows, settings: dict[str, Any], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        width, device = rows.x.shape[1], rows.x.device
        self.settings = settings
        W = normalize(torch.randn(N_FEATURES, width, device=device), dim=1)
        self.W_dec = torch.nn.Parameter(W.clone(), requires_grad=not settings.get("frozen"))
        self.W_enc = torch.nn.Parameter(W.clone(), requires_grad=not settings.get("frozen_encoder"))
        self.b_enc = torch.nn.Parameter(torch.zeros(N_FEATURES, device=device))
        train = rows.rows(0)[:: max(1, len(rows.rows(0)) // 500_000)]
        self.mean = rows.mean[train].float().mean(dim=0)
        self.b_dec = torch.nn.Parameter(rows.x[train].float().mean(dim=0))
        self.n_slow = int(SLOW * N_FEATURES)
        self.bias = torch.zeros(int(rows.token.max()) + 1, width, device=device)
        if settings.get("token"):
            self.set_bias(rows)

    def set_bias(self, rows: Rows) -> None:
        """For each token id the mean of its rows less the mean of all, shrunk as if ten more rows had the mean."""
        train = rows.rows(0)
        counts = torch.bincount(rows.token[train], minlength=len(self.bias)).float()
        for some in train.split(1 << 19):
            self.bias.index_add_(0, rows.token[some], rows.x[some].float() - self.b_dec.detach())
        self.bias /= (counts + 10)[:, None]

    def inputs(self, rows: Rows, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is reconstructed, what token features read, and what memory features read."""
        x = rows.x[at].float()
        if self.settings.get("of_means"):
            m = rows.mean[at].float()
            return m, m - self.b_dec, m - self.b_dec
        bias = self.bias[rows.token[at]] if self.settings.get("token") else 0.0
        return x - bias, x - bias - self.b_dec, rows.mean[at].float() - self.mean

    def pre(self, rows: Rows, at: Tensor) -> tuple[Tensor, Tensor]:
        y, x, m = self.inputs(rows, at)
        if self.settings.get("memory"):
            n = self.n_slow
            return y, torch.cat([m @ self.W_enc[:n].T, x @ self.W_enc[n:].T], dim=1) + self.b_enc
        return y, x @ self.W_enc.T + self.b_enc

    def codes(self, pre: Tensor) -> Tensor:
        """TopK of all, or of each group its share."""
        if not self.settings.get("apart"):
            return kept(pre.relu(), K)
        n_slow = self.settings["apart"]
        return torch.cat(
            [kept(pre[:, : self.n_slow].relu(), n_slow), kept(pre[:, self.n_slow :].relu(), K - n_slow)], 1
        )

    def loss(self, rows: Rows, at: Tensor) -> Tensor:
        y, pre = self.pre(rows, at)
        codes = self.codes(pre)
        spread = (y - y.mean(dim=0)).square().sum()
        out = codes @ self.W_dec + self.b_dec
        loss = (y - out).square().sum() / spread
        weight = self.settings.get("slow")
        if weight:
            n = self.n_slow
            alone = codes[:, :n] @ self.W_dec[:n] + self.b_dec
            partner = self.partner(rows, at)
            other = self.codes(self.pre(rows, partner)[1])[:, :n]
            own, other = normalize(codes[:, :n], dim=1), normalize(other, dim=1)
            similar = own @ other.T / self.settings.get("temperature", 0.2)
            same = rows.span[at][:, None] == rows.span[at]
            same.fill_diagonal_(False)
            similar = similar.masked_fill(same, -1e4)
            target = torch.arange(len(at), device=at.device)
            contrast = (cross_entropy(similar, target) + cross_entropy(similar.T, target)) / 2
            loss = 0.8 * loss + 0.2 * (y - alone).square().sum() / spread + weight * contrast / 8
        return loss

    def partner(self, rows: Rows, at: Tensor) -> Tensor:
        """Another row of the same span: any, or the one before."""
        span = rows.span[at]
        if self.settings.get("previous"):
            return torch.maximum(at - 1, rows.first[span])
        return rows.first[span] + (torch.rand(len(at), device=at.device) * rows.length[span]).long()


def kept(x: Tensor, k: int) -> Tensor:
    values, places = x.topk(k, dim=1)
    return torch.zeros_like(x).scatter(1, places, values)


KINDS: dict[str, dict[str, Any]] = {
    "topk": {},
    "slow": {"slow": 1.0},
    "slow, weak": {"slow": 0.1},
    "slow, apart": {"slow": 1.0, "apart": 8},
    "memory": {"memory": True, "apart": 8},
    "memory, joint": {"memory": True},
    "token": {"token": True},
    "memory+token": {"memory": True, "apart": 8, "token": True},
    "memory+slow+token": {"memory": True, "apart": 8, "token": True, "slow": 0.3},
    "mean": {"of_means": True},
    "frozen": {"frozen": True},
    "frozen-encoder": {"frozen_encoder": True},
    "random": {"untrained": True},
}


def train(rows: Rows, settings: dict[str, Any], steps: int, batch: int, seed: int) -> Kind:
    kind = Kind(rows, settings, seed)
    if settings.get("untrained"):
        return kind
    weights = [p for p in kind.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=1e-3, fused=rows.x.is_cuda)
    train_rows = rows.rows(0)
    generator = torch.Generator(rows.x.device).manual_seed(seed)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 100, (steps - step) / (0.2 * steps))
        at = train_rows[torch.randint(len(train_rows), (batch,), device=rows.x.device, generator=generator)]
        loss = kind.loss(rows, at)
        loss.backward()
        if kind.W_dec.grad is not None:  # what would only lengthen rows is taken off
            with torch.no_grad():
                along = (kind.W_dec.grad * kind.W_dec).sum(dim=1, keepdim=True)
                kind.W_dec.grad -= along * kind.W_dec
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            kind.W_dec.copy_(normalize(kind.W_dec, dim=1))
    return kind


# ---------------------------------------------------------------- judging


@torch.no_grad()
def pooled(rows: Rows, wanted: Tensor, encode: Callable[[Tensor], tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Of each wanted span: mean code, greatest code, and mean pre-activation [span, feature]."""
    found: dict[str, list[Tensor]] = {"mean": [], "max": [], "pre": []}
    for some in wanted.split(64):
        length = rows.length[some]
        owner = torch.arange(len(some), device=some.device).repeat_interleave(length)
        at = rows.first[some][owner] + torch.arange(len(owner), device=some.device) - (length.cumsum(0) - length)[owner]
        pre, codes = encode(at)
        n = length[:, None].clamp_min(1)
        zeros = codes.new_zeros(len(some), codes.shape[1])
        found["mean"].append(zeros.index_add(0, owner, codes) / n)
        found["pre"].append(zeros.index_add(0, owner, pre) / n)
        found["max"].append(zeros.index_reduce(0, owner, codes, "amax"))
    return {name: torch.cat(values) for name, values in found.items()}


def areas(values: Tensor, has: Tensor) -> Tensor:
    """The area under the curve of each feature [feature] for spans that have a label; ties count half."""
    found = []
    for some in values.T.split(1024):
        some = some.contiguous()
        ordered = some.sort(dim=1).values
        rank = (torch.searchsorted(ordered, some) + torch.searchsorted(ordered, some, right=True) + 1) / 2
        n = has.sum()
        found.append((rank[:, has].sum(dim=1) - n * (n + 1) / 2) / (n * (~has).sum()))
    return torch.cat(found)


def names_of(choose: list[str], test: list[str]) -> list[str]:
    """The labels that both parts have; of two, one stands for both."""
    names = sorted(set(choose) & set(test))
    return names[:1] if len(names) == 2 else names


def judge(values: dict[str, dict[str, Tensor]], labels: dict[str, list[list[str]]], signed: bool) -> dict[str, float]:
    """Family and pooling -> the best feature's area on the last part, chosen on the one before; mean over labels."""
    found = {}
    for family, (choose, test) in labels.items():
        names = names_of(choose, test)
        for pooling in ("mean", "max", "pre"):
            first, second = values["1" + family][pooling], values["2" + family][pooling]
            total = 0.0
            for name in names:
                has = torch.tensor([label == name for label in choose], device=first.device)
                chosen = areas(first, has)
                best = int((chosen - 0.5).abs().argmax() if signed or len(names) == 1 else chosen.argmax())
                sign = 1 if chosen[best] >= 0.5 else -1
                has = torch.tensor([label == name for label in test], device=first.device)
                total += float(areas(sign * second[:, best : best + 1], has))
            found[f"{family} {pooling}"] = round(total / len(names), 4)
    return found


def probe(values: dict[str, dict[str, Tensor]], labels: dict[str, list[list[str]]]) -> dict[str, dict[str, float]]:
    """A logistic regression on the spans' mean vectors, and the difference of means; fitted and judged likewise."""
    found: dict[str, dict[str, float]] = {"probe": {}, "difference of means": {}}
    for family, (choose, test) in labels.items():
        names = names_of(choose, test)
        x, y = values["1" + family]["pre"], values["2" + family]["pre"]
        mean, spread = x.mean(dim=0), x.std(dim=0) + 1e-6
        x, y = (x - mean) / spread, (y - mean) / spread
        scores: dict[str, list[float]] = {"probe": [], "difference of means": []}
        for name in names:
            has = torch.tensor([label == name for label in choose], device=x.device)
            test_has = torch.tensor([label == name for label in test], device=x.device)
            w = torch.zeros(x.shape[1] + 1, device=x.device, requires_grad=True)
            optimiser = torch.optim.LBFGS([w], max_iter=50)

            def closure(x: Tensor = x, has: Tensor = has, w: Tensor = w, o: Any = optimiser) -> Tensor:
                o.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ w[:-1] + w[-1], has.float())
                loss = loss + 1e-2 * w[:-1].square().sum()
                loss.backward()
                return loss

            optimiser.step(closure)
            direction = x[has].mean(dim=0) - x[~has].mean(dim=0)
            for kind, score in (("probe", y @ w[:-1].detach()), ("difference of means", y @ direction)):
                scores[kind].append(float(areas(score[:, None], test_has)))
        for kind, values_of in scores.items():
            found[kind][family] = round(sum(values_of) / len(values_of), 4)
    return found


@torch.no_grad()
def quality(kind: Kind, rows: Rows) -> dict[str, float]:
    """FVU of what the site has (with what the token's bias explains), L0, dead, and how long codes last."""
    at = rows.rows(2)[:200_000]
    mean = rows.x[at].float().mean(dim=0)
    error = spread = active = 0.0
    fired = torch.zeros(N_FEATURES, dtype=torch.bool, device=at.device)
    for some in at.split(16384):
        y, pre = kind.pre(rows, some)
        codes = kind.codes(pre)
        error += float((y - codes @ kind.W_dec - kind.b_dec).square().sum())
        whole = rows.mean[some].float() if kind.settings.get("of_means") else rows.x[some].float()
        spread += float((whole - mean).square().sum())
        active += float((codes > 0).sum())
        fired |= (codes > 0).any(dim=0)
    return {
        "fvu": round(error / spread, 4),
        "l0": round(active / len(at), 1),
        "dead": round(float((~fired).float().mean()), 4),
    }


@torch.no_grad()
def lasting(
    encode: Callable[[Tensor], tuple[Tensor, Tensor]], rows: Rows, lags: tuple[int, ...] = (1, 4, 16)
) -> dict[str, float]:
    """Correlation of codes with those some tokens on in the same span, weighted by how much each feature fires."""
    starts = (rows.part == 2).nonzero()[:, 0]
    starts = starts[rows.length[starts] > max(lags) + 1][:3000]
    at = rows.first[starts] + 1
    _, now = encode(at)
    found = {}
    for lag in lags:
        _, later = encode(at + lag)
        a, b = now - now.mean(dim=0), later - later.mean(dim=0)
        r = (a * b).mean(dim=0) / (a.std(dim=0) * b.std(dim=0) + 1e-9)
        found[f"lag {lag}"] = round(float((r * now.mean(dim=0)).sum() / now.mean(dim=0).sum()), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled texts, .jsonl.gz")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layers", type=int, nargs="+", default=[10])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--texts", type=int, default=0, help="use so many spans; all by default")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    texts = spans(chosen.data)
    if chosen.texts:
        texts = texts[:: max(1, len(texts) // chosen.texts)]
    model = sonde.load_model(chosen.model, device=chosen.device, dtype="float32")
    results: dict[str, Any] = {}
    for layer in chosen.layers:
        began = time.monotonic()
        rows = read(model, f"layers.{layer}.residual", texts)
        print(
            json.dumps({"layer": layer, "rows": len(rows.x), "read_s": round(time.monotonic() - began, 1)}), flush=True
        )
        families = [family for family in dict.fromkeys(span.family for span in texts) if family]
        wanted, labels = {}, {}
        for family in families:
            for part in (1, 2):
                own = [n for n, s in enumerate(texts) if s.family == family and s.part == part][:2000]
                own = [n for n in own if int(rows.length[n]) > 0]
                wanted[f"{part}{family}"] = torch.tensor(own, device=rows.x.device)
                labels.setdefault(family, []).append([texts[n].label for n in own])

        def values_of(encode: Callable[[Tensor], tuple[Tensor, Tensor]]) -> dict[str, dict[str, Tensor]]:
            return {name: pooled(rows, own, encode) for name, own in wanted.items()}  # noqa: B023

        def note(name: str, facts: dict[str, Any]) -> None:
            results.setdefault(f"{layer} {name}", []).append(facts)  # noqa: B023
            print(json.dumps({"layer": layer, "kind": name} | facts), flush=True)  # noqa: B023

        plain = values_of(lambda at: (rows.x[at].float(), rows.x[at].float()))  # noqa: B023
        note("neurons", judge(plain, labels, signed=True))
        for name, facts in probe(plain, labels).items():
            note(name, facts)
        some = rows.x[rows.rows(0)[::20]].float()
        basis = torch.linalg.svd(some - some.mean(dim=0), full_matrices=False).Vh.T
        note("components", judge(values_of(lambda at: (rows.x[at].float() @ basis,) * 2), labels, signed=True))  # noqa: B023
        frequent = torch.bincount(rows.token).topk(N_FEATURES).indices
        number = torch.full((int(rows.token.max()) + 1,), N_FEATURES, device=rows.x.device)
        number[frequent] = torch.arange(N_FEATURES, device=rows.x.device)

        def identity(at: Tensor) -> tuple[Tensor, Tensor]:
            one = torch.nn.functional.one_hot(number[rows.token[at]], N_FEATURES + 1)[:, :-1].float()  # noqa: B023
            return one, one

        note("identity", judge(values_of(identity), labels, signed=False))
        for name in chosen.kinds:
            for seed in range(chosen.seeds):
                began = time.monotonic()
                kind = train(rows, KINDS[name], chosen.steps, chosen.batch, seed)
                facts: dict[str, Any] = {"train_s": round(time.monotonic() - began, 1)}

                def encode(at: Tensor, kind: Kind = kind) -> tuple[Tensor, Tensor]:
                    _, pre = kind.pre(rows, at)  # noqa: B023
                    return pre, kind.codes(pre)

                facts |= quality(kind, rows) | lasting(encode, rows) | judge(values_of(encode), labels, signed=False)
                note(name, facts)
    write(__file__, {"settings": {k: str(v) for k, v in vars(chosen).items()}, "runs": results})


if __name__ == "__main__":
    main()
