"""The built page, as files: a server sends them, and an export copies them."""

from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles

STATIC = Path(str(resources.files("sonde").joinpath("web/static")))


def is_built() -> bool:
    return (STATIC / "index.html").exists()


def add_page(app: FastAPI) -> None:
    """Serve the page at an app's root, or the command that builds it."""
    if is_built():
        app.mount("/", StaticFiles(directory=STATIC, html=True))
        return

    @app.get("/", include_in_schema=False)
    def no_page() -> Response:
        return Response("The page is not built. Run `make page`, then start again.\n", media_type="text/plain")
