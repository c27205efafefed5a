"""Edits: what is written is what is read; anything else is refused; clamps are exact; the error term stays."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import sonde
from sonde.dictionaries.load import load_dictionary
from sonde.errors import EditError, FeatureError, SettingsError, SiteError, UsageError
from sonde.features.index import load_index
from sonde.models.load import load_model
from sonde.models.where import acts_on
from sonde.settings import parse_range
from sonde.steering.apply import make_edits
from sonde.steering.directions import Ablate, Add, Clamp, FeatureEdit, Scale, VectorEdit
from sonde.steering.edits import Edit, check_together, read_edit
from sonde.steering.replace import NeuronEdit, Replace
from sonde.steering.session import Session
from sonde.steering.vectors import load_vector, save_vector
from tests.tiny import make_model, texts

SITE = "layers.1.residual"
GRAMMAR = json.loads((Path(__file__).parents[1] / "grammar.json").read_text(encoding="utf-8"))

numbers = st.integers(0, 9999)
targets = st.one_of(
    st.builds(lambda number: {"feature": number}, numbers),
    st.builds(lambda several: {"features": tuple(several)}, st.lists(numbers, min_size=2, max_size=4, unique=True)),
    st.builds(lambda name: {"vector": f"{name}.safetensors"}, st.text("abc=+*@ /", min_size=1).map(str.strip)),
    st.builds(lambda number: {"neuron": f"layers.3.neurons/{number}"}, numbers),
)


ops, units = st.sampled_from(["clamp", "add", "scale", "ablate"]), st.sampled_from(["raw", "max", "norm"])
wheres = st.sampled_from(["all", "prompt", "answer"])


@given(targets, ops, st.floats(allow_nan=False, allow_infinity=False), units, wheres)
def test_edits_read_back_as_written(target, op, value, unit, where):
    try:
        edit = Edit(op, value=0 if op == "ablate" else value, unit=unit, where=where, **target)
    except EditError:
        assume(False)
    assert Edit.parse(str(edit)) == edit
    assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    assert read_edit(edit) is edit and hash(read_edit(str(edit))) == hash(edit)


@pytest.mark.parametrize("case", GRAMMAR["edits"], ids=lambda case: case["text"])
def test_the_grammar(case):
    edit = Edit.parse(case["text"])
    assert edit.to_json() == case["edit"] and list(edit.to_json()) == list(case["edit"])
    assert str(edit) == case.get("canonical", case["text"])
    assert Edit.from_json(case["edit"]) == edit == Edit.parse(str(edit))


@pytest.mark.parametrize("text", GRAMMAR["refused"])
def test_what_is_no_edit_is_refused(text):
    with pytest.raises(EditError, match="cannot read the edit"):
        Edit.parse(text)


@pytest.mark.parametrize("case", GRAMMAR["ranges"], ids=lambda case: case["text"])
def test_ranges(case):
    assert list(parse_range(case["text"])) == case["range"]


@pytest.mark.parametrize("text", GRAMMAR["refused_ranges"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(SettingsError, match="is not a range; write"):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("featur:3=1", "did you mean feature"),
        ("feature:3=1@promt", "did you mean prompt"),
        ("feature:3=1maxx", "did you mean max"),
        ("feature:3=1norm", "'norm', which goes with vector, not with feature"),
        ("neuron:layers.6.neurons/1=1max", "'max', which goes with feature or features, not with neuron"),
        ("feature:3*=2max", "a plain factor"),
        ("feature:3=1e999", "finite"),
        ("features:3,3=1", "name 3 twice"),
        ("neuron:layers.6=0", "a site and a number: layers.6.neurons/12"),
    ],
)
def test_text_that_is_refused_names_what_is_wrong(text, message):
    with pytest.raises(EditError, match=message):
        Edit.parse(text)


WRONG = [
    ({"op": "clamp", "feature": 1, "valu": 2}, "has no 'valu'; did you mean value"),
    ({"op": "clmp", "feature": 1}, "op is 'clmp', .*; did you mean clamp"),
    ({"feature": 1}, "op is None"),
    ({"op": "clamp"}, "one target .* this has none"),
    ({"op": "clamp", "feature": 1, "neuron": "a/1"}, "this has feature and neuron"),
    ({"op": "clamp", "feature": "1"}, "must be a whole number"),
    ({"op": "clamp", "feature": -1}, "must be a whole number"),
    ({"op": "clamp", "feature": True}, "must be a whole number"),
    ({"op": "clamp", "features": []}, "features are none"),
    ({"op": "clamp", "features": "12"}, "must be a list of whole numbers"),
    ({"op": "clamp", "feature": 1, "value": "2"}, "must be a number"),
    ({"op": "clamp", "feature": 1, "value": None}, "must be a number"),
    ({"op": "clamp", "feature": 1, "value": True}, "must be a number"),
    ({"op": "clamp", "feature": 1, "value": math.inf}, "finite"),
    ({"op": "clamp", "feature": 1, "value": math.nan}, "finite"),
    ({"op": "clamp", "feature": 1, "unit": "maxx"}, "unit is 'maxx', .*; did you mean max"),
    ({"op": "clamp", "feature": 1, "where": "promt"}, "where is 'promt', .*; did you mean prompt"),
    ({"op": "scale", "feature": 1, "value": 2, "unit": "max"}, "plain factor"),
    ({"op": "ablate", "feature": 1, "value": 2}, "ablates, which sets to 0, and has the value 2"),
    ({"op": "add", "vector": "", "value": 1}, "must be a file's name"),
    ({"op": "add", "vector": "a+", "value": 1}, "ends in no"),
    ({"op": "add", "vector": 3, "value": 1}, "must be a file's name"),
    ({"op": "add", "neuron": "layers.6", "value": 1}, "a site and a number"),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_wrong_json_and_wrong_arguments_name_what_is_wrong(value, message):
    with pytest.raises(EditError, match=message):
        Edit.from_json(value)
    if value.get("op") and "valu" not in value:
        with pytest.raises(EditError, match=message):
            Edit(**value)


@pytest.mark.parametrize("value", [[], 3, None])
def test_what_is_neither_text_nor_json_nor_an_edit(value):
    with pytest.raises(EditError, match="must be an object, not a"):
        make_edits([value])


def test_numbers_of_numpy_are_numbers():
    feature, value = np.array([3]), np.array([0.5], dtype=np.float32)
    edit = Edit("clamp", *feature, *value)
    assert edit == Edit("clamp", 3, 0.5) and json.dumps(edit.to_json())


@pytest.fixture(params=["topk", "l1"])
def dictionary(request, walk):
    return load_dictionary(getattr(walk, request.param), "cpu")


@pytest.fixture(scope="module")
def x(walk):
    return load_model(walk.model, device="cpu").read("the red bridge stands by the bay", SITE)


def test_a_clamp_equals_the_full_decode_with_the_error_kept(dictionary, x):
    activations = dictionary.encode(x)
    error = x - dictionary.decode(activations)
    for number in range(0, dictionary.n_features, 5):
        changed = activations.clone()
        changed[..., number] = 3.0
        expected = dictionary.decode(changed) + error
        torch.testing.assert_close(Clamp(dictionary, number, 3.0)(x), expected, atol=1e-5, rtol=1e-5)
        changed[..., number] = 0.0
        torch.testing.assert_close(
            Ablate(dictionary, number)(x), dictionary.decode(changed) + error, atol=1e-5, rtol=1e-5
        )
        changed[..., number] = 2.5 * activations[..., number]
        torch.testing.assert_close(
            Scale(dictionary, number, 2.5)(x), dictionary.decode(changed) + error, atol=1e-5, rtol=1e-5
        )
        changed[..., number] = activations[..., number] + 2.0
        torch.testing.assert_close(
            Add(dictionary, number, 2.0)(x), dictionary.decode(changed) + error, atol=1e-5, rtol=1e-5
        )


def test_a_clamp_to_the_value_that_it_has_changes_nothing(dictionary, x, walk):
    model = load_model(walk.model, device="cpu")
    tokens = model.tokenize("x")
    plain = model.logits(tokens)
    at = model.read(tokens, SITE)
    for number in range(dictionary.n_features):
        value = dictionary.activation(at, number)
        torch.testing.assert_close(
            Clamp(dictionary, number, float(value[0, -1]), where="all")(at)[0, -1], at[0, -1], atol=1e-5, rtol=0
        )
        # A silent feature that is clamped to silence is silent, bit for bit.
        if (value == 0).all():
            assert torch.equal(Ablate(dictionary, number)(at), at)
            with model.edited(Ablate(dictionary, number)):
                assert torch.equal(model.logits(tokens), plain)


def test_two_edits_read_the_same_unedited_x(dictionary, x, walk):
    model = load_model(walk.model, device="cpu")
    tokens = model.tokenize("the red bridge")
    at = model.read(tokens, SITE)
    first, second = Clamp(dictionary, 1, 4.0), Clamp(dictionary, 2, 5.0)
    with model.edited(first, second):
        together = model.read(tokens, SITE)
    torch.testing.assert_close(together, at + (first(at) - at) + (second(at) - at), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("where", ["all", "prompt", "answer"])
def test_clamped_generation_with_a_cache_equals_that_without(dictionary, walk, where):
    model = load_model(walk.model, device="cpu")
    batch = model.tokenize(["the red bridge"], side="left")
    with model.edited(Clamp(dictionary, 5, 8.0, where=where)):
        cached = model.generate_ids(batch, 16, eos_token_id=[])
        uncached = model.generate_ids(batch, 16, eos_token_id=[], use_cache=False)
    assert torch.equal(cached, uncached)


def test_units_and_contradictions(walk):
    dictionary, index = load_dictionary(walk.topk, "cpu"), load_index(walk.index)
    number = int(index.statistics["maximum"].argmax())
    assert Clamp(index, feature=number, value=2, unit="max").values == pytest.approx(2 * index.feature(number).maximum)
    assert Clamp(dictionary, number, 2, "max").values == pytest.approx(2 * float(dictionary.max_activation[number]))
    with pytest.raises(EditError, match="feature 3 is set twice"):
        make_edits(["feature:3=1", "features:1,3=0"], dictionary)
    make_edits(["feature:3=1@prompt", "feature:3=2@answer", "feature:3+=1"], dictionary)
    with pytest.raises(EditError, match=r"neuron layers.1.residual/3 is set twice"):
        check_together(map(Edit.parse, ["neuron:layers.1.residual/3=1", "neuron:layers.1.residual/3=0@prompt"]))
    for several in ("feature:64=1", "features:3,64=1"):
        with pytest.raises(FeatureError):
            make_edits([several], dictionary)
    with pytest.raises(EditError, match="give the dictionary or the index"):
        make_edits(["feature:3=1"])
    dead = load_dictionary(walk.topk, "cpu")
    dead.max_activation[3] = 0
    for feature in (3, [2, 3]):
        with pytest.raises(EditError, match="feature 3 never fired"):
            Clamp(dead, feature, 1, "max")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"unit": "maxx"}, "unit is 'maxx'"),
        ({"where": "promt"}, "where is 'promt', .*; did you mean prompt"),
        ({"value": math.nan}, "finite"),
        ({"value": "10"}, "must be a number"),
        ({"feature": "3"}, "must be a whole number"),
        ({"feature": 2.5}, "must be a whole number"),
        ({"feature": [3, 3]}, "name 3 twice"),
        ({"unit": "norm"}, "goes with vector"),
    ],
)
def test_edits_made_in_python_are_checked_as_those_that_are_written(walk, wrong, message):
    given = {"feature": 3, "value": 10, "unit": "max"} | wrong
    with pytest.raises(EditError, match=message):
        Clamp(load_index(walk.index), **given)
    op: Any = "clmp"
    where: Any = "promt"
    with pytest.raises(EditError, match="op is 'clmp'"):
        VectorEdit(SITE, torch.ones(32), op)
    with pytest.raises(EditError, match="where is 'promt'"):
        NeuronEdit(SITE, 3, "clamp", 1.0, where)
    with pytest.raises(EditError, match="where is 'promt'"):
        Replace(SITE, torch.ones(32), where=where)


def test_a_model_refuses_a_word_that_is_no_where(walk):
    class Shift:
        site, where = SITE, "promt"

        def __call__(self, x):
            return x + 1

    with pytest.raises(EditError, match="where is 'promt'"), make_model().edited(Shift()):
        pass


@pytest.mark.parametrize(
    ("where", "tokens", "n_prompt", "acts"),
    [
        ("all", range(3, 9), 5, range(3, 9)),
        ("prompt", range(0, 9), 5, range(0, 5)),
        ("answer", range(0, 9), 5, range(5, 9)),
        ("prompt", range(7, 9), 5, range(0)),
        ("answer", range(7, 9), 5, range(7, 9)),
        ("prompt", range(0, 4), 5, range(0, 4)),
        ("answer", range(0, 4), 5, range(0)),
        ("prompt", range(0, 4), None, range(0, 4)),
        ("answer", range(0, 4), None, range(0)),
    ],
)
def test_the_tokens_on_which_an_edit_acts(where, tokens, n_prompt, acts):
    assert acts_on(Edit("clamp", 3, 1, where=where), tokens, n_prompt) == acts


def test_edits_that_do_not_fit_are_refused(walk):
    model = make_model()
    with (
        pytest.raises(EditError, match="width 16, but the site's have width 32"),
        model.edited(VectorEdit(SITE, torch.ones(16))),
    ):
        model.logits("x")
    with pytest.raises(EditError, match=r"one axis, not the shape \[1, 32\]"):
        VectorEdit(SITE, torch.ones(1, 32))
    with pytest.raises(EditError, match="neuron:layers.1.residual/3=0 edits no feature"):
        FeatureEdit(load_dictionary(walk.topk, "cpu"), Edit("ablate", neuron=f"{SITE}/3"))


def test_several_features_are_clamped_each_in_its_own_maximum(dictionary, x):
    several = [7, 2, 11]
    activations = dictionary.encode(x)
    maxima = dictionary.max_activation[several]
    error = x - dictionary.decode(activations)
    for text, new in (
        ("features:7,2,11=1.5max", 1.5 * maxima),
        ("features:7,2,11+=0.5max", activations[..., several] + 0.5 * maxima),
        ("features:7,2,11*=3", 3 * activations[..., several]),
        ("features:7,2,11=0", torch.zeros(3)),
    ):
        changed = activations.clone()
        changed[..., several] = new
        [edit] = make_edits([text], dictionary)
        torch.testing.assert_close(edit(x), dictionary.decode(changed) + error, atol=1e-5, rtol=1e-5)
    assert torch.equal(Ablate(dictionary, several)(x), make_edits(["features:7,2,11=0"], dictionary)[0](x))


def test_a_vector_is_added_and_what_lies_along_it_is_set_scaled_and_taken_away(walk, tmp_path):
    model = load_model(walk.model, device="cpu")
    x = model.read("the red bridge", SITE)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    file = save_vector(tmp_path / "kind.safetensors", vector, site=SITE, norm=7.0)
    along = (x @ vector / vector.square().sum())[..., None]
    for text, expected in (
        (f"vector:{file}+=2", x + 2 * vector),
        (f"vector:{file}+=0.1norm", x + 0.7 * vector / vector.norm()),
        (f"vector:{file}=3", x + (3 - along) * vector),
        (f"vector:{file}=0.5norm", x - along * vector + 3.5 * vector / vector.norm()),
        (f"vector:{file}*=3", x + 2 * along * vector),
        (f"vector:{file}=0", x - along * vector),
    ):
        with model.edited(*make_edits([text])):
            torch.testing.assert_close(model.read("the red bridge", SITE), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(VectorEdit(SITE, vector)(x), x + vector)
    gone = make_edits([f"vector:{file}=0"])[0](x) @ vector
    torch.testing.assert_close(gone, torch.zeros_like(gone), atol=1e-4, rtol=0)


def test_a_neuron_is_set_exactly(walk):
    model = load_model(walk.model, device="cpu")
    for site in ("layers.1.neurons", "layers.1.heads"):
        x = model.read("the red bridge", site)
        wide = x.reshape(*x.shape[:2], -1)
        own = wide[..., 7]
        for text, new in (("=0.1", torch.full_like(own, 0.1)), ("+=2", own + 2), ("*=3", 3 * own), ("=0", 0 * own)):
            expected = wide.clone()
            expected[..., 7] = new
            with model.edited(*make_edits([f"neuron:{site}/7{text}"])):
                assert torch.equal(model.read("the red bridge", site), expected.reshape(x.shape))
    with pytest.raises(EditError, match="no dimension 32: it has dimensions 0 to 31"):
        with model.edited(*make_edits([f"neuron:{SITE}/32=0"])):
            model.logits("x")
    with pytest.raises(SiteError, match="did you mean"), model.edited(*make_edits(["neuron:layers.1.neuron/3=0"])):
        pass


def test_a_site_is_replaced_by_what_another_text_has_there(walk):
    model = load_model(walk.model, device="cpu")
    here, there = model.tokenize("the red bridge"), model.tokenize("the old castle")
    value, own = model.read(there, SITE), model.read(here, SITE)
    with model.edited(Replace(SITE, value)):
        assert torch.equal(model.read(here, SITE), value)
        patched = model.logits(here)
    last = model.read(there, "layers.2.residual")
    with model.edited(Replace("layers.2.residual", last)):
        assert torch.equal(model.logits(here), model.logits(there))
    assert not torch.equal(patched, model.logits(here))
    mask = torch.zeros(1, own.shape[1], dtype=torch.bool)
    mask[0, [1, 4]] = True
    expected = own.clone()
    expected[0, [1, 4]] = value[0, [1, 4]]
    for patch in (value, value[mask]):
        with model.edited(Replace(SITE, patch, mask)):
            assert torch.equal(model.read(here, SITE), expected)
    with model.edited(Replace(SITE, torch.zeros(32))):
        assert not model.read(here, SITE).any()
    heads = model.read(there, "layers.1.heads")
    with model.edited(Replace("layers.1.heads", heads)):
        assert torch.equal(model.read(here, "layers.1.heads"), heads)


def test_a_patch_of_the_prompt_stays_there_when_an_answer_is_written(walk):
    model = load_model(walk.model, device="cpu")
    batch, other = model.tokenize("the red bridge", side="left"), model.tokenize("the old castle", side="left")
    mask = torch.zeros(batch.ids.shape, dtype=torch.bool)
    mask[0, 2:6] = True
    value = model.read(other, SITE)
    plain = model.generate_ids(batch, 10, eos_token_id=[])
    for edit in (Replace(SITE, value, mask), Replace(SITE, value[mask], mask), Replace(SITE, value)):
        assert edit.where == "prompt"
        with model.edited(edit):
            cached = model.generate_ids(batch, 10, eos_token_id=[])
            assert torch.equal(cached, model.generate_ids(batch, 10, eos_token_id=[], use_cache=False))
    assert not torch.equal(cached, plain)


def test_replacements_that_do_not_fit_are_refused(walk):
    model = make_model()
    with pytest.raises(EditError, match="by position is of the prompt"):
        Replace(SITE, torch.zeros(1, 3, 32), where="answer")
    with pytest.raises(EditError, match=r"no axis of a batch; give \[1, 3, 32\]"):
        Replace(SITE, torch.zeros(3, 32))
    three = torch.ones(1, 3, dtype=torch.bool)
    for value, mask in ((torch.zeros(1, 9, 32), None), (torch.zeros(16), None), (torch.zeros(2, 32), three)):
        with pytest.raises(EditError, match="does not fit"), model.edited(Replace(SITE, value, mask)):
            model.logits(model.pad([[5, 6, 7]]))


def test_vector_files(tmp_path, walk):
    vector = torch.tensor([1.0, 2.0])
    file = save_vector(tmp_path / "v.safetensors", vector, site=SITE)
    found = load_vector(file)
    assert torch.equal(found.vector, vector) and (found.site, found.norm) == (SITE, None)
    with pytest.raises(EditError, match="does not say the norm"):
        make_edits([f"vector:{file}+=1norm"])
    with pytest.raises(EditError, match="there is no vector file"):
        make_edits(["vector:nowhere.safetensors+=1"])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(EditError, match="cannot be read as a vector file"):
        load_vector(tmp_path / "text")
    with pytest.raises(EditError, match="no tensor named vector"):
        load_vector(walk.topk / "dictionary.safetensors")
    for wrong, message in (
        (torch.zeros(2), "zero"),
        (torch.tensor([1.0, math.nan]), "not finite"),
        (torch.ones(1, 2), r"not \[1, 2\]"),
        (torch.tensor([1, 2]), "int64"),
    ):
        with pytest.raises(EditError, match=message):
            save_vector(tmp_path / "w.safetensors", wrong, site=SITE)
    with pytest.raises(EditError, match="above zero"):
        save_vector(tmp_path / "w.safetensors", vector, site=SITE, norm=0.0)


def test_a_confined_edit_reads_vectors_of_the_index_alone(walk, tmp_path, monkeypatch):
    index = load_index(walk.index)
    save_vector(index.folder / "own.safetensors", torch.ones(32), site=SITE)
    save_vector(tmp_path / "other.safetensors", torch.ones(32), site=SITE)
    monkeypatch.chdir(tmp_path)
    try:
        make_edits(["vector:own.safetensors+=1"], index, confined=True)
        make_edits(["vector:own.safetensors+=1", "vector:other.safetensors+=1"], index)
        for name in ("other.safetensors", f"{tmp_path}/other.safetensors", "../x.safetensors"):
            with pytest.raises(EditError, match="outside the index|there is no vector file"):
                make_edits([f"vector:{name}+=1"], index, confined=True)
    finally:
        (index.folder / "own.safetensors").unlink()


def test_a_session_answers_under_edits_and_forgets_them(walk):
    session = Session(walk.index, device="cpu")
    plain = session.answer("who?", max_new_tokens=12)
    number = int(session.index.statistics["maximum"].argmax())
    edit, text = Edit("clamp", number, 30, "max"), f"feature:{number}=30max"
    edited = session.answer("who?", [edit], max_new_tokens=12)
    assert edited != plain
    conversation = [{"role": "user", "content": "who?"}]
    for same in (text, edit.to_json(), Clamp(session.index, number, 30, "max")):
        assert session.answer(conversation, [same], max_new_tokens=12) == edited
        assert session.answer(conversation, same, max_new_tokens=12) == edited
    assert session.answer("who?", max_new_tokens=12) == plain
    turned = Session(session.index, session.model, edits=[text])
    assert turned.answer("who?", max_new_tokens=12) == edited
    assert turned.answer("who?", [], max_new_tokens=12) == plain
    doses = [one.answer for one in session.dose("who?", [text], (1.0,), 12)]
    # Of letters that stay incomplete either may say less.
    assert [said.replace("\ufffd", "") for said in doses] == [said.replace("\ufffd", "") for said in (plain, edited)]
    assert "".join(session.read("the red bridge")[0].pieces) == "the red bridge"
    with pytest.raises(EditError, match="unit is 'maxx'"):
        session.answer("who?", ["feature:3=1maxx"])
    with pytest.raises(EditError, match="no dimension 999"):
        session.answer("who?", [f"neuron:{SITE}/999=0"])
    with pytest.raises(UsageError, match="context holds 64; say less"):
        session.answer("x" * 100_000)
    assert sonde.Session is Session


@pytest.mark.parametrize("where", ["all", "prompt", "answer"])
def test_a_session_answers_as_generate_does(walk, where, tmp_path):
    session = Session(walk.index, device="cpu")
    model = session.model
    file = save_vector(tmp_path / "v.safetensors", torch.randn(32), site=SITE, norm=9.0)
    asked = model.chat_tokens([{"role": "user", "content": "who?"}])
    for written in (
        [f"feature:5=8@{where}"],
        [f"features:5,9=6@{where}", f"feature:7+=3@{where}"],
        [f"vector:{file}+=2norm@{where}", f"neuron:layers.2.neurons/3=5@{where}"],
    ):
        edits = make_edits(written, session.index)
        with model.edited(*edits):
            expected = model.generate(asked, 12)
            assert session.answer("who?", [], 12) == expected  # of an enclosing block
        assert session.answer("who?", written, 12) == expected


def test_features_of_heads_are_turned_where_the_heads_lie_side_by_side(tmp_path):
    model, site = make_model(), "layers.1.heads"
    store = sonde.harvest(model, texts(40), site=site, out=tmp_path / "a")
    dictionary = sonde.train(store, n_features=16, k=2, tokens=500, batch_size=64, out=tmp_path / "d", device="cpu")
    tokens = model.tokenize("the red bridge")
    heads = model.read(tokens, site)
    with model.edited(Clamp(dictionary, 3, 2.0)):
        changed = model.read(tokens, site)
    expected = Clamp(dictionary, 3, 2.0)(heads.flatten(2))
    torch.testing.assert_close(changed.flatten(2), expected)
