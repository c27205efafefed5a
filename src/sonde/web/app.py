"""The server of an index: features, their examples, texts read, and answers under edits.

It listens on this machine only, answers only to its own name (so that no other site can reach it through a
browser), reads nothing outside the index and the built page, and loads the model at the first question. Dictionaries of other sizes that were indexed
on the same text are served beside it, under /at/NAME/.
"""

import threading
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Response
from fastapi import Path as PathParameter
from fastapi.staticfiles import StaticFiles

import sonde
from sonde.features.index import By, Index
from sonde.features.reader import Fired, Hit, Reader
from sonde.models.load import load_model
from sonde.models.model import Model
from sonde.steering.apply import make_edits
from sonde.steering.batching import Batcher
from sonde.steering.dose import dose_response
from sonde.steering.presets import load_presets, save_preset
from sonde.web import views, wire
from sonde.web.guard import keep_to_itself, say_errors
from sonde.web.openai import add_protocol

STRONGEST = 3
"""features named at each token of a text that is read"""
MOST_NUMBERS = 100_000
TEXTS_KEPT = 16
_problems: dict[int | str, dict] = {status: {"model": wire.Problem} for status in (400, 404, 413, 422, 429)}
Number = Annotated[int, PathParameter(ge=0, le=2**31)]


def make_app(index: Index, device: str = "auto", *, name: str = "", token: str = "") -> FastAPI:
    """Make the server of an index, and of its siblings.

    Args:
        name: a further name or address that it answers to, besides this machine's own.
        token: what every request must bring as `Authorization: Bearer TOKEN`, if anything.
    """
    model = LazyModel(index, device)
    app = make_api(index, model)
    keep_to_itself(app, name, token)
    for one in reversed(views.family(index)):
        beside = make_api(one, model)
        app.mount(f"/at/{one.folder.resolve().name}", beside)
        _add_page(beside)
    _add_page(app)
    return app


class LazyModel:
    """Loads the model when it is first needed; looking at features needs none."""

    def __init__(self, index: Index, device: str) -> None:
        self._index, self._device = index, device
        self._found: tuple[Model, Batcher] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> tuple[Model, Batcher]:
        """The model, and what alone runs it, so that nothing else runs at the same time."""
        with self._lock:
            if self._found is None:
                model = load_model(self._index.manifest.facts["model"]["name"], device=self._device)
                self._found = model, Batcher(model)
            return self._found


def make_api(index: Index, loaded: Callable[[], tuple[Model, Batcher]]) -> FastAPI:
    """What the server of one index answers; `loaded` gives the model, and what alone runs it."""
    app = FastAPI(title="sonde", version=sonde.__version__, docs_url=None, redoc_url=None)
    say_errors(app)
    add_protocol(app, index, loaded)

    @lru_cache(maxsize=1)
    def reader() -> Reader:
        model, batcher = loaded()
        return batcher.run(lambda: Reader(index, model))

    @lru_cache(maxsize=TEXTS_KEPT)
    def read(text: str) -> Fired:
        own = reader()
        return loaded()[1].run(lambda: own.read(text))

    def found(asked: wire.AskFeatures) -> np.ndarray:
        by_text = asked.by == "text" and asked.query.strip()
        fires_on = read(asked.query).summed_up("max", index.n_features) if by_text else None
        return views.found_features(index, asked, fires_on)

    @app.get("/api/index")
    def get_index() -> wire.IndexInfo:
        """What the index holds."""
        return views.index_info(index)

    @app.get("/api/start")
    def get_start() -> wire.StartView:
        """How good the dictionary is, how it was trained, and a few features."""
        return views.start_view(index)

    @app.get("/api/features", responses=_problems)
    def get_features(asked: Annotated[wire.AskPage, Query()]) -> wire.FeatureList:
        """Features in an order: all, those within bounds, and those that a query finds, best first."""
        numbers = found(asked)
        rows = views.feature_rows(index, numbers[asked.offset : asked.offset + asked.limit])
        return wire.FeatureList(total=len(numbers), features=rows)

    @app.get("/api/numbers", responses=_problems)
    def get_numbers(asked: Annotated[wire.AskFeatures, Query()]) -> list[int]:
        """The numbers alone of the features that are found, 100,000 at most."""
        return found(asked)[:MOST_NUMBERS].tolist()

    @app.get("/api/features/{number}", responses=_problems)
    def get_feature(
        number: Number, examples: Annotated[int, Query(ge=1, le=100)] = 20, by: By = "top"
    ) -> wire.FeatureView:
        """One feature with its examples: the strongest, some at random, or from equal intervals of activation."""
        return views.feature_view(index, number, examples, by)

    @app.post("/api/features/{number}/activations", responses=_problems)
    def post_activations(number: Number, asked: wire.AskActivations) -> wire.ActivationsView:
        """One feature on a text."""
        index.feature(number)
        fired = read(asked.text)
        return wire.ActivationsView(pieces=list(fired.pieces), values=fired.of(number).tolist())

    @app.post("/api/features/{number}/label", responses=_problems)
    def post_label(number: Number, said: wire.Saying) -> wire.LabelView:
        """Give a feature a label; what it was called before is kept."""
        index.feature(number)
        return views.label_view(index.labels.say(number, said.text))

    @app.post("/api/features/{number}/note", responses=_problems)
    def post_note(number: Number, said: wire.Saying) -> list[str]:
        """Add a note to a feature; returns all of its notes."""
        index.feature(number)
        index.labels.note(number, said.text)
        return index.labels.notes(number)

    @app.get(
        "/api/pictures/{document}/{number}",
        responses=_problems | {200: {"content": {"image/webp": {}}}},
        response_class=Response,
    )
    def get_picture(document: Annotated[int, PathParameter(ge=0, le=2**62)], number: Number) -> Response:
        """A picture of the text, as the model saw it."""
        image = index.picture(document, number)
        return Response(image, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/api/map", responses=_problems)
    def get_map() -> wire.MapView:
        """The clusters of the map."""
        return views.map_view(index)

    @app.get(
        "/api/map/points",
        responses=_problems | {200: {"content": {"application/octet-stream": {}}}},
        response_class=Response,
    )
    def get_map_points() -> Response:
        """x, y (float32), cluster (int32) and density (float32) of all features, one column after the other."""
        views.map_view(index)
        return Response(views.map_points(index), media_type="application/octet-stream")

    @app.post("/api/read", responses=_problems)
    def post_read(asked: wire.AskReading) -> wire.ReadingView:
        """The features that fire most on a text, and where on it; and on another text, if there is one."""
        fired = read(asked.text)
        other = read(asked.unlike) if asked.unlike.strip() else None
        own = reader()

        def hits(here: Fired, there: Fired | None) -> list[wire.HitView]:
            ranked = own.search(here, unlike=there or (), on=asked.on, n=asked.n)
            return [_hit_view(hit, here, there) for hit in ranked]

        strongest = _strongest(index, fired)
        labels = index.labels.of([hit.feature for hits in strongest for hit in hits])
        return wire.ReadingView(
            pieces=list(fired.pieces),
            strongest=strongest,
            names={number: label.label for number, label in labels.items()},
            features=hits(fired, other),
            other_pieces=list(other.pieces) if other else [],
            other_features=hits(other, fired) if other else [],
        )

    @app.post("/api/dose", responses=_problems)
    def post_dose(asked: wire.AskDose) -> list[wire.DoseView]:
        """Answers to a question as features are turned further, and where they break."""
        model, batcher = loaded()
        model.need_head("answers")
        prompt = model.chat([{"role": "user", "content": asked.question}])
        responses = dose_response(
            reader(), batcher, asked.edits, prompt, doses=asked.doses, max_tokens=asked.max_tokens, confined=True
        )
        return [
            wire.DoseView(dose=one.dose, answer=one.answer, concept=one.concept, perplexity=one.perplexity)
            for one in responses
        ]

    @app.get("/api/presets")
    def get_presets() -> list[wire.Preset]:
        """Edits that are kept under a name."""
        return [
            wire.Preset(name=name, edits=list(map(str, edits))) for name, edits in load_presets(index.folder).items()
        ]

    @app.post("/api/presets", responses=_problems)
    def post_preset(given: wire.Preset) -> list[wire.Preset]:
        """Keep edits under a name; returns all presets."""
        make_edits(given.edits, index, confined=True)
        save_preset(index.folder, given.name, given.edits)
        return get_presets()

    return app


def _add_page(app: FastAPI) -> None:
    static = Path(str(resources.files("sonde").joinpath("web/static")))
    if (static / "index.html").exists():
        app.mount("/", StaticFiles(directory=static, html=True))
    else:

        @app.get("/", include_in_schema=False)
        def no_page() -> Response:
            return Response("The page is not built. Run `make page`, then start again.\n", media_type="text/plain")


def _hit_view(hit: Hit, here: Fired, there: Fired | None) -> wire.HitView:
    return wire.HitView(
        feature=hit.feature.number,
        score=hit.score,
        maximum=hit.feature.maximum,
        values=here.of(hit.feature.number).tolist(),
        other_values=there.of(hit.feature.number).tolist() if there else [],
        label=views.label_of(hit.feature),
        usual=hit.feature.usual_tokens(),
    )


def _strongest(index: Index, fired: Fired) -> list[list[wire.TokenHit]]:
    """Of each token, the features that fire most on it, in units of their maxima."""
    maxima = np.maximum(index.statistics["maximum"][fired.feature], 1e-30)
    relative = np.where(index.statistics["maximum"][fired.feature] > 0, fired.value / maxima, 0)
    order = np.lexsort((-relative, fired.position))
    found: list[list[wire.TokenHit]] = [[] for _ in fired.pieces]
    for place in order.tolist():
        own = found[int(fired.position[place])]
        if len(own) < STRONGEST and relative[place] > 0:
            own.append(wire.TokenHit(feature=int(fired.feature[place]), value=float(relative[place])))
    return found
