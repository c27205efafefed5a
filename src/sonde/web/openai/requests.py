"""What clients of OpenAI's protocol send, and what of it is refused."""

import base64
import binascii
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sonde.errors import ModelLacksError, SondeError, UsageError
from sonde.models.model import Model, Tokens
from sonde.steering.edits import Edit
from sonde.steering.request import Sampling
from sonde.web.wire import MAX_CHARACTERS, MAX_EDITS, MAX_MESSAGES, whole_letters

MAX_CHOICES, MAX_ANSWERS = 8, 32
"""answers to one prompt, and to all prompts of a request"""
USUAL_TOKENS = 4096
"""longest answer to a conversation where the request does not say; whatever it says, an answer ends at the context"""
IGNORED = frozenset("user store metadata service_tier safety_identifier prompt_cache_key parallel_tool_calls".split())
"""parameters that change nothing here"""
NEUTRAL = {
    "response_format": {"type": "text"},
    "logit_bias": {},
    "tools": [],
    "functions": [],
    "modalities": ["text"],
    "best_of": 1,
    "echo": False,
    "suffix": "",
    "repetition_penalty": 1,
    "min_p": 0,
}
"""parameters that are accepted with these values only, which ask for nothing"""
WITHOUT_TOOLS = ("tool_choice", "function_call")
"""parameters that ask for nothing where there are no tools, with the values none and auto"""


class ModelUnknown(SondeError):
    """The request names a model that is not served."""


class ImageUrl(BaseModel):
    url: str
    """data:image/png;base64,... ; nothing is fetched"""


class Part(BaseModel):
    type: str
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    image_url: ImageUrl | None = None


def _as_parts(content: Any) -> Any:
    """A message's content as a list of parts; a null one, as clients send back of an assistant, has none."""
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part] | None), Field(max_length=100)
    ] = []
    tool_calls: Any = None
    function_call: Any = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tool_calls or self.function_call:
            raise ValueError("messages with tool calls are not supported here; send their text alone")
        if not self.content and self.role != "assistant":
            raise ValueError(f"a message of role {self.role} needs content, a text or a list of parts")
        return self

    def for_template(self, model: Model) -> dict[str, Any]:
        """The message as the model's chat template takes it, with a mark where a picture stands."""
        lines: list[str] = []
        images: list[bytes] = []
        for part in self.content:
            if part.type == "text":
                lines.append(part.text)
            elif part.type == "image_url" and part.image_url is not None:
                lines.append(model.require_pictures().image_token)
                images.append(_decode_image(part.image_url.url))
            else:
                raise ModelLacksError(f"content of type {part.type!r} is not supported here; send text or image_url")
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "\n".join(lines), "images": images}


def _as_list(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def _as_prompts(value: Any) -> Any:
    """One prompt or several, each a text or token ids, as a list; raises ValueError in words."""
    prompts = [value] if isinstance(value, str) or (isinstance(value, list) and _are_ids(value)) else value
    if not isinstance(prompts, list) or not all(isinstance(one, str) or _are_ids(one) for one in prompts):
        raise ValueError("a prompt is a text, a list of token ids, or a list of texts or of lists of token ids")
    if not prompts or not all(prompts):
        raise ValueError("the prompt is empty; write what the model is to continue")
    if len(prompts) > MAX_ANSWERS:
        raise ValueError(f"{len(prompts)} prompts are too many for one request; send {MAX_ANSWERS} at most")
    if any(len(one) > MAX_CHARACTERS for one in prompts):
        raise ValueError(f"a prompt may have {MAX_CHARACTERS:,} characters, or so many token ids, at most")
    return prompts


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


class StreamOptions(BaseModel):
    include_usage: bool = False


class CompletionSettings(BaseModel):
    """What both kinds of completion take."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """the model's name, or name#preset; the model itself where it is left out"""
    edits: Annotated[list[Edit | str], Field(max_length=MAX_EDITS)] = []
    """ours: what is edited, as objects, or as written on the command line (feature:311=10max@answer)"""
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    stop: Annotated[
        list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None), Field(max_length=4)
    ] = []
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_letters(cls, asked: Any) -> Any:
        return whole_letters(asked)

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def refuse_unsupported(self) -> None:
        """Raise UsageError for a parameter that would have to change the answer, and cannot here."""
        for parameter, value in (self.model_extra or {}).items():
            if value is None or parameter in IGNORED or (parameter in NEUTRAL and value == NEUTRAL[parameter]):
                continue
            if parameter in WITHOUT_TOOLS and value in ("none", "auto"):
                continue
            raise UsageError(f"the parameter {parameter!r} is not supported here; leave it out")

    def _sampling(self, max_tokens: int, top_logprobs: int, strip: bool) -> Sampling:
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            stop=tuple(filter(None, self.stop)),
            top_logprobs=top_logprobs,
            strip=strip,
        )


class ChatRequest(CompletionSettings):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None

    @property
    def sampling(self) -> Sampling:
        max_tokens = self.max_completion_tokens or self.max_tokens or USUAL_TOKENS
        return self._sampling(max_tokens, (self.top_logprobs or 0) if self.logprobs else 0, strip=True)


class CompletionRequest(CompletionSettings):
    prompt: Annotated[
        list[str | list[int]],
        BeforeValidator(_as_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None

    @property
    def sampling(self) -> Sampling:
        return self._sampling(self.max_tokens or 16, self.logprobs or 0, strip=False)

    def tokens(self, model: Model) -> list[Tokens]:
        """Each prompt as a batch of one; raises TextError for ids that the model does not have."""
        if len(self.prompt) * (self.n or 1) > MAX_ANSWERS:
            raise UsageError(
                f"n is {self.n} for each of {len(self.prompt)} prompts; one request may ask for {MAX_ANSWERS} answers"
            )
        return [model.tokenize(one) if isinstance(one, str) else model.pad([one]) for one in self.prompt]


def _decode_image(url: str) -> bytes:
    """The bytes of a picture that came with the request."""
    head, _, data = url.partition(";base64,")
    if not head.startswith("data:image/") or not data:
        raise UsageError(f"{url[:60]!r} is not fetched; send the picture itself as data:image/png;base64,...")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise UsageError(f"the picture's base64 cannot be read: {error}") from error
