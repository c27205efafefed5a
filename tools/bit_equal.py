"""Compare what two commits compute, bit for bit: stores, dictionaries, indexes, labels, doses and answers.

    git worktree add ../before COMMIT
    python tools/bit_equal.py ../before/src src

Runs the same commands of the command line with the package in each folder, in one working folder, so that the paths in
manifests are the same too. Then every file of every artifact is compared by its bytes, SQLite files by their rows, and
what the commands print (--json) as text. Left out are run.json (times and host) and times of labels. Prints a line for
each artifact and exits with 1 where anything differs.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

LEFT_OUT = {"run.json", ".lock"}
SITES = "--site layers.2.mlp_in --site layers.2.mlp --site layers.3.residual"
TRAIN = "train --n-features 256 --tokens 40960 --device cpu --json"
KINDS = {
    "topk": "--k 16",
    "topk-variants": "--kind topk --k 8 --multi-k --init data --aux-k 32 --clip 0",
    "batchtopk": "--kind batchtopk --k 16",
    "batchtopk-free": "--kind batchtopk --k 16 --decoder-norms free",
    "matryoshka": "--kind matryoshka --k 16 --prefixes 32 --prefixes 256",
    "l1": "--kind l1 --resample-every 20 --dead-after 4096",
    "gated": "--kind gated",
    "jumprelu": "--kind jumprelu",
    "jumprelu-l0": "--kind jumprelu --penalty l0",
}
"""settings of a dictionary of each kind; its folder's name -> flags"""


def commands() -> list[tuple[str, str]]:
    """(name of what is made, arguments of sonde): what is printed goes to a file of that name."""
    steps = [
        ("corpus", "world write --documents 2500 --seed 3 --out corpus.jsonl --truth"),
        ("few", "world write --documents 300 --seed 4 --out few.jsonl"),
        ("acts", "harvest --model world --site layers.3.residual --text corpus.jsonl --out acts --json --device cpu"),
        ("several", f"harvest --model world {SITES} --store int8 --text few.jsonl --out several --json --device cpu"),
        (
            "packed",
            "harvest --model world --site layers.1.heads --pack --store float32 --drop-first 1 --text few.jsonl "
            "--workers 2 --threads 1 --out packed --json --device cpu",
        ),
    ]
    steps += [(name, f"{TRAIN} {flags} --activations acts --out {name}") for name, flags in KINDS.items()]
    transcoder = "--site layers.2.mlp_in --writes layers.2.mlp"
    steps += [
        ("transcoder", f"{TRAIN} --activations several {transcoder} --skip --out transcoder"),
        ("crosscoder", f"{TRAIN} --kind batchtopk --activations several {SITES} --out crosscoder"),
        ("live", f"{TRAIN} --live --model world --site layers.3.residual --text few.jsonl --pool 4096 --out live"),
        (
            "sweep",
            "train --n-features 64 --tokens 8192 --activations acts --sweep k=4,8 --out sweep --json --device cpu",
        ),
    ]
    many = ("l1", "jumprelu", "gated", "matryoshka", "transcoder", "crosscoder", "live")
    steps += [
        ("index", "index --dictionary topk --text corpus.jsonl --out index --json --device cpu"),
        (
            "both",
            "index --dictionary topk --dictionary batchtopk --text few.jsonl --workers 2 --threads 1 --out both --json "
            "--device cpu",
        ),
        ("sampled", "index --dictionary topk --text few.jsonl --sample 20 --out sampled --json --device cpu"),
        *((f"index-{name}", f"index --dictionary {name} --text few.jsonl --out index-{name} --json") for name in many),
        ("measured", "measure --dictionary batchtopk --json --device cpu"),
        ("measured-transcoder", "measure --dictionary transcoder --text few.jsonl --json --device cpu"),
        ("labels", "label index --n 60 --random-directions 3 --json"),
        ("neurons", "neurons index --tokens 4096 --json --device cpu"),
        ("splitting", "splitting both/topk both/batchtopk --json"),
        ("search", "search index bridge --json"),
        ("nearest", "search index --like 3 --json"),
        ("feature", "feature index 3 --json"),
        ("interval", "feature index 5 --by interval --json"),
        ("read", 'read index "The Golden Gate Bridge stands in San Francisco." --unlike "A dog runs." --json'),
        ("dose", 'dose index --edit feature:3=1max --edit feature:7+=2 --prompt "Who are you?" --json --device cpu'),
        ("answer", 'chat index --edit feature:3=2max@prompt --edit "feature:9*=0" --prompt "Where are you?" --json'),
        ("plain answer", 'chat index --prompt "What is in your head?" --json'),
        ("preset", 'preset index some-name --edit "feature:3=2max" --edit "feature:9=0" --json'),
        ("shown", "show index --json"),
        ("verified", "show acts --verify --json"),
    ]
    return steps


def make(source: Path, work: Path, only: str | None) -> None:
    """Run all commands in a working folder with the package of `source`."""
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    for name, command in commands():
        if (work / f"{name}.out").exists() or (only and not re.fullmatch(only, name)):
            continue  # made by an earlier run of this script, which was stopped
        line = [sys.executable, "-m", "sonde.cli", *shlex.split(command)]
        result = subprocess.run(line, cwd=work, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise SystemExit(f"with {source}: sonde {command} failed:\n{result.stderr[-2000:]}")
        (work / f"{name}.out").write_text(result.stdout, encoding="utf-8")
        print(f"  {name}", flush=True)


def digest(path: Path) -> str:
    """A digest of what a file holds: of the rows of a SQLite file, of the bytes of others."""
    if path.suffix == ".sqlite":
        return hashlib.sha256("\n".join(rows_of(path)).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows_of(path: Path) -> list[str]:
    """The rows of all tables of a SQLite file, without the times at which they were written."""
    with sqlite3.connect(path) as database:
        names = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        rows = []
        for name in names:
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{name}")')]
            kept = ", ".join(f'"{column}"' for column in columns if column != "at")
            rows += sorted(f"{name} {row!r}" for row in database.execute(f'SELECT {kept} FROM "{name}"'))
    return rows


def contents(work: Path) -> dict[str, str]:
    """Relative path -> digest of every file that counts."""
    files = (path for path in sorted(work.rglob("*")) if path.is_file() and path.name not in LEFT_OUT)
    return {str(path.relative_to(work)): digest(path) for path in files if not path.name.endswith(("-wal", "-shm"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the folder that holds the package of the commit before")
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--keep",
        type=Path,
        help="where to leave the artifacts, and go on where an earlier run was stopped; by default they are removed",
    )
    parser.add_argument("--only", help="regular expression of the names of commands to run; those that they need too")
    asked = parser.parse_args()
    for source in (asked.before, asked.after):
        if not (source / "sonde").is_dir():
            parser.error(f"{source} holds no package sonde; give the folder src of a checkout")
    root = asked.keep or Path(tempfile.mkdtemp())
    work, results = root / "work", {}
    for name, source in (("before", asked.before), ("after", asked.after)):
        kept = root / name
        if not kept.exists():  # kept from an earlier run
            mark = root / f"{name}.begun"
            if not mark.exists():
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
                mark.touch()
            print(f"{name}: {source}", flush=True)
            make(source, work, asked.only)
            work.rename(kept)
            mark.unlink()
        results[name] = contents(kept)
    before, after = results["before"], results["after"]
    differing = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    by_artifact: dict[str, list[str]] = {}
    for path in before.keys() | after.keys():
        by_artifact.setdefault(path.split("/")[0], []).append(path)
    for artifact, paths in sorted(by_artifact.items()):
        own = [path for path in paths if path in differing]
        print(
            f"{'differs' if own else 'equal  '}  {artifact}  ({len(paths)} files)",
            *own,
            sep="\n           " if own else "",
        )
    print(json.dumps({"files": len(before.keys() | after.keys()), "differ": len(differing)}))
    if not asked.keep:
        shutil.rmtree(root)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
