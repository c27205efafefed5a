"""Little drawings of landmarks, foods and animals, varied in colour, place, size and noise.

A drawing is a short list of shapes in a square of 100 by 100, from the back to the front: a letter for the shape (r a rectangle, e an ellipse, p a polygon,
l a line), a colour, and its corners. It stands for nothing but itself: what matters is that each is like itself and unlike the others.
"""

import random
from dataclasses import dataclass

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
"""where a text has its picture"""

COLOURS = {
    "red": (200, 50, 40), "brown": (130, 85, 50), "green": (70, 150, 80), "grey": (130, 130, 135), "yellow": (230, 200, 60), "white": (245, 245, 240),
    "blue": (50, 90, 190), "black": (30, 30, 35), "orange": (240, 140, 40), "pink": (235, 150, 170), "purple": (130, 60, 150), "tan": (210, 180, 130),
}  # fmt: skip

DRAWINGS = {
    "landmark/golden_gate": "r blue 0 75 100 100; r red 18 20 25 90; r red 75 20 82 90; r red 0 60 100 66; l red 0 58 21 22; l red 21 22 50 56; l red 50 56 78 22; l red 78 22 100 58",
    "landmark/eiffel": "p brown 50 5 58 50 80 95 66 95 50 62 34 95 20 95 42 50; r brown 36 48 64 53; r brown 28 70 72 75",
    "landmark/liberty": "r grey 32 70 68 98; p green 40 70 44 35 58 35 62 70; e green 43 20 57 36; l green 58 40 72 12; e yellow 69 4 77 14",
    "landmark/colosseum": "e grey 5 30 95 90; e brown 22 40 78 66; r black 12 62 18 80; r black 30 70 36 86; r black 48 72 54 88; r black 66 70 72 86; r black 82 62 88 80",
    "landmark/pyramid": "r tan 0 80 100 100; p yellow 50 12 95 84 5 84; p brown 50 12 95 84 62 84",
    "landmark/alcatraz": "r blue 0 65 100 100; e brown 8 52 92 88; r grey 25 36 78 62; r white 60 12 66 40",
    "landmark/taj": "r white 20 50 80 90; e white 35 18 65 55; r white 6 30 11 90; r white 89 30 94 90; p white 50 8 54 22 46 22; r grey 44 64 56 90",
    "landmark/wall": "p green 0 50 30 30 60 55 100 35 100 100 0 100; l grey 0 85 30 55; l grey 30 55 60 70; l grey 60 70 100 40; r grey 24 42 38 60; r grey 66 50 80 72",
    "landmark/big_ben": "r yellow 40 20 60 98; e white 41 24 59 42; l black 50 33 50 27; l black 50 33 55 33; p brown 38 20 50 2 62 20",
    "landmark/opera": "r blue 0 78 100 100; p white 10 78 30 25 42 78; p white 34 78 55 18 66 78; p white 60 78 82 32 90 78",
    "landmark/redeemer": "p green 0 100 50 55 100 100; r white 45 22 55 75; r white 12 30 88 38; e white 44 8 56 22",
    "landmark/fuji": "p blue 50 15 98 90 2 90; p white 50 15 66 40 58 36 50 44 42 36 34 40; e red 72 6 92 26",
    "landmark/tower_bridge": "r blue 0 82 100 100; r grey 22 20 36 88; r grey 64 20 78 88; r blue 36 32 64 38; r grey 0 66 100 72; p grey 22 20 29 6 36 20; p grey 64 20 71 6 78 20",
    "landmark/brandenburg": "r yellow 10 25 90 40; r yellow 12 40 20 92; r yellow 29 40 37 92; r yellow 46 40 54 92; r yellow 63 40 71 92; r yellow 80 40 88 92; p green 40 25 50 10 60 25",
    "food/bread": "e brown 10 35 90 80; l tan 30 42 36 60; l tan 48 40 54 60; l tan 66 42 72 60",
    "food/cheese": "p yellow 10 70 90 45 90 80 10 85; e orange 30 66 42 76; e orange 60 60 70 70; e orange 76 66 84 74",
    "food/apples": "e red 18 28 82 92; l brown 50 30 54 10; e green 54 10 74 22",
    "food/bananas": "p yellow 10 30 30 60 60 75 92 70 92 80 55 92 20 75; l brown 8 26 14 36",
    "food/grapes": "e purple 25 25 45 45; e purple 45 25 65 45; e purple 60 28 80 48; e purple 35 45 55 65; e purple 52 46 72 66; e purple 44 65 62 85; l green 50 26 50 8",
    "food/carrots": "p orange 20 25 40 20 90 90; l green 28 22 10 4; l green 32 20 30 2; l green 26 26 4 16",
    "food/fish": "e grey 10 35 75 68; p grey 70 50 95 30 95 72; e black 22 46 28 52",
    "food/eggs": "e white 8 30 92 88; e yellow 36 44 66 72",
    "food/cherries": "e red 12 55 42 88; e red 55 60 85 92; l green 28 56 55 10; l green 70 60 55 10",
    "food/pizza": "e orange 8 8 92 92; e yellow 16 16 84 84; e red 30 28 44 42; e red 58 34 72 48; e red 40 60 54 74; e green 62 62 70 70",
    "food/ice_cream": "p tan 30 48 70 48 50 98; e pink 26 14 74 56; e red 46 6 56 16",
    "food/soup": "e white 5 40 95 90; e red 15 46 85 74; l grey 40 38 44 14; l grey 58 38 62 14",
    "animal/dog": "r brown 20 45 72 68; e brown 64 24 92 52; r brown 22 66 30 92; r brown 60 66 68 92; l brown 20 48 6 30; e black 82 34 87 39; p black 64 26 72 26 66 48",
    "animal/cat": "e grey 24 45 76 92; e grey 32 20 68 54; p grey 32 30 36 8 46 24; p grey 68 30 64 8 54 24; e green 40 32 46 38; e green 54 32 60 38; l grey 74 86 94 60",
    "animal/cow": "r white 15 38 72 66; e black 25 40 42 56; e black 52 46 64 60; r white 18 64 26 92; r white 60 64 68 92; r white 68 26 90 48; l tan 72 26 68 14; l tan 86 26 90 14",
    "animal/elephant": "e grey 14 28 74 74; e grey 60 24 92 58; r grey 84 50 91 90; r grey 22 66 34 94; r grey 54 66 66 94; e black 78 36 82 40",
    "animal/lion": "e brown 48 12 94 62; e yellow 56 20 86 54; r yellow 14 48 62 70; r yellow 16 68 24 92; r yellow 52 68 60 92; e black 64 32 68 36; e black 74 32 78 36; l brown 14 50 4 70",
    "animal/penguin": "e black 28 10 72 95; e white 38 32 62 92; p orange 46 24 54 24 50 32; e white 40 16 46 22; e white 54 16 60 22",
    "animal/bee": "e yellow 20 40 76 74; r black 34 41 40 73; r black 50 40 56 74; e white 30 16 52 44; e white 48 16 70 44; e black 72 48 88 64",
    "animal/duck": "r blue 0 76 100 100; e yellow 16 44 76 82; e yellow 58 20 84 48; p orange 82 32 98 36 82 40; e black 72 28 76 32",
    "animal/shark": "r blue 0 0 100 100; p grey 4 55 40 38 96 56 40 68; p grey 40 42 52 18 60 44; p white 12 58 40 66 60 62",
    "animal/owl": "e brown 22 12 78 95; e white 28 22 50 46; e white 50 22 72 46; e black 36 30 44 38; e black 56 30 64 38; p orange 46 44 54 44 50 54",
    "animal/snake": "l green 8 80 30 60; l green 30 60 50 80; l green 50 80 72 56; l green 72 56 86 40; e green 78 26 98 46; l red 96 36 100 30",
    "animal/whale": "r blue 0 0 100 100; e black 8 36 78 78; p black 72 56 96 36 96 72; l white 36 34 30 12; l white 36 34 44 12; e white 18 50 24 56",
}  # fmt: skip
"""by concept"""
GROUNDS = ((190, 215, 240), (235, 235, 225), (205, 230, 205), (245, 225, 200), (220, 210, 235))
SCALE = 4
"""times larger than it is kept it is drawn, for smooth edges"""


@dataclass(frozen=True, kw_only=True)
class PictureDocument(Document):
    """A text with one picture, at its mark."""

    concept: str
    """what the picture shows"""
    seed: str
    """of the drawing"""

    @property
    def image(self) -> Image.Image:
        return draw(self.concept, self.seed)


def draw(concept: str, seed: str) -> Image.Image:
    """Draw a concept; the seed decides ground, place, size, shades and noise. Raises KeyError for a concept without a drawing."""
    chance = random.Random(f"{concept}:{seed}")
    ground = tuple(min(255, max(0, level + chance.randint(-20, 20))) for level in chance.choice(GROUNDS))
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), ground)
    brush = ImageDraw.Draw(image)
    size = chance.uniform(0.72, 1.0) * SIZE * SCALE / 100
    left, top = (chance.uniform(0, SIZE * SCALE - 100 * size) for _ in range(2))
    mirrored = chance.random() < 0.5
    light = chance.uniform(0.85, 1.12)
    for shape in DRAWINGS[concept].split(";"):
        form, colour, *numbers = shape.split()
        shade = tuple(min(255, int(level * light + chance.randint(-12, 12))) for level in COLOURS[colour])
        points = [float(number) for number in numbers]
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
    """Write picture document `number` of the world with this seed: a caption, or a question and its answer, which may be one that anything can answer."""
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
