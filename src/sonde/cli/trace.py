"""sonde trace"""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from sonde.circuits.trace_settings import TraceSettings
from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.display import print_blocks
from sonde.errors import UsageError
from sonde.settings import to_mapping


def trace(
    model: str,
    /,
    *,
    replacement: Path,
    prompt: str | None = None,
    out: Path | None = None,
    settings: Annotated[TraceSettings, Parameter(name="*")] = TraceSettings(),
    prompts: Path | None = None,
    validate: bool = False,
    set: Annotated[list[str] | None, Parameter(negative_iterable=())] = None,
    attention: Literal["frozen", "free"] = "frozen",
    look: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Trace an answer back to the features, tokens and errors that it comes from.

    Example: sonde trace world --replacement R --prompt "The capital of Texas is" --out graph

    The graph's edges are exact: those into a feature sum to its pre-activation, those into a logit to the logit. The
    folder in --out has graph.html, a page that shows it, and graph.json, which the attribution-graphs page reads.

    Set features: sonde trace world --replacement R --prompt "..." --set "3.120@5=0"

    Why did it look there: sonde trace world --replacement R --prompt "..." --look 4.2@-1

    Many prompts: sonde trace world --replacement R --prompts prompts.jsonl

    Parameters
    ----------
    model: str
        A model folder, a hub name, or world, the model in the package.
    replacement: Path
        A folder written by sonde train --replacement, or by sonde replacement.
    prompt: str
        The text after which the prediction is traced.
    out: Path
        Folder to write.
    prompts: Path
        Trace each prompt of a .jsonl (field prompt, and settings such as target), and show what their graphs share.
    validate: bool
        Ablate the features of the graph one by one, and show how well its influence and predictions answer for it.
    set: list[str]
        Set a feature and show what the graph predicts and what the model does, in each range of layers: 3.120@5=0
        (feature 120 of layer 3 at token 5 to zero), =2x (doubled), =-1x (flipped), @* at every token. May be repeated.
    attention: str
        With --set: patterns held as they were, or running freely.
    look: str
        Why a head looked where it did: 4.2@-1 is head 2 of layer 4 at the last token, 4.2@7:3 at token 7 looking at
        token 3. Its score is split into pairs of what was written at both.
    json: bool
        Print one JSON object.
    """
    if (prompt is None) == (prompts is None):
        raise UsageError("trace needs --prompt, a text, or --prompts, a .jsonl of them, and not both")
    if prompts is not None and (out is not None or set or look):
        raise UsageError("--out, --set and --look are for one --prompt; leave them out with --prompts")
    quiet_libraries()
    from sonde.circuits.interventions import sweep_layers, validate_graph
    from sonde.circuits.replacement import load_replacement
    from sonde.circuits.trace import trace
    from sonde.models.load import load_model

    loaded, plain = load_replacement(replacement, options.device), to_mapping(settings)
    reader = load_model(model, device=options.device, dtype=options.dtype)
    if prompts is not None:
        from sonde.circuits.pool import trace_prompts

        motifs = trace_prompts(reader, loaded, prompts, validated=validate, reporter=reporter(), **plain)
        print_json(motifs.to_json()) if json else print_blocks(motifs.draw())
        return
    graph = trace(reader, loaded, str(prompt), out=out, reporter=reporter(), **plain)
    shown: dict[str, Any] = {"graph": graph}
    if validate:
        kept = graph.pruned(settings.node_share, settings.edge_share)
        shown["validation"] = validate_graph(reader, loaded, graph, kept.features)
    if set:
        shown["effects"] = sweep_layers(reader, loaded, graph, set, attention=attention)
    if look:
        from sonde.circuits.looking import look as look_at
        from sonde.circuits.looking import read_place

        place: dict[str, Any] = read_place(look)
        shown["look"] = look_at(reader, loaded, str(prompt), **place)
    if json:
        print_json({"title": graph.title} | {name: one.to_json() for name, one in shown.items()})
        return
    print_blocks(shown.pop("graph").draw(node_share=settings.node_share, edge_share=settings.edge_share))
    for one in shown.values():
        print_blocks(one.draw())
    if out is not None:
        print(f"{out}: graph.html shows it, graph.json is for the attribution-graphs page")
