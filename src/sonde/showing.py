"""Show results and artifacts: `show` draws them in a notebook or prints them in a terminal.

`contents` is what an artifact's folder holds.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, print_blocks, shorten, to_html, to_text
from sonde.manifests import Manifest, read_manifest
from sonde.manifests import verify as verify_artifact
from sonde.remote import Place, RemotePath, place
from sonde.settings import format_bytes


@public()
def show(thing: Any, **options: Any) -> None:
    """Draw something: inline in a notebook, as text elsewhere, with colours on a terminal.

    Args:
        thing: an index, a feature, hits, what fires on a text, a dictionary, and whatever else draws itself; the folder
            of an artifact; of anything else its repr is shown.
        options: what its `draw` takes, such as n=3 for the examples of a feature or feature=311 for a text that was
            read; verify=True checks every file of a folder.
    """
    if isinstance(thing, str | Path | RemotePath) and not isinstance(thing, Drawn):
        thing, options = contents(thing, **options), {}
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print_blocks(thing.drawing(**options)) if isinstance(thing, Drawn) else print(thing)
    elif isinstance(thing, Drawn):
        blocks = thing.drawing(**options)
        ipython.display.display({"text/html": to_html(blocks), "text/plain": to_text(blocks)}, raw=True)
    else:
        ipython.display.display(thing)


@dataclass(frozen=True)
class Contents(Drawn):
    """What an artifact's folder holds."""

    manifest: Manifest
    verified: bool
    """whether every file was checked against its checksum"""
    order: dict[str, Any]
    """of activations: the checksum of their order, and the chance that two rows of a batch come from one document"""

    def __repr__(self) -> str:
        return f"Contents({self.manifest.format}, id {self.manifest.id}, {format_bytes(self._bytes)})"

    def draw(self) -> list[Block]:
        manifest = self.manifest
        rows = [["format", f"{manifest.format}, version {manifest.version}"], ["id", manifest.id]]
        rows += [[f"parent: {role}", f"{parent['id']}  {parent['path']}"] for role, parent in manifest.parents.items()]
        rows += [[name, _brief(value)] for name, value in _flat(manifest.facts | self.order)]
        rows += [[f"setting: {name}", _brief(value)] for name, value in manifest.settings.items() if value is not None]
        rows += [[f"library: {name}", version] for name, version in manifest.libraries.items()]
        checked = ", all checksums right" if self.verified else ""
        return [Grid([*rows, ["files", f"{len(manifest.files)}, {format_bytes(self._bytes)}{checked}"]])]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.manifest.id, "verified": self.verified} | self.order | self.manifest.to_json()

    @property
    def _bytes(self) -> int:
        return sum(file["bytes"] for file in self.manifest.files.values())


def contents(folder: str | Place, *, verify: bool = False) -> Contents:
    """What an artifact's folder holds; activations may lie on an object store (s3://, gs://, az://).

    Args:
        verify: check every file against its checksum.

    Raises ArtifactError where the folder is missing, unfinished, truncated, or with `verify` altered.
    """
    path = place(folder)
    manifest = read_manifest(path)
    if manifest.format != "activations":
        return Contents(verify_artifact(path) if verify else manifest, verify, {})
    from sonde.activations.store import load_activations

    store = load_activations(path)
    if verify:
        store.verify()
    order = {"order_checksum": store.facts.order_checksum, "same_document": store.same_document()}
    return Contents(manifest, verify, order)


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested facts as rows: name.name -> value."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _brief(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shorten(str(value), 100)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
