"""Path patching against hand-written passes, and in a linear model, where direct effects are known."""

import numpy as np
import pytest
import torch

import sonde
from sonde.circuits.direct import direct
from sonde.circuits.patched import Patched
from sonde.circuits.targets import LogitDifference
from sonde.errors import SettingsError, SiteError
from tests.circuits.test_patching import LENGTH, PAIR, difference, logits_of
from tests.circuits.toys import linear_model
from tests.known import known
from tests.tiny import HEADS, LAYERS, make_model


def test_the_path_to_the_logits_is_the_direct_effect():
    model = linear_model()
    a, b = (model.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "ab")
    clean, corrupt = (
        direct(model, model.tokenize(PAIR[name]), LogitDifference(a, b, "")) for name in ("clean", "corrupt")
    )
    for site, part in (("heads", "heads"), ("mlp", "mlp")):
        found = sonde.patch(model, **PAIR, site=site, by="layer" if site == "mlp" else None, to=["logits"], held=True)
        expected = (getattr(clean, part) - getattr(corrupt, part)) / (clean.value - corrupt.value)
        np.testing.assert_allclose(known(found.maps[0].values)[0].squeeze(), expected, atol=1e-6)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_path_to_a_query_is_what_two_hand_written_passes_give(family, held):
    model = make_model(family)
    found = sonde.patch(model, **PAIR, site="heads", to=["layers.2.query/1"], held=held)
    values = known(found.maps[0].values)
    assert values.shape == (1, LAYERS, HEADS)
    clean, corrupt = (difference(model, logits_of(model, PAIR[name])) for name in ("clean", "corrupt"))
    names = [f"layers.{n}.heads" for n in range(LAYERS)] + ([f"layers.{n}.mlp" for n in range(LAYERS)] if held else [])
    own, other = model.read(PAIR["corrupt"], names), model.read(PAIR["clean"], names)
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    sender = own["layers.0.heads"].clone()
    sender[:, :, 3] = other["layers.0.heads"][:, :, 3]
    edits = [
        Patched(name, sender if name == "layers.0.heads" else x, everywhere if x.ndim == 4 else everywhere[..., 0])
        for name, x in own.items()
    ]
    with model.edited(*edits):
        query = model.read(PAIR["corrupt"], "layers.2.query")
    of_head = torch.arange(HEADS).eq(1)[None, None, :, None]
    with model.edited(Patched("layers.2.query", query, of_head)):
        patched = difference(model, logits_of(model, PAIR["corrupt"]))
    assert values[0, 0, 3] == pytest.approx(float((patched - corrupt) / (clean - corrupt)), abs=1e-3)
    assert np.abs(values[0, 2]).max() < 1e-4, "what comes after the query does not reach it"
    assert np.abs(values[0, :2]).max() > 1e-3


def test_a_sender_after_the_receiver_changes_nothing():
    found = sonde.patch(make_model("llama"), **PAIR, site="heads", to=["layers.1.key/0"], layers="1..2")
    assert np.abs(known(found.maps[0].values)).max() < 1e-4


def test_a_path_through_an_mlps_input():
    model = make_model("gpt2")
    found = sonde.patch(model, **PAIR, site="mlp", by="position", to=["layers.2.mlp_in"], held=True)
    values = known(found.maps[0].values)
    assert values.shape == (1, LAYERS, LENGTH) and np.abs(values[0, 2]).max() < 1e-4 < np.abs(values[0, :2]).max()
    assert "as far as it reaches layers.2.mlp_in without passing MLPs" in found.said


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": ["layers.2.residual"]}, SettingsError, "receives nothing"),
        ({"to": ["layers.2.query/9"]}, SiteError, "layers.2.query has no head 9: it has 4 heads"),
        ({"to": ["layers.9.query/1"]}, SiteError, "layers 0 to 2"),
        ({"to": ["logits"], "site": "residual"}, SettingsError, "residual sends nothing along paths"),
        ({"to": ["logits"], "method": "both"}, SettingsError, "paths are patched exactly"),
    ],
)
def test_wrong_input_is_one_line(options, error, message):
    with pytest.raises(error, match=message):
        sonde.patch(make_model("llama"), **PAIR | {"site": "heads"} | options)
