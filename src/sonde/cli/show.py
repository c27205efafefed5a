"""sonde show"""

from pathlib import Path

from sonde.cli.common import print_json
from sonde.display import print_blocks


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
    from sonde.showing import contents

    found = contents(folder, verify=verify)
    if json:
        print_json(found.to_json())
    else:
        print_blocks(found.draw())
