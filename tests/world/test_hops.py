"""Two-hop facts: prompts whose middle is known, and what is counted of their graphs."""

import numpy as np
import pytest

import sonde
from sonde.circuits.graph import Scores
from sonde.cli import run
from sonde_world import facts
from sonde_world.hops import Found, Prompt, Traced, _parts, hold, make_prompts, middle_of, pairs

FACT = facts.FACTS["landmark/golden_gate"]["country"]


@pytest.fixture(scope="module")
def model():
    return sonde.load_model("world", device="cpu")


def test_the_middle_of_a_fact():
    assert FACT.hops == 2 and middle_of(FACT) == "city/san_francisco"
    for of in facts.FACTS.values():
        for fact in of.values():
            if fact.hops == 2:
                [second] = [one for one in facts.FACTS[middle_of(fact)].values() if one.value == fact.value]
                assert second.hops == 1


def test_prompts_end_where_the_model_says_the_answer(model):
    prompts = make_prompts(model, 6, {"city/san_francisco", "city/paris", "country/france"})
    assert len(prompts) == 6 and len({prompt.fact.relation for prompt in prompts}) > 1
    for prompt in prompts:
        text = model.tokenizer.decode(prompt.ids)
        assert facts.noun(prompt.middle).names[prompt.language] not in text
        assert int(model.logits(model.pad([list(prompt.ids)]))[0, -1].argmax()) == prompt.answer
        value = facts.value_name(prompt.fact, prompt.language)
        assert value.startswith(model.tokenizer.decode([prompt.answer]).strip())


def traced(middle: str, features: list[tuple[int, int, int]], answer: int = 1) -> Traced:
    """A prompt with a graph whose features all stay, the first with most influence."""
    count, scores = len(features), Scores(0.5, 0.5, 0.5)
    prompt = Prompt(FACT, middle, 0, (1, 2, 3, 4), answer)
    return Traced(
        prompt, features, [2.0] * count, [float(count - n) for n in range(count)], [*range(count)], (scores,) * 2
    )


SETS = {"city/paris": {(1, 7), (2, 8)}, "city/rome": {(1, 9)}, "country/france": {(0, 7)}}


def test_what_is_counted():
    right = traced("city/paris", [(1, 2, 7), (0, 0, 3)])
    both = traced("city/paris", [(1, 2, 9), (2, 3, 8), (0, 1, 7)])
    none = traced("city/paris", [(0, 2, 7), (0, 0, 3)])
    found = hold([right, both, none], [SETS])
    assert (found["recall"], found["precision"], found["first"]) == (2 / 3, 2 / 3, 1 / 3)
    assert found["interval"][0] < 2 / 3 < found["interval"][1]
    assert hold([none], [SETS, SETS])["recall"] == 0
    assert both.nodes_of(SETS["city/paris"]) == [1]
    assert _parts(both, [1], -1, shift=-1) == [(2, 2, 8, -2.0)]


def test_random_features_fire_as_often_and_are_others():
    counts = [np.arange(200), np.arange(200)[::-1].copy(), np.zeros(200, dtype=int)]
    found = Found(SETS, counts)
    drawn = found.random(1)
    assert drawn == found.random(1) != found.random(2)
    for concept, own in SETS.items():
        assert sorted(layer for layer, _ in drawn[concept]) == sorted(layer for layer, _ in own)
        assert not drawn[concept] & own
    [(layer, feature)] = drawn["city/rome"]
    assert abs(int(counts[layer][feature]) - int(counts[1][9])) <= 50


def test_pairs_differ_in_middle_and_answer():
    paris, rome = traced("city/paris", [(1, 2, 7)], 1), traced("city/rome", [(1, 2, 9)], 2)
    same = traced("city/rome", [(1, 2, 9)], 1)
    assert list(pairs([paris, rome], SETS)) == [(paris, rome), (rome, paris)]
    assert not list(pairs([paris, same], SETS)), "the same answer"
    assert not list(pairs([paris, traced("city/rome", [(1, 2, 5)], 2)], SETS)), "no feature of the middle"


def test_a_replacement_of_another_model_is_one_line(tmp_path, capsys):
    assert run(["world", "hops", str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err
