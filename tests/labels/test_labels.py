"""Labels: the embedded explainer, judges over real HTTP, scores of good and of random judges, and budgets."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import sonde
from sonde.errors import ArtifactDamagedError, FeatureError, JudgeError, SettingsError, TextError
from sonde.features.labels import Labels
from sonde.labels import judges
from sonde.labels.evidence import Gatherer
from tests.known import known
from tests.labels.planted import WORDS, Coin, Oracle, make_index, server

JUDGED = ("detection", "fuzzing", "simulation", "rubric", "intruder", "sort")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def index(made, monkeypatch):
    """The planted index, without labels, and a judge that is not waited for."""
    monkeypatch.setattr(judges, "FIRST_WAIT_S", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for path in (*made.folder.glob("labels.sqlite*"), *made.folder.glob("judge.sqlite*")):
        path.unlink()
    return sonde.load_index(made.folder)


def test_the_planted_features_fire_on_their_words_alone(index):
    for number, word in enumerate(WORDS):
        feature = index.feature(number)
        assert feature.count == 25 and feature.usual_tokens() == [word]


def test_the_embedded_explainer_names_the_words(index):
    report = sonde.label(index)
    assert report.labelled == len(WORDS) and report.asked == 0
    for number, word in enumerate(WORDS):
        said = index.labels[number]
        assert f"“{word}”" in said.label and said.by == "embedded"
        assert said.evidence["words"][0] == [word, 1.0]
    assert index.search("bridge")[0].feature.number == 0 and index.feature(1).label.label == index.labels[1].label
    assert sonde.label(index).labelled == 0  # they are known


def test_tests_and_explanations_share_no_document(index):
    evidence = Gatherer(index).gather(2)
    explained = {example.document for example in evidence.explained}
    assert len(explained) == 10 and len(evidence.tested) == 10
    assert not explained & {example.document for example in evidence.tested}
    fires_in = set(index.fires(2).document.tolist())
    assert len(evidence.silent) == 10 and not fires_in & {example.document for example in evidence.silent}


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_who_knows_the_truth_scores_near_one_on_every_score(index, protocol):
    with server(Oracle(), protocol) as (url, asked):
        report = sonde.label(index, judge=f"{protocol}:oracle", base_url=url, score=JUDGED)
    assert [index.labels[number].label for number in range(len(WORDS))] == list(WORDS)
    for name in ("detection", "fuzzing", "simulation", "intruder", "sort"):
        assert report.scores[name]["mean"] == pytest.approx(1, abs=0.01), name
    assert report.scores["rubric"]["mean"] == 3 and report.failed == 0
    assert report.scores["detection"]["another feature's label"] == pytest.approx(0.5, abs=0.15)
    assert known(report.scores["simulation"]["another feature's label"]) < 0.2
    [detail] = {score.details["random marks"] for score in index.labels.scores(0) if score.score == "rubric"}
    assert detail < 1
    path, headers, body = asked[0]
    assert path == ("/messages" if protocol == "anthropic" else "/chat/completions") and body["model"] == "oracle"
    assert ("anthropic-version" in {name.lower() for name in headers}) == (protocol == "anthropic")


def test_who_guesses_scores_near_chance_on_every_score(index):
    for number, word in enumerate(WORDS):
        index.labels.add(number, word)
    with server(Coin()) as (url, _):
        report = sonde.label(index, judge="openai:coin", base_url=url, score=JUDGED, keep=True, seed=1)
    assert report.labelled == 0 and report.failed == 0
    for name in ("detection", "fuzzing", "intruder", "sort"):
        assert report.scores[name]["mean"] == pytest.approx(report.scores[name]["chance"], abs=0.2), name
    assert abs(known(report.scores["simulation"]["mean"])) < 0.1
    assert 1 < known(report.scores["rubric"]["mean"]) < 2.2


def test_random_directions_are_explained_and_score_near_chance(index):
    with server(Oracle()) as (url, asked):
        given = {"judge": "openai:oracle", "base_url": url, "score": ("detection", "fuzzing"), "no_controls": True}
        report = sonde.label(index, random_directions=3, **given)
        n_asked = len(asked)
        assert sonde.label(index, random_directions=3, **given).scores == report.scores and len(asked) == n_asked
    for name in ("detection", "fuzzing"):
        assert report.scores[name]["mean"] == 1 and known(report.scores[name]["random directions"]) < 0.8
    assert len(index.labels.all()) == len(WORDS)


def test_the_embedding_score_needs_no_judge(index, tmp_path):
    from transformers import BertConfig, BertModel

    from tests.tiny import make_tokenizer

    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    BertModel(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=300)
    ).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    report = sonde.label(index, score=("embedding",), embedder=str(tmp_path))
    assert 0 <= known(report.scores["embedding"]["mean"]) <= 1
    assert report.scores["embedding"]["features"] == len(WORDS)
    with pytest.raises(SettingsError, match="embedder"):
        sonde.label(index, score=("embedding",))


def test_a_judge_that_misbehaves_is_asked_again(index):
    trouble = [429, 500, "drop", "garbage", 503, "words", "wrapped"]
    with server(Oracle(), before=trouble) as (url, asked):
        report = sonde.label(index, judge="openai:oracle", base_url=url, n=2, at_once=1)
    assert report.labelled == 2 and report.failed == 0 and report.scores["detection"]["mean"] == 1
    assert "could not be read" in [body["messages"][0]["content"] for *_, body in asked][6]


def test_failures_count_as_wrong_and_are_shown(index):
    for number, word in enumerate(WORDS):
        index.labels.add(number, word)
    with server(Oracle(), before=["words", "words"]) as (url, _):
        given = {"keep": True, "score": ("detection",), "no_controls": True, "features": (0,)}
        report = sonde.label(index, judge="openai:oracle", base_url=url, **given)
    assert report.failed == 1 and report.scores["detection"]["failed"] == 1
    assert known(report.scores["detection"]["mean"]) < 1
    with server(lambda _: {"something": "else"}) as (url, _):
        with pytest.raises(JudgeError, match="no answer that can be read; the first said .*else"):
            sonde.label(index, judge="openai:mute", base_url=url)


def test_a_second_run_asks_nothing_and_a_budget_that_ends_is_taken_up(index, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"oracle": {"input": 1.0, "output": 4.0}}))
    with server(Oracle()) as (url, asked):
        given = {"judge": "openai:oracle", "base_url": url, "prices": prices}
        dry = sonde.label(index, dry_run=True, **given)
        assert not asked and dry.asked > 0 and dry.usd > 0 and index.labels.all() == {}
        part = sonde.label(index, budget_tokens=8000, **given)
        assert part.out_of_budget and 0 < part.tokens <= 8000
        n_before = len(asked)
        whole = sonde.label(index, budget_usd=1.0, **given)
        assert not whole.out_of_budget and whole.labelled == len(WORDS) - part.labelled
        assert 0 < part.usd + whole.usd <= dry.usd and len(asked) > n_before
        n_before = len(asked)
        again = sonde.label(index, **given)
        assert len(asked) == n_before and again.tokens == 0 and again.scores == whole.scores
        for path in index.folder.glob("labels.sqlite*"):
            path.unlink()
        afresh = sonde.label(index, **given)
        assert len(asked) == n_before and afresh.tokens == 0 and afresh.answered_before == afresh.asked
        assert afresh.scores == whole.scores


def test_wrong_input_is_one_line_each(index, tmp_path, monkeypatch):
    with pytest.raises(JudgeError, match="openai:MODEL or anthropic:MODEL"):
        sonde.label(index, judge="oracle")
    with pytest.raises(JudgeError, match="OPENAI_API_KEY is not set"):
        sonde.label(index, judge="openai:gpt")
    with pytest.raises(JudgeError, match="needs a judge"):
        sonde.label(index, score=("detection",))
    with pytest.raises(SettingsError, match="prices"):
        sonde.label(index, judge="openai:x", budget_usd=1.0)
    (tmp_path / "p.json").write_text("{}")
    with pytest.raises(SettingsError, match="no price for x"):
        sonde.label(index, judge="openai:x", base_url="http://127.0.0.1:9", prices=tmp_path / "p.json", budget_usd=1.0)
    with pytest.raises(FeatureError, match="no feature 99"):
        sonde.label(index, features=(99,))
    with server(Oracle(), before=[401]) as (url, _):
        with pytest.raises(JudgeError, match="refuses openai:oracle: 401"):
            sonde.label(index, judge="openai:oracle", base_url=url, at_once=1)
    monkeypatch.setattr(judges, "TRIES", 2)
    with pytest.raises(JudgeError, match="no answer in 2 attempts"):
        sonde.label(index, judge="openai:oracle", base_url="http://127.0.0.1:9")


def test_history_notes_search_and_exchange(index, tmp_path):
    labels = index.labels
    assert labels[0] is None and labels.history(0) == [] and labels.search("bridge") == []
    labels.add(0, "a  bridge\nover water")
    labels.add(0, "bridges", by="openai:x", evidence={"words": ["bridge"]})
    labels.add_note(0, "compare\u2028with\x85the river")  # letters at which some split lines
    assert [(said.label, said.by) for said in labels.history(0)] == [
        ("a bridge over water", "person"),
        ("bridges", "openai:x"),
    ]
    assert labels.search("rivers") == [] and [label.feature for label, _ in labels.search("riv")] == [0]
    assert labels.search("water") == []  # the newest label counts
    for nasty in ('"', "a OR b", "NEAR(", "*", "x" * 5000, "'; DROP TABLE words; --"):
        labels.search(nasty)
    with pytest.raises(TextError, match="empty"):
        labels.add(0, "  ")
    assert labels.export(tmp_path / "said.jsonl") == 3
    (tmp_path / "other").mkdir()
    other = Labels(tmp_path / "other")
    assert other.import_(tmp_path / "said.jsonl") == 3 and other.import_(tmp_path / "said.jsonl") == 0
    assert other.history(0) == labels.history(0) and other.notes(0) == labels.notes(0)
    (tmp_path / "bad.jsonl").write_text('{"table": "labels", "feature": 1}\n')
    with pytest.raises(TextError, match="line 1"):
        other.import_(tmp_path / "bad.jsonl")
    (tmp_path / "other" / "labels.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtifactDamagedError, match="labels.sqlite"):
        other.all()


SAY = """
import sys
from pathlib import Path
from sonde.features.labels import Labels

labels = Labels(Path(sys.argv[1]))
for n in range(40):
    labels.add(n, f"{sys.argv[2]} {n}")
"""


def test_two_processes_may_write_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(lambda who: subprocess.run([sys.executable, "-c", SAY, str(tmp_path), who]), ["one", "two"])
        )
    assert [process.returncode for process in done] == [0, 0]
    labels = Labels(tmp_path)
    assert all({said.label for said in labels.history(n)} == {f"one {n}", f"two {n}"} for n in range(40))
