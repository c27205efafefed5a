"""Sizes of the house: lines, lengths of functions, tests to code, long lines, circles of imports between files.

python tools/sizes.py [FOLDER OF A CHECKOUT]
"""

import ast
import json
import sys
from pathlib import Path

LONG_LINE, LONG_FUNCTION = 120, 60


def lines(paths: list[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def functions(path: Path) -> list[tuple[int, str]]:
    """(lines, where) of each function of a file; verbs of the command line without their docstring, which is help."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1  # type: ignore[operator]
            first = node.body[0]
            if "cli" in path.parts and ast.get_docstring(node) is not None:
                length -= first.end_lineno - first.lineno + 1  # type: ignore[operator]
            found.append((length, f"{path}:{node.lineno} {node.name}"))
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """module -> the modules of the house that it imports when it is imported, or for types alone."""
    modules = {".".join(path.relative_to(root).with_suffix("").parts): path for path in sorted(root.rglob("*.py"))}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        targets = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in inside:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= named & modules.keys() or {node.module}
            elif isinstance(node, ast.Import) and id(node) not in inside:
                targets |= {alias.name for alias in node.names}
        found[name] = {target for target in targets if target in modules and target != name}
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected components of more than one)."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            for target in graph[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        reach[start] = seen
    groups = {frozenset({name, *(other for other in reach[name] if name in reach[other])}) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    source, tests = root / "src", sorted((root / "tests").rglob("*.py"))
    package, world = sorted((source / "sonde").rglob("*.py")), sorted((source / "sonde_world").rglob("*.py"))
    lengths = sorted(length for path in [*package, *world] for length, _ in functions(path))
    longest = sorted((each for path in [*package, *world] for each in functions(path)), reverse=True)
    scripts = [path for path in (root / "frontend/src").glob("*.ts") if path.name not in ("wire.d.ts", "main.ts")]
    script_tests = list((root / "frontend/tests").glob("*.ts"))
    pages = list((root / "frontend/src").glob("*.svelte"))
    everything = [*package, *world, *tests, *scripts, *script_tests, *pages]
    everything += [*(root / "benchmarks").glob("*.py"), *(root / "tools").glob("*.py")]
    too_long = [
        f"{path}:{number}"
        for path in everything
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONG_LINE
    ]
    found = {
        "lines of sonde": lines(package),
        "lines of sonde_world": lines(world),
        "lines of tests": lines(tests),
        "tests to code": round(lines(tests) / max(1, lines(package) + lines(world)), 2),
        "tests to code, frontend": round(lines(script_tests) / max(1, lines(scripts)), 2),
        "functions": len(lengths),
        "function length, median": lengths[len(lengths) // 2],
        "function length, 90th percentile": lengths[int(len(lengths) * 0.9)],
        "longest functions": [f"{length} {where}" for length, where in longest[:8]],
        "lines over 120": len(too_long),
        "first of them": too_long[:5],
        "fmt: skip": sum(path.read_text(encoding="utf-8").count("fmt: " + "skip") for path in everything),
        "circles of files": circles(imports(source)),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
