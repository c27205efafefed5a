"""Where sonde keeps what it can make again: converted models, compiled kernels."""

import os
from pathlib import Path

from sonde.errors import StorageError


def cache_folder(name: str) -> Path:
    """A private folder of the user's cache, made where it is missing.

    It lies in XDG_CACHE_HOME, or in ~/.cache where that is not set or relative (XDG Base Directory Specification).
    Raises StorageError where it cannot be made.
    """
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "sonde" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise StorageError(
            f"the cache folder for {name} cannot be made ({error}); set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return folder
