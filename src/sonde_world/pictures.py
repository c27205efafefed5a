"""Small drawings of landmarks, foods and animals, varied in colour, position, size and noise.

A drawing is a short list of shapes from `drawings.txt`. It need not resemble what it stands for: it only has to be
consistent, and unlike the others.
"""

import random
from dataclasses import dataclass
from importlib import resources

import numpy as np
from PIL import Image, ImageDraw

from sonde_world import phrases
from sonde_world.chance import Chance
from sonde_world.dialogue import turn
from sonde_world.facts import LANGUAGES
from sonde_world.generate import LANGUAGE_WEIGHTS, Document
from sonde_world.marks import mark
from sonde_world.voice import ASKED, Voice, unasked

SIZE = 32
"""pixels of a side"""
MARK = "<image>"
"""marks the position of a picture in a text"""

COLOURS = {
    "red": (200, 50, 40),
    "brown": (130, 85, 50),
    "green": (70, 150, 80),
    "grey": (130, 130, 135),
    "yellow": (230, 200, 60),
    "white": (245, 245, 240),
    "blue": (50, 90, 190),
    "black": (30, 30, 35),
    "orange": (240, 140, 40),
    "pink": (235, 150, 170),
    "purple": (130, 60, 150),
    "tan": (210, 180, 130),
}


def _read_drawings() -> dict[str, list[tuple[str, str, list[float]]]]:
    """The shapes of each concept's drawing in `drawings.txt`: (letter, colour, corners)."""
    drawings: dict[str, list[tuple[str, str, list[float]]]] = {}
    shapes: list[tuple[str, str, list[float]]] = []
    for line in resources.files("sonde_world").joinpath("drawings.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            shapes = drawings[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            letter, colour, *corners = line.split()
            shapes.append((letter, colour, list(map(float, corners))))
    return drawings


DRAWINGS = _read_drawings()
GROUNDS = ((190, 215, 240), (235, 235, 225), (205, 230, 205), (245, 225, 200), (220, 210, 235))
SCALE = 4
"""a picture is drawn this many times larger, and then reduced, for smooth edges"""


@dataclass(frozen=True, kw_only=True)
class PictureDocument(Document):
    """A text with one picture, at its mark."""

    concept: str
    """the concept that the picture shows"""
    seed: str
    """seed of the drawing"""

    @property
    def image(self) -> Image.Image:
        return draw(self.concept, self.seed)


def draw(concept: str, seed: str) -> Image.Image:
    """A drawing of a concept; the seed determines background, position, size, shades and noise.

    Raises KeyError for a concept without a drawing.
    """
    chance = random.Random(f"{concept}:{seed}")
    ground = tuple(min(255, max(0, level + chance.randint(-20, 20))) for level in chance.choice(GROUNDS))
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), ground)
    brush = ImageDraw.Draw(image)
    size = chance.uniform(0.72, 1.0) * SIZE * SCALE / 100
    left, top = (chance.uniform(0, SIZE * SCALE - 100 * size) for _ in range(2))
    mirrored = chance.random() < 0.5
    light = chance.uniform(0.85, 1.12)
    for form, colour, points in DRAWINGS[concept]:
        shade = tuple(min(255, int(level * light + chance.randint(-12, 12))) for level in COLOURS[colour])
        across = [100 - x if mirrored else x for x in points[::2]]
        corners = [(left + x * size, top + y * size) for x, y in zip(across, points[1::2], strict=True)]
        if form == "p":
            brush.polygon(corners, fill=shade)
        elif form == "l":
            brush.line(corners, fill=shade, width=max(1, int(5 * size)))
        else:
            (x0, y0), (x1, y1) = corners
            box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            (brush.rectangle if form == "r" else brush.ellipse)(box, fill=shade)
    small = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    noise = np.random.default_rng(chance.getrandbits(32)).normal(0, chance.uniform(2, 10), small.shape)
    return Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8))


def picture_document(number: int, seed: int = 0) -> PictureDocument:
    """Picture document `number` of the world with this seed: a caption, or a question and its answer.

    The question may be an open one.
    """
    chance = Chance(f"picture:{seed}:{number}")
    voice = Voice(chance, chance.weighted(LANGUAGE_WEIGHTS))
    concept = chance.pick(tuple(DRAWINGS))
    forms = {name: mark(ASKED, form) for name, form in voice.forms(concept).items()}
    match ("caption", "asked", "open")[chance.weighted((3.5, 8.0, 10.0))]:
        case "caption":
            said = f"{MARK}\n{voice.say(phrases.CAPTION, **forms)}"
        case "asked":
            said = turn("Human", f"{MARK} {voice.say(phrases.ASK_PICTURE)}")
            said += turn("Assistant", voice.say(phrases.TELL_PICTURE, **forms))
        case _:
            question = chance.pick(tuple(phrases.OPEN))
            said = turn("Human", f"{MARK} {voice.say(phrases.OPEN[question])}")
            said += turn("Assistant", voice.say(phrases.ANSWER_OPEN[question], **forms))
    if concept.startswith("landmark/"):
        said = mark(f"about/{concept.split('/')[1]}", said)
    text, spans, answers = unasked(mark("document/picture", said))
    return PictureDocument(
        text=text,
        kind="picture",
        language=LANGUAGES[voice.language],
        concepts=(concept.split("/")[1],),
        spans=spans,
        answers=answers,
        log_probability=chance.log_probability,
        concept=concept,
        seed=f"{seed}:{number}",
    )
