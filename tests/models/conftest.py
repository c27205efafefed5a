"""A tiny model of every family with every attention that transformers has for it."""

import pytest

from sonde.models.model import Model
from tests.tiny import FAMILIES, attentions, make_model

MODELS = [(family, attention) for family in FAMILIES for attention in attentions(family)]


@pytest.fixture(params=MODELS, ids=lambda pair: f"{pair[0]}-{pair[1]}".replace(" ", "_"))
def family(request) -> str:
    request.node.attention = request.param[1]
    return request.param[0]


@pytest.fixture
def model(request, family) -> Model:
    return make_model(family, attention=request.node.attention)
