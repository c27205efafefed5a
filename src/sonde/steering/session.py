"""A conversation with a model under edits."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line
from sonde.features.feature import Hits
from sonde.features.index import Index
from sonde.features.reader import Fired, On, Reader
from sonde.models.model import Model, Tokens
from sonde.models.token_text import decode
from sonde.settings import from_mapping
from sonde.steering.apply import AnyEdit, make_edits
from sonde.steering.batching import Batcher
from sonde.steering.dose import DOSES, Responses, dose_response
from sonde.steering.edits import EditLike, as_list, read_edit
from sonde.steering.request import Sampling
from sonde.steering.settings import AnswerKeywords, AnswerSettings

Message = dict[str, Any]
"""role, content, and images, a list of paths, where the content has marks for pictures"""


class Answer(str, Drawn):
    """The model's answer: a string, which knows the edits under which it was given."""

    edits: tuple[str, ...]

    def __new__(cls, text: str, edits: Iterable[str] = ()) -> Self:
        answer = super().__new__(cls, text)
        answer.edits = tuple(edits)
        return answer

    def draw(self) -> list[Block]:
        edits = [Grid([["under", "; ".join(self.edits)]])] if self.edits else []
        return [*edits, Line(str(self))]


class Session:
    """A model with the dictionary of an index, ready to answer under edits; it may be shared by threads.

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        model: a model or what `load_model` takes; by default the one that the index was made with.
        edits: of every answer that is not given others; values, texts such as feature:311=2max, or JSON objects.

    Raises:
        ArtifactMissingError: the dictionary is not where it was.
        ArtifactMismatchError: dictionary and model do not fit each other.
        FeatureError, EditError: an edit that cannot be applied.
    """

    @public()
    def __init__(
        self,
        index: Index | Reader | str | Path,
        model: Model | str | Path | None = None,
        device: str = "auto",
        edits: AnyEdit | Sequence[AnyEdit] = (),
    ) -> None:
        self.reader = index if isinstance(index, Reader) else Reader(index, model, device)
        self.index, self.dictionary, self.model = self.reader.index, self.reader.dictionary, self.reader.model
        self.batcher = Batcher(self.model)
        self.edits = make_edits(edits, self.index)

    @public()
    def read(self, text: str, *, unlike: str = "", on: On = "max", n: int = 20) -> tuple[Fired, Hits]:
        """What fires on a text, unedited, and the features that fire on it most; raises TextError where it is empty."""
        fired = self.batcher.run(lambda: self.reader.read(text))
        return fired, self.batcher.run(lambda: self.reader.search(fired, unlike=unlike or (), on=on, n=n))

    @public(AnswerSettings)
    def answer(
        self,
        messages: str | Sequence[Message],
        edits: AnyEdit | Sequence[AnyEdit] | None = None,
        max_new_tokens: int = 60,
        **settings: Unpack[AnswerKeywords],
    ) -> Answer:
        """The model's answer to a question or a conversation, under edits.

        Args:
            messages: a question, or messages with `role` and `content`.
            edits: the session's own by default.
            max_new_tokens: length of the longest answer.
            settings: the fields of `AnswerSettings`, such as a temperature.

        Raises:
            FeatureError, EditError: an edit that cannot be applied.
            SettingsError: a setting out of its bounds.
            ModelLacksError: no chat template or no head.
            UsageError: the conversation does not fit the model's context.
        """
        bound = self.edits if edits is None else make_edits(edits, self.index)
        sampling = Sampling.of(from_mapping(AnswerSettings, settings), self.model, max_new_tokens)
        pieces = self.batcher.answer(self._prompt(messages), bound, sampling)
        tokens = [piece.token for piece in pieces if piece.token is not None]
        text = decode(self.model.require_tokenizer(), tokens).strip()
        return Answer(text, (str(getattr(edit, "edit", type(edit).__name__)) for edit in bound))

    @public(AnswerSettings)
    def dose(
        self,
        messages: str | Sequence[Message],
        edits: EditLike | Sequence[EditLike],
        doses: Sequence[float] = DOSES,
        max_new_tokens: int = 40,
        **settings: Unpack[AnswerKeywords],
    ) -> Responses:
        """The answers with the edits at each dose, and how the model without edits reads them; see `dose_response`."""
        given = {"doses": doses, "max_tokens": max_new_tokens, "settings": from_mapping(AnswerSettings, settings)}
        return dose_response(self.reader, self.batcher, edits, self._prompt(messages), **given)

    def question(self, text: str, image: Sequence[str | Path] = ()) -> Message:
        """A question as a message; its pictures come first where the text has no mark for them.

        Raises ModelLacksError where there are pictures and the model reads text alone.
        """
        message: Message = {"role": "user", "content": text}
        if image:
            mark = self.model.require_pictures().image_token
            message |= {"content": text if mark in text else mark * len(image) + "\n" + text, "images": list(image)}
        return message

    def _prompt(self, messages: str | Sequence[Message]) -> Tokens:
        self.model.require_head("chat")
        return self.model.chat_tokens(
            [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        )


@public()
def chat(
    index: Index | Reader | str | Path, edit: AnyEdit | Sequence[AnyEdit] = (), *, device: str = "auto"
) -> Session:
    """A session in which the model answers under edits.

        sonde.chat("index", "feature:311=2max").answer("Who are you?")

    Args:
        index: an index, its folder, or a `Reader`, whose model need not be loaded again.
        edit: one or several, as text, values or JSON objects; see `Edit`. They act on every answer that is not given
            others.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.

    Raises:
        FeatureError, EditError: an edit that cannot be applied.
        ArtifactMissingError, ArtifactMismatchError: as for `Session`.
    """
    for each in as_list(edit):  # before the model is loaded
        if not callable(each):
            read_edit(each)
    return Session(index, edits=edit, device=device)


@public(AnswerSettings)
def dose(
    index: Index | Reader | Session | str | Path,
    edit: EditLike | Sequence[EditLike],
    prompt: str | Sequence[Message],
    *,
    at: Sequence[float] | None = None,
    max_new_tokens: int = 40,
    device: str = "auto",
    **settings: Unpack[AnswerKeywords],
) -> Responses:
    """What a model answers as it is edited more and more strongly, and where it breaks.

    Args:
        index: an index, its folder, or a `Reader` or a `Session`, whose model need not be loaded again.
        edit: one or several, whose values are multiplied by each dose.
        prompt: the question, or a conversation.
        at: the doses; by default from a quarter to four.
        max_new_tokens: length of the longest answer.
        device: auto, cpu, cuda, cuda:N or mps; for the model, where it is loaded here.
        settings: the fields of `AnswerSettings`, such as a temperature.

    Raises:
        FeatureError, EditError: an edit that cannot be applied, or none.
        SettingsError: a setting out of its bounds.
        UsageError, BusyError: as for any answer.
    """
    for each in as_list(edit):  # before the model is loaded
        read_edit(each)
    from_mapping(AnswerSettings, settings)
    session = index if isinstance(index, Session) else Session(index, device=device)
    return session.dose(prompt, edit, DOSES if at is None else at, max_new_tokens, **settings)
