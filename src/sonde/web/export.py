"""An index as a folder of files that any browser opens, with no server and no sonde: what goes with a paper.

index.html, assets/     the page
data/index.js           what the index holds, a row for each feature, and the map
data/features-K.js      64 features with their examples each, packed
data/picture-D-N.webp   pictures of the examples

A page that is opened from a folder may load scripts and pictures, but may not fetch; so the data are scripts.
"""

import base64
import gzip
import json
import shutil
from importlib import resources
from pathlib import Path

from pydantic import BaseModel

from sonde.errors import ServeError
from sonde.features.index import Index, load_index
from sonde.manifests import write_bytes
from sonde.progress import Reporter, Silent
from sonde.web import views, wire

AT_ONCE = 64
EXAMPLES = 10
AROUND = 9
"""pieces on both sides of the strongest in a list"""
MODULE = '<script type="module" crossorigin '


def export(
    index: Index | str | Path, out: str | Path, *, examples: int = EXAMPLES, reporter: Reporter | None = None
) -> Path:
    """Write an index as a folder of static files; returns the page's path. The views that need the model are left out.

    Args:
        out: a new folder, or one that an export wrote before.
        examples: of each feature.

    Raises:
        ServeError: the folder holds something else, or the page is not built.
        StorageError: it cannot be written.
    """
    loaded = index if isinstance(index, Index) else load_index(index)
    folder = Path(out)
    static = Path(str(resources.files("sonde").joinpath("web/static")))
    if not (static / "index.html").exists():
        raise ServeError("the page is not built, so it cannot be exported; run `make page`")
    page = folder / "index.html"
    if folder.exists() and any(folder.iterdir()) and not (folder / "data" / "index.js").exists():
        raise ServeError(f"{folder} holds something else; give a new folder to export to")
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "data"
    data.mkdir(parents=True)
    shutil.copytree(static, folder, dirs_exist_ok=True)
    rows: list[wire.FeatureRow] = []
    with (reporter or Silent()).start("export", loaded.n_features, "features") as progress:
        for place, first in enumerate(range(0, loaded.n_features, AT_ONCE)):
            numbers = range(first, min(first + AT_ONCE, loaded.n_features))
            shown = [views.feature_view(loaded, number, examples, "top") for number in numbers]
            _save_pictures(loaded, shown, data)
            packed = gzip.compress(_json([_plain(view) for view in shown]), mtime=0)
            text = base64.b64encode(packed).decode()
            write_bytes(data / f"features-{place}.js", f'sondeExport.take({place}, "{text}");\n'.encode())
            rows += [_short(row) for row in views.feature_rows(loaded, numbers)]
            progress.advance(len(numbers))
    # Where things lie on this machine is nobody's business.
    told = {"folder": loaded.folder.resolve().name, "sizes": [], "can_chat": False}
    info = views.index_info(loaded).model_copy(update=told)
    found = {
        "index": _plain(info),
        "start": _plain(views.start_view(loaded)),
        "rows": [_plain(row) for row in rows],
        "atOnce": AT_ONCE,
        "map": None if loaded.map is None else _plain(views.map_view(loaded)),
        "points": "" if loaded.map is None else base64.b64encode(views.map_points(loaded)).decode(),
    }
    write_bytes(data / "index.js", b"window.sondeExport = " + _json(found) + b";\n")
    html = page.read_text(encoding="utf-8")
    assert MODULE in html, "the page's script is where the build puts it"
    write_bytes(page, html.replace(MODULE, '<script defer src="data/index.js"></script>\n    <script defer ').encode())
    return page


def _plain(view: BaseModel) -> dict:
    return view.model_dump(mode="json")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _short(row: wire.FeatureRow) -> wire.FeatureRow:
    """A row with as much of its example as a list shows."""
    example = row.example
    if example is None:
        return row
    first, last = max(0, example.peak - AROUND), example.peak + AROUND
    pictures = [
        picture.model_copy(update={"piece": picture.piece - first})
        for picture in example.pictures
        if first <= picture.piece < last
    ]
    short = {"pieces": example.pieces[first:last], "peak": example.peak - first, "pictures": pictures}
    return row.model_copy(update={"example": example.model_copy(update=short)})


def _save_pictures(index: Index, shown: list[wire.FeatureView], data: Path) -> None:
    for view in shown:
        for example in view.examples:
            for picture in example.pictures:
                path = data / f"picture-{example.document}-{picture.number}.webp"
                if not path.exists():
                    write_bytes(path, index.picture(example.document, picture.number))
