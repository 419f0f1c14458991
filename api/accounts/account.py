"""One request's account: told what happens to it, from its arrival to its end."""

from time import monotonic, time
from typing import TYPE_CHECKING, Literal

from api.accounts.durations import Durations
from schemas.ids import InstanceId
from schemas.task import Lane, Task

if TYPE_CHECKING:  # an extra, which need not be installed
    from bus.tracing import Span

Stage = Literal["waiting", "queued", "prefilling", "decoding"]
"""For its model and for its prompt's tokens; for a worker; for its first token; for the next one."""
STAGES: tuple[Stage, ...] = ("waiting", "queued", "prefilling", "decoding")


class Account:
    """`took` is called for each chunk of tokens, so it does next to nothing."""

    __slots__ = (
        "asked_at",
        "attempt",
        "cached_tokens",
        "dispatched_at",
        "endpoint",
        "finish",
        "first_token_at",
        "instances",
        "lane",
        "last_at",
        "metadata",
        "migrations",
        "opened_at",
        "pace",
        "placed_at",
        "prompt_tokens",
        "span",
        "trace",
        "user",
    )

    def __init__(self) -> None:
        self.asked_at = time()
        self.opened_at = monotonic()
        self.dispatched_at: float | None = None
        self.placed_at: float | None = None
        self.first_token_at: float | None = None
        self.last_at: dict[int, float] = {}
        """When the last token of each sequence came."""
        self.instances: list[InstanceId] = []
        self.attempt = 0
        """The last one that somebody took."""
        self.migrations = 0
        self.lane: Lane = "normal"
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.pace = Durations()
        """Times between tokens."""
        self.endpoint = self.user = ""
        self.trace = ""
        """The trace context that its client sent."""
        self.span: Span | None = None
        self.metadata: dict[str, str] = {}
        self.finish: Literal["stop", "length", "tool_calls", ""] = ""
        """How its dialect calls the end of a whole answer; empty: as the engine does."""

    def asked(self, endpoint: str, user: str, metadata: dict[str, str], trace: str = "") -> None:
        """Over which route, who the client asks for, and of which trace it is a part."""
        self.endpoint, self.user, self.metadata, self.trace = endpoint, user, metadata, trace

    def dispatched(self, task: Task) -> None:
        """Its task is made, and goes out; a later attempt changes nothing."""
        if self.dispatched_at is None:
            self.dispatched_at, self.lane = monotonic(), task.lane
            self.prompt_tokens = self.prompt_tokens or len(task.prompt) // 4

    def placed(self, instance: InstanceId, attempt: int) -> None:
        """Somebody works on this attempt; on a second one means that it has moved. The same news twice is none."""
        if attempt == self.attempt:
            return
        self.attempt = attempt
        if self.placed_at is None:
            self.placed_at = monotonic()
        else:
            self.migrations += 1
        self.instances.append(instance)

    def took(self, index: int, tokens: int) -> None:
        """So many new tokens of a sequence have come."""
        now = monotonic()
        last = self.last_at.get(index)
        if last is not None:
            self.pace.add(now - last, tokens)
        elif self.first_token_at is None:
            self.first_token_at = now
        self.last_at[index] = now

    @property
    def stage(self) -> Stage:
        if self.first_token_at is not None:
            return "decoding"
        if self.placed_at is not None:
            return "prefilling"
        return "waiting" if self.dispatched_at is None else "queued"

    @property
    def waited_s(self) -> float:
        """From its arrival until its task was made, or until now."""
        return (self.dispatched_at or monotonic()) - self.opened_at

    @property
    def queue_s(self) -> float:
        """From then until somebody took it, or until now."""
        return 0.0 if self.dispatched_at is None else (self.placed_at or monotonic()) - self.dispatched_at

    @property
    def first_token_s(self) -> float | None:
        return None if self.first_token_at is None else self.first_token_at - self.opened_at

    @property
    def duration_s(self) -> float:
        return monotonic() - self.opened_at
