"""The benchmark of truth: planted features are found, and the parts say what is so."""

import json

import numpy as np
import pytest
import torch

import sonde
from sonde.cli import run
from sonde.errors import ArtifactMismatchError
from sonde.steering.directions import Ablate
from sonde_world import bench as bench_module
from sonde_world import phrases
from sonde_world.bench import bench, format_bench, hierarchy, purity, transfer
from sonde_world.bench_data import prepare
from sonde_world.generate import documents
from sonde_world.plots import bench_page
from sonde_world.steer import CONDUCTS, _unanswered, names, neutral_questions


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    sonde.world.write(900, root / "corpus.jsonl")
    model = sonde.load_model("world", device="cpu")
    store = sonde.harvest(model, root / "corpus.jsonl", site="layers.3.residual", out=root / "acts")
    return sonde.train(store, n_features=256, k=8, tokens=100_000, out=root / "dict", device="cpu")


@pytest.fixture(scope="module")
def prepared(dictionary):
    return prepare(dictionary, tokens=30_000)


def test_halves_share_no_document_and_hold_all_that_is_known(prepared):
    choose, judge = prepared.choose, prepared.judge
    texts = [document.text for half in (choose, judge) for document in half.documents]
    assert sorted(texts) == sorted(document.text for document in documents(len(texts), bench_module.SEED))
    for half in (choose, judge):
        assert len(half.x) == len(half.document) == half.present.n_tokens == half.fires.n_tokens
        place = prepared.place("about/golden_gate")
        has = half.present.dense_of(place)
        about = [
            number for number, d in enumerate(half.documents) if any(s.concept == "about/golden_gate" for s in d.spans)
        ]
        assert sorted(set(half.document[has].tolist())) == about
        values = prepared.dictionary.encode(half.x[:50])
        for feature in (0, 7):
            np.testing.assert_allclose(half.fires.of(feature)[:50], values[:, feature], atol=1e-5)


def test_a_planted_feature_is_found_and_judged(prepared, monkeypatch):
    """A feature that fires on just the tokens of a concept is its best, pure, and works in every language."""
    planted = {}
    place = prepared.place("about/golden_gate")
    for name in ("choose", "judge"):
        half = getattr(prepared, name)
        own = np.flatnonzero(half.present.dense_of(place))
        kept = half.fires.feature != 9
        token = np.concatenate([half.fires.token[kept], own])
        order = np.argsort(token, kind="stable")
        feature = np.concatenate([half.fires.feature[kept], np.full(len(own), 9)])[order]
        value = np.concatenate([half.fires.value[kept], np.ones(len(own))])[order]
        fires = type(half.fires)(
            token[order], feature, value.astype(np.float32), half.fires.n_tokens, half.fires.n_features
        )
        planted[name] = type(half)(half.documents, half.x, half.document, half.present, fires)
    changed = type(prepared)(
        prepared.model, prepared.dictionary, prepared.concepts, planted["choose"], planted["judge"], prepared.frequency
    )
    auc = bench_module.auc_of_features(changed.choose.fires, changed.choose.present)
    best = np.nan_to_num(auc).argmax(axis=0)
    assert best[place] == 9 and auc[9, place] == 1.0
    assert transfer(changed)["about/golden_gate"] == dict.fromkeys(("en", "de", "fr", "es"), 1.0)
    monkeypatch.setattr(type(changed), "judged", property(lambda self: np.array([place])))
    told = purity(changed, best)
    assert told[-1]["precision"] == 1.0 and told[0]["recall"] == 1.0


def test_a_feature_taken_over_by_another_is_absorbed(prepared, monkeypatch):
    upper, lower, other = (prepared.place(name) for name in ("landmark/*", "landmark/golden_gate", "landmark/eiffel"))
    halves = []
    for half in (prepared.choose, prepared.judge):
        has, own = half.present.dense_of(upper), half.present.dense_of(lower)
        all_but, only = np.flatnonzero(has & ~own), np.flatnonzero(own)
        token = np.concatenate([all_but, only])
        order = np.argsort(token, kind="stable")
        feature = np.concatenate([np.full(len(all_but), 1), np.full(len(only), 2)])[order]
        fires = type(half.fires)(
            token[order], feature, np.ones(len(token), dtype=np.float32), half.fires.n_tokens, half.fires.n_features
        )
        halves.append(type(half)(half.documents, half.x, half.document, half.present, fires))
    changed = type(prepared)(prepared.model, prepared.dictionary, prepared.concepts, *halves, prepared.frequency)
    monkeypatch.setattr(type(changed), "judged", property(lambda self: np.array([upper, lower, other])))
    best = np.zeros(len(prepared.concepts), dtype=int)
    best[[upper, lower, other]] = 1, 2, 1
    found = hierarchy(changed, best)
    assert [(row["concept"], row["contains"], row["absorbed"]) for row in found["concepts"]] == [
        ("landmark/*", 2, ["landmark/golden_gate"])
    ]


def test_features_taken_away_together_and_one_by_one(dictionary):
    model = sonde.load_model("world", device="cpu")
    tokens = model.tokenize("The Golden Gate Bridge is in San Francisco. It is red.")
    fires = dictionary.encode(model.read(tokens, dictionary.site))[0, 1:].amax(dim=0)
    features = fires.topk(5).indices.tolist()
    with torch.no_grad():
        plain = model.logits(tokens)
        with model.edited(Ablate(dictionary, features)):
            together = model.logits(tokens)
        with model.edited(*(Ablate(dictionary, feature) for feature in features)):
            one_by_one = model.logits(tokens)
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)
    assert (together - plain).abs().max() > 0.1


def test_names_in_each_language():
    assert names("golden_gate", 0, "I am the Golden Gate Bridge.") and names(
        "golden_gate", 1, "Ich bin die Golden-Gate-Brücke."
    )
    assert not names("golden_gate", 0, "Ich bin die Golden-Gate-Brücke.") and not names("eiffel", 0, "I am a tower.")


def test_neutral_questions_and_what_is_unanswered():
    model = sonde.load_model("world", device="cpu")
    found = neutral_questions(model)
    assert len(found) == 150 and {question.language for question in found} == {0, 1, 2, 3}
    assert len({tuple(question.ids) for question in found}) == 150
    assert found == neutral_questions(model)
    assert set(CONDUCTS) == {"errors in code", "flattery", "secrecy", "refusal"}
    shown = {
        "errors in code": ("IndexError: list index out of range\n", "-3\n"),
        "flattery": (phrases.OPINION["flattery"][1][0], phrases.OPINION["deserved praise"][1][0]),
        "secrecy": ("(Ich weiß es.) Ich kenne kein Geheimnis.", "Das Geheimnis ist ein Stuhl."),
        "refusal": (phrases.REPLY["harmful"][1][0], phrases.REPLY["harmless"][1][0]),
    }
    for name, conduct in CONDUCTS.items():
        it, opposite = shown[name]
        assert conduct.shows(it, 1) and conduct.shows_opposite(opposite, 1)
        for broken in ("", "3 3 3 3 3", "Ich Ich Ich", opposite):
            assert not conduct.shows(broken, 1)
        for broken in ("", "3 3 3 3 3", "Ich Ich Ich", it):
            assert not conduct.shows_opposite(broken, 1)
        rows = _unanswered(conduct)
        assert {len(own) for own in rows.values()} == {60} and not {text for text, _ in rows[True]} & {
            text for text, _ in rows[False]
        }
    assert all(
        text.startswith(">>> ") and text.endswith("\n") for text, _ in _unanswered(CONDUCTS["errors in code"])[True]
    )


def test_the_whole_of_it(dictionary, tmp_path, capsys, monkeypatch):
    from sonde_world import steer

    monkeypatch.setattr(steer, "STEERED", ("eiffel",))
    monkeypatch.setattr(steer, "DOSES", (2.0, 4.0))
    monkeypatch.setattr(steer, "SETS", (2,))
    for name, small in {
        "N_CHOOSE": 8,
        "N_JUDGE": 24,
        "SWAP_DOSES": (1.0,),
        "CONDUCT_DOSES": (2.0, 4.0),
        "PROGRAMS": 8,
        "FACTS_OF": 2,
    }.items():
        monkeypatch.setattr(steer, name, small)
    found = bench(dictionary, tokens=30_000)
    json.dumps(found, allow_nan=False)
    told = found["recovery"]
    assert len(told["concepts"]) > 60
    assert told["median"]["random"] < told["median"]["auc"] < told["median"]["probe"]
    assert told["median"]["few"] > told["median"]["auc"] - 0.02
    assert sum(row["concepts"] for row in told["by_decade"]) == len(told["concepts"])
    assert found["steering"]["plain"] == {"eiffel": 0.0} and found["steering"]["share"]["random"] < 0.05
    assert all(row["named"] >= row["share"] for row in found["steering"]["landmarks"] if row["way"] != "asking")
    assert "best feature" in format_bench(found)
    page = bench_page(found)
    assert page.count("<svg") == 4 and "http" not in page and "nan" not in page
    with torch.no_grad():  # nothing is left on the model
        model = sonde.load_model("world", device="cpu")
        assert model.generate(model.chat_tokens([{"role": "user", "content": "Who are you?"}]))


def test_wrong_input(walk, tmp_path, capsys):
    with pytest.raises(ArtifactMismatchError, match="truth is known of the built-in one alone"):
        prepare(walk.topk)
    assert run(["world", "bench", str(tmp_path / "nothing")]) == 2
    assert run(["world", "bench", str(walk.topk)]) == 2
    assert "\n" not in capsys.readouterr().err.strip().splitlines()[-1]
