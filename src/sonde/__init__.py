"""sonde reads what a language model is thinking: features, where they fire, and what turning them does.

    model = sonde.load_model("gpt2")
    store = sonde.harvest(model, "corpus.jsonl", site="layers.6.residual", out="acts")
    dictionary = sonde.train(store, kind="topk", n_features=16_384, k=32, out="dict")
    index = sonde.index(model, dictionary, "corpus.jsonl", out="index")

Each verb of the command line is a function of the same name with the same settings; `sonde import` alone, whose name
Python keeps for itself, is `from_vectors`. Each name is imported when it is first used, so `import sonde` costs
nothing.
"""

import builtins
import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "load_model": "sonde.models.load",
    "wrap_model": "sonde.models.load",
    "Model": "sonde.models.model",
    "generate": "sonde.steering.generate",
    "sites": "sonde.models.listing",
    "harvest": "sonde.activations.harvest",
    "Activations": "sonde.activations.store",
    "load_activations": "sonde.activations.store",
    "from_vectors": "sonde.activations.ready",
    "Live": "sonde.activations.live",
    "train": "sonde.training.train",
    "sweep": "sonde.training.train",
    "Dictionary": "sonde.dictionaries.dictionary",
    "load_dictionary": "sonde.dictionaries.load",
    "save_dictionary": "sonde.dictionaries.load",
    "measure": "sonde.analysis.measure",
    "index": "sonde.features.build",
    "Index": "sonde.features.index",
    "load_index": "sonde.features.index",
    "search": "sonde.features.search",
    "feature": "sonde.features.index",
    "Reader": "sonde.features.reader",
    "read": "sonde.features.reader",
    "map": "sonde.analysis.layout:feature_map",
    "neurons": "sonde.analysis.neurons",
    "effects": "sonde.analysis.effects",
    "splitting": "sonde.analysis.splitting",
    "completeness": "sonde.analysis.completeness",
    "concepts": "sonde.probes.concepts",
    "attribute": "sonde.circuits.attribution",
    "patch": "sonde.circuits.patching",
    "heads": "sonde.circuits.heads",
    "label": "sonde.labels.label",
    "train_replacement": "sonde.circuits.replacement",
    "load_replacement": "sonde.circuits.replacement",
    "replacement": "sonde.circuits.fidelity",
    "trace": "sonde.circuits.trace",
    "trace_prompts": "sonde.circuits.pool",
    "load_graph": "sonde.circuits.graph",
    "look": "sonde.circuits.looking",
    "intervene": "sonde.circuits.interventions",
    "validate_graph": "sonde.circuits.interventions",
    "Edit": "sonde.steering.edits",
    "make_edits": "sonde.steering.apply",
    "Clamp": "sonde.steering.directions",
    "Add": "sonde.steering.directions",
    "Scale": "sonde.steering.directions",
    "Ablate": "sonde.steering.directions",
    "VectorEdit": "sonde.steering.directions",
    "NeuronEdit": "sonde.steering.replace",
    "Replace": "sonde.steering.replace",
    "save_vector": "sonde.steering.vectors",
    "load_vector": "sonde.steering.vectors",
    "Session": "sonde.steering.session",
    "chat": "sonde.steering.session",
    "dose": "sonde.steering.session",
    "preset": "sonde.steering.presets",
    "open": "sonde.web.serve:open_index",
    "serve": "sonde.web.serve",
    "show": "sonde.showing",
    "demo": "sonde.cases.demo",
}
"""name -> module, and after a colon its name there, where that is another"""

# `from sonde import *` leaves Python's own `open` and `map` alone.
__all__ = [*(name for name in _WHERE if not hasattr(builtins, name)), "__version__", "world"]

if TYPE_CHECKING:
    from sonde.activations.harvest import harvest as harvest
    from sonde.activations.live import Live as Live
    from sonde.activations.ready import from_vectors as from_vectors
    from sonde.activations.store import Activations as Activations
    from sonde.activations.store import load_activations as load_activations
    from sonde.analysis.completeness import completeness as completeness
    from sonde.analysis.effects import effects as effects
    from sonde.analysis.layout import feature_map as map  # noqa: F401
    from sonde.analysis.measure import measure as measure
    from sonde.analysis.neurons import neurons as neurons
    from sonde.analysis.splitting import splitting as splitting
    from sonde.cases.demo import demo as demo
    from sonde.circuits.attribution import attribute as attribute
    from sonde.circuits.fidelity import replacement as replacement
    from sonde.circuits.graph import load_graph as load_graph
    from sonde.circuits.heads import heads as heads
    from sonde.circuits.interventions import intervene as intervene
    from sonde.circuits.interventions import validate_graph as validate_graph
    from sonde.circuits.looking import look as look
    from sonde.circuits.patching import patch as patch
    from sonde.circuits.pool import trace_prompts as trace_prompts
    from sonde.circuits.replacement import load_replacement as load_replacement
    from sonde.circuits.replacement import train_replacement as train_replacement
    from sonde.circuits.trace import trace as trace
    from sonde.dictionaries.dictionary import Dictionary as Dictionary
    from sonde.dictionaries.load import load_dictionary as load_dictionary
    from sonde.dictionaries.load import save_dictionary as save_dictionary
    from sonde.features.build import index as index
    from sonde.features.index import Index as Index
    from sonde.features.index import feature as feature
    from sonde.features.index import load_index as load_index
    from sonde.features.reader import Reader as Reader
    from sonde.features.reader import read as read
    from sonde.features.search import search as search
    from sonde.labels.label import label as label
    from sonde.models.listing import sites as sites
    from sonde.models.load import load_model as load_model
    from sonde.models.load import wrap_model as wrap_model
    from sonde.models.model import Model as Model
    from sonde.probes.concepts import concepts as concepts
    from sonde.showing import show as show
    from sonde.steering.apply import make_edits as make_edits
    from sonde.steering.directions import Ablate as Ablate
    from sonde.steering.directions import Add as Add
    from sonde.steering.directions import Clamp as Clamp
    from sonde.steering.directions import Scale as Scale
    from sonde.steering.directions import VectorEdit as VectorEdit
    from sonde.steering.edits import Edit as Edit
    from sonde.steering.generate import generate as generate
    from sonde.steering.presets import preset as preset
    from sonde.steering.replace import NeuronEdit as NeuronEdit
    from sonde.steering.replace import Replace as Replace
    from sonde.steering.session import Session as Session
    from sonde.steering.session import chat as chat
    from sonde.steering.session import dose as dose
    from sonde.steering.vectors import load_vector as load_vector
    from sonde.steering.vectors import save_vector as save_vector
    from sonde.training.train import sweep as sweep
    from sonde.training.train import train as train
    from sonde.web.serve import open_index as open  # noqa: F401
    from sonde.web.serve import serve as serve


def __getattr__(name: str) -> Any:
    if name == "world":
        return importlib.import_module("sonde_world")
    if name not in _WHERE:
        raise AttributeError(f"module 'sonde' has no attribute {name!r}")
    module, _, own_name = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), own_name or name)


def __dir__() -> list[str]:
    return sorted({*_WHERE, *__all__})
