"""The requests that a runner has taken up, by attempt, and the room that is left."""

import asyncio
from time import time

from msgspec import Struct, field

from actors.engine.room import UNBOUNDED, Room
from schemas.ids import ApiId, RequestId
from schemas.task import Task

REMEMBERED = 4096
"""Ended attempts that are still known, so that a repeated offer starts nothing."""

SPARE = 8
"""One slot of so many is kept for the lane `high`, so that it need not wait until one of the others is free."""

AttemptKey = tuple[RequestId, int]


class OpenTask(Struct):
    """An attempt that is taken up and not ended."""

    task: Task
    cancels: list[int | None] = []
    """Indices of sequences that nobody wants any more; None: all."""
    taken_at: float = field(default_factory=time)
    """Unix time."""


class OpenTasks:
    """At most `slots` sequences at once, which the engine's memory has room for, the last few of them for tasks of the lane `high`."""

    def __init__(self) -> None:
        self.slots = 0
        self._memory = Room()
        self._sequences = self._tokens = 0
        self._open: dict[AttemptKey, OpenTask] = {}
        self._known: dict[AttemptKey, None] = {}
        self._room, self._spare = asyncio.Event(), asyncio.Event()
        self.freed = asyncio.Event()
        """Of the next task that ends: what has found no room now may find it then."""

    def __len__(self) -> int:
        return len(self._open)

    def has_room_for(self, task: Task) -> bool:
        """For all its sequences; one that never fits is taken too, so that its engine refuses it with the numbers."""
        most, tokens = self.slots if task.lane == "high" else self._ordinary, self._memory.tokens
        needed = self._needed(task)
        return (
            self._sequences < most
            and (self._sequences + task.seats <= most or task.seats > most)
            and (self._tokens + needed <= tokens or needed > tokens)
        )

    def _needed(self, task: Task) -> int:
        """Tokens."""
        return self._memory.needed(task, task.seats)

    @property
    def _ordinary(self) -> int:
        return self.slots - max(0, self.slots - 1) // SPARE

    @property
    def use(self) -> str:
        memory = self._memory.tokens
        tokens = f" and {self._tokens} of {memory} tokens" if memory < UNBOUNDED else ""
        return f"{self._sequences} of {self.slots} slots{tokens}"

    def make_room(self, slots: int, memory: Room = Room()) -> None:  # noqa: B008 (frozen)
        """The engine is ready for this many at once."""
        self.slots, self._memory = slots, memory
        self._note_room()

    async def until_room(self) -> None:
        """For a task of any lane."""
        await self._room.wait()

    async def until_spare(self) -> None:
        """For a task of the lane `high`, and none of another one."""
        await self._spare.wait()

    def knows(self, task: Task) -> bool:
        """Whether this very attempt was taken up before, and perhaps ended since."""
        return (task.request, task.attempt) in self._known

    def take(self, task: Task) -> None:
        key = (task.request, task.attempt)
        self._open[key] = OpenTask(task)
        self._sequences += task.seats
        self._tokens += self._needed(task)
        self._known[key] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        self._note_room()

    def find(self, request: RequestId, attempt: int) -> OpenTask | None:
        return self._open.get((request, attempt))

    def close(self, request: RequestId, attempt: int) -> None:
        closed = self._open.pop((request, attempt), None)
        if closed is not None:
            self._sequences -= closed.task.seats
            self._tokens -= self._needed(closed.task)
            self.freed.set()
            self.freed = asyncio.Event()
        self._note_room()

    def of(self, request: RequestId) -> list[OpenTask]:
        """Its open attempts: one, or more for a moment while its owner moves on."""
        return [each for each in self._open.values() if each.task.request == request]

    def owned_by(self, api: ApiId) -> list[OpenTask]:
        """What this API actor asked for."""
        return [each for each in self._open.values() if each.task.api == api]

    def all(self) -> list[Task]:
        return [each.task for each in self._open.values()]

    def _note_room(self) -> None:
        room = self._sequences < self._ordinary
        _put(self._room, room)
        _put(self._spare, not room and self._sequences < self.slots)


def _put(event: asyncio.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()
