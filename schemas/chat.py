"""OpenAI's chat completions on the wire: the request, and the answer whole and in chunks."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from schemas.openai import (
    Asked,
    CompletionUsage,
    Label,
    PositiveInt,
    ResponseFormat,
    ShownTimings,
    Unbuilt,
)
from schemas.tools import Tool, ToolCall, ToolCallDelta, ToolChoice

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
    reasoning_content: str | None = None
    """What the assistant thought, as an answer had it; the template decides whether the model sees it again."""
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    """Of the tool whose result this is."""
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

    @property
    def weight(self) -> int:
        """How much there is of it, in characters."""
        calls = self.tool_calls or ()
        called = sum(len(call.function.name) + len(call.function.arguments) for call in calls)
        return len(self.text) + len(self.reasoning_content or "") + called

    def given(self) -> dict[str, Any]:
        """As templates want it: nothing that is not there."""
        given: dict[str, Any] = {"role": self.role, "content": self.text}
        if self.reasoning_content:
            given["reasoning_content"] = self.reasoning_content
        if self.tool_calls:
            given["tool_calls"] = to_builtins(self.tool_calls)
        if self.tool_call_id is not None:
            given["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            given["name"] = self.name
        return given


class ChatRequest(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Annotated[dict[str, Any], Meta(max_length=32)] | None = None
    """Variables of the model's chat template, under the name that vLLM gave them."""
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)] | None = None
    audio: Unbuilt = UNSET
    function_call: Unbuilt = UNSET
    functions: Unbuilt = UNSET
    modalities: Unbuilt = UNSET
    moderation: Unbuilt = UNSET
    prediction: Unbuilt = UNSET
    prompt_cache_options: Unbuilt = UNSET
    prompt_cache_retention: Unbuilt = UNSET
    reasoning_effort: Unbuilt = UNSET
    store: Unbuilt = UNSET
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
    """`content` is null when there are only calls."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


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
    truncated_messages: int | UnsetType = UNSET
    """The oldest ones, which the model did not see; with `truncation: auto` only."""


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds; the first one carries the role, the last one nothing."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


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
    truncated_messages: int | UnsetType = UNSET
