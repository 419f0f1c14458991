"""OpenAI's chat completions on the wire: the request, the answer whole and in chunks, errors, models.

Fields of type `Unbuilt` are known by name so that `api/parameters.py` can accept their neutral value and
refuse any other with the reason; every field that stands in neither group is refused as unknown.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Unbuilt = Raw | UnsetType
"""A documented field that is not built: its JSON as it came, or UNSET."""

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
StopString = Annotated[str, Meta(min_length=1)]
PositiveInt = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Label = Annotated[str, Meta(max_length=512)]


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


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: Unbuilt = UNSET


class ChatRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: Annotated[str, Meta(min_length=1)]
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[Annotated[str, Meta(max_length=64)], Label], Meta(max_length=16)] | None = None
    audio: Unbuilt = UNSET
    frequency_penalty: Unbuilt = UNSET
    function_call: Unbuilt = UNSET
    functions: Unbuilt = UNSET
    logit_bias: Unbuilt = UNSET
    logprobs: Unbuilt = UNSET
    modalities: Unbuilt = UNSET
    moderation: Unbuilt = UNSET
    n: Unbuilt = UNSET
    parallel_tool_calls: Unbuilt = UNSET
    prediction: Unbuilt = UNSET
    presence_penalty: Unbuilt = UNSET
    prompt_cache_options: Unbuilt = UNSET
    prompt_cache_retention: Unbuilt = UNSET
    reasoning_effort: Unbuilt = UNSET
    response_format: Unbuilt = UNSET
    service_tier: Unbuilt = UNSET
    store: Unbuilt = UNSET
    tool_choice: Unbuilt = UNSET
    tools: Unbuilt = UNSET
    top_logprobs: Unbuilt = UNSET
    verbosity: Unbuilt = UNSET
    web_search_options: Unbuilt = UNSET

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer, under whichever of its two names."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


Finish = Literal["stop", "length"]


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: int = 0


class CompletionUsage(Struct, frozen=True):
    """Tokens that a request cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class AnswerMessage(Struct, frozen=True):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    index: int
    message: AnswerMessage
    finish_reason: Finish
    logprobs: None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """The whole answer, without `stream`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    system_fingerprint: str


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds; the first one carries the role, the last one nothing."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    index: int
    delta: Delta
    logprobs: None = None
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


class Error(Struct, frozen=True):
    """Why a request was not served."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Struct, frozen=True):
    error: Error


class ModelObject(Struct, frozen=True, kw_only=True):
    """One model that the cluster is to serve."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "troupe"


class ModelList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelObject]
