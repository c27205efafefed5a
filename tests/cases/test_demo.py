"""The demo of a real model, on a tiny one in its place; and, where it may take minutes, on the model itself."""

import gzip
import importlib.util
import json
import random
from pathlib import Path

import pytest

import sonde
from sonde.cases import golden_gate
from sonde.cases.demo import demo, format_summary
from sonde.cases.own_text import openers, questions, topics, write_own_text
from sonde.errors import ModelNotFoundError, OutputOccupiedError, SettingsError
from sonde.models import known
from sonde.progress import Silent
from sonde.steering.edits import Edit
from sonde.steering.presets import load_presets
from tests.tiny import texts

ROOT = Path(__file__).parents[2]
EDITS = [Edit("clamp", features=(3, 7), value=2, unit="max", where="prompt")]


class Said(Silent):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def tiny(walk, tmp_path, monkeypatch) -> Path:
    """The tiny model, its dictionary and a few texts in the place of the real ones; gives the folder of the demo."""
    monkeypatch.setattr(golden_gate, "find_known", lambda name, reporter: None)
    monkeypatch.setattr(golden_gate, "load_model", lambda name, device: sonde.load_model(walk.model, device="cpu"))
    monkeypatch.setattr(golden_gate, "load_dictionary", lambda name, device: sonde.load_dictionary(walk.topk, "cpu"))
    monkeypatch.setattr(golden_gate, "find_spec", lambda name: None)  # no map, which has tests of its own
    monkeypatch.setattr(golden_gate, "_edits_in_package", lambda: EDITS)
    packed = tmp_path / "text.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts(60)).encode()))
    monkeypatch.setattr(golden_gate, "TEXT", packed)  # an absolute path, which `joinpath` takes as it is
    return tmp_path / "demo"


def test_it_is_made_said_and_on_the_second_run_reused(tiny, monkeypatch):
    summary = demo(tiny, device="cpu")
    answers = summary["answers"]
    assert summary["edits"] == [str(edit) for edit in EDITS] and summary["folder"] == str(tiny)
    assert 0 < summary["n_labelled"] <= summary["n_firing"] and summary["tokens"] > 300
    n = len(golden_gate.QUESTIONS)
    for way in ("plain", "steered", "random"):
        assert answers[f"{way}_bridges"] == 0
        assert len(answers[way]) == n and answers[f"{way}_names"] == 0  # the tiny model says no word of English
    assert answers["plain"] != answers["steered"]
    index = sonde.load_index(tiny / "index")
    assert load_presets(index.folder) == {"golden-gate": EDITS}
    session = sonde.Session(index, device="cpu")
    question = golden_gate.QUESTIONS[1]
    assert session.answer(question, EDITS, golden_gate.N_TOKENS) == answers["steered"][1]
    said = format_summary(summary)
    assert "of 10 answers 0 name the Golden Gate and 0 speak of a bridge; plain 0 and 0" in said
    assert golden_gate.QUESTIONS[0] in said
    assert f"sonde chat {tiny / 'index'} --edit" in said

    monkeypatch.setattr(golden_gate, "load_model", None)  # a finished demo does not load the model again
    assert demo(tiny) == summary


def test_a_run_that_was_stopped_goes_on(tiny, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(golden_gate, "_answers", stop)
        demo(tiny, device="cpu")
    before = sonde.load_index(tiny / "index").labels.history(3)
    summary = demo(tiny, device="cpu")
    assert summary["n_labelled"] and sonde.load_index(tiny / "index").labels.history(3) == before


def test_the_random_control_edits_as_much_and_other_features(walk):
    index = sonde.load_index(walk.index)
    edits = [*EDITS, Edit("clamp", 5, 1.0, "max")]
    drawn = golden_gate._drawn(index, edits)
    assert [len(edit.numbers) for edit in drawn] == [2, 1]
    assert [(edit.op, edit.value, edit.unit, edit.where) for edit in drawn] == [
        (edit.op, edit.value, edit.unit, edit.where) for edit in edits
    ]
    numbers = [number for edit in drawn for number in edit.numbers]
    assert len(set(numbers)) == 3 and not {3, 5, 7} & set(numbers)
    assert all(index.statistics["count"][number] > 0 for number in numbers)


def test_where_the_model_cannot_be_had_the_world_takes_its_place(tmp_path, monkeypatch):
    def missing(name, reporter):
        raise ModelNotFoundError("smollm2 comes in a package, which pip could not fetch (no network); install it")

    monkeypatch.setattr(golden_gate, "find_known", missing)
    monkeypatch.setattr("sonde_world.demo.demo", lambda folder, device, reporter: {"model": "world", "edits": []})
    said = Said()
    summary = demo(tmp_path / "demo", reporter=said)
    assert summary["model"] == "world" and summary["folder"] == str(tmp_path / "demo-world")
    [line] = said.lines
    assert line.endswith(
        f"could not fetch (no network); the demo of the built-in world takes its place, in {summary['folder']}"
    )
    assert not (tmp_path / "demo").exists()  # so that the next run, with a network, finds nothing in its way
    with pytest.raises(ModelNotFoundError, match="install it"):
        demo(tmp_path / "demo", from_scratch=True)
    with pytest.raises(SettingsError, match="from_scratch is True, but must be left out for the world"):
        demo(tmp_path / "demo", model="world", from_scratch=True)


def test_another_demo_in_the_folder_is_said_before_anything_is_loaded(tiny, monkeypatch):
    demo(tiny, device="cpu")
    monkeypatch.setattr(golden_gate, "load_model", None)
    with pytest.raises(OutputOccupiedError, match="from_scratch False instead of True"):
        demo(tiny, from_scratch=True)


# ------------------------------------------------------------------ what is in the package


def test_what_comes_with_sonde_fits_together():
    """Texts about the bridge and much else; edits of features that the dictionary has."""
    packed = (ROOT / "src/sonde/cases" / golden_gate.TEXT).read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]
    assert len(packed) < 300_000 and all(row["text"] for row in rows)
    assert {row["topic"] for row in rows} <= {*topics(), ""}
    assert sum("Golden Gate" in row["text"] for row in rows) > 3
    n_features = json.loads((ROOT / "src/sonde/dictionaries/built_in/smollm2/manifest.json").read_text())["facts"][
        "n_features"
    ]
    edits = golden_gate._edits_in_package()
    assert edits and all(number < n_features for edit in edits for number in edit.numbers)


def test_questions_are_asked_about_every_topic():
    asked = questions()
    assert {row["topic"] for row in asked} == set(topics()) and len(openers()) > 50
    assert questions() == asked != questions(seed=1)
    assert set(golden_gate.TOPICS) <= set(topics())


def test_the_text_of_the_demo_is_chosen_by_a_rule(walk, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("demo_text", ROOT / "tools/smollm2/demo_text.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.repeated("a b c a b c a b c") > 0.5 and tool.repeated("one two three four five") == 0
    words = [f"word{n}" for n in range(500)]
    rng = random.Random(0)
    rows = [
        {"text": (text := " ".join(rng.sample(words, 30))), "topic": topic, "prompt": "And?", "answer": text}
        for topic in ("cats", golden_gate.TOPICS[0], "", "money")
        for _ in range(20)
    ]
    again = "the same again and " * 20
    rows.append({"text": again, "topic": "cats", "prompt": "And?", "answer": again})
    text = tmp_path / "all.jsonl"
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["demo_text", "--text", str(text), "--model", str(walk.model), "--out", str(tmp_path / "out.gz")]
    monkeypatch.setattr("sys.argv", [*arguments, "--tokens", "8000"])
    tool.main()
    said = json.loads(capsys.readouterr().out)
    chosen = [json.loads(line) for line in gzip.decompress((tmp_path / "out.gz").read_bytes()).decode().splitlines()]
    assert said["rows"] == len(chosen) and 8000 <= said["tokens"] < 8500 and 0.1 < said["plain"] / said["tokens"] < 0.3
    about = [row["topic"] for row in chosen if row["topic"]]
    assert about[:12] == [golden_gate.TOPICS[0]] * 12 and about[12:16] == ["cats", "money"] * 2
    assert not any("again" in row["text"] for row in chosen)
    assert all(row["text"].startswith("And?\n\n") == bool(row["topic"]) for row in chosen)


# ------------------------------------------------------------------ from scratch


def test_from_scratch_everything_is_made_anew(tiny, monkeypatch):
    sizes = {"chat": 400, "plain": 100, "batch": 12, "rows": 1000, "n_features": 32, "k": 4}
    monkeypatch.setattr(golden_gate, "NEW", sizes)
    monkeypatch.setattr(golden_gate, "SITE", "layers.1.residual")
    monkeypatch.setattr(
        "sonde.cases.own_text.questions",
        lambda: [{"text": f"{topic}?", "topic": topic} for topic in (*golden_gate.TOPICS[:2], "cats")],
    )
    summary = demo(tiny, from_scratch=True, device="cpu")
    assert summary["n_features"] == 32 and (tiny / "dictionary/manifest.json").exists()
    [edit] = map(Edit.parse, summary["edits"])
    assert 1 <= len(edit.numbers) <= 5 and edit.unit == "max" and edit.where == "prompt"


def test_own_text_knows_what_was_asked_and_is_not_written_twice(walk, tmp_path, monkeypatch):
    model = sonde.load_model(walk.model, device="cpu")
    monkeypatch.setattr(
        "sonde.cases.own_text.questions", lambda: [{"text": f"{topic}?", "topic": topic} for topic in ("cats", "dogs")]
    )
    folder = write_own_text(model, tmp_path, chat=60, plain=20, batch=4)
    rows = [json.loads(line) for line in (folder / "chat.jsonl").read_text().splitlines()]
    assert {row["topic"] for row in rows} == {"cats", "dogs"} and all(row["text"] for row in rows)
    monkeypatch.setattr("sonde.cases.own_text.generate", None)
    assert write_own_text(model, tmp_path, chat=60, plain=20, batch=4) == folder


# ------------------------------------------------------------------ the model itself


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's own
def test_the_real_model_becomes_the_bridge(tmp_path):
    """Needs the model's wheel, from the cache or by pip."""
    try:
        known.find_known("smollm2")
    except ModelNotFoundError as error:
        pytest.skip(str(error))
    summary = demo(tmp_path / "demo", device="cpu")
    answers = summary["answers"]
    assert answers["plain_names"] == 0 and answers["random_names"] == 0 and answers["steered_names"] >= 3
    assert summary["n_labelled"] > 7000
    again = demo(tmp_path / "demo", device="cpu")
    assert again == summary
