"""Training without a store: every row of the text once a pass, drawn from a pool, and resumed from a step alone."""

import itertools
import json
from collections import Counter
from typing import Any

import pytest
import torch

import sonde
from sonde.cli import run
from sonde.errors import ActivationError, SettingsError, SiteError, TextError
from sonde.training.run import Run
from tests.known import known
from tests.tiny import make_model, texts

SITE = "layers.1.residual"


def live(documents: list[str], **settings: Any) -> sonde.Live:
    chosen: dict[str, Any] = {"pool": 300, "store": "float32"} | settings
    return sonde.Live(make_model(), documents, site=SITE, **chosen)


def counted(x: torch.Tensor) -> Counter:
    """How often each row occurs; rounded, since a row's last bits depend on its batch."""
    return Counter(tuple(row) for row in x[:, :6].round(decimals=3).tolist())


def test_no_row_is_drawn_twice_before_the_text_ends(tmp_path):
    documents = texts(60)
    store = sonde.harvest(make_model(), documents, site=SITE, store="float32", out=tmp_path / "a")
    rows = counted(next(store.stream(store.n_rows)))
    source = live(documents)
    drawn = torch.cat(list(itertools.islice(source.stream(16), (store.n_rows - 300) // 16)))
    assert len(drawn) > 1000 and counted(drawn) <= rows
    assert counted(torch.cat(list(source.sample(10_000)))) <= rows


@pytest.mark.parametrize("step", [0, 1, 7, 40, 120])
def test_the_stream_resumes_from_its_step_alone(step):
    """Also after several passes through the text, when the pool holds rows of more than one."""
    documents = texts(20)
    source = live(documents, pool=200)
    whole = list(itertools.islice(source.stream(32), step + 12))
    resumed = live(documents, pool=200).stream(32, start=32 * step)
    for expected in whole[step:]:
        assert torch.equal(next(resumed), expected)


def test_rows_of_a_document_leave_the_pool_apart():
    """Rows that come together are mixed with the whole pool; in the order of the text neighbours stay neighbours."""
    documents = [f"{'x' * (number % 7)} document {number} speaks of itself alone." for number in range(200)]
    source = live(documents, pool=2000, held_out=0.0)
    other = live(documents, pool=2000, held_out=0.0, seed=1)
    first, second = next(source.stream(64)), next(other.stream(64))
    assert not torch.equal(first, second)
    sample = torch.cat(list(source.sample(2000)))
    near = (sample[:, None] - first[None]).abs().sum(dim=2).argmin(dim=0).sort().values
    assert near[-1] - near[0] > 1500  # a batch is from all over the pool


def test_statistics_are_those_of_the_first_rows():
    source = live(texts(30))
    rows = torch.cat(list(source.sample(10_000))).double()
    assert len(rows) == 300
    torch.testing.assert_close(source.mean, rows.mean(dim=0))
    assert source.variance == pytest.approx((rows - rows.mean(dim=0)).square().sum(dim=1).mean().item())


def test_a_text_that_is_shorter_than_the_pool_fills_what_it_can():
    source = live(texts(3), pool=10**6, held_out=0.0)
    assert 0 < source.n_rows < 1000 and len(next(source.stream(source.n_rows))) == source.n_rows
    with pytest.raises(SettingsError, match="at most the rows of the pool"):
        next(source.stream(source.n_rows + 1))
    with pytest.raises(TextError, match="no tokens were left"):
        live(texts(2), held_out=0.9999).n_rows  # noqa: B018


def test_train_live_resumes_bit_equal_and_is_measured_on_held_out_text(walk, tmp_path, monkeypatch):
    options = {"n_features": 48, "k": 4, "tokens": 20_000, "device": "cpu", "checkpoint_every_s": 0.0}
    source = sonde.Live(walk.model, walk.corpus, site=SITE, pool=2000, held_out=0.1)
    whole = sonde.train(source, out=tmp_path / "whole", **options)
    step = Run.step

    def stop(run, rows):
        if run.step_number == 17:
            raise KeyboardInterrupt
        return step(run, rows)

    monkeypatch.setattr(Run, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.train(source, out=tmp_path / "part", **options)
    monkeypatch.setattr(Run, "step", step)
    resumed = sonde.train(source, out=tmp_path / "part", **options)
    assert (
        torch.equal(resumed.W_dec, whole.W_dec)
        and known(resumed.artifact).manifest.id == known(whole.artifact).manifest.id
    )
    found = sonde.measure(whole)
    stored = sonde.train(walk.acts, out=tmp_path / "stored", **options)
    expected = sonde.measure(stored)
    assert found.documents == expected.documents and found.tokens == expected.tokens
    assert found.fvu == pytest.approx(expected.fvu, rel=0.3)


def test_what_is_wrong_with_a_live_run_is_said(walk, tmp_path, capsys):
    with pytest.raises(SettingsError, match="tokens is None, but must be given where rows come live"):
        sonde.train(live(texts(9)), n_features=8, k=2, out=tmp_path / "d")
    with pytest.raises(
        SettingsError, match=r"site is 'layers\.0\.residual', but must be what is read \(layers\.1\.residual\)"
    ):
        sonde.train(live(texts(9)), n_features=8, k=2, site="layers.0.residual", tokens=500, out=tmp_path / "d")
    with pytest.raises(SiteError):
        sonde.Live(walk.model, walk.corpus, site="layers.9.residual")
    model = make_model()
    network: Any = model.network
    with torch.no_grad():
        network.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(ActivationError, match=r"not finite in document \d+ or near it"):
        sonde.train(sonde.Live(model, texts(9), site=SITE), n_features=8, k=2, tokens=500, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()
    train = ["train", "--n-features", "8", "--k", "2", "--out", str(tmp_path / "d")]
    for arguments, message in (
        (["--live"], "--live needs --model too"),
        (["--live", "--model", "m", "--text", "t", "--site", SITE], "--live needs --tokens too"),
        ([], "train needs --activations"),
        (["--activations", str(walk.acts), "--pool", "9"], "--pool goes with --live only"),
        (["--activations", str(walk.acts), "--model", "m"], "--model goes with --live only"),
    ):
        assert run([*train, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_command_line_trains_live(walk, tmp_path, capsys):
    command = ["train", "--live", "--model", str(walk.model), "--text", str(walk.corpus), "--site", SITE]
    command += ["--tokens", "5k", "--pool", "1Ki", "--n-features", "16", "--k", "2", "--out", str(tmp_path / "d")]
    assert run([*command, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reads"] == {SITE: 32}
    assert run(["show", str(tmp_path / "d")]) == 0
    assert run(["measure", "--dictionary", str(tmp_path / "d")]) == 0
