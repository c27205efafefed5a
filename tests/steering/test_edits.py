"""Edits: what is written is what is read; clamps are exact; the error term stays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sonde
from sonde.dictionaries.load import load_dictionary
from sonde.errors import EditError, FeatureError, UsageError
from sonde.features.index import load_index
from sonde.models.load import load_model
from sonde.steering.edits import Ablate, Add, Clamp, EditSpec, Scale, make_edits, parse_spec, spec_from_json
from sonde.steering.session import Session
from tests.tiny import make_model, texts

SITE = "layers.1.residual"

specs = st.one_of(
    st.builds(EditSpec, st.sampled_from(["clamp", "add"]), st.integers(0, 9999), st.floats(-1e4, 1e4).filter(lambda v: f"{v:g}" not in ("0", "-0")), st.sampled_from(["raw", "max"]), st.sampled_from(["all", "prompt", "answer"])),
    st.builds(EditSpec, st.just("scale"), st.integers(0, 9999), st.floats(-1e4, 1e4), st.just("raw"), st.sampled_from(["all", "prompt", "answer"])),
    st.builds(EditSpec, st.just("ablate"), st.integers(0, 9999), st.just(0.0), st.just("raw"), st.sampled_from(["all", "prompt", "answer"])),
)  # fmt: skip


@given(specs)
def test_edits_read_back_as_written(spec):
    read = parse_spec(str(spec))
    assert (read.op, read.feature, read.unit, read.where) == (spec.op, spec.feature, spec.unit, spec.where)
    assert read.value == pytest.approx(spec.value, rel=1e-5)
    assert spec_from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("feature:311=10max", EditSpec("clamp", 311, 10, "max")),
        ("feature:311=2.5", EditSpec("clamp", 311, 2.5)),
        ("feature:3+=1e1", EditSpec("add", 3, 10)),
        ("feature:3+=-2max@prompt", EditSpec("add", 3, -2, "max", "prompt")),
        ("feature:3*=0.5@answer", EditSpec("scale", 3, 0.5, "raw", "answer")),
        ("feature:3=0", EditSpec("ablate", 3)),
    ],
)
def test_every_form(text, spec):
    assert parse_spec(text) == spec


@pytest.mark.parametrize("text", ["", "feature:", "feature:x=1", "311=10", "feature:3=", "feature:3=1maxx", "feature:-1=2", "feature:3=1@here", "feature:3=nan", "feature:3*=2max"])  # fmt: skip
def test_what_is_no_edit_is_refused(text):
    with pytest.raises(EditError):
        parse_spec(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object"),
        ({"op": "clamp", "feature": 1, "valu": 2}, "has no 'valu'; did you mean value"),
        ({"op": "clamped", "feature": 1}, "op is 'clamped'"),
        ({"op": "clamp", "feature": "1"}, "must be a whole number"),
        ({"op": "clamp", "feature": 1, "value": "2"}, "must be a number"),
        ({"op": "clamp", "feature": 1, "value": float("inf")}, "finite"),
        ({"op": "clamp", "feature": 1, "where": "nowhere"}, "where is 'nowhere'"),
        ({"op": "scale", "feature": 1, "value": 2, "unit": "max"}, "plain factor"),
    ],
)
def test_wrong_json_names_what_is_wrong(value, message):
    with pytest.raises(EditError, match=message):
        spec_from_json(value)


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
    assert Clamp(index, feature=number, value=2, unit="max").amount == pytest.approx(2 * index.feature(number).maximum)
    assert Clamp(dictionary, number, 2, "max").amount == pytest.approx(2 * float(dictionary.max_activation[number]))
    with pytest.raises(EditError, match="feature 3 is set twice"):
        make_edits([EditSpec("clamp", 3, 1), EditSpec("ablate", 3)], dictionary)
    make_edits([EditSpec("clamp", 3, 1, "raw", "prompt"), EditSpec("clamp", 3, 2, "raw", "answer")], dictionary)
    with pytest.raises(FeatureError):
        make_edits([EditSpec("clamp", 64, 1)], dictionary)
    dead = load_dictionary(walk.topk, "cpu")
    dead.max_activation[3] = 0
    with pytest.raises(EditError, match="never fired"):
        Clamp(dead, 3, 1, "max").amount  # noqa: B018


def test_a_session_answers_under_edits_and_forgets_them(walk):
    session = Session(walk.index, device="cpu")
    asked = [{"role": "user", "content": "who?"}]
    plain = session.answer(asked, max_new_tokens=12)
    number = int(session.index.statistics["maximum"].argmax())
    edited = session.answer(asked, [EditSpec("clamp", number, 30, "max")], max_new_tokens=12)
    assert edited != plain
    assert session.answer(asked, max_new_tokens=12) == plain
    with pytest.raises(UsageError, match="context holds 64; say less"):
        session.answer([{"role": "user", "content": "x" * 100_000}])
    assert sonde.Session is Session


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
