"""sonde show"""

from pathlib import Path

from sonde.cli.common import print_json, table
from sonde.settings import format_bytes


def show(folder: Path, /, *, verify: bool = False, json: bool = False) -> None:
    """Show what an artifact holds.

    Example: sonde show acts --verify

    Parameters
    ----------
    folder: Path
        A folder written by sonde; activations may lie on an object store (s3://, gs://, az://).
    verify: bool
        Check every file against its checksum.
    json: bool
        Print one JSON object.
    """
    from sonde.manifests import read_manifest
    from sonde.manifests import verify as verify_artifact
    from sonde.remote import place

    where = place(folder)
    manifest = read_manifest(where)
    found: dict = {}
    if manifest.format == "activations":
        from sonde.activations.store import load_activations

        store = load_activations(where)
        if verify:
            store.verify()
        found = {"order_checksum": store.facts.order_checksum, "same_document": store.same_document()}
    elif verify:
        verify_artifact(where)
    if json:
        print_json({"id": manifest.id, "verified": verify} | found | manifest.to_json())
        return
    total = sum(file["bytes"] for file in manifest.files.values())
    rows = [["format", f"{manifest.format}, version {manifest.version}"], ["id", manifest.id]]
    rows += [[f"parent: {role}", f"{parent['id']}  {parent['path']}"] for role, parent in manifest.parents.items()]
    rows += [[name, _brief(value)] for name, value in _flat(manifest.facts | found)]
    rows += [[f"setting: {name}", _brief(value)] for name, value in manifest.settings.items() if value is not None]
    rows += [[f"library: {name}", version] for name, version in manifest.libraries.items()]
    rows.append(
        ["files", f"{len(manifest.files)}, {format_bytes(total)}" + (", all checksums right" if verify else "")]
    )
    print(table(rows))


def _flat(facts: dict, prefix: str = ""):
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _brief(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        text = str(value)
        return text if len(text) <= 100 else text[:97] + "..."
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
