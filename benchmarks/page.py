"""The page: how soon a view is there, on a small index and on a million features, and how many bytes it is.

    python benchmarks/page.py --index sonde-demo-world/index --rounds 5

Chromium, without a graphics card. Milliseconds from the moment a view is asked for until it is there, and for the map
those of one drawing of all points. The million features are those of `benchmarks/index.py latency`, with a random map.
Appends a line to benchmarks/results/page.jsonl.
"""

import argparse
import gzip
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rounds import ROOT, scratch, write

STATIC = ROOT / "src/sonde/web/static"
VIEWS = {
    "start": ("#/", "dl .value"),
    "features": ("#/features", '[role="row"] a'),
    "features, ordered": ("#/features?sort=maximum&descending=true", '[role="row"] a'),
    "features, bounded": ("#/features?density=1e-7..1e-4", '[role="row"] a'),
    "words": ("#/features?q=bridge", '[role="row"] a'),
    "a feature": ("#/feature/7", "figure svg"),
    "map": ("#/map", "canvas"),
}


def give_map(folder: Path) -> None:
    """Features in 200 random heaps."""
    import numpy as np
    from safetensors.numpy import save_file

    from sonde.features.index import load_index

    n, rng = load_index(folder).n_features, np.random.default_rng(0)
    cluster = rng.integers(0, 200, n).astype(np.int32)
    position = (rng.normal(size=(200, 2)) * 10)[cluster] + rng.normal(size=(n, 2))
    save_file({"position": position.astype(np.float32), "cluster": cluster}, folder / "map.safetensors")
    (folder / "map.json").write_text(json.dumps({"clusters": [f"heap {c}" for c in range(200)], "seed": 0, "with": 0}))


def wait_for(page, holds: str) -> None:
    """Playwright's own waiting makes code in the page, which the page's policy forbids."""
    while not page.evaluate(holds):
        page.wait_for_timeout(2)


def look(index: Path, rounds: int) -> dict:
    from playwright.sync_api import sync_playwright

    code = f"from sonde.web.serve import serve; serve({str(index)!r}, port=0, device='cpu')"
    server = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        found_address = re.search(r"http://\S+/", server.stderr.readline() if server.stderr else "")
        assert found_address is not None, "the server did not start"
        address = found_address[0]
        found: dict[str, list[float]] = {name: [] for name in VIEWS} | {"scrolled to the middle": [], "one drawing": []}
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for number in range(rounds + 1):
                page = browser.new_page(viewport={"width": 1200, "height": 900})
                for name, (place, wait) in VIEWS.items():
                    page.goto("about:blank")
                    began = time.perf_counter()
                    page.goto(address + place)
                    page.wait_for_selector(wait)
                    took = [(name, time.perf_counter() - began)]
                    if name == "features":
                        began = time.perf_counter()
                        table = page.locator('[role="table"]')
                        table.evaluate("node => node.scrollTo(0, node.scrollHeight / 2)")
                        middle = "Number(document.querySelector('[role=row] a')?.textContent ?? 0) > 500"
                        wait_for(page, middle)
                        took.append(("scrolled to the middle", time.perf_counter() - began))
                    if name == "map":
                        page.locator("canvas").wait_for()
                        page.wait_for_timeout(300)
                        page.evaluate("""() => {
                            const prototype = CanvasRenderingContext2D.prototype;
                            const put = prototype.putImageData, make = prototype.createImageData;
                            let began = 0;
                            prototype.createImageData = function (...given) {
                                began = performance.now();
                                return make.apply(this, given);
                            };
                            prototype.putImageData = function (...given) {
                                put.apply(this, given);
                                window.drawn = performance.now() - began;
                            };
                        }""")
                        page.get_by_role("application").focus()
                        page.keyboard.press("ArrowLeft")
                        wait_for(page, "window.drawn > 0")
                        took.append(("one drawing", page.evaluate("window.drawn") / 1000))
                    if number:  # the first round warms
                        for what, seconds in took:
                            found[what].append(1000 * seconds)
                page.close()
            browser.close()
    finally:
        server.kill()
    return {name: {"ms": statistics.median(ms), "max": max(ms)} for name, ms in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, default=ROOT / "sonde-demo-world/index")
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--activations", type=int, default=60_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    from index import latency, synthetic, synthetic_folder

    from sonde.features.index import load_index

    files = [path for path in STATIC.rglob("*") if path.is_file()]
    result: dict = {"bytes": {"gzip": sum(len(gzip.compress(path.read_bytes(), 9)) for path in files)}}
    small = scratch() / "page-small"
    shutil.rmtree(small, ignore_errors=True)
    shutil.copytree(settings.index, small)
    give_map(small)
    large = synthetic_folder(settings.features, settings.activations)
    synthetic(large, settings.features, settings.activations)
    if load_index(large).labels.n_labelled == 0:
        latency(settings.features, settings.activations, 1)  # which labels it
    give_map(large)
    for folder in (small, large):
        n = f"{load_index(folder).n_features:,} features"
        result[n] = look(folder, settings.rounds)
        print(n, json.dumps(result[n], indent=1), flush=True)
    print(json.dumps(result["bytes"]))
    write(__file__, result | {"settings": {"rounds": settings.rounds, "index": settings.index.name}})


if __name__ == "__main__":
    main()
