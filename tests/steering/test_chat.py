"""Talking under edits, doses and presets from Python."""

import shutil

import pytest

import sonde
from sonde.errors import EditError, FeatureError, ModelLacksError, SettingsError
from sonde.steering.edits import Edit
from sonde.steering.presets import load_presets


@pytest.fixture(scope="module")
def reader(walk):
    return sonde.Reader(walk.index, device="cpu")


def test_chat_answers_under_its_edits(reader):
    number = int(reader.index.statistics["maximum"].argmax())
    session = sonde.chat(reader, f"feature:{number}=20max")
    assert session.reader is reader
    answer = session.answer("who?", max_new_tokens=6)
    assert answer.edits == (f"feature:{number}=20max",) and answer != session.answer("who?", (), 6)
    assert answer == sonde.Session(reader).answer("who?", f"feature:{number}=20max", 6)
    sampled = [session.answer("who?", (), 12, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    with pytest.raises(SettingsError, match="top_p is 2"):
        session.answer("who?", top_p=2.0)
    with pytest.raises(FeatureError):
        sonde.chat(reader, "feature:64=1")
    with pytest.raises(ModelLacksError):
        session.question("what is it?", ["picture.png"])
    assert session.question("who?") == {"role": "user", "content": "who?"}


def test_dose_takes_a_session_or_what_makes_one(walk, reader):
    session = sonde.Session(reader)
    found = sonde.dose(session, "feature:3=1max", "who?", at=(1, 4), max_new_tokens=4)
    assert [one.dose for one in found] == [None, 1, 4]
    assert found == sonde.dose(
        walk.index, Edit("clamp", 3, 1.0, "max"), "who?", at=[1, 4], max_new_tokens=4, device="cpu"
    )
    assert "as it is" in found._repr_html_()
    with pytest.raises(EditError, match="nothing is edited"):
        sonde.dose(session, [], "who?")


def test_presets_are_kept_listed_and_removed(walk, tmp_path):
    index = shutil.copytree(walk.index, tmp_path / "index")
    assert sonde.preset(index) == {} and "no presets" in sonde.preset(index)._repr_html_()
    made = sonde.preset(index, "bridge", ["feature:3=2max", "feature:5=0"])
    assert made == load_presets(index) == {"bridge": [Edit("clamp", 3, 2.0, "max"), Edit("ablate", 5, 0.0)]}
    assert "feature:3=2max" in made._repr_html_() and repr(made) == "Presets(bridge)"
    assert sonde.preset(index, "bridge", remove=True) == {}
    with pytest.raises(EditError, match="has no edits"):
        sonde.preset(index, "x")
    with pytest.raises(EditError, match="twice|both|set"):
        sonde.preset(index, "x", ["feature:3=1", "feature:3=2"])
    with pytest.raises(FeatureError):
        sonde.preset(index, "x", "feature:64=1")
    assert load_presets(index) == {}
