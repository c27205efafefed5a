"""A server of an index on a thread of the test."""

import contextlib
import threading
from pathlib import Path
from typing import Any

import torch
import transformers
from fastapi.testclient import TestClient

import sonde
from sonde.dictionaries.l1 import L1
from sonde.features.index import load_index
from sonde.web.app import make_app
from sonde.web.serve import listen, make_server


@contextlib.contextmanager
def served(index: Path):
    """Serve an index on any free port; gives its address."""
    listener = listen(0)
    listener.listen()
    server = make_server(make_app(load_index(index), "cpu"), "critical")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def make_parrot(folder: Path, tokenizer, says: list[int]) -> Path:
    """A model folder of a model that says these tokens in their order, whatever it is asked; none may stand twice.

    Its stream holds the last token alone, as all weights but embedding and head are zero.
    """
    n = (len(tokenizer) + 7) // 8 * 8
    sizes: dict[str, Any] = {"vocab_size": n, "hidden_size": n, "intermediate_size": 8, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "max_position_embeddings": 128, "tie_word_embeddings": False}
    network = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    )
    follows = dict(zip(says, [*says[1:], 2], strict=True))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" not in name:
                weight.zero_()
        network.model.embed_tokens.weight[:] = torch.eye(n)
        for token in range(n):
            network.lm_head.weight[follows.get(token, says[0]), token] = 2.0
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_client(folder: Path, model: Path, **options) -> TestClient:
    """A client of a new index of a model folder, with a dictionary of eight features that nobody trained."""
    loaded = sonde.load_model(str(model), device="cpu")
    network: Any = loaded.network
    dictionary = L1(8, network.config.hidden_size).at("layers.0.residual")
    index = sonde.index(loaded, dictionary, ["the red bridge stands by the bay"] * 4, out=folder, device="cpu")
    return TestClient(make_app(index, "cpu", **options), raise_server_exceptions=False)
