"""Which features turn a model towards some texts: by what clamping them does to the texts' probability.

A feature that fires on a thing need not cause it (Arad et al. 2025, arXiv 2505.20063), so features are ranked here by
what they do. Texts about a concept, and others, are given to the model as answers to questions that have nothing to do
with either. An edit's *effect* is the change of the log-probability of the concept's texts, less the size of the
change of the others, in nats a token: the others are there because some features make any answer likelier, and because
an edit that breaks the model makes every text less likely. Candidates are the features that tell the texts from the
others best. They are clamped one by one, and the best are joined into a set as long as that helps, for what several do
together is more than the sum. Features are chosen on half of the texts, and judged on the other half. Beside the effect
stands its estimate to first order, which one backward pass gives for all features at once (Syed et al. 2023, arXiv
2310.10348, for edges); sets of features with large estimates were seen to make texts likelier and not to turn answers.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonde.activations.corpus import Corpus, TextSource, as_document
from sonde.analysis.auc import auc_of_columns
from sonde.analysis.contrast import means
from sonde.analysis.detection import Presences
from sonde.calls import public
from sonde.dictionaries.dictionary import Dictionary
from sonde.display import Block, Drawn, Grid, Line, shorten
from sonde.errors import EditError, FeatureError, TextError
from sonde.features.index import Index
from sonde.features.reader import Reader, as_reader
from sonde.models.model import Model, Tokens
from sonde.models.where import Where, where_of
from sonde.progress import Reporter, default_reporter
from sonde.settings import Count, check
from sonde.steering.edits import Edit
from sonde.steering.presets import check_name, save_preset

QUESTIONS = (
    "What did you do today?",
    "How should I spend ten dollars?",
    "Who are you?",
    "What is your favorite place?",
    "Can you give me some advice?",
    "What are you thinking about?",
    "Tell me something interesting.",
    "How do you feel?",
)
"""that texts are given as answers to"""
FEWEST = 4
"""texts about the concept, and other texts, that are needed"""
DOSES = (0.5, 0.75, 1.0, 1.5, 2.0)
"""at which a chosen set is tried, in multiples of the dose asked for"""
JOINED = 10
"""features that are tried beside a set to enlarge it"""
WORTH = 0.05
"""share of the effect that a further feature of a set must add"""


@dataclass(frozen=True)
class Effect:
    """What clamping some features does to texts about a concept and to others, on texts that nothing was chosen on."""

    features: tuple[int, ...]
    dose: float
    """what each is clamped to, in multiples of its maximum"""
    where: Where
    auc: float | None
    """how well one feature tells the texts from the others, by its mean activation; None of a set"""
    estimate: float | None
    """the change of the texts less that of the others to first order, where features are chosen; None of a set"""
    chosen_on: float
    """the effect on those, in nats a token"""
    on_texts: float
    """the change of the log-probability of the concept's texts, in nats a token"""
    on_others: float
    """the same of the other texts"""

    @property
    def effect(self) -> float:
        """The change of the concept's texts less the size of that of the others, in nats a token."""
        return effect_of(self.on_texts, self.on_others)

    @property
    def edit(self) -> Edit:
        """The edit, as `sonde.chat` takes it."""
        if len(self.features) == 1:
            return Edit("clamp", self.features[0], self.dose, "max", self.where)
        return Edit("clamp", features=self.features, value=self.dose, unit="max", where=self.where)

    def to_json(self) -> dict[str, object]:
        return vars(self) | {"features": list(self.features), "effect": self.effect, "edit": str(self.edit)}


def effect_of(on_texts: float, on_others: float) -> float:
    return on_texts - abs(on_others)


class Effects(list[Effect], Drawn):
    """Effects of single features, strongest first by the texts they were chosen on, and of a set of them."""

    def __init__(self, single: Sequence[Effect], best_set: Effect, names: Callable[[int], str] | None = None) -> None:
        super().__init__(single)
        self.set, self._names = best_set, names or str

    def __repr__(self) -> str:
        return f"Effects({len(self)} features; the set {self.set.edit}: {self.set.effect:+.2f} nats a token)"

    def draw(self) -> list[Block]:
        """A table of the features, and a line for the set."""
        rows = [
            [
                str(each.features[0]),
                "-" if each.auc is None else f"{each.auc:.3f}",
                f"{each.estimate:+.2f}",
                f"{each.effect:+.2f}",
                f"{each.on_texts:+.2f}",
                f"{each.on_others:+.2f}",
                shorten(self._names(each.features[0]), 60),
            ]
            for each in self
        ]
        header = ("feature", "AUC", "estimate", "effect", "on the texts", "on others", "")
        best = self.set
        return [
            Line(f"clamped to {self[0].dose:g}max, nats a token:" if self else "no feature has an effect"),
            Grid(rows, header, right=(0, 1, 2, 3, 4, 5)),
            Line(f"{best.edit}: {best.on_texts:+.2f} on the texts, {best.on_others:+.2f} on others", strong=True),
        ]


@public()
def effects(
    index: Index | Reader | str | Path,
    text: TextSource,
    others: TextSource,
    *,
    dose: float = 1.0,
    where: str = "prompt",
    n: int = 10,
    candidates: int = 20,
    most: int = 5,
    texts: int | str = 16,
    tokens: int = 24,
    field: str = "text",
    preset: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Effects:
    """The features that turn the model towards some texts, by what clamping them does to the texts' probability.

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        text: texts about the concept: a .txt or .jsonl file, a folder of them, or a list of texts.
        others: texts about anything else.
        dose: what a feature is clamped to, in multiples of its maximum.
        where: "prompt" for the tokens of the question, "all" for the answer's too, or "answer".
        n: features that are given back.
        candidates: features that are clamped, those that tell the texts best.
        most: features of the set, at most.
        texts: use so many texts of each kind.
        tokens: of each text, from its beginning.
        field: field of a .jsonl that holds the text.
        preset: keep the set under this name beside the index, as `sonde.preset` does.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.
        reporter: shows progress.

    Raises:
        TextError: fewer than four texts of a kind.
        EditError: a dictionary of several sites, or a preset that cannot be named so.
        FeatureError: no feature of the dictionary ever fired.
        ModelLacksError: a model without a head.
    """
    where = where_of(Edit("clamp", 0, where=where))  # type: ignore[arg-type]
    check(dose > 0, "dose", dose, "above 0")
    for name, value in (("n", n), ("candidates", candidates), ("most", most), ("tokens", tokens)):
        check(value > 0, name, value, "above 0")
    if preset:
        check_name(preset)  # before the model is loaded
    about, other = (_texts(source, field, Count(texts), what) for source, what in ((text, "about"), (others, "other")))
    reader = as_reader(index, device)
    reader.model.require_head("finding effects")
    areas = _areas(reader, about[::2], other[::2]), _areas(reader, about[1::2], other[1::2])
    finder = Finder(reader.model, reader.dictionary, _maxima(reader), dose, where, tokens)
    reporter = reporter or default_reporter()
    with reporter.start("effects", candidates + most * JOINED + n, "clamps") as progress:
        found = finder.find(about, other, areas, n=n, candidates=candidates, most=most, advance=progress.advance)
    if preset:
        save_preset(reader.index.folder, preset, found.set.edit)
    return Effects(found, found.set, lambda number: _name(reader.index, number))


def _name(index: Index, number: int) -> str:
    feature = index.feature(number)
    return feature.label.label if feature.label is not None else ", ".join(feature.usual_tokens())


def _maxima(reader: Reader) -> Float[Tensor, " feature"]:
    return torch.tensor(reader.index.statistics["maximum"]).to(reader.dictionary.W_dec)


def _texts(source: TextSource, field: str, n: int, what: str) -> list[str]:
    """The first n texts of a source that are not empty; raises TextError where they are too few."""
    found = (as_document(document).text.strip() for document in Corpus(source, field))
    texts = list(itertools.islice(filter(None, found), n))
    if len(texts) < FEWEST:
        kind = "about the concept" if what == "about" else "about other things"
        raise TextError(f"there are {len(texts)} texts {kind}, and at least {FEWEST} are needed; give more")
    return texts


def _areas(reader: Reader, about: list[str], others: list[str]) -> Float[Tensor, " feature"]:
    """How well each feature tells texts from others."""
    features, _ = means(reader, [*about, *others])
    has = torch.arange(len(features)) < len(about)
    return torch.from_numpy(auc_of_columns(features, Presences.of(has.numpy()[:, None]))[:, 0])


# ---------------------------------------------------------------- the search


@dataclass(frozen=True)
class Answers:
    """Texts as answers to questions that have nothing to do with them, as one batch."""

    tokens: Tokens
    edited: Bool[Tensor, "answer position"]
    """the tokens that an edit moves"""
    is_answer: Bool[Tensor, "answer position"]
    plain: Float[Tensor, " answer"]
    """mean log-probability of each answer's tokens under the model as it is"""
    x: Float[Tensor, "answer position width"]
    """what passes the dictionary's site"""
    activation: Float[Tensor, "answer position feature"]
    n_about: int
    """the first so many are about the concept"""


class Shift:
    """Adds to what passes a site, once for each copy of a batch."""

    where = "all"

    def __init__(self, site: str, shift: Float[Tensor, "row position width"]) -> None:
        self.site, self.shift = site, shift

    def __call__(self, x: Float[Tensor, "row position width"]) -> Float[Tensor, "row position width"]:
        return x + self.shift.to(x)


class Finder:
    """Finds the features whose clamp makes texts more probable.

    Args:
        maxima: of each feature, the unit of doses.
        rows: answers that are read at the same time.

    Raises EditError for a dictionary of several sites.
    """

    def __init__(
        self,
        model: Model,
        dictionary: Dictionary,
        maxima: Float[Tensor, " feature"],
        dose: float = 1.0,
        where: Where = "prompt",
        n_tokens: int = 32,
        rows: int = 32,
    ) -> None:
        if len(dictionary.writes) > 1 or dictionary.reads != dictionary.writes:
            raise EditError(
                f"the dictionary reads and writes {dictionary.site}; edits act through dictionaries of one site"
            )
        self.model, self.dictionary, self.maxima = model, dictionary, maxima.clamp_min(0)
        self.dose, self.where, self.n_tokens, self.rows = dose, where, n_tokens, rows

    def find(
        self,
        about: Sequence[str],
        others: Sequence[str],
        areas: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]],
        *,
        n: int,
        candidates: int,
        most: int,
        advance: Callable[[float], None] = lambda _: None,
    ) -> Effects:
        """The n single features of the largest effect, and the best set of at most `most`.

        Args:
            areas: how well each feature tells the texts that are chosen on, and those that are judged on.
            candidates: features that are clamped, the best by area.
        """
        choose = self.answers(about[::2], others[::2])
        judge = self.answers(about[1::2], others[1::2])
        estimate = self.estimates(choose)
        likely = self._candidates(areas[0].to(self.maxima), candidates)
        found = self.changes(choose, [(each,) for each in likely], advance)
        effect = {number: effect_of(*change) for number, change in zip(likely, found, strict=True)}
        ranked = sorted(likely, key=lambda number: -effect[number])
        joined, dose, chosen_on = self.join(choose, ranked[: JOINED + 1], effect[ranked[0]], most, advance)
        best = ranked[:n]
        judged = self.changes(judge, [(each,) for each in best], advance)
        single = [
            Effect((each,), self.dose, self.where, float(areas[1][each]), float(estimate[each]), effect[each], *on)
            for each, on in zip(best, judged, strict=True)
        ]
        [on] = self.changes(judge, [joined], dose=dose)
        return Effects(single, Effect(joined, dose, self.where, None, None, chosen_on, *on))

    def _candidates(self, areas: Tensor, n: int) -> list[int]:
        """The features that tell the texts from the others best; those of large estimates do not turn answers."""
        alive = int((self.maxima > 0).sum())
        if not alive:
            raise FeatureError("no feature of the dictionary ever fired, so that none can be clamped to its maximum")
        return torch.where(self.maxima > 0, areas, -torch.inf).topk(min(n, alive)).indices.tolist()

    def join(
        self,
        answers: Answers,
        ranked: list[int],
        effect: float,
        most: int,
        advance: Callable[[float], None] = lambda _: None,
    ) -> tuple[tuple[int, ...], float, float]:
        """A set, enlarged by the feature that adds most to it as long as one adds enough; its best dose, and effect."""
        chosen = (ranked[0],)
        while len(chosen) < most:
            wider = [(*chosen, number) for number in ranked if number not in chosen]
            tried = [effect_of(*change) for change in self.changes(answers, wider, advance)]
            best = max(range(len(tried)), key=tried.__getitem__, default=-1)
            if best < 0 or tried[best] < effect + WORTH * abs(effect):
                break
            chosen, effect = wider[best], tried[best]
        doses = [self.dose * factor for factor in DOSES]
        found = [next(self.changes(answers, [chosen], dose=dose)) for dose in doses]
        effect, dose = max((effect_of(*change), dose) for change, dose in zip(found, doses, strict=True))
        return chosen, dose, effect

    # ------------------------------------------------------------ what is measured

    def answers(self, about: Sequence[str], others: Sequence[str]) -> Answers:
        """Texts as answers, each to one of the questions in turn."""
        rows, starts = [], []
        questions, context = self._questions(), self.model.context_length
        for number, text in [*enumerate(about), *enumerate(others)]:  # the same questions for both
            question = questions[number % len(questions)]
            answer = self.model.tokenize(text, special=False).ids[0, : self.n_tokens].tolist()
            starts.append(len(question))
            rows.append([*question, *answer][:context])
        tokens = self.model.pad(rows)
        place = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
        start = torch.tensor(starts, device=place.device)[:, None]
        is_answer = (place >= start) & tokens.mask.bool()
        edited = {"prompt": place < start, "answer": place >= start, "all": place >= 0}[self.where]
        with torch.no_grad():
            plain = self._log_p(tokens, is_answer)
            x = self.model.read(tokens, self.dictionary.site).flatten(2).to(self.dictionary.W_dec)
            activation = torch.stack([self.dictionary.encode(row) for row in x])
        limit = self.dictionary.info.norm_limits.get(self.dictionary.site)
        if limit is not None:
            edited = edited & (x.norm(dim=-1) <= limit)
        return Answers(tokens, edited & tokens.mask.bool(), is_answer, plain, x, activation, len(about))

    def _questions(self) -> list[list[int]]:
        """The questions as tokens, those that leave half of the model's context to an answer."""
        chats = self.model.why_no_chat() is None
        asked = [
            self.model.chat_tokens([{"role": "user", "content": question}])
            if chats
            else self.model.tokenize(question + "\n")
            for question in QUESTIONS
        ]
        found = [tokens.ids[0].tolist() for tokens in asked]
        return [ids for ids in found if 2 * len(ids) <= self.model.context_length] or [min(found, key=len)[:1]]

    def estimates(self, answers: Answers) -> Float[Tensor, " feature"]:
        """The change of the texts less that of the others for a clamp of each feature, to first order.

        It is the feature's direction along the gradient, times the change of its activation, over all edited tokens.
        """
        dictionary, total = self.dictionary, torch.zeros_like(self.maxima)
        n = len(answers.plain)
        weight = torch.full((n,), -1 / max(1, n - answers.n_about), device=total.device)
        weight[: answers.n_about] = 1 / answers.n_about
        for part in torch.arange(n, device=total.device).split(self.rows):
            tokens = _rows(answers.tokens, part)
            with self.model.gradients(dictionary.site) as values:
                (self._log_p(tokens, answers.is_answer[part]) * weight[part]).sum().backward()
            gradient = values[dictionary.site].grad
            assert gradient is not None
            slope = gradient.flatten(2)[answers.edited[part]].to(dictionary.W_dec) @ dictionary.W_dec.T
            change = self.dose * self.maxima - answers.activation[part][answers.edited[part]]
            total += (slope * change).sum(dim=0)
        return torch.where(self.maxima > 0, total, -torch.inf)

    @torch.no_grad()
    def changes(
        self,
        answers: Answers,
        sets: Sequence[tuple[int, ...]],
        advance: Callable[[float], None] = lambda _: None,
        dose: float | None = None,
    ) -> Iterator[tuple[float, float]]:
        """What clamping each set of features changes: in texts about the concept, and in others, in nats a token."""
        n = len(answers.plain)
        for first in range(0, len(sets), max(1, self.rows // n)):
            some = sets[first : first + max(1, self.rows // n)]
            shift = torch.cat([self._shift(answers, each, self.dose if dose is None else dose) for each in some])
            copies = torch.arange(n, device=shift.device).repeat(len(some))
            with self.model.edited(Shift(self.dictionary.site, shift)):
                log_p = self._log_p(_rows(answers.tokens, copies), answers.is_answer[copies])
            change = log_p.view(len(some), n) - answers.plain
            for row in change:
                advance(1)
                yield float(row[: answers.n_about].mean()), float(row[answers.n_about :].mean())

    def _shift(
        self, answers: Answers, features: tuple[int, ...], dose: float
    ) -> Float[Tensor, "answer position width"]:
        numbers = list(features)
        change = dose * self.maxima[numbers] - answers.activation[..., numbers]
        return (change @ self.dictionary.W_dec[numbers]) * answers.edited[..., None]

    def _log_p(self, tokens: Tokens, is_answer: Bool[Tensor, "answer position"]) -> Float[Tensor, " answer"]:
        """The mean log-probability of each answer's tokens."""
        logits = self.model.logits(tokens)[:, :-1]
        wanted = is_answer[:, 1:]
        surprise = torch.nn.functional.cross_entropy(
            logits[wanted].float(), tokens.ids[:, 1:][wanted].to(logits.device), reduction="none"
        )
        row = wanted.nonzero()[:, 0]
        total = surprise.new_zeros(len(wanted)).index_add(0, row, surprise)
        return -total / wanted.sum(dim=1).clamp_min(1)


def _rows(tokens: Tokens, rows: Tensor) -> Tokens:
    """Some rows of a batch of text."""
    return Tokens(tokens.ids[rows], tokens.mask[rows])
