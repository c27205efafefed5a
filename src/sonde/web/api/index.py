"""The index as a whole: what it holds, and how good its dictionary is."""

import json
from pathlib import Path

import numpy as np
from fastapi import APIRouter

from sonde.analysis.measure import MEASUREMENT
from sonde.dictionaries.info import DictionaryInfo
from sonde.features.index import Index
from sonde.steering.presets import load_presets
from sonde.web import wire
from sonde.web.api.features import feature_rows
from sonde.web.api.sizes import size_views
from sonde.web.served import ServedIndex

CURVE_POINTS = 200
DECADES_PER_BIN = 0.25
FEATURED = 6
router = APIRouter()


@router.get("/api/index")
def get_index(served: ServedIndex) -> wire.IndexInfo:
    """What the index holds."""
    return index_info(served.index)


@router.get("/api/start")
def get_start(served: ServedIndex) -> wire.StartView:
    """How good the dictionary is, how it was trained, and a few features."""
    return start_view(served.index)


def index_info(index: Index) -> wire.IndexInfo:
    facts, dictionary = index.facts, DictionaryInfo.of(index.find_dictionary())
    return wire.IndexInfo(
        model=facts.model.short_name,
        site=facts.site,
        kind=dictionary.kind,
        n_features=index.n_features,
        tokens=facts.tokens,
        documents=facts.documents,
        l0=facts.l0,
        dead=facts.dead,
        fvu=dictionary.quality.fvu if dictionary.quality else None,
        text=Path(index.manifest.settings["text"]).name,
        folder=str(index.folder.resolve()),
        labelled=index.labels.n_labelled,
        has_map=index.map is not None,
        has_neurons=index.neurons is not None,
        sizes=size_views(index),
        can_chat=facts.why_no_chat is None,
        why_no_chat=facts.why_no_chat,
    )


def start_view(index: Index) -> wire.StartView:
    return wire.StartView(
        figures=_figures(index), curve=_curve(index), densities=_densities(index), featured=_featured(index)
    )


def _figures(index: Index) -> list[wire.Figure]:
    """Quality on held-out documents where `sonde measure` has run, on training rows where not."""
    dictionary = index.find_dictionary()
    quality = DictionaryInfo.of(dictionary).quality
    fvu, l0, where = (
        (quality.fvu, quality.l0, f"on {quality.rows:,} training rows") if quality else (None, index.facts.l0, "")
    )
    recovered: dict[str, float | None] = {}
    try:
        measured = json.loads((Path(str(dictionary.folder)) / MEASUREMENT).read_text(encoding="utf-8"))
        fvu, l0, recovered = measured["fvu"], measured["l0"], measured["loss_recovered"]
        where = f"on {measured['tokens']:,} tokens of documents that were not trained on"
    except (OSError, ValueError, KeyError):
        pass
    rows = [
        ("Features on a token", l0, False, "fire at once, on average (L0)"),
        ("Dead features", index.facts.dead, True, "fire nowhere in the text of this index"),
    ]
    if recovered.get("zero") is not None:
        says = "of the loss added by setting the site to zero, when reconstructions replace its activations"
        rows.insert(0, ("Loss recovered", recovered["zero"], True, says))
    if fvu is not None:
        rows.insert(0, ("Variance explained", 1 - fvu, True, f"of the activations at the site, {where}"))
    return [wire.Figure(name=name, value=value, is_share=share, says=says) for name, value, share, says in rows]


def _curve(index: Index) -> list[wire.CurvePoint]:
    """Training over time, as far as it was recorded."""
    folder, _ = index.find_dictionary()
    try:
        lines = (Path(str(folder)) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        points = [wire.CurvePoint(**{name: row[name] for name in wire.CurvePoint.model_fields}) for row in rows]
    except (OSError, ValueError, KeyError):
        return []
    places = np.unique(np.linspace(0, len(points) - 1, CURVE_POINTS).round().astype(int)) if points else []
    return [points[place] for place in places]


def _densities(index: Index) -> list[wire.DensityBin]:
    """How many features have a density within each quarter of a decade."""
    density = index.statistics["density"]
    fires = density[density > 0]
    if not len(fires):
        return []
    quarter = np.floor(np.log10(fires) / DECADES_PER_BIN).astype(int)
    return [
        wire.DensityBin(
            low=10 ** (at * DECADES_PER_BIN), high=10 ** ((at + 1) * DECADES_PER_BIN), count=int((quarter == at).sum())
        )
        for at in range(int(quarter.min()), int(quarter.max()) + 1)
    ]


def _featured(index: Index) -> list[wire.FeatureRow]:
    """Features of presets, then others that are worth a first look."""
    presets = load_presets(index.folder).values()
    numbers = dict.fromkeys(number for edits in presets for edit in edits for number in edit.numbers)
    return feature_rows(index, index.featured(FEATURED, numbers))
