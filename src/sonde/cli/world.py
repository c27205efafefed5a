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
def write(*, documents: int = 20_000, seed: int = 1, out: Path, json: bool = False) -> None:
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
    json: bool
        Print one JSON object.
    """
    from sonde.world.writing import write

    n_bytes = write(documents, out, seed=seed, reporter=reporter())
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
