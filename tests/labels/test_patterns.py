"""Labels without a judge: the pattern that holds for the examples, in other documents too, and seldom elsewhere."""

import random
import re
from types import SimpleNamespace
from typing import Any

import pytest

from sonde.features.examples import Example
from sonde.labels.embedded import explain
from sonde.labels.evidence import Evidence

FILLER = "the old man sees a small house and goes to market with his friend in an early hour".split()
VERBS = "walking singing reading cooking painting building watching drawing cleaning planting waiting jumping".split()
NOUNS = "table garden letter window bottle basket pocket blanket candle hammer pencil ribbon saddle carpet".split()
FRENCH = (
    "le la les des une est dans pour que qui pas sur avec il elle vous nous du et au ce "
    "chat maison balle enfant lit jardin soleil pomme route main porte arbre mer pain vin"
).split()


def example(words: list[str], peak: int, number: int, value: float = 1.0) -> Example:
    """A text of these words, on one of which a feature fires."""
    pieces = tuple((word if not place else f" {word}", value * (place == peak)) for place, word in enumerate(words))
    return Example(number, peak + 5, value, pieces, peak)


def filler(chosen: random.Random, n: int = 20) -> list[str]:
    return chosen.choices(FILLER, k=n)


def evidence(make: Any, usual: str = "") -> Evidence:
    """Evidence for a feature that fires on the word at place 8 of the texts that are made."""
    chosen = random.Random(0)
    examples = [example(make(chosen, filler(chosen)), 8, number, 1 + chosen.random()) for number in range(20)]
    elsewhere = [example(filler(chosen), 0, 100 + number) for number in range(60)]
    elsewhere += [example(["I", "saw", chosen.choice(NOUNS), *filler(chosen)], 0, 200 + n) for n in range(40)]
    elsewhere += [example([usual, *filler(chosen)], 0, 300 + number) for number in range(20 * bool(usual))]
    shares = {word: 0.3 for word in FILLER} | {usual: 0.15}
    feature: Any = SimpleNamespace(top_logits=[(" x", 1.0)])
    return Evidence(feature, tuple(examples[:10]), tuple(examples[10:]), (), (), shares, tuple(elsewhere))


def put(word: Any, before: str = "", around: str = "") -> Any:
    def make(chosen: random.Random, words: list[str]) -> list[str]:
        words[8] = word(chosen) if callable(word) else word
        if before:
            words[7] = before
        if around:
            words[chosen.choice([2, 4, 12])] = around
        return words

    return make


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (put("bridge"), "“bridge”"),
        (put(lambda chosen: chosen.choice(["has", "have"])), "“has”, “have”|“have”, “has”"),
        (put(lambda chosen: chosen.choice(VERBS)), "words that end in “ing”"),
        (put(lambda chosen: "trans" + chosen.choice(VERBS)), "words that begin with “trans”"),
        (put(lambda chosen: chosen.choice(NOUNS), before="you"), "after “you”"),
        (put(lambda chosen: str(chosen.randrange(1000))), "numbers"),
        (put(lambda chosen: chosen.choice(NOUNS).upper()), "words in capitals"),
        (put(lambda chosen: chosen.choice("!?")), "“!”, “[?]”|“[?]”, “!”"),
        (put(lambda chosen: chosen.choice(NOUNS), around="river"), "words near “river”"),
        (lambda chosen, words: [chosen.choice(FRENCH) for _ in words], "words in French text"),
        (lambda chosen, words: [*words[:8], "привет", *words[9:]], "“привет”"),
    ],
)
def test_what_the_examples_share_is_the_label(make, label):
    text, why = explain(evidence(make))
    assert re.fullmatch(label, text), (text, why)
    assert why["holds"] >= 0.8 and why["holds elsewhere"] <= 0.05


def test_where_nothing_is_shared_nothing_is_said():
    text, why = explain(evidence(put(lambda chosen: chosen.choice(FILLER))))
    assert text == "" and why["examples"] == 10
    unique = iter(f"word{chr(97 + n)}{'xyz'[n % 3]}{n}q" for n in range(20))
    assert explain(evidence(put(lambda chosen: next(unique)[::-1])))[0] == ""


def test_a_common_word_alone_does_not_describe_what_fires_on_few_of_its_places():
    text, why = explain(evidence(put("the", around="river"), "river"))
    assert text == "“the” near “river”" and why["holds"] == 1.0 and why["holds elsewhere"] < 0.03
