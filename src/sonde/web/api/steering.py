"""Answers at doses, and edits that are kept under a name."""

from fastapi import APIRouter

from sonde.steering.apply import make_edits
from sonde.steering.dose import dose_response
from sonde.steering.presets import load_presets, remove_preset, save_preset
from sonde.web import wire
from sonde.web.served import PROBLEMS, ServedIndex

router = APIRouter()


@router.post("/api/dose", responses=PROBLEMS)
def post_dose(served: ServedIndex, asked: wire.AskDose) -> list[wire.DoseView]:
    """Answers to a question at each dose of the edits, and how fluent they are."""
    with served.turn():
        served.model.require_head("answers")
        prompt = served.model.chat_tokens([{"role": "user", "content": asked.question}])
        given = {"doses": asked.doses, "max_tokens": asked.max_tokens, "confined": True}
        responses = dose_response(served.reader, served.batcher, asked.edits, prompt, **given)
    shown = ("dose", "answer", "concept", "perplexity", "repetition")
    return [wire.DoseView(**{name: getattr(at, name) for name in shown}) for at in responses]


@router.get("/api/presets")
def get_presets(served: ServedIndex) -> list[wire.Preset]:
    """Edits that are kept under a name."""
    presets = load_presets(served.index.folder)
    return [wire.Preset(name=name, edits=list(map(str, edits))) for name, edits in presets.items()]


@router.post("/api/presets", responses=PROBLEMS)
def post_preset(served: ServedIndex, preset: wire.Preset) -> list[wire.Preset]:
    """Keep edits under a name; returns all presets."""
    make_edits(preset.edits, served.index, confined=True)
    save_preset(served.index.folder, preset.name, preset.edits)
    return get_presets(served)


@router.delete("/api/presets/{name}", responses=PROBLEMS)
def delete_preset(served: ServedIndex, name: str) -> list[wire.Preset]:
    """Remove the edits that are kept under a name; returns all presets that are left."""
    remove_preset(served.index.folder, name)
    return get_presets(served)
