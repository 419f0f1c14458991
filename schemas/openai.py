"""What chats and completions ask for on OpenAI's wire, and errors and models.

Fields of type `Unbuilt` are known by name so that `api/parameters.py` can accept their neutral value and
refuse any other with the reason; every field that stands in neither group is refused as unknown.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Unbuilt = Raw | UnsetType
"""A documented field that is not built: its JSON as it came, or UNSET."""
AnyJson = Raw | UnsetType
"""JSON of any form, as it came."""

StopString = Annotated[str, Meta(min_length=1, max_length=4096)]
PositiveInt = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Label = Annotated[str, Meta(max_length=512)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Width = Annotated[int, Meta(ge=1, le=128)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
GrammarText = Annotated[str, Meta(min_length=1, max_length=128 * 1024)]
Truncation = Literal["disabled", "auto", "rolling"]
ServiceTier = Literal["auto", "default", "flex", "priority"]


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: Unbuilt = UNSET


class ProviderExtensions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What Troupe offers beside OpenAI's parameters."""

    speculation: bool | None = None
    """Whether the model's draft may propose tokens; the answer is the same."""
    timings: bool | None = None
    """Have the answer say where the request's time went in the runner; seconds."""
    truncation: Truncation | None = None
    """What becomes of a conversation that is too long for the model."""


class TextFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Any text."""


class JsonObjectFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON schema and what it is called; it is kept to strictly, whatever `strict` says."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    schema: AnyJson = UNSET
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    """JSON that a schema describes."""

    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class Asked(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What chats and completions have in common."""

    model: Annotated[str, Meta(min_length=1)]
    max_tokens: PositiveInt | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[int, Bias], Meta(max_length=1024)] | None = None
    """Token ids (strings in JSON) to what is added to their logits."""
    stop: StopString | Annotated[list[StopString], Meta(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: ServiceTier | None = None
    user: Label | None = None

    # Beyond OpenAI, under the names that vLLM gave them.
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """0 and -1: all."""
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None
    guided_json: AnyJson = UNSET
    guided_regex: GrammarText | None = None
    guided_grammar: GrammarText | None = None
    guided_choice: (
        Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=1024)] | None
    ) = None
    use_beam_search: bool | None = None
    beam_width: Width | None = None
    best_of: Width | None = None
    """vLLM's older name of the width, and OpenAI's of something else in completions."""
    length_penalty: Annotated[float, Meta(ge=-10, le=10)] | None = None
    early_stopping: bool | Literal["never"] | None = None
    provider_extensions: ProviderExtensions | None = None

    @property
    def choices(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def truncation(self) -> Truncation:
        """As OpenAI's responses have it."""
        return (self.provider_extensions and self.provider_extensions.truncation) or "disabled"

    @property
    def speculation(self) -> bool:
        return self.provider_extensions is None or self.provider_extensions.speculation is not False

    @property
    def wants_timings(self) -> bool:
        return self.provider_extensions is not None and bool(self.provider_extensions.timings)


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    """Of the tokens that the model's draft proposed."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class CompletionUsage(Struct, frozen=True):
    """Tokens that a request cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
    """Nothing where no draft has proposed any."""


class ShownTimings(Struct, frozen=True, kw_only=True):
    """Where a request's time went in the runner; seconds."""

    waited_s: float
    prefill_s: float
    decode_s: float


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
