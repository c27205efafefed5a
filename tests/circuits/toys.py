"""Small things that the tests of circuits share: random dictionaries, and a model in which everything is linear."""

from typing import Any

import torch
from torch import nn

from sonde.dictionaries.topk import TopK
from sonde.models.load import wrap_model
from sonde.models.model import Model
from tests.tiny import WIDTH, make_network, make_tokenizer


def random_dictionary(site: str, width: int = WIDTH, n_features: int = 24, k: int = 4, seed: int = 0) -> TopK:
    """A dictionary of random directions at a site."""
    generator = torch.Generator().manual_seed(seed)
    dictionary = TopK(n_features, width, k=k).at(site)
    with torch.no_grad():
        dictionary.W_dec.copy_(nn.functional.normalize(torch.randn(n_features, width, generator=generator), dim=1))
        dictionary.W_enc.copy_(dictionary.W_dec)
    return dictionary.requires_grad_(False)


def linear_model() -> Model:
    """A GPT-2 without norms, with uniform attention and MLPs that are linear, in double precision."""
    network = make_network("gpt2").double()
    trunk: Any = network.transformer
    for block in trunk.h:
        block.ln_1, block.ln_2, block.mlp.act = nn.Identity(), nn.Identity(), nn.Identity()
        with torch.no_grad():  # queries and keys: uniform patterns
            block.attn.c_attn.weight[:, : 2 * WIDTH] = 0
            block.attn.c_attn.bias[: 2 * WIDTH] = 0
    trunk.ln_f = nn.Identity()
    return wrap_model(network, make_tokenizer(), "linear")
