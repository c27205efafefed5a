"""What goes over the wire. The page's TypeScript types are generated from these, by way of OpenAPI."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_CHARACTERS = 20_000
"""longest message"""
MAX_LABEL = 1000
MAX_MESSAGES = 100
MAX_EDITS = 32


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class IndexInfo(Wire):
    """What an index holds, and what can be done with it."""

    model: str
    site: str
    kind: str
    n_features: int
    tokens: int
    documents: int
    l0: float
    dead: float
    """share of features that fire nowhere in the index"""
    fvu: float
    """share of variance left unexplained, on training rows"""
    text: str
    can_chat: bool
    why_no_chat: str | None


class Piece(Wire):
    """One token of an example."""

    text: str
    value: float


class PictureView(Wire):
    """A picture in an example, with the feature's activation on each patch, row by row."""

    number: int
    piece: int
    """which piece of the example it is"""
    rows: int
    columns: int
    values: list[float]


class ExampleView(Wire):
    document: int
    position: int
    value: float
    peak: int
    pieces: list[Piece]
    pictures: list[PictureView]


class FeatureRow(Wire):
    """A feature in a list, with its strongest example."""

    feature: int
    label: str | None
    """what it was last said to be"""
    density: float
    maximum: float
    mean: float
    example: ExampleView | None


class FeatureList(Wire):
    total: int
    features: list[FeatureRow]


class Logit(Wire):
    token: str
    value: float


class LabelView(Wire):
    """What a feature was said to be."""

    label: str
    by: str
    """person, embedded, or the judge's provider:model"""
    at: float
    """seconds since 1970"""


class ScoreView(Wire):
    """How well a label fits, by one test."""

    score: str
    value: float | None
    chance: float | None
    control: float | None
    """the same with another feature's label"""
    by: str


class FeatureView(Wire):
    """Everything about one feature."""

    feature: int
    labels: list[LabelView]
    """the newest first"""
    scores: list[ScoreView]
    """of the newest label, and of the feature itself"""
    notes: list[str]
    density: float
    maximum: float
    mean: float
    quantiles: list[float]
    """a quarter, half, three quarters, 90 and 99 % of its activations lie below"""
    histogram: list[int]
    """activations in each of equal intervals from 0 to the maximum"""
    neighbours: list["Neighbour"]
    """features whose decoder rows point much the same way"""
    fires_with: list["Neighbour"]
    """features that fire on the same tokens"""
    top_logits: list[Logit]
    bottom_logits: list[Logit]
    examples: list[ExampleView]


class Neighbour(Wire):
    """A feature that is like another."""

    feature: int
    label: str | None
    cosine: float


class Saying(Wire):
    """What a person says of a feature."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]


class AskReading(Wire):
    """A text to read, and one that features should not fire on."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    unlike: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    on: Literal["max", "mean", "last"] = "max"
    n: Annotated[int, Field(ge=1, le=100)] = 20


class HitView(Wire):
    """A feature that fires on a text."""

    feature: int
    score: float
    maximum: float
    """in the index"""
    values: list[float]
    """its activation on each token"""
    label: str | None
    usual: list[str]
    """tokens at which it fires most in the index"""


class ReadingView(Wire):
    pieces: list[str]
    """the text of each token"""
    features: list[HitView]


class EditView(Wire):
    """An edit, as it is written to JSON everywhere."""

    op: Literal["clamp", "add", "scale", "ablate"]
    feature: int
    value: float = 0.0
    unit: Literal["raw", "max"] = "raw"
    where: Literal["all", "prompt", "answer"] = "all"


class Preset(Wire):
    """Edits under a name."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    edits: Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=MAX_EDITS)]
    """as they are written on the command line"""


class Problem(Wire):
    """An error: one line that says what is wrong and how to mend it."""

    error: str
