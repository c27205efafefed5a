"""Serving from Python: in the background it returns at once and gives its port back; a notebook never waits."""

import asyncio
import json
import urllib.request

import pytest

import sonde
from sonde.errors import ServeError
from sonde.web.page import is_built
from sonde.web.serve import Server
from tests.known import known


def facts(server: Server) -> dict:
    with urllib.request.urlopen(server.address + "api/index", timeout=10) as answer:
        return json.load(answer)


def test_a_server_in_the_background_answers_until_it_is_stopped(walk, capsys):
    with known(sonde.serve(walk.index, port=0, device="cpu", background=True)) as server:
        assert facts(server)["n_features"] == 64
        port = int(server.address.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(ServeError, match="is in use"):
            sonde.serve(walk.index, port=port, background=True)
    assert repr(server) == f"Server({server.address}, stopped)" and "stop() ends it" in capsys.readouterr().err
    opened = sonde.open(walk.index, port=port, browser=False, background=True)
    assert isinstance(opened, Server)
    with opened as again:
        assert again.address == server.address and facts(again)["n_features"] == 64


def test_in_a_notebook_whose_loop_runs_already_it_does_not_wait(walk):
    async def cell() -> Server | None:
        return sonde.serve(walk.index, port=0, device="cpu")

    server = asyncio.run(cell())
    assert server is not None and facts(server)["n_features"] == 64
    server.stop()


def test_a_token_from_the_environment_is_wanted_of_every_request(walk, monkeypatch):
    monkeypatch.setenv("SONDE_TOKEN", "secret")
    with known(sonde.serve(walk.index, port=0, device="cpu", background=True)) as server:
        with pytest.raises(urllib.error.HTTPError) as refused:
            facts(server)
        refused.value.close()
        assert refused.value.code == 401


@pytest.mark.skipif(not is_built(), reason="the page is not built")
def test_open_exports_the_page(walk, tmp_path):
    assert sonde.open(walk.index, export=tmp_path / "page") == tmp_path / "page/index.html"
