"""The verbs that analyse, from Python: they take a folder, an index or a reader, and draw what they found."""

import json
import shutil

import numpy as np
import pytest

import sonde
from sonde.display import to_text
from sonde.errors import TextError
from tests.known import known
from tests.labels.planted import make_index
from tests.tiny import make_model


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return sonde.Reader(make_index(tmp_path_factory.mktemp("planted")), device="cpu")


def test_sites_of_a_folder_and_of_a_model(walk):
    found, model = sonde.sites(walk.model, device="cpu"), make_model()
    assert [row["site"] for row in found] == model.sites() and found.model_type == "llama"
    assert sonde.sites(model) == model.describe_sites() == found
    text = to_text(found.draw())
    assert "layers.1.residual" in text and " x position" in text and len(text.splitlines()) == len(found) + 1
    tree = sonde.sites(model, tree=True)
    assert {"module": "model.layers.N.mlp", "type": "LlamaMLP", "count": 3} in tree and "LlamaMLP" in tree._repr_html_()


def test_concepts_of_a_file_and_of_lists(reader, tmp_path):
    texts = [f"the man sees the {word} of {number}." for number in range(30) for word in ("river", "city")]
    labels = ["water", "town"] * 30
    path = tmp_path / "labelled.jsonl"
    rows = (json.dumps({"said": text, "kind": label}) for text, label in zip(texts, labels, strict=True))
    path.write_text("\n".join(rows), encoding="utf-8")
    of_file, of_lists = sonde.concepts(reader, path, "kind", field="said"), sonde.concepts(reader, texts, labels)
    assert list(of_file) == list(of_lists) and [each.label for each in of_lists] == ["water", "town"]
    assert "a single feature reaches 0.9 for 2 of 2 concepts" in to_text(of_file.draw())
    with pytest.raises(TextError, match="20 texts"):
        sonde.concepts(reader, path, "kind", field="said", n=10)


def test_completeness_of_a_file_and_of_a_list(reader, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("river\n\nelephant\n", encoding="utf-8")
    of_file, of_list = sonde.completeness(reader, path), sonde.completeness(reader, ["river", "elephant"])
    assert of_file.presences == of_list.presences and "of a million words" in of_file._repr_html_()
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(TextError, match="no concepts"):
        sonde.completeness(reader, path)


def test_neurons_are_shown_and_kept(walk, tmp_path):
    index = shutil.copytree(walk.index, tmp_path / "i")
    found = sonde.neurons(index, tokens="2k", seed=1, n=3, device="cpu")
    kept = known(sonde.load_index(index).neurons)
    assert np.array_equal(found.correlation, kept.correlation) and found.tokens >= 2000
    strongest = int(np.abs(found.correlation).argmax())
    text = to_text(found.drawing())
    assert len(text.splitlines()) == 5 and found.site_of(strongest) in text and f"{found.share_unlike:.0%} of" in text


def test_splitting_takes_folders_and_shows_one_feature(sizes):
    found = sonde.splitting(sizes / "small", sizes / "large")
    parent = max(found.children, key=lambda number: len(found.children[number]))
    one = sonde.splitting(sizes / "small", sizes / "large", feature=parent)
    lines = to_text(one.drawing()).splitlines()
    assert lines[0].startswith(f"feature {parent},") and len(lines) == 2 + len(found.children[parent])
    strict = sonde.splitting(sizes / "small", sizes / "large", cosine=0.99, contained=1)
    assert strict.n_orphans >= found.n_orphans
    assert "are divided into two or more" in found._repr_html_()


def test_a_map_of_one_index_and_of_several(walk, tmp_path):
    pytest.importorskip("umap")
    index = shutil.copytree(walk.index, tmp_path / "i")
    found = sonde.map(index, n=1)
    assert found.position.shape == (64, 2) and len(to_text(found.drawing()).splitlines()) <= 3
    several = sonde.map([index])
    assert np.array_equal(several[0].cluster, found.cluster) and np.array_equal(several.sizes, found.sizes)


def test_a_measurement_and_a_report_of_labels_draw_themselves(walk, tmp_path):
    measured = sonde.measure(walk.topk, tokens="1k", device="cpu")
    assert f"{measured.fvu:.4f}" in measured._repr_html_() and "against mean ablation" in to_text(measured.draw())
    index = shutil.copytree(walk.index, tmp_path / "i")
    report = sonde.label(index, n=3)
    assert to_text(report.draw()) == f"{report.labelled} of 3 features got a label"
    asked = sonde.label(index, n=3, judge="openai:x", dry_run=True, base_url="http://127.0.0.1:9")
    assert "at most" in repr(asked) and "score" not in to_text(asked.draw())
