"""What is kept of a finished request: who asked, who answered, what it cost, and how it ended; never its words."""

from typing import Literal

from msgspec import Struct

from schemas.ids import ApiId, InstanceId, ModelId, NodeId, RequestId
from schemas.task import Lane

Outcome = Literal["stop", "length", "tool_calls", "cancelled", "client_left", "failed", "refused"]
"""The first three: why a whole answer ended. `refused` is an error of the client's, `failed` one of ours."""


class Audit(Struct, frozen=True, kw_only=True, tag=True):
    """One finished request; times are seconds, as its API saw them unless it says otherwise."""

    request: RequestId
    model: ModelId
    api: ApiId
    node: NodeId
    """The node whose API held the client."""
    outcome: Outcome
    code: str = ""
    """Of the error, when it ended in one."""
    endpoint: str = ""
    user: str = ""
    """What the client said about who it asks for."""
    metadata: dict[str, str] = {}
    asked_at: float = 0.0
    """Unix time of its arrival."""
    lane: Lane = "normal"
    instances: tuple[InstanceId, ...] = ()
    """Who worked on it, in order; the last one finished it, or was the last to try."""
    attempts: int = 1
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, as many were not computed again."""
    completion_tokens: int = 0
    waited_s: float = 0.0
    """From arrival until its task was made: the model loads, the prompt becomes tokens."""
    queue_s: float = 0.0
    """From then until somebody took it."""
    first_token_s: float | None = None
    """From arrival to its first token; None: there was none."""
    inter_token_mean_s: float | None = None
    inter_token_p50_s: float | None = None
    """To the next of twelve steps a decade."""
    inter_token_max_s: float | None = None
    """The longest silence between two tokens of a sequence: what a migration cost shows here."""
    duration_s: float = 0.0
    engine_waited_s: float = 0.0
    """In the runner, before its prefill; by the runner's clock, as the next two."""
    prefill_s: float = 0.0
    decode_s: float = 0.0
