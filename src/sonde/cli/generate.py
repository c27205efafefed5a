"""sonde generate"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonde.cli.common import ModelOptions, print_json, quiet_libraries, reporter
from sonde.settings import to_mapping
from sonde.steering.settings import GenerateSettings


def generate(
    settings: Annotated[GenerateSettings, Parameter(name="*")],
    *,
    model: str,
    prompts: Path,
    options: Annotated[ModelOptions, Parameter(name="*")] = ModelOptions(),
    json: bool = False,
) -> None:
    """Let a model write text: many answers at the same time, as a .jsonl that sonde harvest reads.

    Example: sonde generate --model smollm2 --prompts questions.txt --tokens 200k --out written.jsonl

    Parameters
    ----------
    model: str
        A model folder, a .gguf file, a hub name, smollm2, or world, the model in the package.
    prompts: Path
        A .txt with a prompt between blank lines, a .jsonl, or a folder of them.
    json: bool
        Print one JSON object.
    """
    quiet_libraries()
    from sonde.steering.generate import generate

    out = generate(model, prompts, reporter=reporter(), **(to_mapping(options) | to_mapping(settings)))
    with out.open(encoding="utf-8") as lines:
        n_answers = sum(1 for _ in lines)
    if json:
        print_json({"file": str(out), "answers": n_answers})
        return
    print(f"{out}: {n_answers:,} answers; sonde harvest --text {out} reads them")
