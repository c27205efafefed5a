"""The command line as people meet it: results on stdout, one line for each mistake, nothing left half-written."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import transformers

from sonde.cli import run, verbs
from sonde.cli.common import print_json
from sonde.features.index import load_index
from tests.tiny import make_model, make_network, unwritable, write_corpus, write_model

SITE = "layers.1.residual"


def sonde(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    code = run([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def refused(capsys, *arguments: object) -> str:
    """The one line of a command that must be refused."""
    code, out, err = sonde(capsys, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("sonde: ")]
    assert code == 2, err
    assert len(lines) == 1 and err.splitlines()[-1] == lines[0] and out == "", (out, err)
    assert "Traceback" not in err
    return lines[0].removeprefix("sonde: ")


def result(capsys, *arguments: object) -> dict:
    """The object that a command prints with --json, and nothing else."""
    code, out, err = sonde(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


# ------------------------------------------------------------------ the walk


@pytest.mark.parametrize("family", ["gpt_neox", "opt", "llava"])
def test_sites_lists_every_site_with_its_place(family, tmp_path, capsys):
    model = write_model(tmp_path / "model", family)
    sites = result(capsys, "sites", "--model", model)["sites"]
    assert [site["site"] for site in sites] == make_model(family).sites()
    assert all(site["editable"] for site in sites)
    heads = next(site for site in sites if site["site"] == "layers.2.heads")
    assert heads["shape"] == [4, 8] and heads["place"].startswith("input of ")
    code, out, _ = sonde(capsys, "sites", "--model", model)
    assert code == 0 and len(out.splitlines()) == len(sites) + 1
    modules = result(capsys, "sites", "--model", model, "--tree")["modules"]
    assert any("layers.N" in module["module"] and module["count"] == 3 for module in modules)


def test_an_unknown_family_shows_its_modules(tmp_path, capsys):
    config = transformers.Starcoder2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    transformers.Starcoder2ForCausalLM(config).save_pretrained(tmp_path / "model")
    code, out, err = sonde(capsys, "sites", "--model", tmp_path / "model")
    first, *tree = err[err.index("sonde: ") :].splitlines()
    assert (
        code == 2 and "no site names are known for models of type 'starcoder2'" in first and "docs/models.md" in first
    )
    assert "  model.layers.N.mlp.c_proj  Linear" in tree
    code, out, err = sonde(capsys, "sites", "--model", tmp_path / "model", "--tree")
    assert code == 0 and "model.layers.N.mlp.c_proj" in out


def test_chat_about_a_picture(pictures, capsys):
    arguments = ("chat", pictures.index, "--prompt", "what is it?", "--max-new-tokens", "4", "--edit", "feature:3=2max")
    seen = result(capsys, *arguments, "--image", pictures.root / "drawings/1.png")
    other = result(capsys, *arguments, "--image", pictures.root / "drawings/2.png")
    assert seen["plain"] != other["plain"] or seen["answer"] != other["answer"]
    assert "there is no picture" in refused(capsys, *arguments, "--image", pictures.root / "none.png")


def test_the_walk_by_its_exact_words(tmp_path, capsys):
    model, text = write_model(tmp_path / "model"), write_corpus(tmp_path / "c.jsonl", 300)
    acts, made, index = tmp_path / "acts", tmp_path / "dict", tmp_path / "index"
    sites = result(capsys, "sites", "--model", model)["sites"]
    place = "output of model.layers.1"
    assert {"site": SITE, "shape": [32], "dtype": "float32", "editable": True, "place": place} in sites
    harvested = result(
        capsys,
        "harvest",
        "--model",
        model,
        "--site",
        SITE,
        "--text",
        text,
        "--tokens",
        "5k",
        "--held-out",
        "0.1",
        "--out",
        acts,
    )
    assert 5000 <= harvested["rows"] < 5100
    trained = result(
        capsys, "train", "--activations", acts, "--kind", "topk", "--n-features", "32", "--k", "4", "--out", made
    )
    assert trained["n_features"] == 32 and trained["kind_settings"] == {"k": 4}
    measured = result(capsys, "measure", "--dictionary", made)
    assert {"fvu", "l0", "dead", "tokens", "loss_recovered"} <= set(measured) and set(measured["loss_recovered"]) == {
        "zero",
        "mean",
    }
    assert result(capsys, "index", "--dictionary", made, "--text", text, "--out", index)["n_features"] == 32
    found = result(capsys, "search", index, "bridge")["features"]
    number = found[0]["feature"]
    assert result(capsys, "feature", index, number)["examples"]
    chat = result(
        capsys,
        "chat",
        index,
        "--edit",
        f"feature:{number}=20max",
        "--edit",
        f"feature:{(number + 1) % 32}*=2@answer",
        "--prompt",
        "who?",
    )
    assert chat["edits"][0] == {"op": "clamp", "feature": number, "value": 20.0, "unit": "max", "where": "all"}
    assert result(capsys, "show", index, "--verify")["format"] == "index"


def test_every_verb_prints_for_people(walk, capsys):
    for arguments in (
        ["sites", "--model", walk.model],
        ["sites", "--model", walk.model, "--tree"],
        ["measure", "--dictionary", walk.topk],
        ["search", walk.index, "bridge"],
        ["search", walk.index, "zzzz"],
        ["feature", walk.index, 3],
        ["chat", walk.index, "--prompt", "who?", "--max-new-tokens", 4],
        ["show", walk.acts],
        ["show", walk.l1, "--verify"],
    ):
        code, out, err = sonde(capsys, *arguments)
        assert code == 0 and out.strip(), err


def test_labels_and_what_is_made_of_an_index(walk, tmp_path, capsys):
    index = shutil.copytree(walk.index, tmp_path / "i")
    report = result(capsys, "label", index, "--n", 20)
    assert 0 < report["labelled"] <= 20 and report["asked"] == 0
    load_index(index).labels.add(3, "by a person")
    code, out, _ = sonde(capsys, "label", index)
    assert code == 0 and "features got a label" in out and "sonde search" in out
    assert sonde(capsys, "label", index, "--export", tmp_path / "said.jsonl")[0] == 0
    shutil.copytree(walk.index, tmp_path / "other")
    assert (
        "new labels, scores and notes"
        in sonde(capsys, "label", tmp_path / "other", "--import", tmp_path / "said.jsonl")[1]
    )
    assert "JUDGE" not in refused(capsys, "label", index, "--judge", "nobody")
    dry = result(
        capsys, "label", index, "--judge", "openai:x", "--base-url", "http://127.0.0.1:9", "--dry-run", "--features", 3
    )
    assert dry["asked"] > 0 and dry["labelled"] == 0
    feature = result(capsys, "feature", index, 3)
    assert feature["label"] and feature["fires_with"]
    assert (
        result(capsys, "search", index, "--density", "0..0")["features"]
        == [row for row in result(capsys, "search", index, "--maximum", "0..0", "--n", 64)["features"]][:20]
    )
    one_word = result(capsys, "search", index, "--same-word", "1..1", "--n", 64)["features"]
    assert one_word and all(row["density"] > 0 for row in one_word)
    near = result(capsys, "search", index, "--like", 3, "--n", 5)["features"]
    assert [row["feature"] for row in near] == [
        hit.feature.number for hit in load_index(index).feature(3).neighbours(5)
    ]
    assert "density: 'much' is not a range" in refused(capsys, "search", index, "--density", "much")
    assert "write 1e-4..1e-2" in refused(capsys, "search", index, "--density", "1e-4:1e-2")
    assert result(capsys, "search", index, "--density", "0.001..")["density"] == [0.001, None]
    assert "one thing only" in refused(capsys, "search", index, "bridge", "--like", 3)
    assert "sonde neurons" in refused(capsys, "search", index, "--neuron", "0.3..")
    neurons = result(capsys, "neurons", index, "--tokens", 2000)
    assert len(neurons["features"]) == 64 and 0 <= neurons["share_unlike"] <= 1
    assert "no neuron with a correlation above" in sonde(capsys, "neurons", index)[1]
    rows = [
        {"text": f"the {'bridge' if n % 2 else 'town'} of {n}", "label": "bridge" if n % 2 else "town"}
        for n in range(90)
    ]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = result(capsys, "concepts", index, "--text", tmp_path / "labelled.jsonl")
    assert {one["label"] for one in told} == {"bridge", "town"} and told[0]["feature_auc"] > 0.9
    assert (
        "a single feature reaches 0.9 for" in sonde(capsys, "concepts", index, "--text", tmp_path / "labelled.jsonl")[1]
    )
    assert "no field 'kind'" in refused(
        capsys, "concepts", index, "--text", tmp_path / "labelled.jsonl", "--label", "kind"
    )
    (tmp_path / "words.txt").write_text("bridge\ntown\nelephant\n")
    found = result(capsys, "completeness", index, "--concepts", tmp_path / "words.txt")
    assert [one["concept"] for one in found["concepts"]] == ["bridge", "town", "elephant"]
    assert (
        "of the concepts that the text holds"
        in sonde(capsys, "completeness", index, "--concepts", tmp_path / "words.txt")[1]
    )
    assert "cannot be read as text" in refused(capsys, "completeness", index, "--concepts", tmp_path / "nothing.txt")


def test_two_dictionaries_and_how_one_divides_the_other(walk, tmp_path, capsys):
    both = result(
        capsys,
        "index",
        "--dictionary",
        walk.topk,
        "--dictionary",
        walk.l1,
        "--text",
        walk.corpus,
        "--out",
        tmp_path / "both",
    )
    assert [one["folder"] for one in both] == [str(tmp_path / "both" / name) for name in ("topk", "l1")]
    tree = result(capsys, "splitting", tmp_path / "both" / "topk", tmp_path / "both" / "l1")
    assert set(tree) == {"split", "orphans", "children"}
    code, out, _ = sonde(capsys, "splitting", tmp_path / "both" / "topk", tmp_path / "both" / "l1")
    assert code == 0 and "are divided into two or more" in out


def test_a_map_needs_its_extra(walk, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "pip install 'sonde[map]'" in refused(capsys, "map", walk.index)


def test_a_finished_command_again_is_done_at_once(walk, capsys):
    code, out, err = sonde(
        capsys, "index", "--dictionary", walk.topk, "--text", walk.corpus, "--out", walk.index, "--device", "cpu"
    )
    assert code == 0 and "is finished" in err and "activations" in out


def test_chat_reads_questions_line_by_line(walk):
    process = subprocess.run(
        [sys.executable, "-m", "sonde.cli", "chat", str(walk.index), "--max-new-tokens", "3"],
        input="who?\n\nwhat?\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(process.stdout.splitlines()) >= 2 and process.stderr == ""


# ------------------------------------------------------------------ usage


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_help_of_every_verb_has_an_example(verb, capsys):
    code, out, _ = sonde(capsys, verb, "--help")
    assert code == 0 and ("Example: sonde" in out or verb == "world")


def test_version_and_bare_call(capsys):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", sonde(capsys, "--version")[1])
    assert "Usage: sonde" in sonde(capsys)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "no verb 'trian'; did you mean train?"),
        (["zzzzzz"], "there are demo, world, sites"),
        (["train", "--activation", "a", "--n-features", "3", "--out", "x"], "Did you mean --activations"),
        (["train", "--activations", "a", "--n-features", "3", "--out", "x", "--kind", "topq"], "did you mean topk"),
        (["train", "--activations", "a", "--n-features", "3q", "--out", "x"], "'3q' is not a count"),
        (
            ["train", "--activations", "a", "--n-features", "3", "--out", "x", "--lr", "fast"],
            'unable to convert "fast"',
        ),
        (["train", "--activations", "a", "--out", "x"], "--n-features requires an argument"),
        (
            ["train", "--activations", "a", "--n-features", "3", "--k", "5", "--out", "x"],
            "k is 5, but must be above 0 and at most n_features",
        ),
        (
            ["harvest", "--model", "world", "--site", "final", "--text", "t.txt", "--held-out", "2", "--out", "x"],
            "held_out is 2.0",
        ),
        (["feature", "index"], "requires an argument"),
        (["chat", "index", "--edit", "feature:1=1maxx"], "cannot read the edit"),
        (["world", "ask"], "requires an argument"),
    ],
)
def test_usage_errors_are_one_line_with_the_nearest_match(arguments, message, capsys):
    assert message.lower() in refused(capsys, *arguments).lower()


def test_counts_with_units_are_echoed(tmp_path, capsys):
    _, _, err = sonde(capsys, "train", "--activations", tmp_path / "none", "--n-features", "3Ki", "--out", "x")
    assert "--n-features 3Ki is 3_072" in err


def test_debug_alone_prints_a_traceback(capsys):
    _, _, err = sonde(capsys, "show", "nowhere", "--debug")
    assert "Traceback" in err and err.splitlines()[-1].startswith("sonde: ")


def test_a_bug_of_ours_is_one_line_too(capsys, monkeypatch):
    monkeypatch.setattr("sonde.showing.read_manifest", lambda *_: 1 / 0)
    code, _, err = sonde(capsys, "show", "x")
    assert code == 1 and "a bug of ours: ZeroDivisionError" in err and "Traceback" not in err


# ------------------------------------------------------------------ wrong input (docs/wrong-input.md)


def harvest_arguments(model, text, out, site=SITE):
    return ["harvest", "--model", model, "--site", site, "--text", text, "--out", out]


def test_models_that_are_none(tmp_path, capsys, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert "it has no config.json" in refused(capsys, "sites", "--model", tmp_path / "empty")
    assert "is a file, not a model folder" in refused(capsys, "sites", "--model", tmp_path / "file")
    assert "there is no model folder" in refused(capsys, "sites", "--model", tmp_path / "none")
    broken = write_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    assert "cannot load the model" in refused(capsys, "sites", "--model", broken)
    (broken / "config.json").write_text("{")
    assert "cannot load the model" in refused(capsys, "sites", "--model", broken)


def test_a_hub_that_does_not_answer_is_said_within_seconds(capsys, monkeypatch):
    """No peer answers at this address: the discard port of the loopback address."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    line = refused(capsys, "sites", "--model", "no-such-model-here")
    assert "no folder 'no-such-model-here', and the model hub did not answer" in line
    assert time.monotonic() - began < 10


def test_arguments_that_are_no_text(tmp_path, capsys, walk):
    half, text = "gold\udcff", write_corpus(tmp_path / "c.jsonl", 40)
    asked = ["--prompt", half, "--device", "cpu"]
    for line in (
        ["read", walk.index, half, "--device", "cpu"],
        ["chat", walk.index, *asked],
        ["dose", walk.index, "--edit", "feature:3=1", *asked],
    ):
        assert "half a character" in refused(capsys, *line)
    assert "its name is no UTF-8" in refused(capsys, *harvest_arguments(walk.model, text, tmp_path / half))


@pytest.mark.parametrize(("encoding", "word"), [("ascii", "\\u2581caf\\xe9"), ("utf-8", "\u2581caf\xe9")])
def test_a_terminal_that_lacks_a_letter(monkeypatch, encoding, word):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sonde.showing.read_manifest", lambda *_: out.write("\u2581caf\xe9") and 1 / 0)
    assert run(["show", "x"]) == 1
    out.flush()
    assert word in out.buffer.getvalue().decode(encoding)
    print_json({"word": "\u2581caf\xe9 \udcff"})
    out.flush()
    assert '"word": ' in out.buffer.getvalue().decode(encoding)
    written = out.buffer.getvalue().decode(encoding)
    assert json.loads(written[written.index("{") :])["word"] == "\u2581caf\xe9 \udcff"


def test_models_that_lack_something(tmp_path, capsys, walk):
    text = write_corpus(tmp_path / "c.jsonl", 60)
    mute = write_model(tmp_path / "mute", tokenizer=False)
    assert "has no tokenizer" in refused(capsys, *harvest_arguments(mute, text, tmp_path / "a"))
    for family, options, message in (
        ("llama", {"chat": False}, "no chat template"),
        ("bert", {"chat": False}, "no causal language-model head"),
    ):
        folder = tmp_path / family
        model = write_model(folder / "m", family, **options)
        assert sonde(capsys, *harvest_arguments(model, text, folder / "a"))[0] == 0
        assert (
            sonde(
                capsys,
                "train",
                "--activations",
                folder / "a",
                "--n-features",
                16,
                "--k",
                2,
                "--tokens",
                1000,
                "--out",
                folder / "d",
            )[0]
            == 0
        )
        measured = result(capsys, "measure", "--dictionary", folder / "d", "--text", text)
        assert (measured["loss_recovered"]["zero"] is None) == (family == "bert")
        assert sonde(capsys, "index", "--dictionary", folder / "d", "--text", text, "--out", folder / "i")[0] == 0
        assert message in refused(capsys, "chat", folder / "i", "--prompt", "who?")
    assert "not measured" in sonde(capsys, "measure", "--dictionary", tmp_path / "bert/d", "--text", text)[1]


def test_sites_that_do_not_exist(walk, tmp_path, capsys):
    assert "did you mean layers.1.residual" in refused(
        capsys, *harvest_arguments(walk.model, walk.corpus, tmp_path / "a", "layers.1.residul")
    )
    assert "layers 0 to 2" in refused(
        capsys, *harvest_arguments(walk.model, walk.corpus, tmp_path / "a", "layers.9.mlp")
    )
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no text file"),
        (b"", "holds no text"),
        (b"a\0b", "binary"),
        (b"\xff\xff", "not UTF-8"),
        (b'{"text": "x"}\n{"text', "line 2: not JSON"),
        (b'{"body": "x"}', "no field 'text'"),
    ],
)
def test_texts_that_are_wrong(walk, tmp_path, capsys, content, message):
    text = tmp_path / "c.jsonl"
    if content is not None:
        text.write_bytes(content)
    assert message in refused(capsys, *harvest_arguments(walk.model, text, tmp_path / "a"))
    assert not (tmp_path / "a" / "manifest.json").exists()


def test_bad_lines_are_counted_with_skip_bad(walk, tmp_path, capsys):
    text = write_corpus(tmp_path / "c.jsonl", 30)
    text.write_text(text.read_text() + "{broken\n")
    facts = result(capsys, *harvest_arguments(walk.model, text, tmp_path / "a"), "--skip-bad")
    assert facts["skipped_lines"] == 1


def test_features_that_do_not_exist(walk, capsys):
    assert "features 0 to 63" in refused(capsys, "feature", walk.index, 64)
    assert "features 0 to 63" in refused(capsys, "chat", walk.index, "--edit", "feature:64=1", "--prompt", "x")
    assert "set twice" in refused(
        capsys, "chat", walk.index, "--edit", "feature:4=1", "--edit", "feature:4=2", "--prompt", "x"
    )


def test_nan_activations(tmp_path, capsys):
    model = write_model(tmp_path / "m")
    network = make_network("llama")
    with torch.no_grad():
        network.model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    network.save_pretrained(model)
    text = write_corpus(tmp_path / "c.jsonl", 20)
    assert "are not finite" in refused(capsys, *harvest_arguments(model, text, tmp_path / "a"))
    assert not (tmp_path / "a" / "manifest.json").exists()


def test_output_folders_that_are_taken(walk, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("x")
    for arguments in (
        harvest_arguments(walk.model, walk.corpus, tmp_path / "a"),
        ["train", "--activations", walk.acts, "--n-features", 8, "--k", 2, "--out", tmp_path / "a"],
        ["index", "--dictionary", walk.topk, "--text", walk.corpus, "--out", tmp_path / "a"],
        ["demo", "--no-serve", "--out", tmp_path / "a"],
    ):
        assert "holds something else (thesis.tex)" in refused(capsys, *arguments)
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["thesis.tex"]
    assert "already holds" in refused(
        capsys, "train", "--activations", walk.acts, "--n-features", 8, "--k", 2, "--out", walk.topk
    )


def test_threads_that_wait_sleep_unless_told_otherwise(capsys, monkeypatch):
    for own, kept in (("", "1000"), ("7", "7")):
        monkeypatch.setenv("GOMP_SPINCOUNT", own)  # so that it is put back after the test
        if not own:
            monkeypatch.delenv("GOMP_SPINCOUNT")
        sonde(capsys, "--help")
        assert os.environ["GOMP_SPINCOUNT"] == kept


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(walk, tmp_path, capsys):
    assert "cannot write" in refused(capsys, *harvest_arguments(walk.model, walk.corpus, unwritable(tmp_path) / "a"))


def test_a_disk_that_fills_up(walk, tmp_path, capsys, monkeypatch):
    """The whole harvest fits but its last bytes do not; the same command goes on when there is room."""
    import errno

    sync, calls = os.fsync, []

    def full(handle):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr("sonde.manifests.os.fsync", full)
    arguments = harvest_arguments(walk.model, walk.corpus, tmp_path / "a")
    assert "the disk is full while writing" in refused(capsys, *arguments)
    assert not (tmp_path / "a" / "manifest.json").exists()
    monkeypatch.setattr("sonde.manifests.os.fsync", sync)
    assert sonde(capsys, *arguments)[0] == 0


def test_memory_that_will_not_do_is_said_before_the_start(walk, tmp_path, capsys):
    line = refused(capsys, "train", "--activations", walk.acts, "--n-features", "4G", "--k", 2, "--out", tmp_path / "d")
    assert re.search(
        r"training 4,000,000,000 features needs about .* TB, but .* are free; a smaller --n-features", line
    )
    assert not (tmp_path / "d").exists()


def test_a_port_in_use(walk, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in refused(capsys, "open", walk.index, "--port", port, "--no-browser")
        assert f"port {port} is in use" in refused(capsys, "demo", "--port", port, "--out", "never-made")
    assert "does not exist" in refused(capsys, "open", walk.index, "--port", 99999, "--no-browser")


def test_artifacts_that_are_damaged_or_foreign(walk, tmp_path, capsys):
    assert "does not exist" in refused(capsys, "measure", "--dictionary", tmp_path / "none")
    assert "holds an activations" in refused(capsys, "measure", "--dictionary", walk.acts)
    assert "has no manifest.json" in refused(capsys, "show", walk.root)
    shutil.copytree(walk.index, tmp_path / "i")
    os.truncate(tmp_path / "i" / "postings.safetensors", 100)
    for verb in (
        ["feature", tmp_path / "i", 1],
        ["open", tmp_path / "i", "--no-browser"],
        ["search", tmp_path / "i", "x"],
    ):
        assert "truncated" in refused(capsys, *verb)


def test_a_dictionary_of_another_width(walk, tmp_path, capsys):
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.tiny import make_tokenizer

    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=259
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "narrow")
    make_tokenizer().save_pretrained(tmp_path / "narrow")
    for verb in ("measure", "index"):
        more = ["--text", walk.corpus, "--out", tmp_path / "i"] if verb == "index" else []
        assert "width 32" in refused(capsys, verb, "--dictionary", walk.topk, "--model", tmp_path / "narrow", *more)


def test_prompts_that_are_too_long_or_empty(walk, capsys):
    assert "context holds 64; say less" in refused(capsys, "chat", walk.index, "--prompt", "x" * 100_000)
    assert "--prompt is empty" in refused(capsys, "chat", walk.index, "--prompt", "  ")


# ------------------------------------------------------------------ interruptions


SMALL_TASKS = "import sonde.activations.harvest as h; h.TASK_BYTES = 1 << 18"
"""many small tasks, so that there is something to be stopped between"""


def start(*arguments: object) -> subprocess.Popen:
    code = f"import sys, sonde.cli; {SMALL_TASKS}; sonde.cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("how", "after"),
    [
        (signal.SIGINT, 2),
        *((signal.SIGKILL, after) for after in (0, 3, 6)),
        *(pytest.param(signal.SIGKILL, after, marks=pytest.mark.soak) for after in (1, 2, 4, 5, 7, 8, 9, 10)),
    ],
)
def test_a_harvest_that_is_stopped_goes_on_and_ends_bit_equal(tmp_path, capsys, monkeypatch, how, after):
    monkeypatch.setattr("sonde.activations.harvest.TASK_BYTES", 1 << 18)
    model, text = write_model(tmp_path / "m"), write_corpus(tmp_path / "c.jsonl", 3000)
    process = start(*harvest_arguments(model, text, tmp_path / "part"))
    wait_for(tmp_path / "part" / "segments" / f"{after:05d}.json")
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        assert err.splitlines()[-1].startswith("sonde: interrupted") and "Traceback" not in err
    assert "unfinished" in refused(capsys, "show", tmp_path / "part")
    resumed = result(capsys, *harvest_arguments(model, text, tmp_path / "part"))
    whole = result(capsys, *harvest_arguments(model, text, tmp_path / "whole"))
    assert resumed["id"] == whole["id"]


def test_a_server_ends_on_ctrl_c(walk):
    process = start("open", walk.index, "--port", 0, "--no-browser")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("open at http://127.0.0.1:")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err and len(err.splitlines()) == 1


def test_settings_may_come_from_a_file_and_flags_win(walk, tmp_path, capsys):
    (tmp_path / "train.toml").write_text(
        f'activations = "{walk.acts}"\nkind = "matryoshka"\nn_features = "1Ki"\n'
        "k = 2\ntokens = 5000\nprefixes = [16, 32]\njson = true\n"
    )
    made = result(capsys, "train", "--settings", tmp_path / "train.toml", "--n-features", 32, "--out", tmp_path / "d")
    assert (made["n_features"], made["kind"], made["kind_settings"]["prefixes"]) == (32, "matryoshka", [16, 32])
    (tmp_path / "wrong.toml").write_text("n_feature = 3\n")
    assert "n-feature" in refused(capsys, "train", "--settings", tmp_path / "wrong.toml")
    assert "cannot read the settings file" in refused(capsys, "train", "--settings", tmp_path / "none.toml")


def test_a_sweep_ends_with_a_table(walk, tmp_path, capsys):
    command = ["train", "--activations", walk.acts, "--n-features", 32, "--tokens", "5k", "--out", tmp_path / "s"]
    code, out, _ = sonde(capsys, *command, "--sweep", "kind=topk,gated", "k=2,4")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert [row for row in rows if "kind=topk-k=4" in row] and [row for row in rows if "kind=gated" in row]
    assert any(row[0] == "*" for row in rows)
    assert "takes setting=value,value, not 'q=2'" in refused(capsys, *command, "--sweep", "q=2")
    assert "cannot go over tokens" in refused(capsys, *command, "--sweep", "tokens=2,3")
