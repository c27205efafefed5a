"""sonde world"""

from pathlib import Path

import cyclopts

from sonde.cli.common import print_json, quiet_libraries, reporter

app = cyclopts.App(
    name="world",
    help="Write text of the built-in world, or ask its model.",
    default_parameter=cyclopts.Parameter(negative=()),
)


@app.command
def write(*, documents: int = 20_000, seed: int = 1, out: Path, truth: bool = False, json: bool = False) -> None:
    """Write documents of the built-in world as a .jsonl file.

    Example: sonde world write --documents 20000 --out corpus.jsonl

    Parameters
    ----------
    documents: int
        How many to write.
    seed: int
        Which documents; the built-in model was trained on those of seed 0.
    out: Path
        File to write.
    truth: bool
        Write which stretches of each text stand for which concepts, too.
    json: bool
        Print one JSON object.
    """
    from sonde.world.writing import write

    n_bytes = write(documents, out, seed=seed, truth=truth, reporter=reporter())
    if json:
        print_json({"out": str(out), "documents": documents, "bytes": n_bytes})
    else:
        print(f"{out}: {documents:,} documents")


@app.command
def ask(question: str | None = None, /, *, facts: bool = False, json: bool = False) -> None:
    """Ask the built-in model a question, or check what it knows.

    Example: sonde world ask "Where is the Golden Gate Bridge?"

    Parameters
    ----------
    question: str
        A question in English, German, French or Spanish.
    facts: bool
        Ask every fact of the world in every language instead, and print the share answered rightly.
    json: bool
        Print one JSON object.
    """
    from sonde.errors import UsageError

    if facts == (question is not None):
        raise UsageError("give either a question or --facts")
    quiet_libraries()
    from sonde.world.asking import ask, ask_facts

    if facts:
        shares = ask_facts(reporter=reporter())
        print_json(shares) if json else print(
            "\n".join(f"{name:<34} {s['right']:5d} of {s['asked']:5d}  {s['share']:.1%}" for name, s in shares.items())
        )
        return
    assert question is not None
    answer = ask(question)
    print_json({"question": question, "answer": answer}) if json else print(answer)


@app.command
def bench(
    dictionary: Path, /, *, out: Path | None = None, page: Path | None = None, tokens: int = 120_000, json: bool = False
) -> None:
    """Hold a dictionary of the built-in model against what is known of every token: the benchmark of truth.

    Example: sonde world bench sonde-demo/dictionary --out bench.json --page bench.html

    Parameters
    ----------
    dictionary: Path
        A folder written by sonde train, of the built-in model.
    out: Path
        File for everything that was found, as JSON.
    page: Path
        File for a page of plots.
    tokens: int
        About how much text to judge on.
    json: bool
        Print the JSON.
    """
    quiet_libraries()
    from sonde.manifests import write_bytes, write_json
    from sonde.world.bench import bench, format_bench
    from sonde.world.plots import bench_page

    found = bench(dictionary, tokens=tokens, reporter=reporter())
    if out is not None:
        write_json(out, found)
    if page is not None:
        write_bytes(page, bench_page(found).encode())
    print_json(found) if json else print(format_bench(found))


@app.command
def truth(concept: str | None = None, /, *, documents: int = 1000, json: bool = False) -> None:
    """List the concepts of the world with how often they occur, or show where one stands in the text.

    Example: sonde world truth landmark/golden_gate

    Parameters
    ----------
    concept: str
        A concept's name; all are listed where it is left out.
    documents: int
        How many documents to look at.
    json: bool
        Print one JSON object.
    """
    from sonde.world.truth import frequencies, stretches

    if concept is None:
        found = frequencies(documents)
        print_json(found) if json else print("\n".join(f"{share:9.5f}  {name}" for name, share in found.items()))
        return
    shown = stretches(concept, documents)
    print_json({"concept": concept, "texts": shown}) if json else print("\n".join(shown))
