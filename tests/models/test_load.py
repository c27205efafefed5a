"""Loading: over several devices, quantised, and gated, with a token that is written nowhere."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from sonde.dictionaries.l1 import L1
from sonde.errors import ModelError, SettingsError
from sonde.models.load import load_model
from sonde.steering.directions import Clamp
from tests.known import known
from tests.models.test_sites import PutBack
from tests.tiny import WIDTH, make_model, make_tokenizer, write_model

TOKEN = "hf_" + "thisIsASecret" * 3
SITES = ["embedding", "layers.0.residual_mid", "layers.1.residual", "layers.2.mlp", "final", "logits"]


def test_attention_can_be_chosen(tmp_path):
    folder = write_model(tmp_path / "model", "llama")
    network: Any = load_model(folder, attention="eager").network
    assert network.config._attn_implementation == "eager"
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(folder, attention="nonsense")
    with pytest.raises(SettingsError, match="device 'nowhere' is not known"):
        load_model(folder, device="nowhere")


@pytest.mark.parametrize("family", ["llama", "opt", "llava"])
def test_a_model_over_several_devices_reads_and_writes_the_same(tmp_path, family):
    """Layer 1 lies on disk and comes in as it is needed, which is how transformers places what a device cannot hold."""
    pytest.importorskip("accelerate")
    folder = write_model(tmp_path / "model", family)
    plain = load_model(folder)
    layers = {"llama": "model.layers.", "opt": "model.decoder.layers.", "llava": "model.language_model.layers."}[family]
    owners = {name.rpartition(".")[0] for name, _ in plain.network.named_parameters()} | {"lm_head"}
    places: dict[str, int | str] = {owner: "cpu" for owner in owners if not owner.startswith(f"{layers}1")}
    places[f"{layers}1"] = "disk"
    spread = load_model(folder, device=places)
    assert any(weight.device.type == "meta" for weight in spread.network.parameters()), "something must be on disk"
    tokens, same = plain.tokenize(["the red bridge", "bay"]), spread.tokenize(["the red bridge", "bay"])
    for site, value in plain.read(tokens, SITES).items():
        assert torch.equal(spread.read(same, SITES)[site], value), site
    torch.testing.assert_close(spread.unembed(torch.ones(2, WIDTH)), plain.unembed(torch.ones(2, WIDTH)))

    torch.manual_seed(0)
    dictionary = L1(8, WIDTH).at("layers.1.residual").requires_grad_(False)
    for weight in (dictionary.W_enc, dictionary.W_dec):
        weight.normal_()
    answers = []
    for model in (plain, spread):
        with model.edited(Clamp(dictionary, 3, 4.0)):
            answers.append(model.generate_ids(model.tokenize("the red", "left"), 6))
    assert torch.equal(*answers)
    assert not torch.equal(answers[0], plain.generate_ids(plain.tokenize("the red", "left"), 6))


def test_spread_lets_transformers_place_the_model(tmp_path):
    pytest.importorskip("accelerate")
    folder = write_model(tmp_path / "model", "llama")
    spread, plain = load_model(folder, device="spread", dtype="float32"), load_model(folder)
    assert torch.equal(spread.logits("the bay").cpu(), plain.logits("the bay").cpu())


def test_quantised_weights_are_read_and_edited_as_transformers_loads_them(tmp_path):
    """Dynamic int8 linear layers have no parameters: sites are where they are, in the model's dtype."""
    model = make_model("llama")
    with torch.no_grad():
        plain = model.logits("the red bridge")
    pytest.importorskip("torchao", reason="torchao, which quantises here, is not installed")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, TorchAoConfig

    folder = write_model(tmp_path / "model", "llama")
    quantised = AutoModelForCausalLM.from_pretrained(folder, quantization_config=TorchAoConfig(Int8WeightOnlyConfig()))
    quantised.save_pretrained(tmp_path / "int8", safe_serialization=False)
    make_tokenizer().save_pretrained(tmp_path / "int8")
    loaded = load_model(tmp_path / "int8")
    assert loaded.dtype == torch.float32 and loaded.network.is_quantized
    tokens = loaded.tokenize("the red bridge")
    logits = loaded.logits(tokens)
    assert not torch.equal(logits, plain) and torch.allclose(logits, plain, atol=0.5)
    read = loaded.read(tokens, loaded.sites())
    assert torch.equal(read["logits"], logits)
    for site in loaded.sites():
        with loaded.edited(PutBack(site)):
            assert torch.equal(loaded.logits(tokens), logits), site
    torch.testing.assert_close(loaded.unembed(torch.ones(WIDTH)), model.unembed(torch.ones(WIDTH)), atol=0.2, rtol=0.1)


class GatedHub(BaseHTTPRequestHandler):
    """A model hub with one model, for those who bring the token."""

    folder = None
    seen: list[str] = []

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        GatedHub.seen.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        if "/tree/" in self.path:
            names = [file.name for file in known(self.folder).iterdir()]
            files = [{"path": name, "type": "file", "size": 1, "oid": "0"} for name in names]
            return self.reply(200, json.dumps(files).encode(), {})
        if self.path.startswith("/api/models/someone/gated"):
            files = [{"rfilename": file.name} for file in known(self.folder).iterdir()]
            return self.reply(200, json.dumps({"id": "someone/gated", "sha": "c" * 40, "siblings": files}).encode(), {})
        file = known(self.folder) / self.path.split("/")[-1].split("?")[0]
        if "/resolve/" not in self.path or not file.is_file():
            return self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        return self.reply(200, file.read_bytes(), {"ETag": f'"{file.name}"', "X-Repo-Commit": "c" * 40})

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_gated_model_is_loaded_with_a_token_that_is_written_nowhere(tmp_path):
    GatedHub.folder = write_model(tmp_path / "model", "llama")
    server = ThreadingHTTPServer(("127.0.0.1", 0), GatedHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "c.jsonl").write_text('{"text": "the red bridge"}\n{"text": "the bay"}\n')
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "PATH": "/usr/bin:/bin"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    harvest = ["harvest", "--model", "someone/gated", "--text", str(tmp_path / "c.jsonl"), "--held-out", "0"]
    harvest += ["--site", "layers.1.residual", "--out"]

    def sonde(out: str, home: str, **more: str):
        command = [sys.executable, "-m", "sonde.cli", *harvest, str(tmp_path / out)]
        variables = environment | {"HF_HOME": str(tmp_path / home), "PYTHONPATH": ":".join(sys.path)} | more
        return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120)

    try:
        refused = sonde("none", "home1")
        given = sonde("acts", "home2", HF_TOKEN=TOKEN)
    finally:
        server.shutdown()
        server.server_close()
    assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1
    assert "someone/gated" in refused.stderr and "HF_TOKEN" in refused.stderr
    assert given.returncode == 0, given.stderr
    assert "21 rows" in given.stdout
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), f"{file} holds the token"
    assert TOKEN not in given.stdout + given.stderr
