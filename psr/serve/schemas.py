"""What a request may say: OpenAI's chat completions as far as they are understood, and `steer`.

What would change the answer and is not done here is refused, not ignored; values that ask for nothing are let through.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from psr.types import Chat, Message

_Nothing = Annotated[float, Field(ge=0, le=0)] | None
_NoList = Annotated[list[Any], Field(max_length=0)] | None
_NoDict = Annotated[dict[str, Any], Field(max_length=0)] | None
_Word = Annotated[str, Field(min_length=1)]
_SHOWN = 60  # characters of a value that an error repeats
_TURNS = 1000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Part(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Turn(_Strict):
    """A message. What an answer of ours has beside its text may come back with it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    reasoning_content: str | None = None  # of an earlier answer: chat templates leave it out
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: _NoList = None
    annotations: _NoList = None

    @property
    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class Steered(_Strict):
    """A module by its name, and how strongly it steers; null: as is recommended."""

    module: str
    alpha: float | None = Field(default=None, allow_inf_nan=False)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against listeners: there is none on loopback


class ChatRequest(_Strict):
    """The body of /v1/chat/completions."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1, max_length=_TURNS)]
    steer: Annotated[list[Steered], Field(max_length=8)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: _Word | Annotated[list[_Word], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    # what asks for nothing
    frequency_penalty: _Nothing = None
    presence_penalty: _Nothing = None
    logit_bias: _NoDict = None
    tools: _NoList = None
    functions: _NoList = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    # what changes no answer
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens are one and the same: give one")
        return self

    @property
    def chat(self) -> Chat:
        return tuple(turn.message for turn in self.messages)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def longest(self) -> int | None:
        """The most new tokens; None: not said."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


def refusal(error: ValidationError) -> tuple[str, str | None, str]:
    """What is wrong with a body: a line, the field's name, a code. Of a type's alternatives the one that came furthest speaks."""
    errors = error.errors(include_url=False, include_context=False)
    first = max(errors, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")))
    names = [str(part) for part in first["loc"] if not _of_a_union(str(part))]
    field = ".".join(names) or None
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}", None, "invalid_json"
    if first["type"] == "extra_forbidden":
        return f"unknown or unsupported argument: {field}", field, "unknown_parameter"
    if first["type"] == "missing":
        return f"{field} is missing", field, "missing_parameter"
    said = first["msg"].removeprefix("Value error, ")
    value = repr(first["input"])
    shown = "" if field is None else f", got {value if len(value) <= _SHOWN else value[:_SHOWN] + '…'}"
    return f"{f'{field}: ' if field else ''}{said[:1].lower()}{said[1:]}{shown}", field, "invalid_value"


def _of_a_union(name: str) -> bool:
    """Whether a part of an error's place names one alternative of a type, not a field."""
    return name in ("str", "float", "int", "none", "constrained-str") or "[" in name
