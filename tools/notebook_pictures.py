"""Pictures of what things show of themselves in a notebook, from a small walk: for the documentation, and to look at.

    python tools/notebook_pictures.py --out pictures

Makes a dictionary and an index of the built-in model (two minutes on two cores; kept in the folder for the next time),
writes the HTML of each thing to light.html and dark.html, and takes a picture of each page with Chromium
(tools/chromium.sh).
"""

import argparse
import html
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import sonde
from sonde.display import to_html

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --hide-scrollbars --force-device-scale-factor=1.25"
TEXT = "The Golden Gate Bridge is in San Francisco. People who visit the bridge see the bay."
PAGES = {"light": ("#ffffff", "#1a1a1a"), "dark": ("#16181d", "#e6e6e6")}
SIZE = (900, 4000)
"""width, and a height that no page exceeds"""


def cells() -> list[tuple[str, str]]:
    """(code of a cell, HTML of what it shows), in the working folder."""
    corpus = Path("corpus.jsonl")
    if not corpus.exists():
        sonde.world.write(1500, corpus)
    model = sonde.load_model("world", device="cpu")
    store = sonde.harvest(model, corpus, site="layers.3.residual", out="acts")
    dictionary = sonde.train(store, kind="topk", n_features=512, k=8, tokens=150_000, out="dict", device="cpu")
    index = sonde.index(model, dictionary, corpus, out="index")
    if not index.labels.n_labelled:
        sonde.label(index)
    hits = index.search("golden gate", 4)
    feature = hits[0].feature
    session, edit = sonde.Session(index, model), f"feature:{feature.number}=1max@prompt"
    fired, _ = session.read(TEXT)
    doses = session.dose("Who are you?", [edit], doses=(1, 2, 4), max_new_tokens=24)
    shown = [
        ("dictionary", dictionary.draw()),
        ("index", index.draw(4)),
        ('index.search("golden gate", 4)', hits.draw()),
        (f"feature = index.feature({feature.number}); feature", feature.draw(4)),
        (f'fired, hits = session.read("{TEXT[:43]} ..."); fired', fired.draw(n=3)),
        (f"sonde.show(fired, feature={feature.number})", fired.draw(feature=feature.number)),
        (f'session.dose("Who are you?", ["{edit}"], doses=(1, 2, 4))', doses.draw()),
    ]
    return [(code, to_html(blocks)) for code, blocks in shown]


def page(shown: list[tuple[str, str]], background: str, colour: str) -> str:
    """A page of cells as a notebook lays them out."""
    box = "border:1px solid rgba(128,128,128,.3);background:rgba(128,128,128,.08);border-radius:3px;padding:6px 10px"
    parts = [
        f'<pre style="font:12px/1.4 monospace;margin:18px 0 8px;{box}">{html.escape(code)}</pre>{output}'
        for code, output in shown
    ]
    body = f'<body style="margin:4px 22px 18px;background:{background};color:{colour}">{"".join(parts)}</body>'
    return f'<!doctype html><meta charset="utf-8">{body}'


def take_picture(source: Path, target: Path) -> None:
    """Draw a page with Chromium; cut off below what it shows, in 64 colours."""
    with tempfile.TemporaryDirectory() as profile:
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = [
            "chromium",
            *FLAGS.split(),
            size,
            f"--user-data-dir={profile}",
            f"--screenshot={target}",
            source.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True)
    pixels = np.asarray(Image.open(target).convert("RGB"))
    drawn = (pixels != pixels[-1, -1]).any(axis=(1, 2)).nonzero()[0]
    Image.fromarray(pixels[: drawn[-1] + 24]).quantize(64).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the walk, the pages and the pictures")
    asked = parser.parse_args()
    if shutil.which("chromium") is None:
        raise SystemExit("there is no chromium; sh tools/chromium.sh installs it")
    asked.out.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.out)
    shown = cells()
    for name, (background, colour) in PAGES.items():
        source, target = Path(f"{name}.html").resolve(), Path(f"{name}.png").resolve()
        source.write_text(page(shown, background, colour), encoding="utf-8")
        take_picture(source, target)
        print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
