"""What the benchmarks share: peers in environments of their own, and interleaved rounds.

Each implementation is a process that is kept waiting; in each round each takes its turn, so that a busy
machine is busy for all. A process runs `COMMON` and then its own code, which calls `serve(work)`.
"""

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

COMMON = """
import resource, sys, time
_began = time.process_time()
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
def peak_mib():
    # Not ru_maxrss, which a process inherits from the one that started it.
    try:
        rows = dict(line.split(":", 1) for line in open("/proc/self/status"))
        return int(rows["VmHWM"].split()[0]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def serve(work, warm_up=2, repeats=1):
    # Answer each line with the CPU and wall seconds of `work`, the peak memory in MiB, and what it returns.
    for _ in range(warm_up):
        work()
    print("ready", flush=True)
    for line in sys.stdin:
        before, wall = cpu(), time.perf_counter()
        for _ in range(repeats):
            value = work()
        used, waited = (cpu() - before) / repeats, (time.perf_counter() - wall) / repeats
        print(used, waited, peak_mib(), value or 0.0, flush=True)
"""


DICTIONARY_LEARNING = (
    "dictionary-learning",
    "transformers==4.49.0",
    "tokenizers<0.22",
    "boto3>=1.40",
    "botocore>=1.40",
)
"""what pip needs to be told so that dictionary_learning 0.1.0 can be imported"""


def peer_python(*packages: str, folder: str = "") -> str:
    """The Python of an environment that holds packages from PyPI, with our torch; made where it is missing."""
    place = ROOT / ".bench" / (folder or packages[0])
    if not (place / "ready").exists():
        print(f"installing {packages[0]} into {place}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        torch = next(line for line in (ROOT / "constraints/ci.txt").read_text().split() if line.startswith("torch=="))
        subprocess.run([place / "bin/pip", "install", "--quiet", torch, *packages], check=True)
        # Their wheels are for another build of torch than may be here, and nothing that is measured needs them.
        subprocess.run([place / "bin/pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio"], check=True)
        (place / "ready").touch()
    return str(place / "bin/python")


def scratch() -> Path:
    """Where benchmarks keep large files for a while: on the disk of the checkout, ignored by git."""
    place = ROOT / ".bench/scratch"
    place.mkdir(parents=True, exist_ok=True)
    return place


def write_gpt2(folder: Path) -> None:
    """A random model of GPT-2 small's size, with a tokenizer of bytes, as a folder."""
    import torch
    import transformers

    sys.path.insert(0, str(ROOT))
    from tests.tiny import make_tokenizer

    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


class Worker:
    """A process that does one implementation's work when asked."""

    def __init__(self, name: str, python: str, code: str, *arguments: Any) -> None:
        self.name = name
        command = [python, "-W", "ignore", "-c", COMMON + code, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.rows: list[list[float]] = []

    def wait_until_ready(self) -> "Worker":
        while self.stdout.readline().strip() != "ready":
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended before it was ready")
        return self

    def turn(self) -> list[float]:
        """One turn: CPU seconds, wall seconds, peak MiB, and the work's own figure."""
        self.stdin.write("go\n")
        self.stdin.flush()
        self.rows.append([float(value) for value in self.stdout.readline().split()])
        return self.rows[-1]

    def close(self) -> None:
        self.stdin.close()
        self.process.wait()

    def summary(self, base: "Worker") -> dict[str, float]:
        """Medians, and CPU seconds relative to another worker's in the same rounds."""
        ratios = [own[0] / other[0] for own, other in zip(self.rows, base.rows, strict=True)]
        return {
            "cpu_s": statistics.median(row[0] for row in self.rows),
            "wall_s": statistics.median(row[1] for row in self.rows),
            "peak_mib": self.rows[-1][2],
            "ratio": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        }


def run(workers: list[Worker], rounds: int) -> dict[str, dict[str, float]]:
    """Measure workers in interleaved rounds, in a random order each; the first worker is the reference.

    The order is random because a worker's cost depends on what ran before it.
    """
    shuffled = random.Random(0)
    for number in range(rounds):
        for worker in shuffled.sample(workers, len(workers)):
            used, waited, *_ = worker.turn()
            print(f"round {number:<3} {worker.name:<34} {used:.3f} CPU s  {waited:.3f} s", flush=True)
    for worker in workers:
        worker.close()
    return {worker.name: worker.summary(workers[0]) for worker in workers}


def write(script: str, result: dict[str, Any]) -> None:
    """Append a line to benchmarks/results."""
    out = Path(script).resolve().parent / "results" / Path(script).with_suffix(".jsonl").name
    out.parent.mkdir(exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(result) + "\n")
