"""Recipes: a kind from outside is trained, saved and loaded as any other, and wrong use of kinds is named."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

import sonde
from sonde.dictionaries.dictionary import Elementwise
from sonde.dictionaries.load import KINDS
from sonde.errors import ArtifactForeignError, SettingsError
from sonde.settings import Count
from sonde.training import settings as settings_module
from sonde.training.losses import dense_loss
from sonde.training.recipes import BUILT_IN, kinds, recipe_class, register
from sonde.training.recipes.recipe import Defaults, Recipe
from sonde.training.run import Run
from sonde.training.settings import OF_SOME_KINDS, TrainSettings, kinds_with
from tests.known import known
from tests.training.test_train import planted


class Cut(Elementwise):
    """A ReLU in training; in use, what is above one threshold."""

    kind = "cut"
    threshold: torch.Tensor

    def __init__(self, n_features, d_in, d_out=None, *, k, skip=False):
        super().__init__(n_features, d_in, d_out, skip=skip, k=k)
        self.k = k
        self.register_buffer("threshold", torch.zeros(n_features))

    def act(self, pre, features=slice(None)):
        return pre * (pre > self.threshold[features])

    def _fold_more(self, unit):
        self.threshold.mul_(unit)


@pytest.fixture
def cut(own_kinds):
    @register
    class CutRecipe(Recipe):
        dictionary_class = Cut

        k: int = 5
        sparsity: float | None = None

        @property
        def defaults(self):
            return Defaults(sparsity=2.0, sparsity_warm_up=0.1, revived=True)

        def kind_settings(self):
            return {"k": self.k}

        def loss(self, dictionary, x, y, settings):
            activations = (x @ dictionary.W_enc.T + dictionary.b_enc).relu()
            error = y - activations @ dictionary.W_dec - dictionary.base(x)
            penalty = settings.sparsity * activations.sum(dim=1).mean() / settings.variance
            return dense_loss(dictionary, x, error, activations, settings, penalty)

        def finish(self, dictionary, sample):
            x = next(sample(4096))
            pre = (x @ dictionary.W_enc.T + dictionary.b_enc).flatten()
            dictionary.threshold.fill_(pre.topk(self.k * len(x)).values[-1].item())

    return CutRecipe


OPTIONS: dict[str, Any] = {
    "kind": "cut",
    "n_features": 64,
    "k": 3,
    "tokens": 100_000,
    "batch_size": 256,
    "device": "cpu",
}


def test_a_kind_from_outside_learns_and_is_loaded(cut, tmp_path):
    store, directions = planted(tmp_path / "acts")
    made = sonde.train(store, out=tmp_path / "d", **OPTIONS)
    assert known(made.info.quality).fvu < 0.3 and known(made.info.quality).l0 == pytest.approx(3, rel=0.1)
    loaded = sonde.load_dictionary(tmp_path / "d", "cpu")
    assert type(loaded) is Cut and loaded.k == 3 and loaded.info.kind_settings == {"k": 3}
    assert (directions @ loaded.W_dec.T).max(dim=1).values.mean() > 0.9
    x = next(store.stream(64)).float()
    assert loaded.threshold.min() > 0 and torch.equal(loaded.encode(x), made.encode(x))


def test_a_kind_from_outside_resumes_and_is_swept(cut, tmp_path, monkeypatch):
    store, _ = planted(tmp_path / "acts", n=3000)
    options = {"n_features": 64, "tokens": 10_000, "batch_size": 256, "device": "cpu", "checkpoint_every_s": 0.0}
    whole = sonde.sweep(store, out=tmp_path / "sweep", over={"kind": ["cut", "topk"], "sparsity": [2.0]}, **options)
    assert [known(dictionary.artifact).folder.name for dictionary in whole] == ["kind=cut-sparsity=2.0", "kind=topk"]
    step = Run.step

    def stop(run, rows):
        if run.step_number == 20:
            raise KeyboardInterrupt
        return step(run, rows)

    monkeypatch.setattr(Run, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        sonde.train(store, kind="cut", sparsity=2.0, out=tmp_path / "part", **options)
    monkeypatch.setattr(Run, "step", step)
    resumed = sonde.train(store, kind="cut", sparsity=2.0, out=tmp_path / "part", **options)
    assert known(resumed.artifact).manifest.files == known(whole[0].artifact).manifest.files


def test_a_kind_that_is_not_known_is_named(cut, tmp_path):
    store, _ = planted(tmp_path / "acts", n=3000)
    known = "topk, batchtopk, matryoshka, l1, jumprelu, gated, cut"
    with pytest.raises(SettingsError, match=f"kind is 'cuts', but must be one of {known}, or .*register.*mean cut"):
        sonde.train(store, out=tmp_path / "d", **OPTIONS | {"kind": "cuts"})
    sonde.train(store, out=tmp_path / "d", **OPTIONS | {"tokens": 1000})
    del KINDS["cut"]
    with pytest.raises(ArtifactForeignError, match=r"of kind 'cut', but known are topk, .*recipes\.register"):
        sonde.load_dictionary(tmp_path / "d")
    KINDS["cut"] = Cut


def test_settings_that_a_kind_does_not_take_are_refused(cut, tmp_path):
    with pytest.raises(SettingsError, match="prefixes is .* but must be left out unless kind is matryoshka"):
        TrainSettings(kind="cut", n_features=Count(8), prefixes=(Count(4), Count(8)), out=tmp_path)
    with pytest.raises(SettingsError, match="k is 2, but must be left out unless kind is topk, .*, cut"):
        TrainSettings(kind="l1", n_features=Count(8), k=Count(2), out=tmp_path)
    assert TrainSettings(kind="cut", n_features=Count(8), out=tmp_path).recipe == cut(n_features=8, k=5)
    with_k = TrainSettings(kind="cut", n_features=Count(8), k=Count(2), out=tmp_path)
    assert with_k.recipe == cut(n_features=8, k=2)


def test_sonde_s_own_kinds_are_not_replaced(own_kinds):
    class TopK(Elementwise):
        kind = "topk"

    before = recipe_class("topk")
    with pytest.raises(SettingsError, match="MyRecipe is of kind 'topk', which sonde has"):

        @register
        class MyRecipe(Recipe):
            dictionary_class = TopK

    assert recipe_class("topk") is before and kinds() == list(BUILT_IN)


def test_help_names_the_kinds_that_a_setting_is_for():
    """The words before the colon of a setting's help are the kinds whose recipes take it."""
    classes = [node for node in ast.parse(inspect.getsource(settings_module)).body if isinstance(node, ast.ClassDef)]
    [body] = [node.body for node in classes if node.name == "TrainSettings"]
    helps = {
        ast.unparse(field.target): ast.literal_eval(text.value)
        for field, text in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    assert set(helps) == {field.name for field in dataclasses.fields(TrainSettings)}
    for name in OF_SOME_KINDS:
        assert set(re.split(", ", helps[name].partition(":")[0])) == set(kinds_with(name)), name
    assert set(re.findall(r"\w+", helps["kind"].partition(";")[0])) - {"or"} == set(BUILT_IN)


def test_settings_are_described_without_torch():
    code = "import sys, sonde.cli; code = sonde.cli.run(['train', '--help']); print(code, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 False"
