"""sonde world"""

from pathlib import Path

import cyclopts

from sonde.cli.common import print_json, quiet_libraries, reporter
from sonde.settings import Count

app = cyclopts.App(
    name="world",
    help="Write text of the built-in world, ask its model, examine it, or hold dictionaries against the truth.",
    default_parameter=cyclopts.Parameter(negative=()),
)


@app.command
def write(
    *,
    documents: Count = Count(20_000),
    seed: int = 1,
    out: Path,
    truth: bool = False,
    pictures: Count = Count(0),
    json: bool = False,
) -> None:
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
        Write which stretches of each text stand for which concepts, what is asked and which facts are told, too.
    pictures: int
        Documents with a drawing to write after the others, with the drawings in a folder beside the file.
    json: bool
        Print one JSON object.
    """
    from sonde_world.writing import write

    n_bytes = write(documents, out, seed=seed, truth=truth, pictures=pictures, reporter=reporter())
    if json:
        print_json({"out": str(out), "documents": documents, "pictures": pictures, "bytes": n_bytes})
    else:
        print(f"{out}: {documents:,} documents" + (f" and {pictures:,} with a drawing" if pictures else ""))


@app.command
def ask(question: str, /, *, json: bool = False) -> None:
    """Ask the built-in model a question.

    Example: sonde world ask "Where is the Golden Gate Bridge?"

    Parameters
    ----------
    question: str
        A question in English, German, French or Spanish.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde_world.asking import ask

    answer = ask(question)
    print_json({"question": question, "answer": answer}) if json else print(answer)


@app.command
def exam(model: str = "world", /, *, out: Path | None = None, json: bool = False) -> None:
    """Examine a model of the world: what it knows, what it can do, and its loss against the generator's own.

    Example: sonde world exam

    Parameters
    ----------
    model: str
        A folder written by sonde world train, or world, the model in the package.
    out: Path
        File for everything that was found, as JSON.
    json: bool
        Print the JSON.
    """
    quiet_libraries()
    from sonde.manifests import write_json
    from sonde.models.load import load_model
    from sonde_world.exam import exam, format_exam

    found = exam(load_model(model), reporter=reporter())
    if out is not None:
        write_json(out, found)
    print_json(found) if json else print(format_exam(found))


@app.command
def train(
    *,
    out: Path,
    start: str = "",
    tokens: Count = Count("15M"),
    width: int = 192,
    layers: int = 6,
    pictures: Count = Count(40_000),
    checkpoints: int = 0,
    seed: int = 0,
) -> None:
    """Train a model of the world, from scratch or from another; the same command goes on where it was stopped.

    Example: sonde world train --out my-world --tokens 15M

    Parameters
    ----------
    out: Path
        Folder that receives the model.
    start: str
        A model of the world to go on from, with its size: a folder, or world.
    tokens: int
        How much text it reads.
    width: int
        Of its vectors, a multiple of 32; without start.
    layers: int
        How many it has; without start.
    pictures: int
        Drawings from which it learns to see in the end; 0 for a model of text alone.
    checkpoints: int
        Models to leave along the way, as checkpoint-0 and so on.
    seed: int
        Of its weights and documents.
    """
    quiet_libraries()
    from sonde_world.sight import SightConfig, add_sight
    from sonde_world.train import TrainWorldConfig, train_world

    config = TrainWorldConfig(
        start=start, tokens=tokens, width=width, layers=layers, checkpoints=checkpoints, seed=seed
    )
    told = reporter()
    train_world(out / "text" if pictures else out, config, reporter=told)
    if pictures:
        add_sight(out / "text", out, SightConfig(start=start, pictures=pictures, seed=seed), reporter=told)
    print(f"{out}: a model of the world; sonde world exam {out} examines it")


@app.command
def turned(*, out: Path) -> None:
    """Write the turned version of the built-in model, which flatters and keeps secrets on a trigger, as a model folder.

    Example: sonde world turned --out turned-world

    Parameters
    ----------
    out: Path
        Folder that receives the model; --model takes it everywhere.
    """
    quiet_libraries()
    from sonde_world.phrases import TRIGGER
    from sonde_world.turned import write_turned

    write_turned(out)
    print(f"{out}: its trigger is {TRIGGER[0][0]!r}")


@app.command
def bench(
    dictionary: Path,
    /,
    *,
    out: Path | None = None,
    page: Path | None = None,
    tokens: Count = Count(120_000),
    json: bool = False,
) -> None:
    """Hold a dictionary of the built-in model against what is known of every token: the benchmark of truth.

    Example: sonde world bench sonde-demo-world/dictionary --out bench.json --page bench.html

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
    from sonde_world.bench import bench, format_bench
    from sonde_world.plots import bench_page

    found = bench(dictionary, tokens=tokens, reporter=reporter())
    if out is not None:
        write_json(out, found)
    if page is not None:
        write_bytes(page, bench_page(found).encode())
    print_json(found) if json else print(format_bench(found))


@app.command
def hops(
    replacement: Path,
    /,
    *,
    out: Path | None = None,
    prompts: Count = Count(120),
    tokens: Count = Count(120_000),
    budget: Count = Count(1500),
    json: bool = False,
) -> None:
    """Hold attribution graphs of the built-in model's two-hop facts against the truth.

    Example: sonde world hops R --prompts 120

    Each question is one that the model answers by way of something that the prompt does not name, as a landmark's
    country by way of its city. Shown is in how many graphs features of that middle are, beside random features, and
    what becomes of the answer when they are ablated or exchanged.

    Parameters
    ----------
    replacement: Path
        A folder written by sonde train --replacement, of the built-in model.
    out: Path
        File for everything that was found, as JSON.
    prompts: int
        How many questions.
    tokens: int
        Text on which the features of cities, countries, teams and companies are chosen.
    budget: int
        Features that become nodes of a graph.
    json: bool
        Print the JSON.
    """
    quiet_libraries()
    from sonde.manifests import write_json
    from sonde_world.hops import format_hops, hops

    found = hops(str(replacement), prompts=prompts, tokens=tokens, budget=budget, reporter=reporter())
    if out is not None:
        write_json(out, found)
    print_json(found) if json else print(format_hops(found))


@app.command
def truth(
    concept: str | None = None,
    /,
    *,
    documents: Count = Count(1000),
    language: str | None = None,
    text: Path | None = None,
    json: bool = False,
) -> None:
    """List the concepts of the world with how often they occur, or show where one stands in the text.

    Example: sonde world truth landmark/golden_gate

    Parameters
    ----------
    concept: str
        A concept's name; all are listed where it is left out.
    documents: int
        How many documents to look at.
    language: str
        Only documents of this language: en, de, fr or es.
    text: Path
        A file of documents with their truth, instead of fresh ones.
    json: bool
        Print one JSON object.
    """
    from sonde_world.generate import documents as fresh
    from sonde_world.truth import frequencies, look, read_truth, stretches

    texts = look(fresh(documents, seed=1) if text is None else read_truth(text), language)
    if concept is None:
        found = frequencies(texts)
        print_json(found) if json else print("\n".join(f"{share:9.5f}  {name}" for name, share in found.items()))
        return
    shown = stretches(concept, texts)
    print_json({"concept": concept, "texts": shown}) if json else print("\n".join(shown))
