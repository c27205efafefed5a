"""The types of requests and answers; the page's TypeScript types are generated from these, by way of OpenAPI."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from sonde.steering.edits import Edit

MAX_CHARACTERS = 20_000
"""longest message"""
MAX_LABEL = 1000
MAX_MESSAGES = 100
MAX_EDITS = 32

Activation = Annotated[float, PlainSerializer(lambda value: float(f"{value:.5g}"), return_type=float)]
"""with as many digits as an index keeps"""


def whole_letters(asked: Any) -> Any:
    """What was asked, as it is; raises ValueError where a text holds half of a letter, which JSON can write."""
    try:
        json.dumps(asked, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text has half of a letter (a lone surrogate); send whole letters") from error
    return asked


WholeLetters = BeforeValidator(whole_letters)
"""of texts that nothing else bounds, as bounds look at them too"""


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class IndexInfo(Wire):
    """What an index holds, and what can be done with it."""

    model: str
    """its name, or that of its folder"""
    site: str
    kind: str
    n_features: int
    tokens: int
    documents: int
    l0: float
    dead: float
    """share of features that fire nowhere in the index"""
    fvu: float | None
    """share of variance left unexplained, on training rows; None of a dictionary that `train` did not make"""
    text: str
    folder: str
    """path of the index; for an exported page its name alone"""
    labelled: int
    """features that have a label"""
    has_map: bool
    has_neurons: bool
    sizes: list["SizeView"]
    """this and other dictionaries that were indexed on the same text, the smallest first"""
    can_chat: bool
    why_no_chat: str | None


class SizeView(Wire):
    """A dictionary of several that were indexed together."""

    name: str
    n_features: int
    here: bool
    """the one that is shown"""


class Figure(Wire):
    """A number about the dictionary, and what it means."""

    name: str
    value: float
    is_share: bool
    says: str


class CurvePoint(Wire):
    """The state of training at a step."""

    step: int
    fvu: float
    l0: float
    dead: float


class DensityBin(Wire):
    """How many features fire on a share of tokens between two bounds."""

    low: float
    high: float
    count: int


class StartView(Wire):
    """What the start of the page shows."""

    figures: list[Figure]
    curve: list[CurvePoint]
    densities: list[DensityBin]
    featured: list["FeatureRow"]
    """a few features that are worth a look"""


class Piece(Wire):
    """One token of an example."""

    text: str
    value: Activation


class PictureView(Wire):
    """A picture in an example, with the feature's activation on each patch, row by row."""

    number: int
    piece: int
    """which piece of the example it is"""
    rows: int
    columns: int
    values: list[Activation]


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
    """the newest"""
    density: float
    maximum: float
    mean: float
    same_word: float
    """share of its twenty strongest examples that fire at the most common word"""
    neuron: float | None
    """size of the correlation with the neuron that is most like it, where that is known"""
    example: ExampleView | None


Sort = Literal["best", "number", "density", "maximum", "mean", "same_word", "neuron"]


class AskFeatures(Wire):
    """Which features, and in which order."""

    query: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    by: Literal["words", "text", "like", "vector"] = "words"
    """what the query is: words of labels, notes and examples; a text on which features fire; the number of a feature
    that others are like; or the numbers of a direction, with commas or spaces between them, that decoder rows point
    along"""
    density_min: float | None = None
    density_max: float | None = None
    maximum_min: float | None = None
    maximum_max: float | None = None
    mean_min: float | None = None
    mean_max: float | None = None
    same_word_min: float | None = None
    same_word_max: float | None = None
    neuron_min: float | None = None
    neuron_max: float | None = None
    sort: Sort = "best"
    """best: how well the query is met, or by number where there is none"""
    descending: bool = False

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Name of each bounded statistic -> its range."""
        ranges = {}
        for name in ("density", "maximum", "mean", "same_word", "neuron"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low is not None or high is not None:
                ranges[name] = (float("-inf") if low is None else low, float("inf") if high is None else high)
        return ranges


class AskPage(AskFeatures):
    """Which features, in which order, and which part of the list."""

    offset: Annotated[int, Field(ge=0, le=2**31)] = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class FeatureList(Wire):
    total: int
    more: bool
    """whether the search found more than it gives, so that `total` counts the best of them alone"""
    features: list[FeatureRow]


class FoundNumbers(Wire):
    """The numbers of the features that are found."""

    numbers: list[int]
    more: bool
    """whether there are more than these"""


class Logit(Wire):
    token: str
    value: float


class LabelView(Wire):
    """A label of a feature."""

    label: str
    by: str
    """person, embedded, or the judge's provider:model"""
    at: float
    """seconds since 1970"""
    because: list[str]
    """the evidence for it, a line each; a person gives none"""


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
    same_word: float
    neuron: "NeuronView | None"
    kin: list["KinView"]
    """what it divides, and what divides it, in dictionaries of other sizes"""
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


class NeuronView(Wire):
    """The neuron that is most like a feature."""

    site: str
    neuron: int
    correlation: float


class KinView(Wire):
    """A feature of a dictionary of another size that is this one's parent or child."""

    relation: Literal["parent", "child"]
    size: str
    """name of the other index"""
    feature: int
    label: str | None
    usual: list[str]
    cosine: float
    contained: float
    """share of the tokens on which the child fires on which the parent fires too"""


class Saying(Wire):
    """A label or a note that a person gives a feature."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]


class AskReading(Wire):
    """A text to read, and one to compare it with."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    unlike: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    on: Literal["max", "mean", "last"] = "max"
    n: Annotated[int, Field(ge=1, le=100)] = 20


class HitView(Wire):
    """A feature that fires on a text."""

    feature: int
    score: float
    """its activation there, less that on the other text"""
    maximum: float
    """in the index"""
    values: list[float]
    """its activation on each token"""
    other_values: list[float]
    """and on each of the other text"""
    label: str | None
    usual: list[str]
    """tokens at which it fires most in the index"""


class TokenHit(Wire):
    feature: int
    value: Activation


class ReadingView(Wire):
    pieces: list[str]
    """the text of each token"""
    strongest: list[list[TokenHit]]
    """of each token, the features that fire most on it, in units of their maxima"""
    names: dict[int, str]
    """labels of those"""
    features: list[HitView]
    """that fire on the text, and less on the other"""
    other_pieces: list[str]
    other_features: list[HitView]
    """that fire on the other text, and less on this"""


class AskActivations(Wire):
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class ActivationsView(Wire):
    """A feature on a text."""

    pieces: list[str]
    values: list[float]


class ClusterView(Wire):
    """A cluster of the map, and where its middle is."""

    name: str
    x: float
    y: float
    count: int


class MapView(Wire):
    """All features in a plane; where they are is in `/api/map/points`."""

    n_features: int
    clusters: list[ClusterView]


class AskDose(Wire):
    """A question, and edits whose values are multiplied by each dose."""

    question: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    edits: Annotated[list[Edit | str], WholeLetters, Field(min_length=1, max_length=MAX_EDITS)]
    """as objects, or as text (feature:311=10max@answer)"""
    doses: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=1, max_length=16)]
    max_tokens: Annotated[int, Field(ge=1, le=200)] = 40


class DoseView(Wire):
    """The answer at one dose."""

    dose: float | None
    """None for the model without edits"""
    answer: str
    concept: float | None
    """how strongly the edited features fire on the answer, in units of their maxima, when the plain model reads it"""
    perplexity: float | None
    """of the answer under the plain model"""
    repetition: float | None
    """share of the answer's runs of three tokens that occurred before in it"""


class Preset(Wire):
    """Edits under a name."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    edits: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=MAX_EDITS)]
    """as they are written on the command line"""


class Problem(Wire):
    """An error: one line that says what is wrong and how to fix it."""

    error: str
