"""The server of an index: features, their examples, texts read, and answers under edits.

It listens on this machine only, answers only to its own name (so that no other site can reach it through a browser),
reads nothing outside the index and the built page, and loads the model at the first request that needs it. Dictionaries
of other sizes that were indexed on the same text are served beside it, under /at/NAME/.
"""

from fastapi import FastAPI

import sonde
from sonde.features.index import Index
from sonde.web import openai
from sonde.web.api import features, index, labels, maps, pictures, reading, steering
from sonde.web.api.sizes import all_sizes
from sonde.web.guard import Guard, add_error_handlers
from sonde.web.page import add_page
from sonde.web.served import ModelLoader, Served

NOUNS = (openai, index, features, labels, pictures, maps, reading, steering)


def make_app(index: Index, device: str = "auto", *, name: str = "", token: str = "") -> FastAPI:
    """Make the server of an index, and of the indexes of other sizes beside it.

    Args:
        name: a further name or address that it answers to, besides this machine's own.
        token: what every request must bring as `Authorization: Bearer TOKEN`, if anything.
    """
    loader = ModelLoader(index, device)
    app = make_api(Served(index, loader))
    app.add_middleware(Guard, name=name, token=token)
    for sibling in reversed(all_sizes(index)):
        beside = make_api(Served(sibling, loader))
        app.mount(f"/at/{sibling.folder.resolve().name}", beside)
        add_page(beside)
    add_page(app)
    return app


def make_api(served: Served) -> FastAPI:
    """The routes of one index, without the page."""
    app = FastAPI(title="sonde", version=sonde.__version__, docs_url=None, redoc_url=None)
    app.state.served = served
    add_error_handlers(app)
    for noun in NOUNS:
        app.include_router(noun.router)
    return app
