"""Build the page: npm in frontend/, output in src/sonde/web/static.

Runs as a script (`make page`) and as hatch's build hook, so that wheel and sdist carry the page and nobody
who installs them needs node.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BUILT = ROOT / "src/sonde/web/static/index.html"


def build() -> None:
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not on the path; run `make page`, which takes node from PyPI where it is missing")
    frontend = ROOT / "frontend"
    subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=frontend, check=True)
    subprocess.run([npm, "run", "--silent", "build"], cwd=frontend, check=True)
    os.utime(BUILT)


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass  # run as a script
else:

    class BuildPage(BuildHookInterface):
        def initialize(self, version: str, build_data: dict) -> None:
            """Build the page where it is missing; an editable install leaves that to `make page`."""
            if version == "editable" or BUILT.exists():
                return
            if shutil.which("npm"):
                build()
            else:
                self.app.display_warning("npm was not found: this build has no page; `sonde open` will say so")


if __name__ == "__main__":
    build()
