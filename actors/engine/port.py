"""The port that a runner and an engine meet at.

A runner owns one engine on one thread and calls it from that thread only; `wake` alone may be called from others.
One `step` does one chunk of prefill or one step of decoding for everything that runs, so that between two steps
requests join (`add`), leave (`cancel`) and nothing has to be locked.
"""

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from actors.engine.room import Room
from schemas.chunks import Chunk
from schemas.ids import InstanceId, NodeId, RequestId
from schemas.prefix import Digest
from schemas.task import Task

LoadStage = Literal["joining", "importing", "reading", "compiling"]
Report = Callable[[LoadStage], None]
"""Called by an engine that loads, when it comes to another stage."""


class Origin(Struct, frozen=True):
    """Who makes the chunks: stands in every `Started`."""

    instance: InstanceId
    node: NodeId
    attempt: int


class Gauges(Struct, frozen=True):
    """How much an engine has in hand."""

    rows: int = 0
    """Sequences that decode together."""
    reading: int = 0
    """Sequences whose prompts are being read."""
    waiting: int = 0
    """Requests that wait for slots."""
    batch_bytes: int = 0
    cache_bytes: int = 0
    """Of prefixes that are kept."""
    drafted: int = 0
    """Tokens that a draft has proposed since the engine was loaded."""
    accepted: int = 0
    """Those of them that were right."""
    draft_lost: str = ""
    """Why its draft is not used any more; empty: it is, or there never was one."""


class PrefixChanges(Struct, frozen=True):
    """Beginnings of prompts, as digests of their blocks, that an engine has come to keep, or has let go."""

    added: tuple[Digest, ...] = ()
    """The first blocks of a prompt first."""
    removed: tuple[Digest, ...] = ()


class EngineLoadError(Exception):
    """A model cannot be served; `reason` names the file that is at fault, if one is."""

    def __init__(self, reason: str, retryable: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable


class Engine(Protocol):
    """Turns tasks into chunks; what is wrong with one request becomes its `Failed`, and ends no other."""

    @property
    def slots(self) -> int:
        """Sequences that run at once; more may be added, and wait in the order they came."""
        ...

    @property
    def room(self) -> Room:
        """Tokens of the sequences that run at once."""
        ...

    @property
    def idle(self) -> bool:
        """Nothing to do: no request runs or waits, and all chunks were handed over."""
        ...

    @property
    def gauges(self) -> Gauges: ...

    def load(self, report: Report) -> None:
        """Bring the model into memory; raises EngineLoadError."""
        ...

    def warm(self) -> None:
        """Do once what would make a first request slow, and check what only a run can check."""
        ...

    def add(self, task: Task) -> None:
        """Take up a task; what is wrong with it comes out of the next `step` as `Failed`."""
        ...

    def cancel(self, request: RequestId, attempt: int, index: int | None = None) -> None:
        """End a request (attempt 0: any), or one of its sequences, with what it has; none such is no error."""
        ...

    def step(self) -> list[Chunk]:
        """Do the next piece of work, waiting for its time if need be, and return its chunks in order."""
        ...

    def prefix_changes(self) -> PrefixChanges | None:
        """Since the last call; None when there are none."""
        ...

    def wake(self) -> None:
        """End a step that waits, soon: there is news. From any thread."""
        ...

    def close(self) -> None:
        """Let go of the model's memory."""
        ...
