"""Training finds planted features, goes on where it stopped bit for bit, and saves what it measured."""

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sonde
from sonde.activations.store import load_activations
from sonde.cli import run
from sonde.errors import ActivationError, ArtifactDamagedError, OutputOccupiedError, SettingsError, StorageError
from sonde.kernels.sparse import encode_batch_topk_dense
from sonde.settings import Count
from sonde.tensor_files import read_header
from sonde.training import run as run_module
from sonde.training.losses import LossSettings, StepLoss
from sonde.training.plan import make_plan
from sonde.training.recipes import recipe_class
from sonde.training.recipes.jumprelu import jump, step
from sonde.training.run import SUMMARY_LEAST, SUMMARY_ROWS, Run, summary_rows
from sonde.training.settings import TrainSettings
from tests import kill
from tests.dictionaries.test_dictionaries import random_dictionary
from tests.known import known


def planted(folder, n=30_000, width=32, n_true=48, active=3):
    """A store of sums of a few known directions, and the directions."""
    torch.manual_seed(1234)  # not the seed of training, whose first directions would be these
    directions = torch.nn.functional.normalize(torch.randn(n_true, width), dim=1)
    chosen = torch.rand(n, n_true).topk(active, dim=1).indices
    vectors = (directions[chosen] * (0.5 + torch.rand(n, active, 1))).sum(dim=1) + 0.3
    return sonde.from_vectors(vectors, site="layers.0.residual", out=folder, model="none", store="float32"), directions


KINDS = {
    "topk": {"k": 3},
    "multi-topk": {"kind": "topk", "k": 3, "multi_k": True},
    "batchtopk": {"k": 3},
    "matryoshka": {"k": 3},
    "l1": {"sparsity": 1.0},
    "gated": {"sparsity": 2.0},
    "jumprelu-tanh": {"kind": "jumprelu", "sparsity": 0.5},
    "jumprelu-l0": {"kind": "jumprelu", "penalty": "l0", "sparsity": 1e-2},
}


def options_of(name: str) -> dict:
    return {"kind": name} | KINDS[name]


@pytest.mark.parametrize("name", KINDS)
def test_planted_features_are_found(tmp_path, name):
    store, directions = planted(tmp_path / "acts")
    options: dict[str, Any] = {
        "n_features": 96,
        "tokens": 600_000,
        "batch_size": 512,
        "lr": 3e-3,
        "device": "cpu",
    } | options_of(name)
    dictionary = sonde.train(store, out=tmp_path / "d", **options)
    cosines = (directions @ dictionary.W_dec.T).max(dim=1).values
    assert cosines.mean() > 0.94
    quality = dictionary.info.quality
    assert known(quality).fvu < 0.2 and 1.5 < known(quality).l0 < 9


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka"])
def test_a_threshold_keeps_k_on_average_and_does_not_depend_on_the_batch(tmp_path, name):
    store, _ = planted(tmp_path / "acts")
    dictionary = sonde.train(store, n_features=96, tokens=100_000, out=tmp_path / "d", device="cpu", **options_of(name))
    x = next(store.stream(1024, start=store.n_rows - 2048))
    row, feature, value = dictionary.active(x)
    assert len(value) / 1024 == pytest.approx(3, rel=0.05)
    alone = [dictionary.active(single[None]) for single in x[:100]]
    assert sum(len(part[2]) for part in alone) == int((row < 100).sum())
    torch.testing.assert_close(torch.cat([part[2] for part in alone]), value[row < 100])


def test_matryoshka_prefixes_reconstruct_alone(tmp_path):
    store, _ = planted(tmp_path / "acts")
    options = {"n_features": 96, "k": 3, "tokens": 300_000, "device": "cpu", "batch_size": 512}
    nested = sonde.train(store, kind="matryoshka", prefixes=(48, 96), out=tmp_path / "nested", **options)
    plain = sonde.train(store, kind="batchtopk", out=tmp_path / "plain", **options)
    x = next(store.stream(4096))

    def error(dictionary) -> float:
        first = dictionary.encode(x)
        first[:, 48:] = 0
        return (x - dictionary.decode(first)).square().sum().item()

    assert error(nested) < 0.7 * error(plain)
    assert nested.prefixes == [48, 96] and sonde.load_dictionary(tmp_path / "nested").prefixes == [48, 96]


def loss_of(dictionary, x, *, sparsity=0.0, dead=None, aux_k=0, **options) -> StepLoss:
    """The loss of the dictionary's recipe with these options, of rows that it reads and writes."""
    recipe = recipe_class(dictionary.kind)(n_features=dictionary.n_features, **options)
    return recipe.loss(dictionary, x, x, LossSettings(variance=12.0, sparsity=sparsity, dead=dead, aux_k=aux_k))


def test_the_loss_is_an_fvu_and_auxk_revives():
    dictionary, x = random_dictionary("topk"), torch.randn(64, 12)
    plain = loss_of(dictionary, x)
    error = (x - dictionary.reconstruct(x)).square().sum(dim=1).mean()
    torch.testing.assert_close(plain.loss, error / 12.0)
    revived = loss_of(dictionary, x, dead=torch.ones(40, dtype=torch.bool), aux_k=6)
    assert revived.loss > plain.loss
    touched = [
        (torch.autograd.grad(result.loss, [dictionary.W_enc])[0].norm(dim=1) > 0).sum() for result in (plain, revived)
    ]
    assert touched[1] >= touched[0]


@pytest.mark.parametrize("kind", ["l1", "jumprelu"])
def test_a_penalty_does_not_change_when_activations_are_rescaled(kind):
    """f -> a f, W_dec -> W_dec / a leaves it as it is (Scaling Monosemanticity, methods)."""
    dictionary, x = random_dictionary(kind), torch.randn(64, 12)
    before = loss_of(dictionary, x, sparsity=5.0).loss
    scale = torch.rand(40) + 0.5
    with torch.no_grad():
        dictionary.W_enc.mul_(scale[:, None])
        dictionary.b_enc.mul_(scale)
        dictionary.W_dec.div_(scale[:, None])
        if kind == "jumprelu":
            dictionary.get_parameter("log_threshold").add_(scale.log())
    torch.testing.assert_close(loss_of(dictionary, x, sparsity=5.0).loss, before)


@pytest.mark.parametrize("name", KINDS)
def test_losses_are_those_of_the_papers_written_out(name):
    """Each loss and its gradients, where they are not straight-through, against a few dense lines."""
    options = options_of(name)
    dictionary: Any = random_dictionary(options["kind"]).double()
    x = torch.randn(64, 12, dtype=torch.float64)
    more = {name: options[name] for name in ("penalty", "multi_k") if name in options}
    more |= {"bandwidth": 0.5} if options["kind"] == "jumprelu" else {}
    W_enc, W_dec, b_enc, b_dec = (dictionary.get_parameter(n) for n in ("W_enc", "W_dec", "b_enc", "b_dec"))
    pre = x @ W_enc.T + b_enc

    def square(activations):
        return (x - activations @ W_dec - b_dec).square().sum(dim=1).mean()

    def largest(k):
        values, features = pre.topk(k, dim=1)
        return torch.zeros_like(pre).scatter(1, features, values.relu())

    batch = encode_batch_topk_dense(x, W_enc, b_enc, 5)
    above = pre * (pre > dictionary.log_threshold.exp()) if options["kind"] == "jumprelu" else pre.relu()
    norms = W_dec.norm(dim=1)
    expected = {
        "topk": lambda: square(largest(5)),
        "multi-topk": lambda: square(largest(5)) + square(largest(20)) / 8,
        "batchtopk": lambda: square(batch),
        "matryoshka": lambda: torch.stack([square(batch * (torch.arange(40) < n)) for n in (2, 5, 10, 20, 40)]).mean(),
        "l1": lambda: square(above) + 0.7 * (above * norms).sum(dim=1).mean(),
        "gated": lambda: (
            square((pre * dictionary.r.exp() + dictionary.b_magnitude).relu() * (pre > 0))
            + 0.7 * above.sum(dim=1).mean()
            + (x - above @ W_dec.detach() - b_dec.detach()).square().sum(dim=1).mean()
        ),
        "jumprelu-tanh": lambda: (
            square(above)
            + 0.7 * torch.tanh(4 * above * norms).sum(dim=1).mean()
            + 3e-6 * ((dictionary.log_threshold.exp() - pre).relu() * norms).sum(dim=1).mean()
        ),
        "jumprelu-l0": lambda: square(above) + 12 * 0.7 * (above > 0).sum(dim=1).double().mean(),
    }[name]()
    result = loss_of(dictionary, x, sparsity=0.7, **more)
    torch.testing.assert_close(result.loss, expected / 12)
    for parameter in (W_enc, W_dec, b_dec):
        ours, theirs = (
            torch.autograd.grad(loss, [parameter], retain_graph=True)[0] for loss in (result.loss, expected / 12)
        )
        torch.testing.assert_close(ours, theirs)


def test_thresholds_learn_from_what_lies_near_them():
    """Straight-through gradients: -threshold / bandwidth and -1 / bandwidth of what arrives, inside the window."""
    pre = torch.tensor([[0.2], [0.9], [1.2], [3.0]], requires_grad=True)
    threshold = torch.tensor([1.0], requires_grad=True)
    arrives = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    to_pre, to_threshold = torch.autograd.grad((jump(pre, threshold, 0.5) * arrives).sum(), [pre, threshold])
    assert to_pre.flatten().tolist() == [0.0, 0.0, 3.0, 4.0] and to_threshold.item() == pytest.approx(-(2 + 3) / 0.5)
    (to_threshold,) = torch.autograd.grad((step(pre, threshold, 0.5) * arrives).sum(), [threshold])
    assert to_threshold.item() == pytest.approx(-(2 + 3) / 0.5)


def train_slowly(folder, out, name: str) -> None:
    """For a process of its own."""
    options: dict[str, Any] = {"n_features": 48, "tokens": 20_000, "batch_size": 512, "checkpoint_every_s": 0.0}
    if name in ("l1", "gated"):
        options |= {"resample_every": 9, "dead_after": 1500}
    sonde.train(folder, out=out, device="cpu", **options, **options_of(name))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("n_points", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_sigkill_at_any_step_changes_no_bit(walk, tmp_path, name, n_points):
    assert not kill.run(train_slowly, walk.acts, tmp_path / "whole", name)
    whole = sonde.load_dictionary(tmp_path / "whole")
    generator, killed = random.Random(name), 0
    for number in itertools.count():
        out = tmp_path / str(number)

        def at(checkpoint=out / run_module.CHECKPOINT) -> int:
            return step_of(checkpoint)

        for _ in range(3):  # killed again and again, further and further on
            killed += kill.run(train_slowly, walk.acts, out, name, until=kill.Moment(at, 38, generator))
        assert not kill.run(train_slowly, walk.acts, out, name)
        resumed = sonde.load_dictionary(out)
        assert known(resumed.artifact).manifest.id == known(whole.artifact).manifest.id
        assert not (out / run_module.CHECKPOINT).exists()
        if killed >= n_points:
            break


def step_of(checkpoint) -> int:
    try:
        return int(read_header(checkpoint).metadata["step"])
    except ArtifactDamagedError:  # there is none yet
        return 0


def test_a_checkpoint_of_other_settings_is_refused(walk, tmp_path, monkeypatch):
    options: dict[str, Any] = {"n_features": 48, "tokens": 20_000, "checkpoint_every_s": 0.0, "device": "cpu"}
    step = Run.step

    def stop(run, rows):
        if run.step_number == 7:
            raise KeyboardInterrupt
        return step(run, rows)

    monkeypatch.setattr(Run, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.train(walk.acts, out=tmp_path / "part", **options)
    monkeypatch.setattr(Run, "step", step)
    with pytest.raises(OutputOccupiedError, match="unfinished run with other settings"):
        sonde.train(walk.acts, out=tmp_path / "part", **(options | {"n_features": 49}))
    sonde.train(walk.acts, out=tmp_path / "part", **options)
    lines = [json.loads(line) for line in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps)) and sum(lines[-1]["densities"]) == 48


def test_a_full_disk_stops_no_training(walk, tmp_path, monkeypatch):
    said: list[str] = []
    reporter = sonde.progress.Silent()
    reporter.say = lambda line: said.append(line)
    write = run_module.write_bytes

    def full(path, data):
        if path.name == run_module.CHECKPOINT:
            raise StorageError("the disk is full while writing it")
        return write(path, data)

    monkeypatch.setattr(run_module, "write_bytes", full)
    options: dict[str, Any] = {"n_features": 16, "k": 2, "tokens": 5000, "checkpoint_every_s": 0.0, "device": "cpu"}
    dictionary = sonde.train(walk.acts, out=tmp_path / "d", reporter=reporter, **options)
    assert "no checkpoint at step 1: the disk is full" in said[0] and "training goes on" in said[0]
    assert known(dictionary.info.quality).fvu < 1


def test_a_sweep_gives_what_single_runs_give(walk, tmp_path):
    shared: dict[str, Any] = {"tokens": 20_000, "device": "cpu", "n_features": 32}
    logged = []
    made = sonde.sweep(
        walk.acts, out=tmp_path / "sweep", over={"kind": ["topk", "l1"], "k": [2, 4]}, log=logged.append, **shared
    )
    names = [known(dictionary.artifact).folder.name for dictionary in made]
    assert names == ["kind=topk-k=2", "kind=topk-k=4", "kind=l1"]
    varied: list[dict[str, Any]] = [{"k": 2}, {"k": 4}, {"kind": "l1"}]
    for dictionary, options in zip(made, varied, strict=True):
        alone = sonde.train(
            walk.acts, out=tmp_path / f"alone-{known(dictionary.artifact).folder.name}", **shared, **options
        )
        assert torch.equal(alone.W_dec, dictionary.W_dec) and torch.equal(alone.W_enc, dictionary.W_enc)
    assert "kind=l1/fvu" in logged[2]
    again = sonde.sweep(walk.acts, out=tmp_path / "sweep", over={"kind": ["topk", "l1"], "k": [2, 4]}, **shared)
    assert [dictionary.artifact for dictionary in again] == [dictionary.artifact for dictionary in made]
    with pytest.raises(SettingsError, match="a sweep cannot go over tokens"):
        sonde.sweep(walk.acts, out=tmp_path / "none", over={"tokens": [1, 2]}, **shared)


def test_a_stopped_sweep_goes_on(walk, tmp_path, monkeypatch):
    shared = {"tokens": 10_000, "device": "cpu", "n_features": 32, "checkpoint_every_s": 0.0, "over": {"k": [2, 4]}}
    whole = sonde.sweep(walk.acts, out=tmp_path / "whole", **shared)
    step, calls = Run.step, []

    def stop(run, rows):
        calls.append(1)
        if len(calls) == 12:  # the first dictionary is one step further than the second
            raise KeyboardInterrupt
        return step(run, rows)

    monkeypatch.setattr(Run, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.sweep(walk.acts, out=tmp_path / "part", **shared)
    monkeypatch.setattr(Run, "step", step)
    part = sonde.sweep(walk.acts, out=tmp_path / "part", **shared)
    for left, right in zip(whole, part, strict=True):
        assert torch.equal(left.W_dec, right.W_dec)


def test_data_point_start_and_resampling_leave_fewer_dead_features(walk, tmp_path):
    options = {"n_features": 256, "device": "cpu", "aux_k": 0, "dead_after": 1500}

    def dead(name: str, **more) -> float:
        dictionary = sonde.train(walk.acts, out=tmp_path / name, **options, **more)
        return known(dictionary.info.quality).dead

    assert dead("data", k=2, tokens=20_000, init="data") < dead("random", k=2, tokens=20_000)
    l1 = {"kind": "l1", "tokens": 150_000}
    assert dead("again", resample_every=8, **l1) < dead("never", **l1)
    with pytest.raises(SettingsError, match="resample_every is 8, but must be left out unless kind is l1, gated"):
        dead("none", k=2, resample_every=8)


def test_the_plan_follows_store_and_settings(walk):
    store = load_activations(walk.acts)
    plan = make_plan(store, TrainSettings(n_features=Count(64), out=Path("x"), tokens=Count(1_000_000)))
    assert plan.batch_size == 1024 and plan.steps == 976
    assert plan.lr_at(0) < plan.lr_at(plan.warm_up) and plan.lr_at(plan.steps - 1) < plan.lr / 10
    assert plan.scale == pytest.approx({store.site: math.sqrt(store.width / store.variance)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "n_features is 0"),
        ({"n_features": 8, "k": 9}, "k is 9, but must be above 0 and at most"),
        (
            {"n_features": 8, "sparsity": 2.0},
            "sparsity is 2.0, but must be left out unless kind is l1, jumprelu, gated",
        ),
        ({"n_features": 8, "penalty": "l0"}, "penalty is 'l0', but must be left out unless kind is jumprelu"),
        ({"n_features": 8, "kind": "l1", "multi_k": True}, "must be left out unless kind is topk"),
        ({"n_features": 8, "kind": "matryoshka", "prefixes": [4, 2, 8]}, "rising from above 0 to n_features .8."),
        ({"n_features": 8, "kind": "l1", "k": 2}, "k is 2, but must be left out"),
        ({"n_features": 8, "kind": "topq"}, "did you mean topk"),
        ({"n_feature": 8}, "did you mean n_features"),
        ({"n_features": 8, "batch_size": 10**7}, "at most the number of rows"),
    ],
)
def test_wrong_settings_are_named(walk, tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        sonde.train(walk.acts, out=tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()


def test_rows_that_are_all_alike_are_refused(tmp_path):
    for name, rows in (("zeros", torch.zeros(600, 8)), ("ones", torch.ones(600, 8))):
        store = sonde.from_vectors(rows, site="layers.0.residual", out=tmp_path / name)
        with pytest.raises(ActivationError, match=r"all rows at layers\.0\.residual are alike"):
            sonde.train(store, n_features=16, k=2, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_rate_that_is_too_high_says_so(walk, tmp_path):
    with pytest.raises(
        ActivationError, match=r"loss is (nan|inf) at step \d+, on rows of documents \d+, .* more; .* --lr"
    ):
        sonde.train(walk.acts, kind="l1", n_features=16, lr=1e30, tokens=40_000, out=tmp_path / "d", device="cpu")


def test_a_short_run_is_read_over_a_fifth_of_its_rows_in_the_end(tmp_path):
    store, _ = planted(tmp_path / "acts")
    dictionary = sonde.train(
        store, n_features=64, k=3, tokens=30_000, batch_size=1000, out=tmp_path / "d", device="cpu"
    )
    assert known(dictionary.info.quality).rows == pytest.approx(SUMMARY_LEAST, abs=4096)
    plan = make_plan(store, TrainSettings(n_features=Count(64), k=Count(3), out=tmp_path))
    for steps, rows in ((100, 81_920), (320, SUMMARY_ROWS), (319, 319 * 4096 // 5), (10**6, SUMMARY_ROWS)):
        assert summary_rows(replace(plan, steps=steps, batch_size=4096)) == rows


def test_measuring_on_held_out_text_may_be_left_out(walk, tmp_path, capsys):
    flags = ["--activations", walk.acts, "--n-features", 8, "--k", 2, "--tokens", 2000, "--json", "--device", "cpu"]
    for name, flag in (("measured", "--measure"), ("not", "--no-measure")):
        assert run(["train", *map(str, flags), flag, "--out", str(tmp_path / name)]) == 0
        printed = capsys.readouterr()
        assert ("held_out" in json.loads(printed.out)) == (name == "measured")
        assert ("20,000 tokens, or fewer in 60 s" in printed.err) == (name == "measured")


def test_where_nothing_is_reconstructed_nothing_is_shrunk():
    y, none = torch.ones(3, 4), torch.zeros(4)
    for part, gamma in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)):
        assert run_module._gamma(y, StepLoss(none, (1 - part) * y, none, none)) == gamma
