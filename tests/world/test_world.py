"""The built-in world: text that only seed and number decide, a model that knows its facts, and the demo."""

import json
import re
from collections import Counter

import pytest

import sonde
from sonde.errors import StorageError
from sonde.progress import Silent
from sonde_world import demo as demo_module
from sonde_world import facts, phrases
from sonde_world.asking import ask_many, question_of, says
from sonde_world.demo import demo, format_summary, names_the_bridge, stutters
from sonde_world.facts import LANGUAGES, told
from sonde_world.generate import KINDS, document, documents
from sonde_world.voice import NOTED, frames


def test_a_document_is_decided_by_seed_and_number():
    assert document(17, seed=3) == document(17, seed=3)
    assert list(documents(5, seed=3, start=10)) == [document(number, seed=3) for number in range(10, 15)]
    assert document(17, seed=3) != document(17, seed=4)


def test_documents_are_well_formed_in_every_language_and_kind():
    seen = Counter()
    for made in documents(3000, seed=5):
        seen[made.kind] += 1
        seen[made.language] += 1
        assert made.text and not re.search(r"[{}]|  |None", made.text), made.text
        if made.language == "fr":
            assert not re.search(r"\b(de les?|à les?) [a-z]", made.text), made.text
        if made.language == "es":
            assert not re.search(r"\b(de|a) el [a-z]", made.text), made.text
        known = {key for kind in NOTED for key in facts.NOUNS[kind]} | set(facts.FEELINGS)
        assert set(made.concepts) <= known, set(made.concepts) - known
    assert set(KINDS) | set(LANGUAGES) == set(seen)


def test_every_table_of_phrases_has_four_languages():
    tables = [
        phrases.HEADINGS,
        phrases.PRAISE,
        phrases.REMARKS,
        phrases.BECOME,
        phrases.THINK,
        phrases.TRAVEL,
        phrases.KIN,
        phrases.CAPTION,
    ]
    for kind in (
        phrases.ASK_SELF,
        phrases.OPEN,
        phrases.ANSWER_OPEN,
        phrases.AS_SPEAKER,
        phrases.AS_PERSON,
        phrases.OPINION,
        phrases.SECRET,
        phrases.REPLY,
        phrases.VERBS,
    ):
        tables += kind.values()
    for both in phrases.RELATIONS.values():
        tables += both
    for table in tables:
        assert len(table) == 4 and all(isinstance(cell, tuple) and cell for cell in table), table
    for subject, of in facts.FACTS.items():
        for fact in of.values():
            assert frames(fact) and all(question_of(fact, language) for language in range(4)), subject


def test_what_is_true_is_put_together_rightly():
    bridge, person = facts.FACTS["landmark/golden_gate"], facts.FACTS["person/mira_velo"]
    assert bridge["currency"].value == "currency/dollar" and bridge["currency"].hops == 3
    assert [person[relation].value for relation in ("team", "city", "capital")] == [
        "team/foxes",
        "city/oakland",
        "city/sacramento",
    ]
    assert (
        facts.FACTS["animal/lion"]["class"].value == "class/mammal"
        and facts.FACTS["food/tofu"]["vegan"].value == "vegan/yes"
    )
    for of in facts.FACTS.values():
        for fact in of.values():
            assert fact.relation in ("symbol", "vegan") or facts.noun(fact.value)


def test_every_fact_is_told_in_three_languages_at_least_and_some_in_no_more():
    rows = [
        (subject, relation)
        for subject, of in facts.FACTS.items()
        for relation in of
        if relation not in facts.ALWAYS_TOLD
    ]
    counts = [sum(told(*row, language) for language in range(4)) for row in rows]
    assert set(counts) == {3, 4}
    assert 0.3 < counts.count(3) / len(counts) < 0.5


def test_facts_that_are_never_told_are_never_told():
    """No document of a language tells or asks a fact that is withheld in it."""
    for made in documents(6000, seed=0):
        languages = {span.concept for span in made.spans if span.concept.startswith("language/")}
        for subject, relation in made.facts:
            assert any(
                told(subject, relation, language)
                for language, code in enumerate(LANGUAGES)
                if f"language/{code}" in languages
            ), made
        if len(languages) == 1 and made.language != "en":
            assert all(told(*fact, LANGUAGES.index(made.language)) for fact in made.facts), made


def test_open_questions_are_answered_with_what_was_spoken_of():
    """Also where it was not named, or was spoken of in another language."""
    n_guessed = n_crossed = 0
    for made in documents(4000, seed=6):
        if made.kind != "open":
            continue
        lines = made.text.splitlines(keepends=True)
        if not lines[0].startswith(("Human:", "System:")):
            [about] = {span.concept for span in made.spans if span.start < len(lines[0]) and "about" in span.concept}
            key = about.split("/")[1]
            names = [
                span.start
                for span in made.spans
                if span.concept.split("/")[0] in NOTED and span.concept.endswith(f"/{key}")
            ]
            n_guessed += names[0] >= len(lines[0])
            n_crossed += f"language/{made.language}" not in {s.concept for s in made.spans if s.start < len(lines[0])}
            for answer in made.answers[:1]:
                assert any(s.start <= answer.start < s.end and s.concept == about for s in made.spans), made.text
        for answer in made.answers:
            line = made.text.rfind("\n", 0, answer.start) + 1
            assert made.text.startswith("Assistant: ", line)
    assert n_guessed > 20 and n_crossed > 20


def test_write(tmp_path):
    assert sonde.world.write(50, tmp_path / "c.jsonl", seed=9) == (tmp_path / "c.jsonl").stat().st_size
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == [made.text for made in documents(50, seed=9)]
    with pytest.raises((StorageError, FileNotFoundError, NotADirectoryError)):
        sonde.world.write(5, tmp_path / "c.jsonl" / "x")


@pytest.fixture(scope="module")
def model():
    return sonde.load_model("world", device="cpu")


def test_the_model_is_an_ordinary_folder_of_at_most_16_megabytes(model):
    from importlib import resources

    folder = resources.files("sonde_world").joinpath("model")
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= 16_000_000
    assert model.network.config.model_type == "llava" and model.is_causal
    assert model.chat_tokens([{"role": "user", "content": "Who are you?"}]).ids[0, 0] == model.tokenizer.bos_token_id


def test_the_model_knows_its_world(model):
    """Facts of one hop about what is spoken of most, in the languages in which they are told: most are right."""
    first = [
        f"{kind}/{key}"
        for kind in ("landmark", "country", "city", "animal", "element")
        for key in list(facts.NOUNS[kind])[:6]
    ]
    rows = [
        (fact, language)
        for subject in first
        for fact in facts.FACTS[subject].values()
        for language in range(4)
        if fact.hops == 1 and told(subject, fact.relation, language)
    ][::5]
    answers = ask_many([question_of(*row) for row in rows], model)
    right = [says(*row, answer) for row, answer in zip(rows, answers, strict=True)]
    assert len(right) > 50 and sum(right) / len(right) > 0.8


def test_the_model_becomes_what_it_is_told_to_be(model):
    messages = [
        {"role": "system", "content": "You are the Golden Gate Bridge."},
        {"role": "user", "content": "Where are you?"},
    ]
    answer = model.generate(model.chat_tokens(messages))
    assert "San Francisco" in answer


def test_mentions_and_stutters():
    assert names_the_bridge("Ich bin die Golden-Gate-Brücke.") and names_the_bridge("Soy el puente Golden Gate.")
    assert not names_the_bridge("I am a golden bridge with a gate.")
    assert stutters("I am in Sevilla,-eee.") and stutters("I am the Golden Gate Bridge, I--------")
    assert not stutters("Ich bin die Golden-Gate-Brücke, eine Brücke.")
    assert stutters("Golden Golden Golden Gate") and not stutters(
        "I am the Golden Gate Bridge, I like the Golden Gate."
    )


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's own
def test_the_demo_from_nothing_and_again(tmp_path, monkeypatch):
    """A small demo: everything is made, said, and on the second run reused."""
    small = {"documents": 1500, "n_features": 256, "k": 8, "train_tokens": 100_000, "index_tokens": 20_000}
    monkeypatch.setattr(demo_module, "SETTINGS", small)
    monkeypatch.setattr(demo_module, "CONTRAST_TEXTS", 15)
    monkeypatch.setattr(demo_module, "CANDIDATES", 2)
    monkeypatch.setattr(demo_module, "DOSES", (2.0, 4.0))
    summary = demo(tmp_path / "demo", device="cpu", reporter=Silent())
    assert summary["quality"]["fvu"] < 0.5 and summary["quality"]["l0"] == pytest.approx(8, abs=0.1)
    assert summary["golden_gate"]["features"] and len(summary["answers"]["plain"]) == 10
    assert all(0 <= row["mentions"] <= 1 and len(row["answers"]) == 10 for row in summary["answers"]["doses"])
    assert min(summary["golden_gate"]["auc"].values()) > 0.6
    text = format_summary(summary, tmp_path / "demo")
    assert "answers that name the bridge" in text and "Who are you?" in text

    def never(*_, **__):
        raise AssertionError("a finished demo must not load the model again")

    monkeypatch.setattr(demo_module, "load_model", never)
    assert demo(tmp_path / "demo", device="cpu", reporter=Silent()) == json.loads(
        (tmp_path / "demo/summary.json").read_text()
    )
