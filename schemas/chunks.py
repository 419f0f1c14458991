"""What a runner streams back for a task: a tagged union, MessagePack, small.

Chunks travel in frames: those that one step of an engine has for one API, in order.
Each chunk says which request and which attempt it belongs to, and token chunks say at which offset of which
sequence they start, so that late or repeated chunks are harmless.
"""

from typing import Literal

from msgspec import Struct

from schemas.ids import InstanceId, NodeId, RequestId

FinishReason = Literal["stop", "length", "cancelled"]
FailureCode = Literal[
    "bad_request", "engine_failed", "runner_lost", "out_of_memory", "cancelled", "deadline", "unavailable"
]


class Started(Struct, frozen=True, array_like=True, tag="S"):
    """The engine has taken up the task."""

    request: RequestId
    attempt: int
    instance: InstanceId
    node: NodeId
    instance_attempt: int = 0
    cached_tokens: int = 0


class Prefilled(Struct, frozen=True, array_like=True, tag="P"):
    """One more chunk of the prompt is done: a sign of life before the first token."""

    request: RequestId
    attempt: int
    done: int
    total: int


class Searched(Struct, frozen=True, array_like=True, tag="B"):
    """A beam search is so many tokens deep: a sign of life before its sequences are known."""

    request: RequestId
    attempt: int
    depth: int


class TokenLogprobs(Struct, frozen=True, array_like=True):
    """Natural-log probability of a chosen token and of the likeliest alternatives."""

    logprob: float
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


class Tokens(Struct, frozen=True, array_like=True, tag="T"):
    """Tokens `offset ... offset + len(ids) / 4` of sequence `index`; ids are raw little-endian u32."""

    request: RequestId
    attempt: int
    index: int
    offset: int
    ids: bytes
    logprobs: tuple[TokenLogprobs, ...] | None = None


class SequenceEnded(Struct, frozen=True, array_like=True, tag="Q"):
    """One of a request's `n` sequences is complete."""

    request: RequestId
    attempt: int
    index: int
    reason: FinishReason
    count: int = -1
    """All its tokens, those of earlier attempts too, so that a lost last one is missed; -1: not said."""


class Usage(Struct, frozen=True, array_like=True):
    """Tokens counted for one request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    accepted_tokens: int = 0
    """Of those that a draft proposed, in the last attempt."""
    rejected_tokens: int = 0


class Timings(Struct, frozen=True, array_like=True):
    """Where a request's time went in the runner; seconds."""

    waited_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Ended(Struct, frozen=True, array_like=True, tag="E"):
    """All sequences of the request are complete."""

    request: RequestId
    attempt: int
    usage: Usage
    timings: Timings


class Failed(Struct, frozen=True, array_like=True, tag="F"):
    """The request ends here without an answer."""

    request: RequestId
    attempt: int
    code: FailureCode
    reason: str


Chunk = Started | Prefilled | Searched | Tokens | SequenceEnded | Ended | Failed
Frame = list[Chunk]
