"""OpenAI's older completions on the wire: a prompt of text or token ids goes on."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.openai import Asked, CompletionUsage, ShownTimings, Unbuilt

TokenId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
MAX_CHOICES = 128
"""Prompts times `n`, in one request."""


class CompletionRequest(Asked, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/completions`."""

    prompt: str | list[str | TokenId | list[TokenId]]
    """A text or token ids, or a list of either; `api/openai/completion_parameters.py` refuses mixed ones."""
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    suffix: Unbuilt = UNSET


class LegacyLogprobs(Struct, frozen=True):
    """Four lists, one entry a token; offsets are in characters of the choice's text."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]] | None


class TextChoice(Struct, frozen=True):
    text: str
    index: int
    logprobs: LegacyLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class TextCompletion(Struct, frozen=True, kw_only=True):
    """The whole answer, and each event of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    service_tier: str | UnsetType = UNSET
    timings: ShownTimings | UnsetType = UNSET
