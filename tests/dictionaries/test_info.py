"""What a dictionary knows about itself: made in memory, trained, saved and read back."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

import sonde
from sonde.dictionaries.info import DictionaryInfo, Provenance, Quality
from sonde.dictionaries.load import KINDS, content_id, load_dictionary, save_dictionary
from sonde.dictionaries.topk import TopK
from sonde.errors import ArtifactDamagedError, ArtifactMismatchError, ModelNotFoundError, OutputOccupiedError
from sonde.facts import ModelRef, TextFacts
from sonde.manifests import Artifact, read_manifest
from sonde.training.settings import kinds_with
from tests.known import known
from tests.tiny import make_model, texts

SITE = "layers.1.residual"
WIDTH = 32


def made(kind: str, d_out: int | None = None, **options: Any):
    of_kind: dict[str, Any] = {"k": 2} if kind in kinds_with("k") else {}
    return KINDS[kind](16, WIDTH, d_out, **of_kind, **options)


def random(kind: str, **options):
    dictionary = made(kind, **options)
    torch.manual_seed(0)
    for name, parameter in dictionary.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1 if name in ("r", "log_threshold") else 1.0)
    return dictionary


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_made_in_memory_knows_what_it_reads_and_writes(kind):
    dictionary = made(kind)
    assert (dictionary.reads, dictionary.writes, dictionary.site) == ({"x": WIDTH}, {"x": WIDTH}, "x")
    assert dictionary.info.kind == kind and dictionary.info.n_features == 16 and dictionary.artifact is None
    assert dictionary.at(SITE) is dictionary and dictionary.writes == {SITE: WIDTH} and dictionary.site == SITE
    transcoder = made(kind, 48, skip=True)
    assert transcoder.site == "x -> y" and (transcoder.info.d_in, transcoder.info.d_out) == (WIDTH, 48)
    assert transcoder.at("a", {"b": 16, "c": 32}).site == "a -> b, c" and transcoder.info.kind_settings["skip"]
    with pytest.raises(ArtifactMismatchError, match="reads vectors of width 32 and writes 48"):
        transcoder.at("a", {"b": 16})
    with pytest.raises(ModelNotFoundError, match="give the model"):
        dictionary.info.require_model()


def test_its_repr_is_one_line_that_says_what_it_is(walk):
    assert repr(TopK(16, 8, k=2)) == "TopK(n_features=16, d_in=8, k=2, site='x')"
    assert repr(TopK(16, 8, 4, k=2, skip=True)) == (
        "TopK(n_features=16, d_in=8, d_out=4, skip=True, k=2, site='x -> y')"
    )
    quality = known(load_dictionary(walk.topk, "cpu").info.quality)
    assert repr(load_dictionary(walk.topk, "cpu")) == (
        f"TopK(n_features=64, d_in=32, k=4, site='{SITE}', "
        f"fvu={quality.fvu:.4g}, l0={quality.l0:.4g}, dead={quality.dead:.4g})"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_made_in_memory_is_saved_and_loaded(tmp_path, kind):
    dictionary, x = random(kind).at(SITE), torch.randn(5, WIDTH)
    quality = Quality(rows=9, fvu=0.25, l0=2.0, dead=0.5)
    dictionary.info = replace(dictionary.info, model=ModelRef("m", "1"), quality=quality)
    artifact = save_dictionary(dictionary, tmp_path / "d")
    loaded = load_dictionary(tmp_path / "d", "cpu")
    assert loaded.info == dictionary.info and loaded.artifact == artifact
    assert artifact.manifest.id == content_id(dictionary)
    assert torch.equal(loaded.encode(x), dictionary.encode(x))
    assert save_dictionary(dictionary, tmp_path / "d") == artifact
    with torch.no_grad():
        dictionary.b_dec.add_(1)
    with pytest.raises(OutputOccupiedError, match="another dictionary"):
        save_dictionary(dictionary, tmp_path / "d")


def train(store, out, **options):
    return sonde.train(store, n_features=32, tokens=2000, batch_size=256, out=out, device="cpu", **options)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two sites of one model, and one of another, on the same text."""
    root = tmp_path_factory.mktemp("stores")
    options: dict[str, Any] = {"store": "float32", "held_out": 0.1}
    both = sonde.harvest(make_model(), texts(80), site=[SITE, "layers.2.residual"], out=root / "both", **options)
    one = sonde.harvest(make_model(), texts(80), site=SITE, out=root / "one", **options)
    other = sonde.harvest(make_model(seed=1), texts(80), site=SITE, out=root / "other", **options)
    return both, one, other


WAYS = {
    **{kind: {"kind": kind, "site": SITE} for kind in KINDS},
    "transcoder": {"site": SITE, "writes": "layers.2.residual", "skip": True},
    "crosscoder": {"kind": "batchtopk", "site": [SITE, "layers.2.residual"]},
    "two models": {},
    "live": {"site": SITE},
    "ready vectors": {},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_facts_of_a_manifest_are_those_of_the_info(stores, tmp_path, way):
    """Key for key, in the order in which training writes them."""
    both, one, other = stores
    source = {"two models": [one, other]}.get(way, both)
    if way == "live":
        source = sonde.Live(make_model(), texts(80), site=SITE, pool=512, held_out=0.1)
    if way == "ready vectors":
        source = sonde.from_vectors(torch.randn(600, 8), site=SITE, out=tmp_path / "acts")
    dictionary = train(source, tmp_path / "d", **WAYS[way])
    facts = json.loads((tmp_path / "d" / "manifest.json").read_text())["facts"]
    assert json.dumps(dictionary.info.to_facts()) == json.dumps(facts)
    keys = ["kind", "kind_settings", "n_features", "d_in", "d_out", "steps", "batch_size", "lr", "training_rows"]
    keys += ["reads", "writes", "text"] + ["norm_limits"] * (way != "ready vectors")
    keys += ["model", *(["other_models"] if way == "two models" else [])]
    assert list(facts) == keys
    order = ["path", "field", "skip_bad", "held_out", "seed", "context", "pack"]
    if way == "live":
        order = ["field", "skip_bad", "held_out", "pack", "path", "seed", "context"]
    assert facts["text"] is None if way == "ready vectors" else list(facts["text"]) == order
    info = dictionary.info
    assert info.d_in == facts["d_in"] == dictionary.d_in and info.d_out == facts["d_out"] == dictionary.d_out
    assert info.provenance == Provenance(
        steps=facts["steps"], batch_size=facts["batch_size"], lr=facts["lr"], parents=known(info.provenance).parents
    )
    parents = {"two models": {"activations": one, "activations_2": other}, "live": {}}.get(way, {"activations": source})
    assert known(info.provenance).parents == {role: store.manifest.id for role, store in parents.items()}
    assert info.text is None if way == "ready vectors" else info.text == TextFacts(**facts["text"], live=way == "live")


def test_a_manifest_that_lacks_facts_is_refused_by_name(walk):
    manifest = read_manifest(walk.topk, "dictionary")
    for name in ("kind", "n_features", "reads"):
        facts = {key: value for key, value in manifest.facts.items() if key != name}
        with pytest.raises(ArtifactDamagedError, match=f"manifest of {walk.topk} lacks facts .*{name}"):
            DictionaryInfo.of(Artifact(walk.topk, replace(manifest, facts=facts)))
    facts = manifest.facts | {"what a later version adds": 1}
    assert DictionaryInfo.of(Artifact(walk.topk, replace(manifest, facts=facts))).kind == "topk"


def test_an_index_of_a_dictionary_in_memory_holds_it(walk, tmp_path):
    """It is what an index of the saved dictionary is, and the dictionary can be read from it, wherever it is moved."""
    dictionary = random("l1").at(SITE)
    index = sonde.index(walk.model, dictionary, texts(20), out=tmp_path / "in memory", device="cpu")
    save_dictionary(dictionary, tmp_path / "d")
    saved = sonde.index(walk.model, tmp_path / "d", texts(20), out=tmp_path / "saved", device="cpu")
    assert index.manifest.id == saved.manifest.id and dictionary.artifact is None
    assert index.manifest.parents["dictionary"]["path"] == "dictionary"
    (tmp_path / "in memory").rename(tmp_path / "moved")
    moved = sonde.load_index(tmp_path / "moved")
    assert (moved.directions == dictionary.W_dec.detach().numpy()).all()
    reader = sonde.Reader(moved, device="cpu")
    assert known(reader.dictionary.artifact).folder == tmp_path / "moved" / "dictionary"
    fired = reader.read(texts(1)[0])
    x = reader.model.read(texts(1)[0], SITE)[0, 1:]
    assert fired.of(3) == pytest.approx(dictionary.encode(x)[:, 3].detach().numpy(), abs=1e-4)
    again = sonde.index(walk.model, dictionary, texts(20), out=tmp_path / "moved", device="cpu")
    assert again.manifest.id == index.manifest.id
    with torch.no_grad():
        dictionary.b_enc.add_(1)
    with pytest.raises(OutputOccupiedError, match="dictionary .* instead of"):
        sonde.index(walk.model, dictionary, texts(20), out=tmp_path / "moved", device="cpu")


def test_edits_act_through_a_dictionary_in_memory():
    model, dictionary = make_model(), random("l1").at(SITE).requires_grad_(False)
    tokens = model.tokenize(["the red bridge"])
    before = model.read(tokens, SITE)
    with model.edited(sonde.Clamp(dictionary, 3, 4.0)):
        after = model.read(tokens, SITE)
    moved = (4.0 - dictionary.encode(before)[..., 3, None]) * dictionary.W_dec[3]
    torch.testing.assert_close(after - before, moved, atol=1e-4, rtol=1e-4)
