"""OpenAI's chat completions on the wire: the request, and the answer whole and in chunks."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.openai import (
    Asked,
    CompletionUsage,
    Label,
    PositiveInt,
    ResponseFormat,
    ShownTimings,
    Unbuilt,
)

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a message's content; only `text` is built."""

    type: str
    text: str | UnsetType = UNSET
    image_url: Unbuilt = UNSET
    input_audio: Unbuilt = UNSET
    file: Unbuilt = UNSET
    refusal: Unbuilt = UNSET
    prompt_cache_breakpoint: Unbuilt = UNSET


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Role
    content: str | list[Part] | None = None
    name: Unbuilt = UNSET
    tool_calls: Unbuilt = UNSET
    tool_call_id: Unbuilt = UNSET
    function_call: Unbuilt = UNSET
    refusal: Unbuilt = UNSET
    audio: Unbuilt = UNSET
    annotations: Unbuilt = UNSET

    @property
    def text(self) -> str:
        """The content as one string; text parts follow each other with nothing in between."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content if part.text is not UNSET)
        return self.content or ""


class ChatRequest(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)] | None = None
    audio: Unbuilt = UNSET
    function_call: Unbuilt = UNSET
    functions: Unbuilt = UNSET
    modalities: Unbuilt = UNSET
    moderation: Unbuilt = UNSET
    parallel_tool_calls: Unbuilt = UNSET
    prediction: Unbuilt = UNSET
    prompt_cache_options: Unbuilt = UNSET
    prompt_cache_retention: Unbuilt = UNSET
    reasoning_effort: Unbuilt = UNSET
    store: Unbuilt = UNSET
    tool_choice: Unbuilt = UNSET
    tools: Unbuilt = UNSET
    verbosity: Unbuilt = UNSET
    web_search_options: Unbuilt = UNSET

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer, under whichever of its two names."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


Finish = Literal["stop", "length", "tool_calls"]


class TopLogprob(Struct, frozen=True):
    """One token that could have been chosen; `bytes` is null for control tokens, which stand in no text."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Struct, frozen=True):
    """The chosen token, and the likeliest in its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(Struct, frozen=True):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    index: int
    message: AnswerMessage
    finish_reason: Finish
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """The whole answer, without `stream`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    system_fingerprint: str
    service_tier: str | UnsetType = UNSET
    timings: ShownTimings | UnsetType = UNSET


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds; the first one carries the role, the last one nothing."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: Finish | None = None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """One event of a streamed answer; the one that carries the usage has no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    service_tier: str | UnsetType = UNSET
    timings: ShownTimings | UnsetType = UNSET
