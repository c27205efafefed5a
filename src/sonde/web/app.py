"""The server of one index: features, their examples, and answers under edits.

It listens on this machine only, answers only to its own name (so that no other site can reach it through a
browser), reads nothing outside the index and the built page, and loads the model at the first question.
"""

import hmac
import re
import threading
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

import sonde
from sonde.errors import ArtifactMissingError, BusyError, EditError, FeatureError, ModelError, SondeError
from sonde.features.store import By, Example, Feature, Index
from sonde.manifests import find_parent
from sonde.models.model import Model
from sonde.steering.batching import Batcher
from sonde.steering.edits import make_edits, parse_spec
from sonde.steering.presets import load_presets, save_preset
from sonde.steering.session import Session
from sonde.web import wire
from sonde.web.openai import ModelUnknown, add_protocol, error_body

SECURITY_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "testserver")
MAX_BODY_BYTES = 1 << 20
Sort = Literal["number", "density", "maximum"]
_problems: dict[int | str, dict] = {status: {"model": wire.Problem} for status in (400, 404, 413, 422)}


def make_app(index: Index, device: str = "auto", *, name: str = "", token: str = "") -> FastAPI:
    """Make the server of an index.

    Args:
        name: a further name or address that it answers to, besides this machine's own.
        token: what every request must bring as `Authorization: Bearer TOKEN`, if anything.
    """
    app = FastAPI(title="sonde", version=sonde.__version__, docs_url=None, redoc_url=None)
    session = LazySession(index, device)
    _guard(app, (*OWN_NAMES, name) if name else OWN_NAMES, token)
    add_protocol(app, index, session.loaded)

    @app.get("/api/index")
    def get_index() -> wire.IndexInfo:
        """What the index holds."""
        return _index_info(index)

    @app.get("/api/features", responses=_problems)
    def get_features(
        query: Annotated[str, Query(max_length=500)] = "",
        sort: Sort = "number",
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> wire.FeatureList:
        """Features in an order, or those whose examples hold all words of a query, best first."""
        if query.strip():
            numbers = [feature.number for feature, _ in index.search(query, 1000)]
        else:
            numbers = _sorted_features(index, sort)
        rows = [_feature_row(index, int(number)) for number in numbers[offset : offset + limit]]
        return wire.FeatureList(total=len(numbers), features=rows)

    @app.get("/api/features/{number}", responses=_problems)
    def get_feature(
        number: int, examples: Annotated[int, Query(ge=1, le=100)] = 20, by: By = "top"
    ) -> wire.FeatureView:
        """One feature with its examples: the strongest, some at random, or from equal intervals of activation."""
        feature = index.feature(number)
        return wire.FeatureView(
            feature=number,
            labels=[
                wire.LabelView(label=one.label, by=one.by, at=one.at) for one in reversed(index.labels.history(number))
            ],
            scores=_scores(feature),
            notes=index.labels.notes(number),
            density=feature.density,
            maximum=feature.maximum,
            mean=feature.mean,
            quantiles=feature.quantiles(),
            histogram=feature.histogram(),
            neighbours=_neighbours(feature),
            fires_with=[_neighbour(other, cosine) for other, cosine in feature.fires_with(8)],
            top_logits=[wire.Logit(token=token, value=value) for token, value in feature.top_logits],
            bottom_logits=[wire.Logit(token=token, value=value) for token, value in feature.bottom_logits],
            examples=[_example_view(example) for example in feature.examples(examples, by)],
        )

    @app.post("/api/features/{number}/label", responses=_problems)
    def post_label(number: int, said: wire.Saying) -> wire.LabelView:
        """Give a feature a label; what it was called before is kept."""
        index.feature(number)
        label = index.labels.say(number, said.text)
        return wire.LabelView(label=label.label, by=label.by, at=label.at)

    @app.post("/api/features/{number}/note", responses=_problems)
    def post_note(number: int, said: wire.Saying) -> list[str]:
        """Add a note to a feature; returns all of its notes."""
        index.feature(number)
        index.labels.note(number, said.text)
        return index.labels.notes(number)

    @app.get(
        "/api/pictures/{document}/{number}",
        responses=_problems | {200: {"content": {"image/webp": {}}}},
        response_class=Response,
    )
    def get_picture(
        document: Annotated[int, PathParameter(ge=0, le=2**62)], number: Annotated[int, PathParameter(ge=0, le=2**31)]
    ) -> Response:
        """A picture of the text, as the model saw it."""
        image = index.picture(document, number)
        return Response(image, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/api/read", responses=_problems)
    def post_read(ask: wire.AskReading) -> wire.ReadingView:
        """The features that fire most on a text, and where on it."""
        reader, batcher = session.get(), session.batcher()
        fired, hits = batcher.run(lambda: reader.read(ask.text, unlike=ask.unlike, on=ask.on, n=ask.n))
        return wire.ReadingView(
            pieces=list(fired.pieces),
            features=[
                wire.HitView(
                    feature=hit.feature.number,
                    score=hit.score,
                    maximum=hit.feature.maximum,
                    values=fired.of(hit.feature.number).tolist(),
                    label=_label(hit.feature),
                    usual=hit.feature.usual_tokens(),
                )
                for hit in hits
            ],
        )

    @app.get("/api/presets")
    def get_presets() -> list[wire.Preset]:
        """Edits that are kept under a name."""
        return [
            wire.Preset(name=name, edits=list(map(str, edits))) for name, edits in load_presets(index.folder).items()
        ]

    @app.post("/api/presets", responses=_problems)
    def post_preset(given: wire.Preset) -> list[wire.Preset]:
        """Keep edits under a name; returns all presets."""
        specs = [parse_spec(edit) for edit in given.edits]
        make_edits(specs, index)
        save_preset(index.folder, given.name, specs)
        return get_presets()

    static = Path(str(resources.files("sonde").joinpath("web/static")))
    if (static / "index.html").exists():
        app.mount("/", StaticFiles(directory=static, html=True))
    else:

        @app.get("/", include_in_schema=False)
        def no_page() -> Response:
            return Response("The page is not built. Run `make page`, then start again.\n", media_type="text/plain")

    return app


class LazySession:
    """Loads the model when it is first needed; looking at features needs none."""

    def __init__(self, index: Index, device: str) -> None:
        self._index, self._device = index, device
        self._session: Session | None = None
        self._batcher: Batcher | None = None
        self._lock = threading.Lock()

    def get(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = Session(self._index, device=self._device)
            return self._session

    def batcher(self) -> Batcher:
        """What alone runs the model, so that nothing else runs at the same time."""
        session = self.get()
        with self._lock:
            if self._batcher is None:
                self._batcher = Batcher(session.model)
            return self._batcher

    def loaded(self) -> tuple[Model, Batcher]:
        return self.get().model, self.batcher()


def _guard(app: FastAPI, names: tuple[str, ...], token: str) -> None:
    """Errors as one line of JSON; headers that keep the page to itself; bounds on what is accepted."""

    @app.exception_handler(SondeError)
    def on_error(request: Request, error: SondeError) -> JSONResponse:
        if isinstance(error, BusyError):
            kind, status, headers = "rate_limit_error", 429, {"Retry-After": "1"}
        else:
            kind, headers = "invalid_request_error", None
            status = (
                404 if isinstance(error, FeatureError | ModelUnknown) else 422 if isinstance(error, ModelError) else 400
            )
        if request.url.path.startswith("/v1/"):
            status = 400 if status == 422 or isinstance(error, FeatureError) else status
            param = (
                "edits"
                if isinstance(error, FeatureError | EditError)
                else "model"
                if isinstance(error, ModelUnknown)
                else None
            )
            code = "model_not_found" if isinstance(error, ModelUnknown) else None
            return JSONResponse(error_body(str(error), kind, param, code), status, headers)
        return JSONResponse({"error": str(error)}, status, headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = f"{place or 'request'}: {first['msg']}"
        if request.url.path.startswith("/v1/"):
            return JSONResponse(error_body(message, param=place or None), 400)
        return JSONResponse({"error": message}, 422)

    @app.middleware("http")
    async def bounds(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        host = re.sub(r":\d+$", "", request.headers.get("host", ""))
        if host not in names:
            return JSONResponse({"error": f"this server answers to {OWN_NAMES[0]} only, not to {host!r}"}, 400)
        brought = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(brought.encode(), token.encode()):
            return JSONResponse(
                error_body("a token is wanted: Authorization: Bearer TOKEN", "authentication_error"), 401
            )
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return JSONResponse({"error": f"a request may have {MAX_BODY_BYTES:,} bytes at most"}, 413)
        response = await go_on(request)
        response.headers["Content-Security-Policy"] = SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _index_info(index: Index) -> wire.IndexInfo:
    facts = index.manifest.facts
    _, dictionary = find_parent(index.manifest, "dictionary", index.folder, "dictionary")
    reason = facts["why_no_chat"]
    return wire.IndexInfo(
        model=facts["model"]["name"],
        site=facts["site"],
        kind=dictionary.facts["kind"],
        n_features=index.n_features,
        tokens=facts["tokens"],
        documents=facts["documents"],
        l0=facts["l0"],
        dead=facts["dead"],
        fvu=dictionary.facts["training_rows"]["fvu"],
        text=Path(index.manifest.settings["text"]).name,
        can_chat=reason is None,
        why_no_chat=reason,
    )


def _sorted_features(index: Index, sort: Sort) -> np.ndarray:
    if sort == "number":
        return np.arange(index.n_features)
    return np.argsort(-index.statistics[sort], kind="stable")


def _feature_row(index: Index, number: int) -> wire.FeatureRow:
    feature = index.feature(number)
    examples = feature.examples(1)
    return wire.FeatureRow(
        feature=number,
        label=_label(feature),
        density=feature.density,
        maximum=feature.maximum,
        mean=feature.mean,
        example=_example_view(examples[0]) if examples else None,
    )


def _neighbours(feature: Feature) -> list[wire.Neighbour]:
    try:
        found = feature.neighbours(8)
    except ArtifactMissingError:  # the dictionary has gone, and the rest of the index is whole
        return []
    return [_neighbour(other, cosine) for other, cosine in found]


def _neighbour(other: Feature, cosine: float) -> wire.Neighbour:
    return wire.Neighbour(feature=other.number, label=_label(other), cosine=cosine)


def _label(feature: Feature) -> str | None:
    said = feature.label
    return said.label if said is not None else None


def _scores(feature: Feature) -> list[wire.ScoreView]:
    """The newest of each test, of the label that the feature has now or of none."""
    now = (_label(feature), "")
    latest = {score.score: score for score in feature.index.labels.scores(feature.number) if score.label in now}
    return [
        wire.ScoreView(
            score=score.score,
            value=score.value,
            chance=score.details.get("chance"),
            control=score.details.get("another feature's label"),
            by=score.by,
        )
        for score in latest.values()
    ]


def _example_view(example: Example) -> wire.ExampleView:
    return wire.ExampleView(
        document=example.document,
        position=example.position,
        value=example.value,
        peak=example.peak,
        pieces=[wire.Piece(text=text, value=value) for text, value in example.pieces],
        pictures=[
            wire.PictureView(number=p.number, piece=p.piece, rows=p.rows, columns=p.columns, values=list(p.values))
            for p in example.pictures
        ],
    )
