"""Dictionaries that are installed with sonde; needs no torch."""

from importlib import resources
from pathlib import Path

from sonde.errors import ArtifactMissingError
from sonde.manifests import Artifact, read_manifest

FORMAT = "dictionary"
BUILT_IN = ("smollm2",)
"""models that have a dictionary in the package, made by tools/smollm2/make.py"""


def built_in_dictionary(name: str | Path) -> Path | None:
    """The folder of a dictionary that is installed with sonde, by the name of its model; None for other names."""
    return None if str(name) not in BUILT_IN or Path(name).exists() else _folder(str(name))


def installed_with_id(identity: str) -> Artifact:
    """The installed dictionary of a content id; raises ArtifactMissingError where there is none."""
    for folder in map(_folder, BUILT_IN):
        manifest = read_manifest(folder, FORMAT)
        if manifest.id == identity:
            return Artifact(folder, manifest)
    raise ArtifactMissingError(f"no dictionary that is installed with sonde has the id {identity}")


def _folder(name: str) -> Path:
    return Path(str(resources.files("sonde.dictionaries").joinpath("built_in", name)))
