"""The store by itself: dealing and streaming rows, as a share of a plain sequential copy, and the memory they take.

    python benchmarks/store.py --gigabytes 8 --memory 400MB

Rows come from a synthetic source (noise that is made once and shifted), 768 wide in bfloat16, so that the store is
measured and not a model. Each part runs in a process of its own: deal the rows, copy the bytes of a file of the same
size in pieces of 8 MiB, stream an epoch from disk, and stream from the page cache. The files are flushed and dropped
from the cache before each reading. Appends a line to benchmarks/results/store.jsonl.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rounds import Worker, scratch, write

from sonde.settings import Bytes

DEAL = """
import math, numpy as np, torch
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sonde.activations.rows import Layout
from sonde.activations.writing import finish, write_rows
from sonde.artifacts import new_artifact
out, n_rows, width, task = Path(sys.argv[1]), *map(int, sys.argv[2:5])
layout = Layout.of_sites({"site": width}, "bfloat16")
noise = torch.randn(task + 64, width)
def work():
    settings = {"site": ["site"], "store": "bfloat16", "seed": 0}
    with new_artifact(out, format="activations", settings=settings, parents={}) as draft:
        (out / "segments").mkdir()
        totals, waiting, writer = [], None, ThreadPoolExecutor(1)  # as harvest does
        for number, first in enumerate(range(0, n_rows, task)):
            n = min(task, n_rows - first)
            rows = layout.empty(n)
            layout.column(rows, "document").copy_(torch.arange(first, first + n) // 128)
            layout.column(rows, "position").copy_(torch.arange(first, first + n) % 128)
            layout.put_vectors(rows, "site", noise[number % 64 :][:n])
            told = {"tokens": n, "documents": n // 128, "held_out_documents": 0}
            held_out = np.zeros(n, dtype=bool)
            before, waiting = waiting, writer.submit(write_rows, out, number, rows, layout, 0, held_out, told)
            if before:
                totals.append(before.result())
        totals.append(waiting.result())
        finish(draft, totals, layout, {"dtype": "bfloat16", "model": {"name": "", "id": ""}})
serve(work, warm_up=0)
"""
COPY = """
import os
source, target = sys.argv[1:3]
def work():
    with open(source, "rb", buffering=0) as a, open(target, "wb", buffering=0) as b:
        while piece := a.read(1 << 23):
            b.write(piece)
        os.fsync(b.fileno())
serve(work, warm_up=0)
"""
READ = """
source = sys.argv[1]
def work():
    piece = bytearray(1 << 23)
    with open(source, "rb", buffering=0) as a:
        while a.readinto(piece):
            pass
serve(work, warm_up=0)
"""
STREAM = """
import sonde
store, memory = sonde.load_activations(sys.argv[1]), int(sys.argv[2])
def work():
    total = 0
    for batch in store.stream(4096, epochs=1, memory=memory):
        total += len(batch)
    return total
serve(work, warm_up=0)
"""


def drop_from_cache(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def once(name: str, code: str, *arguments) -> dict[str, float]:
    worker = Worker(name, sys.executable, code, *arguments).wait_until_ready()
    cpu, wall, peak, value = worker.turn()
    worker.close()
    print(f"{name:<28} {wall:7.1f} s  {cpu:7.1f} CPU s  peak {peak:,.0f} MiB", flush=True)
    return {"cpu_s": cpu, "wall_s": wall, "peak_mib": peak, "value": value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--memory", type=Bytes, default=Bytes("400MB"))
    parser.add_argument("--width", type=int, default=768)
    settings = parser.parse_args()
    vector_bytes = 2 * settings.width
    n_rows = int(settings.gigabytes * 1e9 / vector_bytes)
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        folder, plain = Path(place) / "acts", Path(place) / "plain"
        result = {"rows": n_rows, "width": settings.width, "memory": settings.memory}
        result["deal"] = once("deal", DEAL, folder, n_rows, settings.width, (1 << 26) // (4 * settings.width))
        segments = sorted((folder / "segments").glob("*.safetensors"))
        written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        result["bytes_written_over_vectors"] = written / (n_rows * vector_bytes)
        with plain.open("wb") as whole:
            for segment in segments:
                with segment.open("rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 23)
        drop_from_cache(Path(place))
        result["copy"] = once("plain copy of the same bytes", COPY, plain, Path(place) / "copy")
        (Path(place) / "copy").unlink()
        drop_from_cache(Path(place))
        result["stream"] = once("stream", STREAM, folder, settings.memory)
        result["stream again"] = once("stream, from the page cache", STREAM, folder, settings.memory)
        drop_from_cache(Path(place))
        result["read"] = once("plain read", READ, plain)
    size = n_rows * vector_bytes
    result["deal_share_of_copy"] = result["copy"]["wall_s"] / result["deal"]["wall_s"]
    result["stream_share_of_copy"] = result["copy"]["wall_s"] / result["stream"]["wall_s"]
    result["stream_gb_s"] = size / result["stream"]["wall_s"] / 1e9
    result["stream_again_gb_s"] = size / result["stream again"]["wall_s"] / 1e9
    result["read_gb_s"] = size / result["read"]["wall_s"] / 1e9
    print(json.dumps(result, indent=1))
    write(__file__, result)


if __name__ == "__main__":
    main()
