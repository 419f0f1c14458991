"""A request as workers see it: token ids in, token ids out."""

import sys
from array import array
from typing import Literal

from msgspec import Struct

from schemas.chunks import FinishReason
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


def rolling_room(context: int) -> int:
    """Tokens that a prompt must leave for an answer that is to go on past the context."""
    return max(2, context // 4)


def unpack_ids(raw: bytes | bytearray) -> list[int]:
    """The token ids in raw little-endian u32; ValueError when the length is no multiple of four."""
    packed = array("I", raw)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen; equal values choose equal tokens at equal positions.

    In this order: biases and penalties change the logits, the temperature scales them, then `top_k`, `top_p` and
    `min_p` each leave some of the likeliest tokens, and one of those is drawn.
    """

    temperature: float = 1.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    seed: int = 0
    """64 bits; the key of a draw is made from (seed, sequence index, position)."""
    top_k: int = 0
    """Only that many of the likeliest tokens; 0: all."""
    min_p: float = 0.0
    """Only tokens with at least this share of the likeliest token's probability."""
    presence_penalty: float = 0.0
    """Taken from the logit of each token that the answer has already."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit once for each time that the answer has it."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of the tokens in prompt and answer."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, what is added to its logit)."""


class Grammar(Struct, frozen=True, kw_only=True):
    """What the answer must be a sentence of; `source` is a JSON schema, a regular expression, or Lark."""

    kind: Literal["json_schema", "regex", "lark"]
    source: str


class Beams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A search for the likeliest sequences in the place of draws; of `width` that are followed the `n` best are the answer.

    A sequence's score is the sum of its tokens' log-probabilities / (their number ** `length_penalty`).
    """

    width: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    """When `width` sequences are complete: true ends the search; false goes on while what is followed has a better
    score by now; "never" while it can come to have one."""
    stops: tuple[str, ...] = ()
    """Texts that complete a sequence."""


class Made(Struct, frozen=True, array_like=True):
    """What earlier attempts have made of one sequence: u32 ids, and why it is complete if it is."""

    ids: bytes = b""
    reason: FinishReason | None = None

    @property
    def count(self) -> int:
        return len(self.ids) // 4


class Task(Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """One attempt at one request.

    A later attempt carries what the earlier ones have `made` of each sequence, and goes on from there: the
    position of the next token is the count of those made. `max_tokens` and `min_tokens` count from position 0.
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
    made: tuple[Made, ...] = ()
    """One entry for each of the `n` sequences, or none at all on a first attempt."""
    n: int = 1
    """Sequences, told apart by their index; they share the prompt."""
    min_tokens: int = 0
    """No token of `stop_ids` is chosen before this position."""
    grammar: Grammar | None = None
    logprobs: int = -1
    """How many alternatives to report with each token; -1: no log-probabilities at all."""
    lane: Lane = "normal"
    deadline: float = 0.0
    """Unix time after which nobody waits for the answer any more; 0: none."""
    trace: str = ""
    """W3C trace context (`traceparent`) of the span that it belongs to; empty: nobody traces it."""
    speculate: bool = True
    """Whether a draft may propose tokens, where the model has one."""
    rolling: bool = False
    """The answer goes on when the context is full: the older half of what is in view of it goes out of view."""
    beams: Beams | None = None
    """How to search; None: tokens are drawn, as `sampling` says."""
    version: str = ""
    """Of the model that it is for (`version_of`); empty: whoever made it knew of none."""

    @property
    def seats(self) -> int:
        """Sequences that an engine follows at once."""
        return max(self.n, self.beams.width) if self.beams else self.n


class Accepted(Struct, frozen=True, kw_only=True, tag=True):
    """Answer to an offer: this instance works on the task."""

    instance: InstanceId
    node: NodeId
    attempt: int
    """The instance's attempt: which life of its runner has the task."""


class FindTasks(Struct, frozen=True, kw_only=True, tag=True):
    """To a runner: which of these attempts have you not ended?"""

    attempts: tuple[tuple[RequestId, int], ...]


class TasksFound(Struct, frozen=True, kw_only=True, tag=True):
    """Those it was asked for that are taken up and not ended."""

    attempts: tuple[tuple[RequestId, int], ...] = ()


OfferAnswer = Accepted | Refused
FindAnswer = TasksFound | Refused


class Cancel(Struct, frozen=True, kw_only=True, tag=True):
    """Nobody wants the rest of this request; usage still counts."""

    request: RequestId
    attempt: int = 0
    """Only this attempt; 0: all."""
    index: int | None = None
    """Only this sequence of it; None: all."""
    whole: bool = False
    """The answer of that name, whichever request goes on with it by now."""
