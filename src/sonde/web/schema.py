"""Write the server's OpenAPI description, from which the page's types are generated.

python -m sonde.web.schema > frontend/openapi.json
"""

import json
import sys
from pathlib import Path

from sonde.features.index import Index
from sonde.manifests import Manifest
from sonde.web.app import make_api
from sonde.web.served import ModelLoader, Served


def openapi() -> str:
    """The description as the repository keeps it; it depends on no index."""
    empty = Index(Path(), Manifest("index", 1, {}, {}, {}, {}))
    return json.dumps(make_api(Served(empty, ModelLoader(empty, "cpu"))).openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi())
