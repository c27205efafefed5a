"""Let a model write text: many prompts in one batch, answered under temperature, as a .jsonl that can be harvested."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import torch

from sonde.activations.corpus import Corpus, TextSource, as_document
from sonde.calls import public
from sonde.errors import ArtifactDamagedError, OutputOccupiedError
from sonde.locks import locked_file
from sonde.manifests import refuse_folder, storage_errors, write_json
from sonde.models.load import load_model
from sonde.models.model import Model, Tokens
from sonde.progress import Reporter, default_reporter
from sonde.settings import from_mapping, to_mapping
from sonde.steering.settings import GenerateKeywords, GenerateSettings


@public(GenerateSettings)
def generate(
    model: Model | str | Path,
    prompts: TextSource,
    *,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter | None = None,
    **settings: Unpack[GenerateKeywords],
) -> Path:
    """Let a model answer prompts, many at a time; the same call, made again, goes on where it stopped.

    Args:
        model: a model or what `load_model` takes.
        prompts: a .txt or .jsonl file, a folder of them, or a list of texts.
        device, dtype: as for `load_model`, where the model is loaded here.
        reporter: shows progress.
        settings: the other fields of `GenerateSettings`; `out` is needed.

    Returns:
        The .jsonl file, a line an answer: `text` (prompt and answer as the model reads them), `prompt`, `answer` and
        `tokens`, the number written. Equal settings give equal answers on the same machine.

    Raises:
        TextError, ModelLacksError (no head or no chat template), OutputOccupiedError (the file is of other settings),
        OutputBusyError (another run is writing it), StorageError.
    """
    chosen = from_mapping(GenerateSettings, dict(settings))
    loaded = model if isinstance(model, Model) else load_model(model, device=device, dtype=dtype)
    loaded.require_head("generating")
    corpus = Corpus(prompts, chosen.field)
    recorded = to_mapping(chosen) | {"model": loaded.name, "model_id": loaded.identity, "prompts": corpus.name}
    reporter = reporter or default_reporter()
    with storage_errors(chosen.out):
        refuse_folder(chosen.out)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
    with storage_errors(chosen.out), locked_file(chosen.out) as lines:
        done = _resume(chosen.out, recorded)
        written, number = sum(done), len(done)
        asked = itertools.islice(_asked(corpus, chosen), number, None)
        with reporter.start("generate", chosen.tokens, "tokens", done=written) as progress:
            while (not chosen.tokens or written < chosen.tokens) and (
                batch := list(itertools.islice(asked, chosen.batch))
            ):
                answers = _answer(loaded, batch, chosen, number)
                lines.write("".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers).encode())
                lines.flush()
                n_tokens = sum(answer["tokens"] for answer in answers)
                written, number = written + n_tokens, number + len(batch)
                progress.advance(n_tokens)
    return chosen.out


def _asked(corpus: Corpus, settings: GenerateSettings) -> Iterator[str]:
    """All prompts, as often as each is to be answered: one round after the other."""
    rounds = itertools.count() if settings.tokens else range(settings.repeat)
    return (as_document(document).text for _ in rounds for document in corpus)


def _resume(out: Path, recorded: dict[str, Any]) -> list[int]:
    """The tokens of each answer that whole batches of an earlier run left; what comes after them is cut off."""
    beside = out.with_suffix(".run.json")
    if not out.stat().st_size:
        write_json(beside, recorded)
        return []
    if not beside.exists() or json.loads(beside.read_text(encoding="utf-8")) != json.loads(json.dumps(recorded)):
        raise OutputOccupiedError(f"{out} holds other text; give a new file, or the settings with which it was begun")
    lengths, end, whole = [], 0, (0, 0)
    try:
        with out.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                lengths.append(json.loads(line)["tokens"])
                end += len(line)
                if len(lengths) % recorded["batch"] == 0:
                    whole = (len(lengths), end)
    except (ValueError, KeyError) as error:
        raise ArtifactDamagedError(f"{out}, line {len(lengths) + 1} is no answer ({error}); delete the file") from error
    n_whole, end = whole
    with out.open("rb+") as lines:
        lines.truncate(end)
    return lengths[:n_whole]


@torch.no_grad()
def _answer(model: Model, prompts: list[str], settings: GenerateSettings, number: int) -> list[dict[str, Any]]:
    """The answers to a batch of prompts, of which the first has a number among all."""
    tokenizer = model.require_tokenizer()
    rows = [_prompt(model, prompt, settings.plain) for prompt in prompts]
    batch = model.pad([row.ids[0].tolist() for row in rows], side="left")
    options: dict[str, Any] = {"do_sample": False}
    if settings.temperature:
        options = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(settings.seed * 1_000_003 + number)
        ids = model.generate_ids(batch, settings.max_new_tokens, **options)
    start, ends = batch.ids.shape[1], model.end_tokens
    answers = []
    for prompt, row, answer in zip(prompts, rows, ids[:, start:].tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(answer) if token in ends), len(answer))
        whole = tokenizer.decode([*row.ids[0].tolist(), *answer[:length]], skip_special_tokens=False)
        text = tokenizer.decode(answer[:length], skip_special_tokens=True)
        answers.append({"text": whole, "prompt": prompt, "answer": text.strip(), "tokens": length})
    return answers


def _prompt(model: Model, prompt: str, plain: bool) -> Tokens:
    if plain:
        return model.tokenize(prompt, side="left")
    return model.chat_tokens([{"role": "user", "content": prompt}])
