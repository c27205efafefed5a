"""An index as a folder of files that any browser opens, with no server and no sonde: a supplement to a paper.

index.html, assets/     the page
data/index.js           what the index holds, a row for each feature, and the map
data/features-K.js      64 features with their examples each, compressed
data/picture-D-N.webp   pictures of the examples

A page that is opened from a folder may load scripts and pictures, but may not fetch; so the data are scripts.
"""

import base64
import gzip
import json
import shutil
from pathlib import Path

from pydantic import BaseModel

from sonde.artifacts import alone_in
from sonde.errors import ServeError
from sonde.features.index import Index, load_index
from sonde.locks import LOCK
from sonde.manifests import write_bytes
from sonde.progress import Progress, Reporter, default_reporter
from sonde.remote import local_path
from sonde.web import wire
from sonde.web.api.features import feature_rows, feature_view
from sonde.web.api.index import index_info, start_view
from sonde.web.api.maps import map_points, map_view
from sonde.web.page import STATIC, is_built

FEATURES_PER_FILE = 64
EXAMPLES = 10
PIECES_AROUND = 9
"""pieces that a list shows on each side of the strongest"""
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
        OutputBusyError: another run is writing it.
        StorageError: it cannot be written.
    """
    loaded = index if isinstance(index, Index) else load_index(index)
    folder = local_path(out)
    if not is_built():
        raise ServeError("the page is not built, so it cannot be exported; run `make page`")
    with alone_in(folder):
        _clear(folder)
        _copy_page(folder)
        with (reporter or default_reporter()).start("export", loaded.n_features, "features") as progress:
            rows = _write_features(loaded, folder / "data", examples, progress)
        _write_index(loaded, folder / "data", rows)
    return folder / "index.html"


def _clear(folder: Path) -> None:
    """Empty a folder of what an earlier export left in it, also one that broke off: data/index.js is always there."""
    data = folder / "data"
    others = [path for path in folder.iterdir() if path.name != LOCK]
    if others and not (data / "index.js").exists():
        raise ServeError(f"{folder} holds something else; give a new folder to export to")
    data.mkdir(exist_ok=True)
    write_bytes(data / "index.js", b"")
    for path in [*others, *data.iterdir()]:
        if path.is_dir() and path != data and not path.is_symlink():
            shutil.rmtree(path)
        elif path not in (data, data / "index.js"):
            path.unlink()


def _copy_page(folder: Path) -> None:
    """The page, changed so that it loads the data and runs without a server."""
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    page = folder / "index.html"
    html = page.read_text(encoding="utf-8")
    assert MODULE in html, "the page's script is where the build puts it"
    write_bytes(page, html.replace(MODULE, '<script defer src="data/index.js"></script>\n    <script defer ').encode())


def _write_features(index: Index, data: Path, examples: int, progress: Progress) -> list[wire.FeatureRow]:
    """Write all features with their pictures; returns the rows of the table."""
    rows: list[wire.FeatureRow] = []
    for place, first in enumerate(range(0, index.n_features, FEATURES_PER_FILE)):
        numbers = range(first, min(first + FEATURES_PER_FILE, index.n_features))
        views = [feature_view(index, number, examples, "top") for number in numbers]
        _write_pictures(index, views, data)
        compressed = gzip.compress(_json([_plain(view) for view in views]), mtime=0)
        text = base64.b64encode(compressed).decode()
        write_bytes(data / f"features-{place}.js", f'sondeExport.take({place}, "{text}");\n'.encode())
        rows += [_shorten(row) for row in feature_rows(index, numbers)]
        progress.advance(len(numbers))
    return rows


def _write_index(index: Index, data: Path, rows: list[wire.FeatureRow]) -> None:
    """Write all but the features themselves, without paths of this machine."""
    changes = {"folder": index.folder.resolve().name, "sizes": [], "can_chat": False}
    has_map = index.map is not None
    exported = {
        "index": _plain(index_info(index).model_copy(update=changes)),
        "start": _plain(start_view(index)),
        "rows": [_plain(row) for row in rows],
        "atOnce": FEATURES_PER_FILE,
        "map": _plain(map_view(index)) if has_map else None,
        "points": base64.b64encode(map_points(index)).decode() if has_map else "",
    }
    write_bytes(data / "index.js", b"window.sondeExport = " + _json(exported) + b";\n")


def _write_pictures(index: Index, views: list[wire.FeatureView], data: Path) -> None:
    for example in (example for view in views for example in view.examples):
        for picture in example.pictures:
            path = data / f"picture-{example.document}-{picture.number}.webp"
            if not path.exists():
                write_bytes(path, index.picture(example.document, picture.number))


def _shorten(row: wire.FeatureRow) -> wire.FeatureRow:
    """A row with as much of its example as a list shows."""
    example = row.example
    if example is None:
        return row
    first, last = max(0, example.peak - PIECES_AROUND), example.peak + PIECES_AROUND
    pictures = [
        picture.model_copy(update={"piece": picture.piece - first})
        for picture in example.pictures
        if first <= picture.piece < last
    ]
    short = {"pieces": example.pieces[first:last], "peak": example.peak - first, "pictures": pictures}
    return row.model_copy(update={"example": example.model_copy(update=short)})


def _plain(view: BaseModel) -> dict:
    return view.model_dump(mode="json")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
