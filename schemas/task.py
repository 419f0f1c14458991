"""A request as workers see it: token ids in, token ids out."""

import sys
from array import array
from typing import Literal

from msgspec import Struct

from schemas.ids import ApiId, InstanceId, ModelId, NodeId, RequestId
from schemas.refused import Refused

Lane = Literal["high", "normal", "batch"]
LANES: tuple[Lane, ...] = ("high", "normal", "batch")


def pack_ids(ids: list[int]) -> bytes:
    """Token ids as raw little-endian u32."""
    packed = array("I", ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_ids(raw: bytes) -> list[int]:
    """The token ids in raw little-endian u32; ValueError when the length is no multiple of four."""
    packed = array("I")
    packed.frombytes(raw)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


class Sampling(Struct, frozen=True, kw_only=True):
    """How the next token is chosen; equal values choose equal tokens at equal positions."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    """64 bits; the key of a draw is made from (seed, sequence index, position)."""


class Task(Struct, frozen=True, kw_only=True, tag=True):
    """One attempt at one request.

    `prompt` holds the ids of the prompt followed by `offset` ids that earlier attempts have already made, so
    that the position of the next token in its sequence is `offset`. `max_tokens` still counts from position 0.
    """

    request: RequestId
    attempt: int
    api: ApiId
    model: ModelId
    prompt: bytes
    """u32 ids; empty when `payload` names the object that holds them."""
    max_tokens: int
    sampling: Sampling
    stop_ids: tuple[int, ...] = ()
    """Ids that end the sequence and are not sent."""
    payload: str = ""
    """Name of the object in `troupe_payloads` that holds the prompt, when it is too large for a message."""
    offset: int = 0
    n: int = 1
    logprobs: int = -1
    """How many alternatives to report with each token; -1: no log-probabilities at all."""
    lane: Lane = "normal"
    deadline: float = 0.0
    """Unix time after which nobody waits for the answer any more; 0: none."""


class Accepted(Struct, frozen=True, kw_only=True, tag=True):
    """Answer to an offer: this instance works on the task."""

    instance: InstanceId
    node: NodeId
    attempt: int
    """The instance's attempt: which life of its runner has the task."""


OfferAnswer = Accepted | Refused


class Cancel(Struct, frozen=True, kw_only=True, tag=True):
    """Nobody wants the rest of this request; usage still counts."""

    request: RequestId
    attempt: int = 0
    """Only this attempt; 0: all."""
