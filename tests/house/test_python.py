"""A notebook reads like the command line: each verb is a function of the same name, with the same settings."""

import inspect
import subprocess
import sys
from typing import Any

import pytest

import sonde
from sonde.cli import make_app, verbs
from sonde.errors import SondeError
from sonde.features.labels import Labels

PYTHON_NAMES = {"import": "from_vectors"}
"""verbs whose names Python keeps for itself"""
MODULES = {"world"}
PRINTING = {"json"}
ELSEWHERE = {
    "demo": {"serve": sonde.serve, "port": sonde.open, "browser": sonde.open},
    "train": {"live": sonde.Live, "model": sonde.Live, "text": sonde.Live, "dtype": sonde.load_model}
    | dict.fromkeys(["pool", "context", "pack", "held_out", "store", "field", "special"], sonde.Live)
    | dict.fromkeys(["drop_first", "massive", "skip_bad"], sonde.Live)
    | {"sweep": sonde.sweep, "wandb": sonde.train, "measure": sonde.measure}
    | {"replacement": sonde.train_replacement},
    "trace": {"prompts": sonde.trace_prompts, "validate": sonde.validate_graph}
    | {"set": sonde.intervene, "attention": sonde.intervene, "look": sonde.look},
    "show": {"verify": sonde.show},
    "chat": dict.fromkeys(["prompt", "max_new_tokens", "temperature", "top_p", "seed"], sonde.Session.answer)
    | dict.fromkeys(["frequency_penalty", "presence_penalty"], sonde.Session.answer)
    | {"image": sonde.Session.question},
    "label": {"export": Labels.export, "import": Labels.import_},
}
"""verb -> flag -> what it is in Python, where other functions do it; each is checked to take it, or to be it"""
RENAMED = {
    "prompt": "messages",
    "set": "settings",
    "wandb": "log",
    "verify": "options",
    "export": "path",
    "import": "path",
}
IN_PYTHON_ALONE = {"reporter", "log", "decide", "token", "background", "options"}
"""functions and objects, which a command line cannot name, and what its environment says"""
FIRST = {"show": {"folder": "thing"}}


def flags(verb: str) -> dict[str, Any]:
    """The name of each flag and argument of a verb -> its default."""
    found = (each for each in make_app(verbs_say=True)[verb].assemble_argument_collection() if each.parse)
    named = {each.name.lstrip("-").lower().replace("-", "_"): each.field_info.default for each in found}
    return {name: default for name, default in named.items() if name != "*" and name not in PRINTING}


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(function).parameters.items() if name != "self"}


def functions() -> list[str]:
    """Names in `sonde` that are called, and are not classes."""
    return [name for name in dir(sonde) if inspect.isfunction(getattr(sonde, name, None))]


@pytest.mark.parametrize("verb", [verb for verb in verbs() if verb not in MODULES])
def test_each_verb_is_a_function_whose_keywords_are_its_flags(verb):
    taken = parameters(getattr(sonde, PYTHON_NAMES.get(verb, verb)))
    given = {FIRST.get(verb, {}).get(flag, flag) for flag in flags(verb)}
    elsewhere = ELSEWHERE.get(verb, {})
    assert given - set(elsewhere) == set(taken) - IN_PYTHON_ALONE - set(elsewhere)
    for flag, function in elsewhere.items():
        others = parameters(function)
        assert flag in given and (flag in others or RENAMED.get(flag) in others or flag in function.__name__.lower())


def test_the_modules_are_modules():
    assert all(inspect.ismodule(getattr(sonde, name)) for name in MODULES)


@pytest.mark.parametrize("verb", [verb for verb in verbs() if verb not in MODULES])
def test_flags_and_keywords_have_the_same_defaults(verb):
    taken = parameters(getattr(sonde, PYTHON_NAMES.get(verb, verb)))
    for flag, default in flags(verb).items():
        if flag in taken and flag not in ELSEWHERE.get(verb, {}) and taken[flag].default is not inspect.Parameter.empty:
            ours = taken[flag].default
            same = default == ours or str(default) == str(ours) or default is inspect.Parameter.empty
            assert same or (not default and not ours), f"{verb} {flag}: {default!r} and {ours!r}"


@pytest.mark.parametrize("name", functions())
def test_every_function_shows_what_it_takes_and_refuses_what_it_does_not(name):
    function = getattr(sonde, name)
    taken = parameters(function)
    assert function.__name__ == name
    assert not [each for each in taken.values() if each.kind is each.VAR_KEYWORD] or name == "show"
    for each in taken:
        said = inspect.getdoc(function) or ""
        assert each in said or "as for `" in said, f"sonde.{name} says nothing of {each}"
    if name != "show":
        with pytest.raises(SondeError, match=f"sonde.{name} has no setting 'zzz'; help\\(sonde.{name}\\) lists all"):
            function(zzz=1)
    with pytest.raises(SondeError, match=f"sonde.{name} (needs|takes)"):
        function() if any(each.default is each.empty for each in taken.values()) else function(*range(9))


def test_the_names_of_pythons_own_functions_stay_with_it():
    names: dict[str, Any] = {}
    exec("from sonde import *", names)
    assert names["train"] is sonde.train and not {"map", "open"} & set(names)
    assert {"map", "open", "train"} <= set(dir(sonde))


def test_help_of_a_verb_lists_every_setting_with_its_default():
    signature = str(inspect.signature(sonde.train))
    assert "kind: str = 'topk'" in signature and "clip: float = 1.0" in signature and "settings" not in signature
    assert "n_features: int | str," in signature
    text = inspect.getdoc(sonde.train) or ""
    assert "Settings (the fields of `TrainSettings`):" in text and "\n    lr: peak learning rate; by default" in text


def test_settings_show_without_torch():
    code = "import sys, sonde, sonde.calls, sonde.features.search; sonde.search; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


# ---------------------------------------------------------------- wrong calls


@pytest.fixture(scope="module")
def things(walk):
    index = sonde.load_index(walk.index)
    made: dict[str, Any] = {
        "model": sonde.load_model(walk.model),
        "store": sonde.load_activations(walk.acts),
        "index": index,
    }
    made |= {"dictionary": sonde.load_dictionary(walk.topk), "texts": ["a", "b"], "sonde": sonde, "walk": walk}
    return made | {"session": sonde.Session(index, made["model"])}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "sonde.train(store, n_feature=3, out='x')",
            "sonde.train has no setting 'n_feature'; did you mean n_features?",
        ),
        ("sonde.train(store, k=3)", "sonde.train needs n_features and out; call it as sonde.train(activations, n_feat"),
        ("sonde.train(store, 64)", "takes only activations without a name, but was also given 64; name it"),
        ("sonde.train(store, activations=store)", "sonde.train was given activations twice"),
        (
            "sonde.train(model, n_features=3, out='x')",
            "activations is a Model, but must be Activations, Live, a path, ",
        ),
        ("sonde.train([3], n_features=3, out='x')", "activations is a list, but must be"),
        ("sonde.index(dictionary, model, texts, out='x')", "a TopK is what dictionary takes: sonde.index(model, dicti"),
        ("sonde.index(model, dictionary, out='x')", "sonde.index needs text"),
        (
            "sonde.harvest(texts, model, site='final', out='x')",
            "model is a list, but must be Model or a path; text is a Model, so call it as sonde.h",
        ),
        ("sonde.harvest(model, texts, site=3, out='x')", "site is 3, but must be a str or a list of str"),
        (
            "sonde.measure(model)",
            "dictionary is a Model, but must be Dictionary or a path; a Model is what model takes",
        ),
        ("sonde.label(index, judges='x')", "did you mean judge?"),
        ("sonde.Reader(dictionary)", "sonde.Reader: index is a TopK, but must be Index or a path"),
        ("sonde.Session(index, edit='x')", "sonde.Session has no setting 'edit'; did you mean edits?"),
        ("sonde.Live(model, texts, sites='final')", "sonde.Live has no setting 'sites'; did you mean site?"),
        (
            "sonde.make_edits('feature:3=1', 'index')",
            "source is a str ('index'), but must be Dictionary, Index or None",
        ),
        ("sonde.load_model(model)", "sonde.load_model: name is a Model, but must be a path"),
        ("sonde.search(walk.index, 3)", "words is 3, but must be a str"),
        ("sonde.search(index)", "one thing only"),
        ("sonde.search(index, 'bridge', like=3)", "one thing only"),
        ("sonde.search(index, density='much')", "density: 'much' is not a range; write"),
        ("sonde.read(index, 'a bridge', on='first')", "on is 'first', but must be max, last, mean, or a range"),
        ("sonde.feature(index, 999999)", "there is no feature 999999: the index has features 0 to 63"),
        ("sonde.splitting(index, index, feature=99)", "there is no feature 99"),
        ("sonde.concepts(session.reader, texts, 'label')", "a list of texts goes with a list of labels"),
        ("sonde.completeness(session.reader, ['bridge'], prompt='x')", "the prompt 'x' has no {concept} in it"),
        ("sonde.chat(index, 'feature:3')", "cannot read the edit"),
        ("sonde.dose(session, 'feature:3=1')", "sonde.dose needs prompt; call it as sonde.dose(index, edit, prompt)"),
        ("sonde.preset(index, remove=True)", "give the name of a preset"),
        ("sonde.serve(index, host='0.0.0.0', token='')", "set a token in SONDE_TOKEN"),
        ("sonde.open(index, port='8321')", "sonde.open: port is a str ('8321'), but must be a whole number"),
        ("index.feature(999999)", "there is no feature 999999"),
        ("index.feature('3')", "Index.feature: number is a str ('3'), but must be a whole number"),
        ("index.search(['bridge'])", "Index.search: words is a list, but must be a str"),
        ("model.read('a text')", "Model.read needs sites; call it as Model.read(tokens, sites)"),
        ("model.read('a text', 'layers.9.residual')", "the model has layers 0 to 2"),
        ("session.answer('who?', max_tokens=3)", "did you mean max_new_tokens?"),
        ("session.answer('who?', 3)", "edits is 3, but must be"),
    ],
)
def test_a_wrong_call_is_one_line_that_names_the_fix(call, message, things):
    with pytest.raises(SondeError) as caught:
        eval(call, dict(things))
    assert message in str(caught.value) and "\n" not in str(caught.value)
