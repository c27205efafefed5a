"""What clients of OpenAI's protocol send, and what of it is refused."""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sonde.errors import ModelLacksError, SondeError, UsageError
from sonde.models.model import Model
from sonde.steering.edits import Edit
from sonde.steering.request import Sampling
from sonde.web.wire import MAX_CHARACTERS, MAX_EDITS, MAX_MESSAGES

MAX_TOKENS, MAX_CHOICES = 4096, 8
IGNORED = frozenset("user store metadata service_tier safety_identifier prompt_cache_key parallel_tool_calls".split())
"""parameters that change nothing here"""
NEUTRAL = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "response_format": {"type": "text"},
    "tool_choice": "none",
    "logit_bias": {},
    "tools": [],
    "modalities": ["text"],
    "best_of": 1,
    "echo": False,
    "suffix": "",
}
"""parameters that are accepted with these values only, which ask for nothing"""


class ModelUnknown(SondeError):
    """The request names a model that is not served."""


class ImageUrl(BaseModel):
    url: str
    """data:image/png;base64,... ; nothing is fetched"""


class Part(BaseModel):
    type: str
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""
    image_url: ImageUrl | None = None


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_CHARACTERS)] | list[Part]

    def for_template(self, model: Model) -> dict[str, Any]:
        """The message as the model's chat template takes it, with a mark where a picture stands."""
        parts = [Part(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        lines: list[str] = []
        images: list[bytes] = []
        for part in parts:
            if part.type == "text":
                lines.append(part.text)
            elif part.type == "image_url" and part.image_url is not None:
                lines.append(model.require_pictures().image_token)
                images.append(_decode_image(part.image_url.url))
            else:
                raise ModelLacksError(f"content of type {part.type!r} is not supported here; send text or image_url")
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "\n".join(lines), "images": images}


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
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def refuse_unsupported(self) -> None:
        """Raise UsageError for a parameter that would have to change the answer, and cannot here."""
        for parameter, value in (self.model_extra or {}).items():
            if value is None or parameter in IGNORED or (parameter in NEUTRAL and value == NEUTRAL[parameter]):
                continue
            raise UsageError(f"the parameter {parameter!r} is not supported here; leave it out")

    def _sampling(self, max_tokens: int, top_logprobs: int, strip: bool) -> Sampling:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            seed=self.seed,
            stop=tuple(filter(None, stop)),
            top_logprobs=top_logprobs,
            strip=strip,
        )


class ChatRequest(CompletionSettings):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None

    @property
    def sampling(self) -> Sampling:
        max_tokens = self.max_completion_tokens or self.max_tokens or MAX_TOKENS
        return self._sampling(max_tokens, (self.top_logprobs or 0) if self.logprobs else 0, strip=True)


class CompletionRequest(CompletionSettings):
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None

    @property
    def sampling(self) -> Sampling:
        return self._sampling(self.max_tokens or 16, self.logprobs or 0, strip=False)


def _decode_image(url: str) -> bytes:
    """The bytes of a picture that came with the request."""
    head, _, data = url.partition(";base64,")
    if not head.startswith("data:image/") or not data:
        raise UsageError(f"{url[:60]!r} is not fetched; send the picture itself as data:image/png;base64,...")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise UsageError(f"the picture's base64 cannot be read: {error}") from error
