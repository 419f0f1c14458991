"""All ranks of a group do the same: rank 0 tells each round before it does it, the others do what they were told.

What a round consists of decides everything: the tasks and cancels that come before the step, and what only a clock can tell.
All else follows from the tokens, which are rank 0's everywhere. So batches, kept prefixes, draws and searches are alike
on all ranks, and each of them enters the same collectives in the same order.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from actors.engine.port import Engine, Gauges, PrefixChanges, Report
from actors.engine.room import Room
from actors.engine.turn import Turn
from schemas.chunks import Chunk
from schemas.ids import RequestId
from schemas.task import Cancel, Task

AHEAD = 1
"""Rounds that are told before the one that is done: the way to the others takes no time from a step."""


class Round(Struct, frozen=True, array_like=True):
    """What all ranks do next."""

    orders: tuple[Task | Cancel, ...]
    turn: Turn


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Round).decode


class RankEngine(Engine, Protocol):
    """An engine that can be told what the clock says."""

    def turn(self) -> Turn: ...

    def step(self, turn: Turn | None = None) -> list[Chunk]: ...


def do(engine: RankEngine, told: Round) -> list[Chunk]:
    for order in told.orders:
        if isinstance(order, Task):
            engine.add(order)
        else:
            engine.cancel(order.request, order.attempt, order.index)
    return engine.step(told.turn)


class _Rank:
    """What every rank's engine says as it is."""

    _engine: RankEngine

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def room(self) -> Room:
        return self._engine.room

    @property
    def gauges(self) -> Gauges:
        return self._engine.gauges

    def warm(self) -> None:
        self._engine.warm()


class Leading(_Rank):
    """Rank 0: an engine like any other, whose rounds are told to the other ranks; `tell` is called on its thread."""

    def __init__(self, engine: RankEngine, tell: Callable[[bytes], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._orders: list[Task | Cancel] = []
        self._told: deque[Round] = deque()

    @property
    def idle(self) -> bool:
        return self._engine.idle and not self._orders and not any(told.orders for told in self._told)

    def load(self, report: Report) -> None:
        self._engine.load(report)

    def add(self, task: Task) -> None:
        self._orders.append(task)

    def cancel(self, request: RequestId, attempt: int, index: int | None = None) -> None:
        self._orders.append(Cancel(request=request, attempt=attempt, index=index))

    def step(self) -> list[Chunk]:
        while len(self._told) <= AHEAD:
            self._tell_next()
        return do(self._engine, self._told.popleft())

    def _tell_next(self) -> None:
        told = Round(tuple(self._orders), self._engine.turn())
        self._orders = []
        self._tell(_encode(told))
        self._told.append(told)

    def prefix_changes(self) -> PrefixChanges | None:
        return self._engine.prefix_changes()

    def wake(self) -> None:
        self._engine.wake()

    def close(self) -> None:
        self._engine.close()


class Following(_Rank):
    """Any other rank: has work while it was told rounds, and nothing to say."""

    def __init__(self, make: Callable[[], RankEngine]) -> None:
        """`make` is called on the engine's thread."""
        self._make = make
        self._told: deque[Round] = deque()

    def follow(self, told: bytes) -> None:
        """One more round to do; from any thread."""
        self._told.append(_decode(told))

    @property
    def idle(self) -> bool:
        return not self._told

    def load(self, report: Report) -> None:
        self._engine = self._make()
        self._engine.load(report)

    def add(self, task: Task) -> None:
        raise NotImplementedError("tasks come to rank 0")

    def cancel(self, request: RequestId, attempt: int, index: int | None = None) -> None:
        raise NotImplementedError("cancels come to rank 0")

    def step(self) -> list[Chunk]:
        """What rank 0 makes of it is sent there."""
        do(self._engine, self._told.popleft())
        self._engine.prefix_changes()
        return []

    def prefix_changes(self) -> PrefixChanges | None:
        return None

    def wake(self) -> None:
        """Nothing to do: its steps never wait for news."""

    def close(self) -> None:
        self._told.clear()
        self._engine.close()
